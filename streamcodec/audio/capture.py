"""From a device callback to a loop: one thread writes blocks, one reads them, and neither ever waits for the other.

The callback copies into memory that is there already; each side alone moves its own counter. What finds no room is dropped and counted.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamcodec.audio.samples import Samples

__all__ = ["CaptureBuffer"]

_STAMPS = 4096


class CaptureBuffer:
    """A ring of `frames` sample frames of `channels` channels, with the capture time of each block that was written."""

    def __init__(self, frames: int, channels: int) -> None:
        self.channels = channels
        self.dropped = 0
        self._ring = np.zeros((frames, channels), np.float32)
        self._stamps = np.zeros((_STAMPS, 2), np.int64)  # (first frame, capture time in us) of each block
        self._written = 0
        self._blocks = 0
        self._read = 0
        self._stamp_read = 0

    def write(self, block: npt.NDArray[np.float32], captured_us: int) -> None:
        """Copy a block [T, C] whose first frame was captured at `captured_us`; drop it whole where it finds no room."""
        count, size = len(block), len(self._ring)
        if self._written + count - self._read > size or self._blocks - self._stamp_read >= _STAMPS:
            self.dropped += count
            return
        at = self._written % size
        head = min(count, size - at)
        self._ring[at : at + head] = block[:head]
        self._ring[: count - head] = block[head:]
        self._stamps[self._blocks % _STAMPS] = self._written, captured_us
        self._written += count
        self._blocks += 1

    def read(self) -> tuple[Samples, int] | None:
        """All that was written and not read, [C, T], and when its first frame was captured (us); None when there is nothing."""
        blocks, written = self._blocks, self._written
        if blocks == self._stamp_read:
            return None
        captured = int(self._stamps[self._stamp_read % _STAMPS, 1])
        size = len(self._ring)
        at, count = self._read % size, written - self._read
        head = min(count, size - at)
        taken = np.concatenate([self._ring[at : at + head], self._ring[: count - head]]).T
        self._stamp_read = blocks
        self._read = written
        return np.ascontiguousarray(taken), captured
