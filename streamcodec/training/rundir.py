"""A run's folder: checkpoints that a power cut cannot tear, and CSV logs that a resumed run continues."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from streamcodec.output_file import replacing, write_text

__all__ = ["CsvLog", "latest_checkpoint", "load_checkpoint", "save_checkpoint"]


def save_checkpoint(folder: Path, step: int, values: Mapping[str, Any], *, keep: int = 2) -> Path:
    """Write `checkpoint-<step>.pt` whole or not at all, and delete all but the newest `keep`."""
    target = folder / f"checkpoint-{step:08d}.pt"
    with replacing(target) as file:
        torch.save(dict(values), file)
    for old in sorted(folder.glob("checkpoint-*.pt"))[:-keep]:
        old.unlink()
    return target


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint of a run, or None."""
    return max(folder.glob("checkpoint-*.pt"), default=None)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's tensors and numbers; nothing else is unpickled."""
    values: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    return values


class CsvLog:
    """Rows appended to a CSV file; later rows may lack columns, and those that they bring are added to the header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._columns: list[str] = []
        if path.is_file():
            with path.open(newline="") as file:
                self._columns = next(csv.reader(file), [])

    def add(self, row: Mapping[str, object]) -> None:
        """Append one row."""
        fresh = [name for name in row if name not in self._columns]
        if fresh:
            self._widen(fresh)
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._columns, restval="")
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})

    def _widen(self, fresh: list[str]) -> None:
        rows: list[dict[str, str]] = []
        if self.path.is_file():
            with self.path.open(newline="") as file:
                rows = list(csv.DictReader(file))
        self._columns += fresh
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path, text.getvalue())
