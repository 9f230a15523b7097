"""`streamcodec decode`: files of codes into audio."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamcodec.cli.options import (
    DEFAULT_MODEL,
    Again,
    Device,
    Engine,
    Into,
    LanguageModelFile,
    Model,
    Precision,
    Threads,
    any_number,
    load_codec,
    load_lm,
)

if TYPE_CHECKING:
    from streamcodec.bitstream.codes_file import CodesFile
    from streamcodec.bitstream.ecdc import EcdcFile
    from streamcodec.cli.batch import Advance, FileJob
    from streamcodec.codec import Chunk, Codec

__all__ = ["decode"]


def decode(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT... [OUTPUT]",
            help="Files that streamcodec encode wrote, .ecdc files, recordings (.rec), or folders of them; after a single file a .wav or "
            ".flac file (default: the input's name with .decoded.wav).",
        ),
    ],
    into: Into = None,
    again: Again = False,
    bandwidth: Annotated[
        float | None, typer.Option(parser=any_number, metavar="KBPS", help="Decode only so much of it (default: all).")
    ] = None,
    language_model: LanguageModelFile = None,
    model: Model = DEFAULT_MODEL,
    device: Device = "cpu",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    threads: Threads = 1,
) -> int:
    """Decode files of codes into audio."""
    from streamcodec.bitstream.files import naming
    from streamcodec.cli.batch import is_newer, plan, run
    from streamcodec.cli.coded import check_fingerprint, chunks_in, read_coded
    from streamcodec.cli.recorded import RecordedClip, decode_recording

    # Not the input's name with .wav: that is often the recording that was encoded.
    jobs, is_many = plan(files, into, [".codes", ".ecdc", ".rec"], ".decoded.wav")
    # Mistakes are told before a model is loaded, which takes long. A pipe is read once.
    first = None if is_many else read_coded(jobs[0].source)
    codec = load_codec(model, device, engine, precision, threads)
    lm = load_lm(language_model, codec)

    def read(source: Path) -> CodesFile | EcdcFile | RecordedClip:
        return read_coded(source) if first is None else first

    def is_done(job: FileJob) -> bool:
        return not again and is_newer(job.target, job.source)

    def seconds(source: Path) -> float:
        return read(source).samples / codec.sample_rate

    def convert(job: FileJob, advance: Advance) -> str:
        file = read(job.source)
        if isinstance(file, RecordedClip):
            with naming(job.source):
                check_fingerprint(codec, file.model.name, file.model.fingerprint)
            return decode_recording(codec, file, job.target, bandwidth, advance)
        with naming(job.source):
            chunks = chunks_in(codec, file, lm)
        return _decode(codec, job.source, job.target, chunks, file.samples, bandwidth, advance)

    return run(jobs, is_many, "decoding", seconds, is_done, convert)


def _decode(codec: Codec, source: Path, target: Path, chunks: list[Chunk], samples: int, bandwidth: float | None, advance: Advance) -> str:
    from streamcodec.audio import AudioWriter

    if bandwidth is not None:
        n_q = codec.config.n_q_for(bandwidth)
        chunks = [replace(chunk, codes=chunk.codes[:n_q]) for chunk in chunks]
    left = samples
    with AudioWriter(target, codec.sample_rate, codec.channels, inputs=[source], whole=True) as writer:
        for part in codec.decode_blocks(chunks):
            writer.write(part[..., :left])
            left -= min(left, part.shape[-1])
            advance(part.shape[-1] / codec.sample_rate)
    return f"{target}: {samples / codec.sample_rate:.2f} s from {chunks[0].codes.shape[0]} codebooks"
