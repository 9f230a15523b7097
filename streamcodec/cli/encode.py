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
    from streamcodec.codec import Chunk, Codec
    from streamcodec.types import Samples

__all__ = ["encode"]


def encode(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT... [OUTPUT]",
            help="Audio files, or folders of them; after a single file the file of codes (default: the input's name with .codes). One that "
            "ends in .ecdc is a file of the package encodec.",
        ),
    ],
    into: Into = None,
    again: Again = False,
    ecdc: Annotated[bool, typer.Option("--ecdc", help="Name the results .ecdc where no output is named.")] = False,
    bandwidth: Bandwidth = None,
    model: Model = DEFAULT_MODEL,
    device: Device = "cpu",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    threads: Threads = 1,
) -> int:
    """Encode audio files into files of codes."""
    from streamcodec.audio import AUDIO_SUFFIXES, open_audio_blocks
    from streamcodec.bitstream.files import check_target
    from streamcodec.cli.batch import is_newer, is_pipe, plan, run
    from streamcodec.cli.coded import codes_in, read_coded

    @functools.cache  # finding out may take a walk through the whole file
    def seconds(source: Path) -> float | None:
        if is_pipe(source):
            return None  # it is read once
        with open_audio_blocks(source) as blocks:
            return blocks.duration_s

    jobs, is_many = plan(files, into, AUDIO_SUFFIXES, ".ecdc" if ecdc else ".codes")
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
            codes = codes_in(codec, read_coded(job.target))[0].codes
        except InputError:
            return False
        return bool(codes.shape[0] == n_q)

    return run(jobs, is_many, "encoding", seconds, is_done, lambda job, advance: _encode(codec, job, bandwidth, advance))


def _encode(codec: Codec, job: FileJob, bandwidth: float | None, advance: Advance) -> str:
    from streamcodec.audio.dsp.resample import resampled_length
    from streamcodec.bitstream.codes_file import CodesFile, write_codes
    from streamcodec.bitstream.files import check_target, write_file
    from streamcodec.codec.ecdc import to_ecdc

    target = check_target(job.target, [job.source])
    is_ecdc = target.suffix.lower() == ".ecdc"
    if not is_ecdc and not codec.config.codes_alone:
        raise InputError(f"{codec.name} codes clips in chunks, which only .ecdc files hold: give an output that ends in .ecdc")
    encode = _in_blocks if codec.config.streams else _whole
    chunks, samples, rate = encode(codec, job.source, bandwidth, advance)
    length = resampled_length(samples, rate, codec.sample_rate)
    if is_ecdc:
        size = write_file(target, to_ecdc(codec, chunks, length), [job.source])
    else:
        clip = CodesFile(chunks[0].codes, codec.name, codec.fingerprint, length)
        size = write_codes(target, clip, codec.config.bits_per_code, [job.source])
    kbps = 8 * size / (samples / rate) / 1000
    frames = sum(chunk.codes.shape[1] for chunk in chunks)
    return f"{target}: {samples / rate:.2f} s in {frames} frames of {len(chunks[0].codes)} codebooks, {size} bytes ({kbps:.2f} kbps)"


def _in_blocks(codec: Codec, source: Path, bandwidth: float | None, advance: Advance) -> tuple[list[Chunk], int, int]:
    """The codes of a file, its length in samples, and its rate; it never lies in memory as a whole."""
    import numpy as np

    from streamcodec.audio import open_audio_blocks
    from streamcodec.codec import Chunk

    samples = 0
    with open_audio_blocks(source) as blocks:

        def read() -> Iterator[Samples]:
            nonlocal samples
            for block in blocks:
                yield block
                samples += block.shape[1]
                advance(block.shape[1] / blocks.rate)

        parts = list(codec.encode_blocks(read(), blocks.rate, blocks.channels, bandwidth))
        if not parts:
            raise InputError(f"{source}: is shorter than one sample at {codec.sample_rate} Hz")
        return [Chunk(np.concatenate(parts, axis=1))], samples, blocks.rate


def _whole(codec: Codec, source: Path, bandwidth: float | None, advance: Advance) -> tuple[list[Chunk], int, int]:
    """As `_in_blocks`, of a model that codes whole clips."""
    from streamcodec.audio import read_audio
    from streamcodec.codec.chunks import as_chunks

    audio, rate = read_audio(source)
    done = 0.0

    def progress(share: float) -> None:
        nonlocal done
        seconds = share * audio.shape[1] / rate
        advance(seconds - done)
        done = seconds

    return as_chunks(codec.encode(audio, rate, bandwidth, progress=progress)), audio.shape[1], rate
