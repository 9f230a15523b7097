"""Silence costs next to nothing: of a run of quiet packets a few are sent, and a gap with reason `silence` names the others."""

from __future__ import annotations

import math
from collections import deque
from typing import Generic, TypeVar

__all__ = ["QUIET_EVERY_S", "SILENCE", "DtxFilter", "PauseMemory"]

P = TypeVar("P")

SILENCE = "silence"
"""The reason of a gap whose packets held nothing to hear: they are left out, not lost."""

QUIET_EVERY_S = 0.8
"""So often one of a run of quiet packets is sent: who hears nothing for a second has to ask whether the sender is still there."""


class DtxFilter:
    """Which packets of a stream are left out: of a run of quiet ones all but the first, and then one in `every_s` or a little less."""

    def __init__(self, every_s: float = QUIET_EVERY_S) -> None:
        self._every_s = every_s + 1e-6
        self._since_s = math.inf  # the audio from the last quiet packet that was sent up to the next one

    @property
    def in_run(self) -> bool:
        """Whether what came last was quiet."""
        return self._since_s < math.inf

    def restart(self) -> None:
        """Whatever comes next begins a run: a gap or a new epoch comes in between."""
        self._since_s = math.inf

    def leaves_out(self, quiet: bool, duration_s: float) -> bool:
        """Take the next packet; True where it is not to be sent. One that is not `quiet` is sent always."""
        left_out = quiet and self._since_s + duration_s <= self._every_s
        if left_out:
            self._since_s += duration_s
        else:
            self._since_s = duration_s if quiet else math.inf
        return left_out


class PauseMemory(Generic[P]):
    """What a decoder may be fed of a pause in place of the packets that were left out.

    A decoder remembers for seconds. One that has seen a tenth of a pause still remembers what was said before it, and what it makes of the
    speech behind it is not what it would have been; fed with the last quiet packets over and over, it is nearly that.
    """

    _MOST = 10

    def __init__(self) -> None:
        self._last: deque[P] = deque(maxlen=self._MOST)
        self._turn = 0
        self._missing = 0

    def gap(self, count: int, reason: str) -> None:
        """Packets are missing here."""
        self._missing = self._missing + count if reason == SILENCE else 0

    def packet(self, packet: P, quiet: bool) -> list[P]:
        """Take the next packet; return what to feed behind it for those that were left out before it, for the decoder's state alone.

        Behind one that is not quiet it is nothing: what is said then would have to wait.
        """
        missing, self._missing = min(self._missing, self._MOST), 0
        if not quiet:
            return []
        self._last.append(packet)
        self._turn += missing
        return [self._last[(self._turn + i) % len(self._last)] for i in range(missing)]
