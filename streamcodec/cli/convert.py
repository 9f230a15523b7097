"""`streamcodec convert`: a checkpoint in another layout."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Literal

import typer

from streamcodec.errors import CheckpointError, InputError

__all__ = ["convert"]


def whole_number(text: str | int) -> int:
    """Parse an integer."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no whole number") from None


def convert(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="An embedded name, a file, a folder or a hub id.")],
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="A file, or a folder for the layout hf.")],
    layout: Annotated[
        Literal["streamcodec", "hf", "meta", "audiocraft"], typer.Option(help="The layout of the target; SOURCE may have any of them.")
    ] = "streamcodec",
    search_beam: Annotated[
        int | None,
        typer.Option(
            parser=whole_number, metavar="N", help="How many paths the encoder follows through the codebooks (default: as the source)."
        ),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store float16: half the size, and another fingerprint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what TARGET is already.")] = False,
) -> int:
    """Convert a checkpoint to another layout, and compare the two by what they make of a clip.

    The layouts are streamcodec's own, Hugging Face's, Meta's (the package encodec) and audiocraft's.
    """
    import torch

    from streamcodec.codec.compare import compare_models
    from streamcodec.model.checkpoint import codes_fingerprint, files_written, save, weights_fingerprint
    from streamcodec.model.hub import load_model, locate

    where = locate(source)
    if not overwrite:
        with contextlib.suppress(OSError):  # a name that no file can have is told when it is written
            for file in filter(Path.is_file, files_written(target, layout)):
                raise InputError(f"{file} is there already: give --overwrite to replace it")
    model = load_model(where)
    if search_beam is not None:
        model = model.with_search_beam(search_beam)
    sources = [where, *where.iterdir()] if where.is_dir() else [where]
    save(model, target, layout=layout, dtype=torch.float16 if half else torch.float32, inputs=sources)
    written = load_model(target)
    compared = compare_models(model, written)
    if not half and not compared.all_equal:
        raise CheckpointError(f"{target} was written, but it is not the model that was read: {compared}")
    print(
        f"{target}: layout {layout}, fingerprint {codes_fingerprint(written)} (from {codes_fingerprint(model)}), "
        f"weights {weights_fingerprint(written)} (from {weights_fingerprint(model)})"
    )
    print(f"compared, {source} and {target}: {compared}")
    return 0
