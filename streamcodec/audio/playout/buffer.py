"""A lock-free playout buffer: one thread pushes, one thread pulls, and neither waits for the other.

Each side writes only its own counters, after the samples are in place, so the ring needs no lock. Time is counted in pulled samples; there
is no clock. Every start fades in, every underrun fades out, and every jump cross-fades. Underruns and jumps are counted. After quiet
samples a stop is not an underrun: comfort noise from the pushing thread fades in and is played until playing starts again.
"""

from __future__ import annotations

import numpy as np

from streamcodec.audio.playout.ring import RingWriter, SampleRing
from streamcodec.audio.playout.transitions import Transitions
from streamcodec.errors import AudioError, InputError
from streamcodec.types import Samples, block_shape

__all__ = ["PlayoutBuffer"]


class PlayoutBuffer:
    """A bounded ring of samples, [T] or [C, T] of several `channels`, between a decoder and a device callback.

    Playing starts when `target` samples are buffered, also after each underrun. If more than `ceiling` samples are buffered, the oldest are
    dropped until `landing` samples remain (by default `target`). The pushing thread may change all three at any time. Fades take `fade`
    samples, by default 5 ms at 24 kHz. Raises `InputError` unless 1 <= target < ceiling and fade >= 1.
    """

    def __init__(self, target: int, ceiling: int, fade: int = 120, capacity: int | None = None, channels: int = 1) -> None:
        if not 1 <= target < ceiling or fade < 1:
            raise InputError(f"target is {target}, ceiling {ceiling} and fade {fade}, expected 1 <= target < ceiling and fade >= 1")
        self.target = target
        self.ceiling = ceiling
        self.landing = target
        # The ring is at least twice the ceiling: only the device's callback drops what is above it, and a stalled device does not call.
        self._channels = channels
        self._ring = SampleRing(max(2 * ceiling, capacity or 0), channels)
        self._writer = RingWriter(self._ring, fade, channels)
        # Only the pulling thread writes these.
        self._transitions = Transitions(fade, channels)
        self._read = 0
        self._skipped = 0
        self._jumps = 0
        self._underruns = 0
        self._pauses = 0
        self._playing = False

    @property
    def buffered(self) -> int:
        """Samples waiting to be played."""
        return self._writer.written - self._read

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
        return self._transitions.comforted

    @property
    def jumps(self) -> int:
        """How often the oldest samples were dropped, with a cross-fade."""
        return self._jumps

    @property
    def dropped_samples(self) -> int:
        """Samples that were never played, because the buffer held too many."""
        return self._skipped + self._writer.overflowed

    @property
    def played(self) -> int:
        """Samples handed to the device, without silence and comfort noise."""
        return self._read - self._skipped

    @property
    def drained(self) -> bool:
        """Whether `finish()` was called and everything has been played."""
        return self._writer.finished and self._read == self._writer.written

    def push(self, samples: Samples, noise: Samples | None = None) -> None:
        """Append samples. If they do not fit, because the device does not pull, all of them are dropped between fades and counted.

        If the buffer becomes empty after these samples, `noise` is played once and no underrun is counted. The caller must not change that
        array afterwards. Raises `AudioError` for anything but a float32 array of the buffer's channels, and `InputError` after `finish()`.
        """
        self._writer.push(samples, noise, self.buffered)

    def finish(self) -> None:
        """Mark the end of the samples: the rest is played to its end, whatever the target, and its end does not count as an underrun."""
        self._writer.finished = True

    def pull(self, n: int, out: Samples | None = None) -> Samples:
        """Fill `out` with the `n` samples that are due, or with comfort noise or silence, and return it. Without `out`, make an array.

        Raises `AudioError` if `out` is not float32 of shape [n], or [C, n] of several channels.
        """
        shape = block_shape(n, self._channels)
        if out is None:
            out = np.empty(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32:
            raise AudioError(f"out is {out.dtype} of shape {list(out.shape)}, expected float32 of shape {list(shape)}")
        # `finished` must be read before `tail`: if it is set, the number of samples is final.
        finished = self._writer.finished
        written, noise = self._writer.tail
        buffered = written - self._read
        if not self._playing and (buffered >= self.target or (finished and buffered)):
            self._playing = True
            self._transitions.start()
        if not self._playing:
            out[:] = 0.0
            if finished:
                self._transitions.fade_in(out)
            else:
                self._transitions.add_noise(out)
            return out
        if buffered > self.ceiling and not finished:
            landing = min(self.landing, buffered)
            self._skip(buffered - landing)
            buffered = landing
        take = min(n, buffered)
        self._ring.load(self._read, out[..., :take])
        self._read += take
        out[..., take:] = 0.0
        self._transitions.fade_in(out[..., :take])
        if take < n:
            self._stop(out, take, noise, finished)
        elif n:
            self._transitions.keep_last(out)
        return out

    def interrupt(self) -> None:
        """Let what is pulled next fade in, because the device has not played on from what it pulled before."""
        self._transitions.start()

    def _stop(self, out: Samples, take: int, noise: Samples | None, finished: bool) -> None:
        """Playing stops, as only `take` samples of `out` were left."""
        self._playing = False
        self._transitions.start()
        if finished:
            return
        self._transitions.fade_out(out, take, noise)
        if noise is None:
            self._underruns += 1
        else:
            self._pauses += 1

    def _skip(self, count: int) -> None:
        """Skip `count` samples, with a cross-fade in place from the skipped samples to the ones after them."""
        old, new = self._transitions.blocks(self.buffered - count)
        self._ring.load(self._read, old)
        self._ring.load(self._read + count, new)
        self._transitions.cross_fade(old, new)
        self._ring.store(self._read + count, new)
        self._skipped += count
        self._jumps += 1
        self._read += count
