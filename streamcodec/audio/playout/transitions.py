"""What the device hears where playing starts, stops or jumps: fades, and comfort noise between a stop and the next start.

Only the thread that pulls uses it. Nothing here allocates memory, but for a block that is shorter than a fade.
"""

from __future__ import annotations

import numpy as np

from streamcodec.audio.dsp.fades import fade_in
from streamcodec.types import Samples, block_shape

__all__ = ["Transitions"]


class Transitions:
    """Fades of `fade` samples, on blocks [T], or [C, T] of several `channels`. `comforted` samples of comfort noise were played."""

    def __init__(self, fade: int, channels: int = 1) -> None:
        self.comforted = 0
        self._up = fade_in(fade)
        self._down: Samples = self._up[::-1].copy()
        self._old = np.empty(block_shape(fade, channels), np.float32)
        self._new = np.empty(block_shape(fade, channels), np.float32)
        self._faded_in = 0
        self._last = np.zeros(block_shape(1, channels), np.float32)
        self._noise: Samples | None = None
        self._noise_at = 0

    def start(self) -> None:
        """Playing starts: what comes next fades in."""
        self._faded_in = 0

    def keep_last(self, out: Samples) -> None:
        """Remember the value that a fade-out begins with if nothing is left."""
        self._last[...] = out[..., -1:]

    def fade_in(self, out: Samples) -> None:
        """Fade in what is played after a start, and fade out the comfort noise before it."""
        count = min(out.shape[-1], len(self._up) - self._faded_in)
        if count > 0:
            part = slice(self._faded_in, self._faded_in + count)
            begin = out[..., :count]
            begin *= self._up[part]
            if self._noise is not None:
                old = self._old[..., :count]
                self._next_noise(self._noise, old, self._noise_at)
                old *= self._down[part]
                begin += old
            self._faded_in += count
        if self._faded_in == len(self._up):
            self._noise = None

    def fade_out(self, out: Samples, take: int, noise: Samples | None) -> None:
        """Fade out the last of the `take` samples that are left, and fade in `noise` where they were quiet.

        If they are fewer than a fade, the last value is held until the fade ends.
        """
        fade = min(len(self._down), out.shape[-1])
        start = max(0, take - fade)
        out[..., take : start + fade] = out[..., take - 1 : take] if take else self._last
        fading = out[..., start : start + fade]
        # A block shorter than a fade is rare, so this allocation is acceptable.
        fading *= self._down if fade == len(self._down) else np.linspace(1, 0, fade + 2, dtype=np.float32)[1:-1]
        self._noise, self._noise_at = noise, 0
        self.add_noise(out[..., start:])

    def add_noise(self, out: Samples) -> None:
        """Add the comfort noise, if there is any, to `out`. It fades in over `out`, then replaces it; silence follows its end."""
        if self._noise is None:
            return
        at = self._noise_at
        fading = min(out.shape[-1], max(0, len(self._up) - at))
        if fading:
            new, begin = self._new[..., :fading], out[..., :fading]
            self._next_noise(self._noise, new, at)
            new *= self._up[at : at + fading]
            begin += new
        self._next_noise(self._noise, out[..., fading:], self._noise_at)

    def _next_noise(self, noise: Samples, out: Samples, at: int) -> None:
        count = max(0, min(out.shape[-1], noise.shape[-1] - at))
        out[..., :count] = noise[..., at : at + count]
        out[..., count:] = 0.0
        self._noise_at = at + out.shape[-1]
        self.comforted += count

    def blocks(self, count: int) -> tuple[Samples, Samples]:
        """Room for the samples on both sides of a jump, at most `count` each."""
        fade = min(len(self._up), count)
        return self._old[..., :fade], self._new[..., :fade]

    def cross_fade(self, old: Samples, new: Samples) -> None:
        """Turn `new` into a cross-fade from `old` to `new`; `old` is overwritten."""
        # new + (old - new) * down is a cross-fade whose gains sum to one.
        old -= new
        old *= self._down[len(self._down) - old.shape[-1] :]
        new += old
