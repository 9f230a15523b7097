"""What a codec makes of a voice, to look at: spectrograms of the same clips side by side, up to half the rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamcodec.output_file import replacing
from streamcodec.types import Samples

__all__ = ["draw_spectra", "spectrum_db"]

_WINDOW_S, _HOP_S = 0.032, 0.008  # wide enough to tell a voice's harmonics apart
_SHOWN_S = 2.0
_RANGE_DB = 80.0


def spectrum_db(samples: Samples, rate: int) -> npt.NDArray[np.float64]:
    """The power spectrum of each frame in dB [bins, frames]; white noise has the same level in every bin."""
    window, hop = np.hanning(round(_WINDOW_S * rate)), round(_HOP_S * rate)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (0, len(window))), len(window))[::hop]
    return np.asarray(10 * np.log10(np.abs(np.fft.rfft(frames * window)) ** 2 / np.sum(window**2) + 1e-12).T)


def draw_spectra(path: Path, names: Sequence[str], columns: Mapping[str, Sequence[Samples]], rate: int) -> None:
    """Write a picture with a row for each clip (`names`) and a column for each codec; a row's range is that of its first column."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.6 * len(columns), 2.3 * len(names)), dpi=100, layout="constrained")
    axes = figure.subplots(len(names), len(columns), squeeze=False, sharex=True, sharey=True)
    for row, name in enumerate(names):
        shown = [clips[row][: round(_SHOWN_S * rate)] for clips in columns.values()]
        spectra = [spectrum_db(samples, rate) for samples in shown]
        top = float(spectra[0].max())
        for column, (label, spectrum) in enumerate(zip(columns, spectra, strict=True)):
            cell = axes[row, column]
            extent = (0.0, len(shown[column]) / rate, 0.0, rate / 2000)
            cell.imshow(spectrum, aspect="auto", origin="lower", extent=extent, vmin=top - _RANGE_DB, vmax=top, cmap="magma")
            if row == 0:
                cell.set_title(label, fontsize=8)
            if column == 0:
                cell.set_ylabel(f"{name}\nkHz", fontsize=8)
            if row == len(names) - 1:
                cell.set_xlabel("seconds", fontsize=8)
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:])
