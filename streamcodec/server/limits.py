"""Every bound of the server in one place, each in seconds or in connections."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What the server allows before it refuses, waits or drops; the comments say which."""

    max_publishers: int = 256  # refuse: server_full
    max_listeners: int = 1024  # refuse: server_full
    handshake_s: float = 5.0  # refuse: timeout
    encode_backlog_s: float = 1.0  # live: drop whole messages until half is left, then a new epoch; fast: wait
    decode_backlog_s: float = 1.0  # live: leave packets out until half is left, with a gap to listeners of PCM; fast: the publisher waits
    listener_queue_s: float = 2.0  # live: drop the oldest packets down to half, with a gap; fast: the publisher waits
    history_s: float = 1.0  # how much of a stream a late listener may get to warm its decoder
    stall_s: float = 10.0  # how long a fast publisher waits for one listener before it waits no longer, and that listener may lose packets
    drain_s: float = 5.0  # how long a stop waits for what was accepted to go out
