"""A page to listen with: the same clips as they were spoken and through each codec, side by side."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from streamcodec.audio import write_audio
from streamcodec.output_file import write_text
from streamcodec.types import Samples

__all__ = ["write_page"]


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.4 system-ui, sans-serif; margin: 2rem; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .35rem .7rem .35rem 0; text-align: left; white-space: nowrap; }}
audio {{ width: 13rem; height: 2rem; }}
</style></head><body><h1>{title}</h1>
"""


def write_page(folder: Path, title: str, names: Sequence[str], columns: Mapping[str, Sequence[Samples]], rate: int) -> Path:
    """Write one WAV for each clip (`names`) and column into `folder`, and an index.html that plays them; return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["<tr><th>clip</th>" + "".join(f"<th>{html.escape(column)}</th>" for column in columns) + "</tr>"]
    for at, name in enumerate(names):
        cells = []
        for number, column in enumerate(columns):
            file = f"{name}-{number}.wav"
            write_audio(folder / file, np.clip(columns[column][at], -1.0, 1.0), rate)
            cells.append(f'<td><audio controls preload="none" src="{html.escape(file, quote=True)}"></audio></td>')
        rows.append(f"<tr><td>{html.escape(name)}</td>{''.join(cells)}</tr>")
    page = folder / "index.html"
    body = "\n".join(rows)
    write_text(page, f"{_HEAD.format(title=html.escape(title))}<table>\n{body}\n</table></body></html>\n")
    return page
