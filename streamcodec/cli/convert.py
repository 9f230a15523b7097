"""`streamcodec convert`: a checkpoint in another layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

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
    layout: Annotated[Literal["streamcodec", "hf", "meta"], typer.Option(help="The layout of the target.")] = "streamcodec",
    search_beam: Annotated[
        int | None,
        typer.Option(
            parser=whole_number, metavar="N", help="How many paths the encoder follows through the codebooks (default: as the source)."
        ),
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store float16: half the size, and another fingerprint.")] = False,
) -> int:
    """Convert a checkpoint to another layout.

    The layouts are streamcodec's own, Hugging Face's and Meta's.
    """
    import torch

    from streamcodec.model.checkpoint import codes_fingerprint, save, weights_fingerprint
    from streamcodec.model.hub import load_model, locate

    where = locate(source)
    model = load_model(where)
    if search_beam is not None:
        model = model.with_search_beam(search_beam)
    sources = [where, *where.iterdir()] if where.is_dir() else [where]
    save(model, target, layout=layout, dtype=torch.float16 if half else torch.float32, inputs=sources)
    written = load_model(target)
    print(
        f"{target}: layout {layout}, fingerprint {codes_fingerprint(written)} (from {codes_fingerprint(model)}), "
        f"weights {weights_fingerprint(written)} (from {weights_fingerprint(model)})"
    )
    return 0
