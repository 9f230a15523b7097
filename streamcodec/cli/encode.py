"""`streamcodec encode`: an audio file into a file of codes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamcodec.cli.options import DEFAULT_MODEL, Bandwidth, Device, Engine, Model, Precision, Threads, load_codec
from streamcodec.errors import InputError

__all__ = ["encode"]


def encode(
    input_: Annotated[Path, typer.Argument(metavar="INPUT", help="Any audio file that libsndfile reads.")],
    output: Annotated[
        Path | None, typer.Argument(metavar="[OUTPUT]", help="The file of codes (default: the input's name with .codes).")
    ] = None,
    bandwidth: Bandwidth = None,
    model: Model = DEFAULT_MODEL,
    device: Device = "cpu",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    threads: Threads = 1,
) -> int:
    """Encode an audio file into a file of codes."""
    import numpy as np

    from streamcodec.audio import open_audio_blocks
    from streamcodec.bitstream.codes_file import CodesFile, check_target, write_codes
    from streamcodec.cli.status import progress

    samples = 0
    with open_audio_blocks(input_) as blocks:
        target = check_target(output or input_.with_suffix(".codes"), [input_])
        codec = load_codec(model, device, engine, precision, threads)
        encoder = codec.stream_encoder(bandwidth, packet_frames=25, start="exact", sample_rate=blocks.rate, channels=blocks.channels)
        packets = []
        with progress(blocks.duration_s, "encoding") as advance:
            for block in blocks:
                packets += encoder.feed(block)
                samples += block.shape[1]
                advance(block.shape[1] / blocks.rate)
        packets += encoder.flush()
        duration_s = samples / blocks.rate
        # Rounded half up, as the resampler does.
        length = (2 * samples * codec.sample_rate + blocks.rate) // (2 * blocks.rate)
    if not packets:
        raise InputError(f"{input_}: is shorter than one sample at {codec.sample_rate} Hz")
    codes = np.concatenate(packets, axis=1)
    size = write_codes(target, CodesFile(codes, codec.name, codec.fingerprint, length), codec.config.bits_per_code, [input_])
    kbps = 8 * size / duration_s / 1000
    print(f"{target}: {duration_s:.2f} s in {codes.shape[1]} frames of {codes.shape[0]} codebooks, {size} bytes ({kbps:.2f} kbps)")
    return 0
