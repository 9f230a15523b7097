"""`streamcodec encode`: audio files into files of codes."""

from __future__ import annotations

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
    from streamcodec.cli.batch import Advance, FileJob
    from streamcodec.codec import Codec, LanguageEngine, LevelEngine

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
    from streamcodec.audio import AUDIO_SUFFIXES
    from streamcodec.bitstream.files import check_target
    from streamcodec.cli.batch import durations, is_newer, plan, run
    from streamcodec.cli.coded import is_same_kind

    duration_s = durations()
    jobs, is_many = plan(files, into, AUDIO_SUFFIXES, ".ecdc" if ecdc else ".codes")
    if not is_many:
        # Mistakes are told before a model is loaded, which takes long.
        check_target(jobs[0].target, [jobs[0].source])
        duration_s(jobs[0].source)
    if language_model is not None and any(job.target.suffix.lower() != ".ecdc" for job in jobs):
        raise InputError("--language-model is for outputs that end in .ecdc")
    codec = load_codec(model, device, engine, precision, threads)
    lm = load_lm(language_model, codec)
    n_q = codec.config.n_q_for(bandwidth)

    def is_done(job: FileJob) -> bool:
        return not again and is_newer(job.target, job.source) and is_same_kind(codec, job.target, n_q, lm)

    return run(jobs, is_many, "encoding", duration_s, is_done, lambda job, advance: _encode(codec, job, bandwidth, lm, advance))


def _encode(codec: Codec, job: FileJob, bandwidth: float | None, lm: LanguageEngine | LevelEngine | None, advance: Advance) -> str:
    from streamcodec.bitstream.files import check_target
    from streamcodec.tokenizer import encode_files, write_encoded

    target = check_target(job.target, [job.source])
    [(_, found)] = encode_files(codec, [job.source], bandwidth, advance)
    if isinstance(found, Exception):
        raise found
    size = write_encoded(codec, found, job.source, target, lm)
    n_q, frames = found.codes.shape
    kbps = 8 * size / found.duration_s / 1000
    return f"{target}: {found.duration_s:.2f} s in {frames} frames of {n_q} codebooks, {size} bytes ({kbps:.2f} kbps)"
