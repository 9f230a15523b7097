"""`streamcodec encode`: audio files into files of codes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamcodec.cli.options import (
    DEFAULT_MODEL,
    Again,
    Bandwidth,
    Device,
    Engine,
    Into,
    LanguageModelFile,
    Model,
    Precision,
    Threads,
    load_codec,
    load_lm,
)
from streamcodec.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamcodec.cli.batch import Advance, FileJob
    from streamcodec.codec import Codec, LanguageEngine
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
    language_model: LanguageModelFile = None,
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
    from streamcodec.cli.coded import is_same_kind

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
    if language_model is not None and any(job.target.suffix.lower() != ".ecdc" for job in jobs):
        raise InputError("--language-model is for outputs that end in .ecdc")
    codec = load_codec(model, device, engine, precision, threads)
    lm = load_lm(language_model, codec)
    n_q = codec.config.n_q_for(bandwidth)

    def is_done(job: FileJob) -> bool:
        return not again and is_newer(job.target, job.source) and is_same_kind(codec, job.target, n_q, has_lm=lm is not None)

    return run(jobs, is_many, "encoding", seconds, is_done, lambda job, advance: _encode(codec, job, bandwidth, lm, advance))


def _encode(codec: Codec, job: FileJob, bandwidth: float | None, lm: LanguageEngine | None, advance: Advance) -> str:
    from streamcodec.audio import open_audio_blocks
    from streamcodec.audio.dsp.resample import resampled_length
    from streamcodec.bitstream.codes_file import CodesFile, write_codes
    from streamcodec.bitstream.files import check_target, write_file
    from streamcodec.codec.chunks import clip_of
    from streamcodec.codec.ecdc import to_ecdc

    samples, target = 0, check_target(job.target, [job.source])
    with open_audio_blocks(job.source) as blocks:

        def read() -> Iterator[Samples]:
            nonlocal samples
            for block in blocks:
                yield block
                samples += block.shape[1]
                advance(block.shape[1] / blocks.rate)

        packets = list(codec.encode_blocks(read(), blocks.rate, blocks.channels, bandwidth))
        duration_s, length = samples / blocks.rate, resampled_length(samples, blocks.rate, codec.sample_rate)
    if not packets:
        raise InputError(f"{job.source}: is shorter than one sample at {codec.sample_rate} Hz")
    codes, scales = clip_of(packets)
    if target.suffix.lower() == ".ecdc":
        size = write_file(target, to_ecdc(codec, codes if codec.config.codes_alone else packets, length, lm), [job.source])
    else:
        clip = CodesFile(codes, codec.name, codec.fingerprint, length, scales)
        size = write_codes(target, clip, codec.config.bits_per_code, [job.source])
    kbps = 8 * size / duration_s / 1000
    return f"{target}: {duration_s:.2f} s in {codes.shape[1]} frames of {codes.shape[0]} codebooks, {size} bytes ({kbps:.2f} kbps)"
