"""`streamcodec decode`: files of codes into audio."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamcodec.cli.options import DEFAULT_MODEL, Again, Device, Engine, Into, Model, Precision, Threads, any_number, load_codec
from streamcodec.errors import CodesError, InputError

if TYPE_CHECKING:
    from streamcodec.bitstream.codes_file import CodesFile
    from streamcodec.cli.batch import Advance, FileJob
    from streamcodec.codec import Codec

__all__ = ["decode"]

_CHUNK_FRAMES = 300  # 4 s: longer ones gain nothing


def decode(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT... [OUTPUT]",
            help="Files that streamcodec encode wrote, or folders of them; after a single file a .wav or .flac file (default: the input's "
            "name with .decoded.wav).",
        ),
    ],
    into: Into = None,
    again: Again = False,
    bandwidth: Annotated[
        float | None, typer.Option(parser=any_number, metavar="KBPS", help="Decode only so much of it (default: all).")
    ] = None,
    model: Model = DEFAULT_MODEL,
    device: Device = "cpu",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    threads: Threads = 1,
) -> int:
    """Decode files of codes into audio."""
    from streamcodec.bitstream.codes_file import read_codes
    from streamcodec.cli.batch import is_newer, plan, run

    # Not the input's name with .wav: that is often the recording that was encoded.
    jobs, is_many = plan(files, into, [".codes"], ".decoded.wav")
    # Mistakes are told before a model is loaded, which takes long. A pipe is read once.
    first = None if is_many else read_codes(jobs[0].source)
    codec = load_codec(model, device, engine, precision, threads)

    def read(source: Path) -> CodesFile:
        return read_codes(source) if first is None else first

    def is_done(job: FileJob) -> bool:
        return not again and is_newer(job.target, job.source)

    def seconds(source: Path) -> float:
        return read(source).samples / codec.sample_rate

    return run(jobs, is_many, "decoding", seconds, is_done, lambda job, advance: _decode(codec, job, read(job.source), bandwidth, advance))


def _decode(codec: Codec, job: FileJob, file: CodesFile, bandwidth: float | None, advance: Advance) -> str:
    from streamcodec.audio import AudioWriter

    source, target = job.source, job.target
    if not codec.reads(file.fingerprint):
        raise InputError(
            f"{source}: made with {file.model} ({file.fingerprint}); {codec.name} is {codec.fingerprint}: give its model with --model"
        )
    codes = file.codes
    if codec.config.frames_for(file.samples) != codes.shape[1]:
        raise CodesError(f"{source}: {codes.shape[1]} frames are not {file.samples} samples: it is damaged")
    if bandwidth is not None:
        codes = codes[: codec.config.n_q_for(bandwidth)]
    left = file.samples
    decoder = codec.stream_decoder(start="exact")
    with AudioWriter(target, codec.sample_rate, inputs=[source], whole=True) as writer:
        for at in range(0, codes.shape[1] + _CHUNK_FRAMES, _CHUNK_FRAMES):
            samples = decoder.feed(codes[:, at : at + _CHUNK_FRAMES]) if at < codes.shape[1] else decoder.flush()
            writer.write(samples[:left])
            left -= min(left, samples.size)
            advance(samples.size / codec.sample_rate)
    return f"{target}: {file.samples / codec.sample_rate:.2f} s from {codes.shape[0]} codebooks"
