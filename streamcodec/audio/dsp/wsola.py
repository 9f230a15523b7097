"""Shorter or longer at the same pitch: one period of the sound is left out or repeated where two neighbouring periods are similar.

The idea of WSOLA (Verhelst and Roelands, 1993): a cut is inaudible where the waveform after it goes on as the one before it would have.
"""

from __future__ import annotations

import numpy as np

from streamcodec.audio.dsp.fades import fade_in
from streamcodec.types import Samples

__all__ = ["lengthen", "shorten"]

_SHORTEST_S = 0.0025  # of a period: 400 Hz
_OVERLAP_S = 0.005


def shorten(x: Samples, max_samples: int, rate: float, *, similarity: float = 0.7) -> Samples:
    """Leave out at most `max_samples` of x [T], across a cross-fade; x itself where no two stretches reach `similarity` (1: equal)."""
    found = _period(x, max_samples, rate, similarity)
    if found is None:
        return x
    at, period, fade = found
    blend = x[at : at + fade] * (1.0 - fade_in(fade)) + x[at + period : at + period + fade] * fade_in(fade)
    return np.concatenate([x[:at], blend, x[at + period + fade :]])


def lengthen(x: Samples, max_samples: int, rate: float, *, similarity: float = 0.7) -> Samples:
    """Repeat at most `max_samples` of x [T], across a cross-fade; x itself where no two stretches reach `similarity`."""
    found = _period(x, max_samples, rate, similarity)
    if found is None:
        return x
    at, period, fade = found
    again = at + period
    blend = x[again : again + fade] * (1.0 - fade_in(fade)) + x[at : at + fade] * fade_in(fade)
    return np.concatenate([x[:again], blend, x[at + fade :]])


def _period(x: Samples, max_samples: int, rate: float, similarity: float) -> tuple[int, int, int] | None:
    """Where in x a stretch repeats itself after how many samples, and over how many the two can be blended."""
    fade = round(_OVERLAP_S * rate)
    shortest, longest = round(_SHORTEST_S * rate), min(max_samples, len(x) - fade - 2)
    if longest < shortest:
        return None
    best: tuple[float, int, int] | None = None
    # The first and the last sample stay: what is before and behind joins them.
    last = len(x) - longest - fade - 1
    for at in sorted({1, max(1, last // 2), last}):
        here = x[at : at + fade]
        behind = x[at + shortest : at + longest + fade]
        # Both energies of all candidates in one go: a running sum of squares.
        squares = np.concatenate([[0.0], np.cumsum(behind.astype(np.float64) ** 2)])
        energies = squares[fade:] - squares[:-fade]
        own = float(np.dot(here, here))
        alike = (np.correlate(behind, here, "valid") + 1e-9) / (np.sqrt(energies * own) + 1e-9)
        lag = int(np.argmax(alike))
        if best is None or alike[lag] > best[0]:
            best = float(alike[lag]), at, shortest + lag
    assert best is not None
    return (best[1], best[2], fade) if best[0] >= similarity else None
