"""From a device callback to a loop: one thread writes blocks, one reads them, and neither ever waits for the other.

The callback copies into memory that is there already; each side alone moves its own counters. What a slow reader leaves is overwritten in
the end, and is dropped by the reader long before: the oldest, so that what it gets is never stale.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamcodec.types import Samples

__all__ = ["CaptureBuffer"]

_STAMPS = 4096


class CaptureBuffer:
    """At most `frames` sample frames of `channels` channels that wait, with the capture time of each block that was written.

    Where more wait, the reader leaves the oldest blocks out until half as much is left, and counts them. The newest block is always kept,
    unless it is longer than four times `frames`.
    """

    def __init__(self, frames: int, channels: int) -> None:
        self.channels = channels
        self._most = frames
        # So much more than may wait that the writer does not come near what is being read.
        self._ring = np.zeros((4 * frames, channels), np.float32)
        self._stamps = np.zeros((_STAMPS, 3), np.int64)  # (first frame, frame behind the last, capture time in us) of each block
        # The writer's: frames up to where it may be writing just now, blocks that are whole, frames that never fit.
        self._claimed = 0
        self._blocks = 0
        self._unfit = 0
        # The reader's: the next block, the frame behind the last that it took, frames that it left out.
        self._next = 0
        self._read = 0
        self._left_out = 0

    @property
    def dropped(self) -> int:
        """Frames that were never read although somebody went on reading."""
        return self._left_out + self._unfit

    def write(self, block: npt.NDArray[np.float32], captured_us: int) -> None:
        """Copy a block [T, C] whose first frame was captured at `captured_us`."""
        first, count, size = self._claimed, len(block), len(self._ring)
        if count > size:
            self._unfit += count
            return
        # Said before it is done: a reader that is copying finds out what was written over meanwhile.
        self._claimed = first + count
        at = first % size
        head = min(count, size - at)
        self._ring[at : at + head] = block[:head]
        self._ring[: count - head] = block[head:]
        self._stamps[self._blocks % _STAMPS] = first, first + count, captured_us
        self._blocks += 1

    def read(self) -> tuple[Samples, int] | None:
        """What waits, [C, T], and when its first frame was captured (us); None when there is nothing."""
        while True:
            blocks = self._blocks
            if blocks == self._next:
                return None
            oldest = max(self._next, blocks - _STAMPS // 2)
            stamps = self._stamps[np.arange(oldest, blocks) % _STAMPS]
            end = int(stamps[-1, 1])
            if end - self._read > self._most:
                # Down to a half: one hole is better than many. The newest block always stays.
                stamps = stamps[min(int(np.searchsorted(stamps[:, 0], end - self._most // 2)), len(stamps) - 1) :]
            first, captured = int(stamps[0, 0]), int(stamps[0, 2])
            taken = self._copy(first, end)
            if first >= self._claimed - len(self._ring) and oldest > self._blocks - _STAMPS:
                break
            # The writer came all the way round meanwhile: look again.
        self._left_out += first - self._read
        self._next, self._read = blocks, end
        return taken, captured

    def skip(self) -> None:
        """Forget what waits without counting it: nobody was reading."""
        blocks = self._blocks
        if blocks != self._next:
            self._next, self._read = blocks, int(self._stamps[(blocks - 1) % _STAMPS, 1])

    def _copy(self, first: int, end: int) -> Samples:
        """[C, T]"""
        at, count = first % len(self._ring), end - first
        head = min(count, len(self._ring) - at)
        return np.ascontiguousarray(np.concatenate([self._ring[at : at + head], self._ring[: count - head]]).T)
