"""`streamcodec encode`: audio files into files of codes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamcodec.cli.options import DEFAULT_MODEL, Again, Bandwidth, Device, Engine, Into, Model, Precision, Threads, load_codec
from streamcodec.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamcodec.cli.batch import Advance, FileJob
    from streamcodec.codec import Codec
    from streamcodec.types import Samples

__all__ = ["encode"]


def encode(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT... [OUTPUT]",
            help="Audio files, or folders of them; after a single file the file of codes (default: the input's name with .codes).",
        ),
    ],
    into: Into = None,
    again: Again = False,
    bandwidth: Bandwidth = None,
    model: Model = DEFAULT_MODEL,
    device: Device = "cpu",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    threads: Threads = 1,
) -> int:
    """Encode audio files into files of codes."""
    from streamcodec.audio import AUDIO_SUFFIXES, open_audio_blocks
    from streamcodec.bitstream.codes_file import check_target, read_codes
    from streamcodec.cli.batch import is_newer, is_pipe, plan, run
    from streamcodec.errors import CodesError

    @functools.cache  # finding out may take a walk through the whole file
    def seconds(source: Path) -> float | None:
        if is_pipe(source):
            return None  # it is read once
        with open_audio_blocks(source) as blocks:
            return blocks.duration_s

    jobs, is_many = plan(files, into, AUDIO_SUFFIXES, ".codes")
    if not is_many:
        # Mistakes are told before a model is loaded, which takes long.
        check_target(jobs[0].target, [jobs[0].source])
        seconds(jobs[0].source)
    codec = load_codec(model, device, engine, precision, threads)
    n_q = codec.config.n_q_for(bandwidth)

    def is_done(job: FileJob) -> bool:
        if again or not is_newer(job.target, job.source):
            return False
        try:
            done = read_codes(job.target)
        except CodesError:
            return False
        return codec.reads(done.fingerprint) and done.codes.shape[0] == n_q

    return run(jobs, is_many, "encoding", seconds, is_done, lambda job, advance: _encode(codec, job, bandwidth, advance))


def _encode(codec: Codec, job: FileJob, bandwidth: float | None, advance: Advance) -> str:
    import numpy as np

    from streamcodec.audio import open_audio_blocks
    from streamcodec.bitstream.codes_file import CodesFile, check_target, write_codes

    samples = 0
    with open_audio_blocks(job.source) as blocks:
        target = check_target(job.target, [job.source])

        def read() -> Iterator[Samples]:
            nonlocal samples
            for block in blocks:
                yield block
                samples += block.shape[1]
                advance(block.shape[1] / blocks.rate)

        parts = list(codec.encode_blocks(read(), blocks.rate, blocks.channels, bandwidth))
        duration_s = samples / blocks.rate
        # Rounded half up, as the resampler does.
        length = (2 * samples * codec.sample_rate + blocks.rate) // (2 * blocks.rate)
    if not parts:
        raise InputError(f"{job.source}: is shorter than one sample at {codec.sample_rate} Hz")
    codes = np.concatenate(parts, axis=1)
    size = write_codes(target, CodesFile(codes, codec.name, codec.fingerprint, length), codec.config.bits_per_code, [job.source])
    kbps = 8 * size / duration_s / 1000
    return f"{target}: {duration_s:.2f} s in {codes.shape[1]} frames of {codes.shape[0]} codebooks, {size} bytes ({kbps:.2f} kbps)"
