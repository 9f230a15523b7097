"""Pictures: how one is begun and saved, and what their data has in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from streamcodec.output_file import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["numbers", "picture"]


@contextmanager
def picture(path: Path, width: float, height: float, *, dpi: int = 110) -> Iterator[Figure]:
    """A figure of `width` by `height` inches, saved to `path` when the block is left; its axes have no frame above and to the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    yield figure
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:])


def numbers(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    """Values to draw: None becomes a gap."""
    return np.array([np.nan if value is None else value for value in values], np.float64)
