"""Resampling to a device whose clock drifts: a short windowed sinc, evaluated wherever the next output sample falls.

soxr's variable-rate mode could be steered too, but withholds 240 input samples, 10 ms at 24 kHz. This withholds 2 ms: it passes 90% of the
lower rate's band and is 80 dB down behind that band's end.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from streamcodec.audio.dsp.resample import check_block_to_resample, check_rate
from streamcodec.errors import AudioError
from streamcodec.types import Samples

__all__ = ["DriftController", "DriftResampler"]

_HALF = 48  # taps on either side, at the lower of the rates
_PHASES = 256
_CUTOFF = 0.945  # of the lower rate's band
_BETA = 8.0
_MAX_STEERING = 0.002
_RAMP_S = 0.02
_ROUNDING = 1e-9  # samples: far above what sums of positions lose in float64, far below what is heard


class DriftResampler:
    """Resamples one mono stream block by block from `rate_in` to `rate_out` (Hz), slightly off on demand, withholding `withheld_s`.

    After `flush()` the output is as long as the input, to within a sample and what steering did. Raises `AudioError` for a rate outside
    1,000 to 768,000 Hz.
    """

    def __init__(self, rate_in: float, rate_out: float) -> None:
        ratio = float(check_rate(rate_out) / check_rate(rate_in))
        self._table = _taps(min(1.0, ratio))
        self._half = self._table.shape[1] // 2
        self.withheld_s = self._half / float(rate_in)
        """How much of what was fed has not come out, in seconds."""
        self._nominal = 1.0 / ratio
        self._slope = _MAX_STEERING * self._nominal / (_RAMP_S * float(rate_out))
        self._open()

    def steer(self, faster: float) -> None:
        """Make what follows shorter by the share `faster` (negative: longer), at most 0.2%: the pitch goes with it, inaudibly."""
        if abs(faster) > _MAX_STEERING:
            raise AudioError(f"steering by {faster:g}, expected at most {_MAX_STEERING:g}")
        self._wanted = self._nominal * (1.0 + faster)

    def feed(self, samples: Samples) -> Samples:
        """Take a block [T] of any length and return the output that it settles.

        Raises `AudioError` for anything but a one-dimensional float32 array.
        """
        check_block_to_resample(samples)
        return self._advance(samples)

    def flush(self) -> Samples:
        """Return what is left, as if silence followed, and start afresh."""
        rest = self._advance(np.zeros(self._half, np.float32))
        self._open()
        return rest

    def _open(self) -> None:
        # Positions count input samples from the kept ones' beginning.
        self._kept = np.zeros(self._half - 1, np.float32)
        self._next = float(self._half - 1)
        self._step = self._wanted = self._nominal

    def _advance(self, samples: Samples) -> Samples:
        kept = np.concatenate([self._kept, samples])
        positions = self._positions(len(kept) - self._half - _ROUNDING)
        first = int(self._next) - (self._half - 1)
        self._kept, self._next = kept[first:], self._next - first
        if not len(positions):
            return np.empty(0, np.float32)
        # A position that is a whole sample but for rounding counts as one, or blocks would decide which of two phases it has.
        whole = (positions + _ROUNDING).astype(np.int64)
        phase = np.maximum(positions - whole, 0.0) * _PHASES
        row = phase.astype(np.int64)
        between = (phase - row).astype(np.float32)[:, None]
        taps = self._table[row] * (1 - between) + self._table[row + 1] * between
        windows = np.lib.stride_tricks.sliding_window_view(kept, 2 * self._half)[whole - (self._half - 1)]
        out: Samples = np.einsum("nk,nk->n", windows, taps, dtype=np.float32)
        return out

    def _positions(self, end: float) -> npt.NDArray[np.float64]:
        """Where in the input the next samples of the output lie, all that are before `end`; the rate gets where it is to go by a ramp."""
        most = max(0, int((end - self._next) / (self._nominal * (1 - _MAX_STEERING))) + 2)
        change = self._wanted - self._step
        ramp = np.minimum(np.arange(1, most + 1) * self._slope, abs(change)) * np.sign(change)
        steps = self._step + ramp
        ends = self._next + np.cumsum(steps)
        positions = np.concatenate([[self._next], ends])
        count = int(np.searchsorted(positions, end))
        if count:
            self._step, self._next = float(steps[count - 1]), float(positions[count])
        return positions[:count]


@cache
def _taps(band: float) -> npt.NDArray[np.float32]:
    """[phases + 1, taps]: a low-pass for `band` of the input's, at each fraction of a sample."""
    half = int(np.ceil(_HALF / band))
    cutoff = _CUTOFF * band
    at = np.arange(1 - half, half + 1)[None] - np.arange(_PHASES + 1)[:, None] / _PHASES
    window = np.i0(_BETA * np.sqrt(np.maximum(0.0, 1.0 - (at / half) ** 2))) / np.i0(_BETA)
    taps = cutoff * np.sinc(cutoff * at) * window
    # The same level at every phase.
    return np.asarray(taps / taps.sum(axis=1, keepdims=True), np.float32)


class DriftController:
    """Holds the margin at its target against clocks that drift: a slow PI controller of the resampling ratio.

    `steering` is the share by which to play faster now, at most `max_steering`.
    """

    _PULL = 0.05  # per second: 10 ms off are made up for at 0.05%, in some 20 s

    def __init__(self, max_steering: float) -> None:
        self.steering = 0.0
        self._max = max_steering
        self._drift = 0.0

    def restart(self) -> None:
        """Begin with a new margin; the clocks drift as before."""
        self.steering = self._drift

    def step(self, excess_s: float, seconds: float) -> float:
        """The share by which to play faster during the next `seconds`."""
        wanted = self._PULL * excess_s + self._drift
        if abs(wanted) < self._max:
            self._drift += self._PULL**2 / 4 * excess_s * seconds
            self._drift = max(-self._max, min(self._max, self._drift))
        self.steering = max(-self._max, min(self._max, wanted))
        return self.steering
