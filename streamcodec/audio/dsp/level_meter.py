"""Level meters in dBFS (decibels relative to full scale). Silence has the level of the floor, -60 dBFS, instead of minus infinity."""

from __future__ import annotations

import math

import numpy as np

from streamcodec.errors import InputError
from streamcodec.types import Samples

__all__ = ["FLOOR_DB", "Level", "bar", "to_db"]

FLOOR_DB = -60.0

_RMS_S = 0.3  # the integration time of a VU meter


def to_db(amplitude: float) -> float:
    """An amplitude in dBFS, never below the floor."""
    return max(FLOOR_DB, 20 * math.log10(amplitude)) if amplitude > 0 else FLOOR_DB


class Level:
    """Peak and RMS level of a mono stream, in dBFS, at least -60.

    The peak rises at once and falls by `decay` dB per second. The RMS is averaged with a time constant of 0.3 s. Time is counted in samples
    at `rate` Hz. Raises `InputError` for a rate or decay that is not positive.
    """

    def __init__(self, rate: float = 24_000, decay: float = 20.0) -> None:
        if not rate > 0 or not decay > 0:
            raise InputError(f"rate is {rate!r} and decay {decay!r}, expected both above 0")
        self._rate = rate
        self._decay = decay
        self._peak_db = FLOOR_DB
        self._mean_square = 0.0

    @property
    def peak_db(self) -> float:
        """The decaying peak in dBFS."""
        return self._peak_db

    @property
    def rms_db(self) -> float:
        """The averaged RMS in dBFS; a full-scale sine is -3."""
        return to_db(math.sqrt(self._mean_square))

    def feed(self, samples: Samples) -> None:
        """Take a block [T] of any length."""
        if not samples.size:
            return
        seconds = samples.size / self._rate
        self._peak_db = max(to_db(float(np.abs(samples).max())), self._peak_db - self._decay * seconds, FLOOR_DB)
        weight = math.exp(-seconds / _RMS_S)
        self._mean_square = weight * self._mean_square + (1 - weight) * float(np.mean(np.square(samples, dtype=np.float64)))


def bar(db: float, width: int = 30) -> str:
    """A level in dBFS as a bar of `width` characters: all "-" at the floor, all "#" at full scale and above."""
    share = 0.0 if math.isnan(db) else (db - FLOOR_DB) / -FLOOR_DB
    filled = round(width * min(1.0, max(0.0, share)))
    return "#" * filled + "-" * (width - filled)
