"""Resampling to a device whose clock drifts: a short windowed sinc, evaluated at the position of each output sample.

soxr's variable-rate mode could be steered as well, but it withholds 240 input samples, 10 ms at 24 kHz. This resampler withholds 2 ms. It
passes 90% of the lower rate's band and attenuates by 80 dB above the end of that band.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from streamcodec.audio.dsp.resample import check_block_to_resample, check_rate
from streamcodec.errors import AudioError
from streamcodec.types import Samples, block_shape

__all__ = ["DriftController", "DriftResampler"]

_HALF = 48  # taps on either side, at the lower of the rates
_PHASES = 256
_CUTOFF = 0.945  # of the lower rate's band
_BETA = 8.0
_MAX_STEERING = 0.002
_RAMP_S = 0.02
_BLOCK = 256  # output samples computed at a time: their taps stay in the processor's cache, which is several times as fast
_ROUNDING = 1e-9  # samples: far above the rounding errors of sums of positions in float64, far below anything audible


class DriftResampler:
    """Resamples one stream block by block from `rate_in` to `rate_out` (Hz), with a ratio that `steer` can change slightly.

    Blocks are [T], or [C, T] of several `channels`.

    After `flush()` the output lasts as long as the input, except for the effect of steering and at most one sample. Raises `AudioError`
    for a rate outside 1,000 to 768,000 Hz.
    """

    def __init__(self, rate_in: float, rate_out: float, channels: int = 1) -> None:
        self._channels = channels
        ratio = float(check_rate(rate_out) / check_rate(rate_in))
        self._table = _taps(min(1.0, ratio))
        self._half = self._table.shape[1] // 2
        self.withheld_s = self._half / float(rate_in)
        """The input that has not been output yet, in seconds."""
        self._nominal = 1.0 / ratio
        self._slope = _MAX_STEERING * self._nominal / (_RAMP_S * float(rate_out))
        self._open()

    def steer(self, faster: float) -> None:
        """Play the following samples faster by the share `faster` (negative: slower), at most 0.2%. The pitch changes inaudibly.

        Raises `AudioError` for a larger share.
        """
        if abs(faster) > _MAX_STEERING:
            raise AudioError(f"steering by {faster:g}, expected at most {_MAX_STEERING:g}")
        self._target_step = self._nominal * (1.0 + faster)

    def feed(self, samples: Samples) -> Samples:
        """Take a block of any length and return the output that is ready.

        Raises `AudioError` for anything but a float32 array of the stream's channels.
        """
        check_block_to_resample(samples, self._channels)
        return self._advance(samples)

    def flush(self) -> Samples:
        """Return the rest of the output, as if silence followed, and start a new stream."""
        rest = self._advance(np.zeros(block_shape(self._half, self._channels), np.float32))
        self._open()
        return rest

    def _open(self) -> None:
        # Positions are in input samples, counted from the start of the history.
        self._history = np.zeros(block_shape(self._half - 1, self._channels), np.float32)
        self._next = float(self._half - 1)
        self._step = self._target_step = self._nominal

    def _advance(self, samples: Samples) -> Samples:
        x = np.concatenate([self._history, samples], axis=-1)
        positions = self._positions(x.shape[-1] - self._half - _ROUNDING)
        first = int(self._next) - (self._half - 1)
        self._history, self._next = x[..., first:], self._next - first
        out = np.empty(block_shape(len(positions), self._channels), np.float32)
        if not len(positions):
            return out
        # A position within the rounding error of a whole sample counts as that sample. Otherwise its phase would depend on the block sizes.
        whole = (positions + _ROUNDING).astype(np.int64)
        phase = np.maximum(positions - whole, 0.0) * _PHASES
        row = phase.astype(np.int64)
        weight = (phase - row).astype(np.float32)[:, None]
        windows, begin = np.lib.stride_tricks.sliding_window_view(x, 2 * self._half, axis=-1), whole - (self._half - 1)
        for at in range(0, len(positions), _BLOCK):
            block = slice(at, at + _BLOCK)
            taps = self._table[row[block]] * (1 - weight[block]) + self._table[row[block] + 1] * weight[block]
            np.einsum("...nk,nk->...n", windows[..., begin[block], :], taps, dtype=np.float32, out=out[..., block])
        return out

    def _positions(self, end: float) -> npt.NDArray[np.float64]:
        """The input positions of the next output samples, as far as they are before `end`. A changed ratio is reached by a linear ramp."""
        max_steps = max(0, int((end - self._next) / (self._nominal * (1 - _MAX_STEERING))) + 2)
        change = self._target_step - self._step
        ramp = np.minimum(np.arange(1, max_steps + 1) * self._slope, abs(change)) * np.sign(change)
        steps = self._step + ramp
        ends = self._next + np.cumsum(steps)
        positions = np.concatenate([[self._next], ends])
        count = int(np.searchsorted(positions, end))
        if count:
            self._step, self._next = float(steps[count - 1]), float(positions[count])
        return positions[:count]


@cache
def _taps(band: float) -> npt.NDArray[np.float32]:
    """A low-pass filter at each fraction of a sample, [phases + 1, taps]; `band` is its share of the input's band."""
    half = int(np.ceil(_HALF / band))
    cutoff = _CUTOFF * band
    at = np.arange(1 - half, half + 1)[None] - np.arange(_PHASES + 1)[:, None] / _PHASES
    window = np.i0(_BETA * np.sqrt(np.maximum(0.0, 1.0 - (at / half) ** 2))) / np.i0(_BETA)
    taps = cutoff * np.sinc(cutoff * at) * window
    # Each row is normalised, so that all phases have the same gain.
    return np.asarray(taps / taps.sum(axis=1, keepdims=True), np.float32)


class DriftController:
    """A slow PI controller of the resampling ratio, which keeps the margin at its target although the clocks drift.

    `steering` is the share by which to play faster now, at most `max_steering`.
    """

    _GAIN = 0.05  # per second: an excess of 10 ms gives a steering of 0.05%, which removes it in about 20 s

    def __init__(self, max_steering: float) -> None:
        self.steering = 0.0
        self._max = max_steering
        self._drift = 0.0

    def restart(self) -> None:
        """Begin with a new margin; the estimated drift of the clocks stays."""
        self.steering = self._drift

    def step(self, excess_s: float, seconds: float) -> float:
        """The share by which to play faster during the next `seconds`."""
        steering = self._GAIN * excess_s + self._drift
        if abs(steering) < self._max:
            self._drift += self._GAIN**2 / 4 * excess_s * seconds
            self._drift = max(-self._max, min(self._max, self._drift))
        self.steering = max(-self._max, min(self._max, steering))
        return self.steering
