"""Silence costs next to nothing: of a run of quiet packets a few are sent, and a gap with reason `silence` names the others."""

from __future__ import annotations

import math

__all__ = ["QUIET_EVERY_S", "SILENCE", "Thinner", "is_quiet"]

SILENCE = "silence"
"""The reason of a gap whose packets held nothing to hear: they are left out, not lost."""

QUIET_EVERY_S = 0.8
"""So often one of a run of quiet packets is sent: who hears nothing for a second has to ask whether the sender is still there."""


def is_quiet(n_q: int, most_n_q: int, bits: int) -> bool:
    """Whether a packet of codes of `bits` each that has `n_q` codebooks, in a stream of `most_n_q`, stands for silence.

    It does where it has as few as can be packed, and more would be possible. PCM (0 codebooks) never says so.
    """
    return 0 < n_q < most_n_q and n_q <= (1 if bits >= 8 else 2)


class Thinner:
    """Which packets of a stream are left out: of a run of quiet ones all but the first, and then one in `every_s` or a little less."""

    def __init__(self, every_s: float = QUIET_EVERY_S) -> None:
        self._every_s = every_s + 1e-6
        self._since_s = math.inf  # the audio from the last quiet packet that was sent up to the next one

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
