"""Options that several commands share, the kinds of numbers that options take, and the codec that they ask for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from streamcodec.defaults import DEFAULT_HOST, DEFAULT_PORT
from streamcodec.errors import InputError

if TYPE_CHECKING:
    from streamcodec.codec import Codec, LanguageEngine, LevelEngine

__all__ = [
    "DEFAULT_MODEL",
    "DEFAULT_PORT",
    "DEFAULT_URL",
    "Again",
    "Bandwidth",
    "Device",
    "Engine",
    "EngineName",
    "Into",
    "LanguageModelFile",
    "Model",
    "NoRetry",
    "PacketFrames",
    "Precision",
    "PrecisionName",
    "Quiet",
    "Server",
    "Stream",
    "Threads",
    "TlsCa",
    "Token",
    "TokenFile",
    "any_number",
    "load_codec",
    "load_lm",
    "number",
    "port_number",
    "positive_int",
]

DEFAULT_MODEL = "speech-24k"
DEFAULT_URL = f"ws://{DEFAULT_HOST}:{DEFAULT_PORT}"


def positive_int(text: str | int) -> int:
    """Parse a whole number above 0."""
    if not str(text).strip().isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is no whole number above 0")
    return int(text)


def port_number(text: str | int) -> int:
    """Parse a TCP port; 0 leaves the choice to the system."""
    if not str(text).strip().isdecimal() or int(text) > 65_535:
        raise typer.BadParameter(f"{text!r} is no port, expected 0 to 65535")
    return int(text)


def any_number(text: str | float) -> float:
    """Parse a number."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no number") from None


def number(low: float, high: float) -> Callable[[str | float], float]:
    """The parser of a number from `low` to `high`."""

    def parse(text: str | float) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise typer.BadParameter(f"{text!r} is no number from {low:g} to {high:g}")
        return value

    return parse


# Where to connect, under which name, and how much to say.
Server = Annotated[str, typer.Option(metavar="URL", help="The server's address.")]
Stream = Annotated[str, typer.Option(metavar="NAME", help="The stream's name.")]
Token = Annotated[str | None, typer.Option(metavar="TOKEN", envvar="STREAMCODEC_TOKEN", help="The token, where the server asks for one.")]
TlsCa = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Trust the certificates in this PEM file, for a server whose own one no public authority signed."),
]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help="The token, in a file that is read again for each connection.")
]
NoRetry = Annotated[bool, typer.Option("--no-retry", help="Give up when the connection fails instead of trying again.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Show no live line.")]

# What the codec does.
Bandwidth = Annotated[
    float | None,
    typer.Option(
        parser=any_number,
        metavar="KBPS",
        help="One that the model has, see `models`: 1.5, 3, 6, 12 or 24, as a rule (default: 6).",
    ),
]
PacketFrames = Annotated[int, typer.Option(parser=positive_int, metavar="N", help="Frames in a packet, 1 to 25; 6 are 80 ms.")]

# Many files in one go.
Into = Annotated[Path | None, typer.Option("--into", metavar="FOLDER", help="The folder for the results (default: beside the inputs).")]
Again = Annotated[bool, typer.Option("--again", help="Of many files, convert also those whose results are there already.")]

# How .ecdc files are coded.
LanguageModelFile = Annotated[
    Path | None,
    typer.Option(
        "--language-model",
        metavar="NAME",
        help="A language model that makes .ecdc files smaller: speech-24k's own, EnCodec's (a .th file), or another of whole numbers "
        "(a .safetensors file).",
    ),
]

# Which model, and what it runs on.
Model = Annotated[str, typer.Option(metavar="NAME", help="The model: an embedded name, a file, a folder or a hub id.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="The device, by torch's name; cuda is untested.")]
EngineName = Literal["auto", "torch", "openvino", "onnx"]
Engine = Annotated[EngineName, typer.Option(help="What runs the model; auto is the fastest that is installed.")]
PrecisionName = Literal["auto", "fp32", "bf16"]
Precision = Annotated[
    PrecisionName,
    typer.Option(help="bf16 is faster and gives other codes than the published code; auto is bf16 where the processor has it."),
]
Threads = Annotated[
    int, typer.Option(parser=positive_int, metavar="N", help="Threads of the model; a single stream gains little from more than one.")
]


def load_lm(path: Path | None, codec: Codec) -> LanguageEngine | LevelEngine | None:
    """Load the language model that an option names, if it does, for the codec."""
    from streamcodec.codec import load_fixed_point, load_language_model
    from streamcodec.model.hub import embedded_language_models

    if path is None:
        return None
    if path.suffix == ".safetensors" or str(path) in embedded_language_models():
        return load_fixed_point(path, codec)
    return load_language_model(path, codec)


def load_codec(
    model: str,
    device: str,
    engine: EngineName,
    precision: PrecisionName,
    threads: int,
    *,
    workers: int = 1,
    wait_for_compile: bool = True,
) -> Codec:
    """Load the codec that the model's options ask for; the others are those of `streamcodec.load`."""
    from streamcodec.codec import load

    try:
        return load(
            model, device=device, engine=engine, precision=precision, threads=threads, workers=workers, wait_for_compile=wait_for_compile
        )
    except (RuntimeError, AssertionError) as exc:
        # What torch raises for a device that it does not know or was not built for.
        if device == "cpu":
            raise
        raise InputError(f"device {device!r} cannot be used: {str(exc).splitlines()[0]}") from exc
