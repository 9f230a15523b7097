"""A lock-free playout buffer: one thread pushes, one thread pulls, and neither waits for the other.

Each side writes only its own counters, after the samples are in place, so the ring needs no lock. Time is counted in pulled samples; there
is no clock. Every start fades in, every underrun fades out, and every jump cross-fades. Underruns and jumps are counted. After quiet
samples a stop is not an underrun: comfort noise from the pushing thread fades in and is played until playing starts again.
"""

from __future__ import annotations

import numpy as np

from streamcodec.audio.dsp.fades import fade_in
from streamcodec.errors import AudioError, InputError
from streamcodec.types import Samples

__all__ = ["PlayoutBuffer"]


class PlayoutBuffer:
    """A bounded ring of mono samples between a decoder and a device callback.

    Playing starts when `target` samples are buffered, also after each underrun. If more than `ceiling` samples are buffered, the oldest are
    dropped until `landing` samples remain (by default `target`). The pushing thread may change all three at any time. Fades take `fade`
    samples, by default 5 ms at 24 kHz. Raises `InputError` unless 1 <= target < ceiling and fade >= 1.
    """

    def __init__(self, target: int, ceiling: int, fade: int = 120, capacity: int | None = None) -> None:
        if not 1 <= target < ceiling or fade < 1:
            raise InputError(f"target is {target}, ceiling {ceiling} and fade {fade}, expected 1 <= target < ceiling and fade >= 1")
        self.target = target
        self.ceiling = ceiling
        self.landing = target
        # The ring is at least twice the ceiling: only the device's callback drops what is above it, and a stalled device does not call.
        self._ring = np.zeros(max(2 * ceiling, capacity or 0), np.float32)
        self._up = fade_in(fade)
        self._down: Samples = self._up[::-1].copy()
        self._old = np.empty(fade, np.float32)
        self._new = np.empty(fade, np.float32)
        # Only the pushing thread writes these. `_tail` is the number of samples written so far and the noise that follows them; it is one
        # tuple, so that the other thread always reads a matching pair.
        self._tail: tuple[int, Samples | None] = (0, None)
        self._overflowed = 0
        self._cut = False
        self._finished = False
        # Only the pulling thread writes these.
        self._read = 0
        self._skipped = 0
        self._jumps = 0
        self._underruns = 0
        self._pauses = 0
        self._comforted = 0
        self._comfort: Samples | None = None
        self._comfort_at = 0
        self._playing = False
        self._faded_in = 0
        self._last = 0.0

    @property
    def buffered(self) -> int:
        """Samples waiting to be played."""
        return self._written - self._read

    @property
    def underruns(self) -> int:
        """How often playing stopped because the buffer was empty."""
        return self._underruns

    @property
    def pauses(self) -> int:
        """How often comfort noise followed quiet samples because the buffer was empty."""
        return self._pauses

    @property
    def comforted(self) -> int:
        """Samples of comfort noise handed to the device."""
        return self._comforted

    @property
    def jumps(self) -> int:
        """How often the oldest samples were dropped, with a cross-fade."""
        return self._jumps

    @property
    def dropped_samples(self) -> int:
        """Samples that were never played, because the buffer held too many."""
        return self._skipped + self._overflowed

    @property
    def played(self) -> int:
        """Samples handed to the device, without silence and comfort noise."""
        return self._read - self._skipped

    @property
    def drained(self) -> bool:
        """Whether `finish()` was called and everything has been played."""
        return self._finished and self._read == self._written

    @property
    def _written(self) -> int:
        return self._tail[0]

    def push(self, samples: Samples, noise: Samples | None = None) -> None:
        """Append samples [T]. If they do not fit, because the device does not pull, all of them are dropped between fades and counted.

        If the buffer becomes empty after these samples, `noise` [T] is played once and no underrun is counted. The caller must not change
        that array afterwards. Raises `AudioError` for anything but a one-dimensional float32 array, and `InputError` after `finish()`.
        """
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise AudioError(f"block is {samples.dtype} of shape {list(samples.shape)}, expected float32 of shape [T]")
        if self._finished:
            raise InputError("the playout buffer was finished, expected no more samples: a new stream takes a new buffer")
        fitting = len(samples) <= len(self._ring) - self.buffered
        if not fitting or self._cut:
            samples = self._around_cut(samples, fitting)
        self._store(self._written, samples)
        self._tail = self._written + len(samples), noise

    def _around_cut(self, samples: Samples, fitting: bool) -> Samples:
        """Handle blocks that do not fit: fade out the samples before them and fade in the next ones that fit. Returns what to store."""
        fade = min(len(self._down), self.buffered if not fitting else len(samples))
        if fitting:
            self._cut = False
            return np.concatenate([samples[:fade] * self._up[:fade], samples[fade:]])
        self._overflowed += len(samples)
        if not self._cut:
            self._cut = True
            tail = np.empty(fade, np.float32)
            self._load(self._written - fade, tail)
            self._store(self._written - fade, tail * self._down[len(self._down) - fade :])
        return samples[:0]

    def finish(self) -> None:
        """Mark the end of the samples: the rest is played to its end, whatever the target, and its end does not count as an underrun."""
        self._finished = True

    def pull(self, n: int, out: Samples | None = None) -> Samples:
        """Fill `out` [n] with the samples that are due, or with comfort noise or silence, and return it. Without `out`, make an array.

        Raises `AudioError` if `out` is not float32 of shape [n].
        """
        if out is None:
            out = np.empty(n, np.float32)
        elif out.shape != (n,) or out.dtype != np.float32:
            raise AudioError(f"out is {out.dtype} of shape {list(out.shape)}, expected float32 of shape [{n}]")
        # `_finished` must be read before `_tail`: if it is set, the number of samples is final.
        finished = self._finished
        written, noise = self._tail
        buffered = written - self._read
        if not self._playing and (buffered >= self.target or (finished and buffered)):
            self._playing = True
            self._faded_in = 0
        if not self._playing:
            out[:] = 0.0
            if finished:
                self._fade_in(out)
            else:
                self._add_comfort(out, self._comfort_at)
            return out
        if buffered > self.ceiling and not finished:
            landing = min(self.landing, buffered)
            self._skip(buffered - landing)
            buffered = landing
        take = min(n, buffered)
        self._load(self._read, out[:take])
        self._read += take
        out[take:] = 0.0
        self._fade_in(out[:take])
        if take < n:
            self._playing = False
            self._faded_in = 0
            if not finished:
                start = self._fade_out(out, take)
                self._comfort = noise
                if noise is None:
                    self._underruns += 1
                else:
                    self._pauses += 1
                    self._add_comfort(out[start:], 0)
        elif n:
            self._last = float(out[-1])
        return out

    def _fade_in(self, out: Samples) -> None:
        count = min(len(out), len(self._up) - self._faded_in)
        if count > 0:
            part = slice(self._faded_in, self._faded_in + count)
            out[:count] *= self._up[part]
            if self._comfort is not None:
                old = self._old[:count]
                self._next_comfort(self._comfort, old, self._comfort_at)
                old *= self._down[part]
                out[:count] += old
            self._faded_in += count
        if self._faded_in == len(self._up):
            self._comfort = None

    def _add_comfort(self, out: Samples, at: int) -> None:
        """Add the comfort noise, from its sample `at` on, to `out`. It fades in over `out`, then replaces it; silence follows its end."""
        if self._comfort is None:
            return
        self._comfort_at = at
        fading = min(len(out), max(0, len(self._up) - at))
        if fading:
            new = self._new[:fading]
            self._next_comfort(self._comfort, new, at)
            new *= self._up[at : at + fading]
            out[:fading] += new
        self._next_comfort(self._comfort, out[fading:], self._comfort_at)

    def _next_comfort(self, noise: Samples, out: Samples, at: int) -> None:
        count = max(0, min(len(out), len(noise) - at))
        out[:count] = noise[at : at + count]
        out[count:] = 0.0
        self._comfort_at = at + len(out)
        self._comforted += count

    def _fade_out(self, out: Samples, take: int) -> int:
        """Fade out the last of the `take` samples, and return the index where the fade begins.

        If they are fewer than a fade, the last value is held until the fade ends.
        """
        fade = min(len(self._down), len(out))
        start = max(0, take - fade)
        out[take : start + fade] = out[take - 1] if take else self._last
        # A block shorter than a fade is rare, so this allocation is acceptable.
        out[start : start + fade] *= self._down if fade == len(self._down) else np.linspace(1, 0, fade + 2, dtype=np.float32)[1:-1]
        return start

    def _skip(self, count: int) -> None:
        """Skip `count` samples, with a cross-fade in place from the skipped samples to the ones after them."""
        fade = min(len(self._up), self.buffered - count)
        old, new = self._old[:fade], self._new[:fade]
        self._load(self._read, old)
        self._load(self._read + count, new)
        # new + (old - new) * down is a cross-fade whose gains sum to one.
        old -= new
        old *= self._down[-fade:]
        new += old
        self._store(self._read + count, new)
        self._skipped += count
        self._jumps += 1
        self._read += count

    def _store(self, position: int, samples: Samples) -> None:
        start = position % len(self._ring)
        first = min(len(samples), len(self._ring) - start)
        self._ring[start : start + first] = samples[:first]
        self._ring[: len(samples) - first] = samples[first:]

    def _load(self, position: int, out: Samples) -> None:
        start = position % len(self._ring)
        first = min(len(out), len(self._ring) - start)
        out[:first] = self._ring[start : start + first]
        out[first:] = self._ring[: len(out) - first]
