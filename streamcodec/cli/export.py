"""`streamcodec export`: a model as ONNX files that programs in any language run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamcodec.errors import InputError

__all__ = ["export"]


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="An embedded name, a file, a folder or a hub id.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the files go; it is made if it is not there.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files of an earlier export.")] = False,
) -> int:
    """Write a model's live steps as ONNX, with a manifest that says how to run them.

    The files run in any ONNX runtime: samples and a state in, codes and the next state out, and the reverse. Weights are stored as float16
    where that loses nothing; `convert --half` makes such a model.
    """
    from streamcodec.codec.export import export_model

    manifest = folder / "manifest.json"
    if not overwrite and manifest.exists():
        raise InputError(f"{manifest} is there already: give --overwrite to replace it")
    for file in export_model(model, folder):
        print(f"{file}  {file.stat().st_size / 1e6:.2f} MB")
    return 0
