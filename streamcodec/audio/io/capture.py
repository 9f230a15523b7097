"""A lock-free ring buffer from a device callback to an event loop: one thread writes blocks, one reads, and neither waits for the other.

The callback copies into preallocated memory. Each side writes only its own counters. If the reader is slow, it drops the oldest blocks, so
that its samples are never stale. It does so long before the writer overwrites them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamcodec.types import Samples

__all__ = ["CaptureBuffer"]

_STAMPS = 4096


class CaptureBuffer:
    """Holds at most `frames` waiting sample frames of `channels` channels, and the capture time of each block.

    If more frames wait, the reader drops the oldest blocks until about half of `frames` remain, and counts the dropped frames. The newest
    block is always kept, unless it is longer than four times `frames`.
    """

    def __init__(self, frames: int, channels: int) -> None:
        self.channels = channels
        self._max_waiting = frames
        # Four times as large as the waiting frames, so that the writer stays far away from the frames that are being read.
        self._ring = np.zeros((4 * frames, channels), np.float32)
        self._stamps = np.zeros((_STAMPS, 3), np.int64)  # of each block: first frame, frame after the last, capture time in us
        # Only the writer changes these: the end of the frames it may be writing now, the complete blocks, the frames that did not fit.
        self._claimed = 0
        self._blocks = 0
        self._too_long = 0
        # Only the reader changes these: the next block, the frame after the last one that it took, the frames that it dropped.
        self._next = 0
        self._read = 0
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Frames that were lost: dropped by the reader, or in blocks that did not fit. Frames that were skipped do not count."""
        return self._dropped + self._too_long

    def write(self, block: npt.NDArray[np.float32], captured_us: int) -> None:
        """Copy a block [T, C] whose first frame was captured at `captured_us`."""
        first, count, size = self._claimed, len(block), len(self._ring)
        if count > size:
            self._too_long += count
            return
        # The counter moves before the copy, so that a reader can check after its own copy whether its frames were overwritten.
        self._claimed = first + count
        at = first % size
        head = min(count, size - at)
        self._ring[at : at + head] = block[:head]
        self._ring[: count - head] = block[head:]
        self._stamps[self._blocks % _STAMPS] = first, first + count, captured_us
        self._blocks += 1

    def read(self) -> tuple[Samples, int] | None:
        """Return the waiting samples [C, T] and the capture time of the first one (us), or None if nothing waits."""
        while True:
            blocks = self._blocks
            if blocks == self._next:
                return None
            oldest = max(self._next, blocks - _STAMPS // 2)
            stamps = self._stamps[np.arange(oldest, blocks) % _STAMPS]
            end = int(stamps[-1, 1])
            if end - self._read > self._max_waiting:
                # Dropping down to half makes one gap instead of many. The newest block always stays.
                stamps = stamps[min(int(np.searchsorted(stamps[:, 0], end - self._max_waiting // 2)), len(stamps) - 1) :]
            first, captured = int(stamps[0, 0]), int(stamps[0, 2])
            samples = self._copy(first, end)
            if first >= self._claimed - len(self._ring) and oldest > self._blocks - _STAMPS:
                break
            # The writer went around the whole ring during the copy, so the copy may be torn: try again.
        self._dropped += first - self._read
        self._next, self._read = blocks, end
        return samples, captured

    def skip(self) -> None:
        """Discard the waiting samples without counting them as dropped, because nothing was reading."""
        blocks = self._blocks
        if blocks != self._next:
            self._next, self._read = blocks, int(self._stamps[(blocks - 1) % _STAMPS, 1])

    def _copy(self, first: int, end: int) -> Samples:
        """A copy of the frames from `first` up to `end`, as [C, T]."""
        at, count = first % len(self._ring), end - first
        head = min(count, len(self._ring) - at)
        return np.ascontiguousarray(np.concatenate([self._ring[at : at + head], self._ring[: count - head]]).T)
