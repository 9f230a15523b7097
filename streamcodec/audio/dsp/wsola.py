"""Time stretching at the same pitch: it removes or repeats one period of the sound where two neighbouring periods are similar.

This follows WSOLA (Verhelst and Roelands, 1993): a cut is inaudible if the waveform after it continues the waveform before it.
"""

from __future__ import annotations

import numpy as np

from streamcodec.audio.dsp.fades import fade_in
from streamcodec.types import Samples

__all__ = ["lengthen", "shorten"]

_MIN_PERIOD_S = 0.0025  # 400 Hz
_OVERLAP_S = 0.005


def shorten(x: Samples, max_samples: int, rate: float, *, similarity: float = 0.7) -> Samples:
    """Remove at most `max_samples` samples from x, [T] or [C, T], with a cross-fade; the channels are cut at one place.

    Returns x unchanged if no two sections reach `similarity` (1: equal). `rate` is in Hz.
    """
    match = _find_period(x, max_samples, rate, similarity)
    if match is None:
        return x
    at, period, fade = match
    blend = x[..., at : at + fade] * (1.0 - fade_in(fade)) + x[..., at + period : at + period + fade] * fade_in(fade)
    return np.concatenate([x[..., :at], blend, x[..., at + period + fade :]], axis=-1)


def lengthen(x: Samples, max_samples: int, rate: float, *, similarity: float = 0.7) -> Samples:
    """Repeat at most `max_samples` samples of x, [T] or [C, T], with a cross-fade; the channels repeat one section.

    Returns x unchanged if no two sections reach `similarity` (1: equal). `rate` is in Hz.
    """
    match = _find_period(x, max_samples, rate, similarity)
    if match is None:
        return x
    at, period, fade = match
    repeat = at + period
    blend = x[..., repeat : repeat + fade] * (1.0 - fade_in(fade)) + x[..., at : at + fade] * fade_in(fade)
    return np.concatenate([x[..., :repeat], blend, x[..., at + fade :]], axis=-1)


def _find_period(x: Samples, max_samples: int, rate: float, similarity: float) -> tuple[int, int, int] | None:
    """Find a section of x that repeats: its index, its period and the length of the cross-fade, all in samples; None if none is similar.

    Of several channels the mix is searched.
    """
    # In float64 every processor, and a port to another language, finds the same period.
    mono = (x if x.ndim == 1 else x.mean(axis=0, dtype=np.float32)).astype(np.float64)
    fade = round(_OVERLAP_S * rate)
    min_period, max_period = round(_MIN_PERIOD_S * rate), min(max_samples, len(mono) - fade - 2)
    if max_period < min_period:
        return None
    best: tuple[float, int, int] | None = None
    # The first and the last sample do not change, because they join the neighbouring packets.
    last = len(mono) - max_period - fade - 1
    for at in sorted({1, max(1, last // 2), last}):
        section = mono[at : at + fade]
        candidates = mono[at + min_period : at + max_period + fade]
        # A running sum of squares gives the energies of all candidates at once.
        squares = np.concatenate([[0.0], np.cumsum(candidates**2)])
        energies = squares[fade:] - squares[:-fade]
        energy = float(np.dot(section, section))
        similarities = (np.correlate(candidates, section, "valid") + 1e-9) / (np.sqrt(energies * energy) + 1e-9)
        lag = int(np.argmax(similarities))
        if best is None or similarities[lag] > best[0]:
            best = float(similarities[lag]), at, min_period + lag
    assert best is not None
    return (best[1], best[2], fade) if best[0] >= similarity else None
