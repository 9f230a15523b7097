"""`streamcodec decode`: a file of codes into audio."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamcodec.cli.options import DEFAULT_MODEL, Device, Engine, Model, Precision, Threads, any_number, load_codec
from streamcodec.errors import CodesError, InputError

__all__ = ["decode"]


def decode(
    input_: Annotated[Path, typer.Argument(metavar="INPUT", help="A file that streamcodec encode wrote.")],
    output: Annotated[
        Path | None,
        typer.Argument(metavar="[OUTPUT]", help="A .wav or .flac file (default: the input's name with .decoded.wav)."),
    ] = None,
    bandwidth: Annotated[
        float | None, typer.Option(parser=any_number, metavar="KBPS", help="Decode only so much of it (default: all).")
    ] = None,
    model: Model = DEFAULT_MODEL,
    device: Device = "cpu",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    threads: Threads = 1,
) -> int:
    """Decode a file of codes into audio."""
    from streamcodec.audio import AudioWriter
    from streamcodec.bitstream.codes_file import read_codes
    from streamcodec.cli.status import progress

    file = read_codes(input_)
    # Not the input's name with .wav: that is often the recording that was encoded.
    target = output or input_.with_suffix(".decoded.wav")
    codec = load_codec(model, device, engine, precision, threads)
    if file.fingerprint not in (codec.fingerprint, *codec.former_fingerprints):
        raise InputError(
            f"{input_}: made with {file.model} ({file.fingerprint}); {codec.name} is {codec.fingerprint}: give its model with --model"
        )
    codes = file.codes
    if codec.config.frames_for(file.samples) != codes.shape[1]:
        raise CodesError(f"{input_}: {codes.shape[1]} frames are not {file.samples} samples: it is damaged")
    if bandwidth is not None:
        codes = codes[: codec.config.n_q_for(bandwidth)]
    left = file.samples
    decoder = codec.stream_decoder(start="exact")
    with (
        AudioWriter(target, codec.sample_rate, inputs=[input_], whole=True) as writer,
        progress(left / codec.sample_rate, "decoding") as advance,
    ):
        for at in range(0, codes.shape[1] + 75, 75):
            samples = decoder.feed(codes[:, at : at + 75]) if at < codes.shape[1] else decoder.flush()
            writer.write(samples[:left])
            left -= min(left, samples.size)
            advance(samples.size / codec.sample_rate)
    print(f"{target}: {file.samples / codec.sample_rate:.2f} s from {codes.shape[0]} codebooks")
    return 0
