"""All bounds of the server in one place, each in seconds, in connections, as a share or as a rate, with its default."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt

from streamcodec.server.rate import Rate

__all__ = ["Limits"]

# Whoever reads limits from a file or the environment checks them by these.
Count = Annotated[int, Ge(1)]
Seconds = Annotated[float, Ge(0)]
SomeSeconds = Annotated[float, Gt(0)]
Share = Annotated[float, Gt(0)]


@dataclass(frozen=True)
class Limits:
    """What the server allows before it refuses, waits or drops; the comment on each bound says which."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    max_publishers: Count = 256  # refuse: server_full
    max_listeners: Count = 1024  # refuse: server_full
    max_waiting_listeners: Count = 512  # of names that nobody publishes; refuse: server_full
    max_other_connections: Count = 256  # besides those: handshakes and requests over HTTP; HTTP's status 503
    max_connections_per_address: Count = 64  # HTTP's status 429
    max_publishers_per_address: Count = 16  # refuse: server_full
    new_connections: Rate = Rate(10, 100)  # of one address; HTTP's status 429
    accepted: Rate = Rate(1000, 500)  # connections of all, those that are refused too; who comes faster waits in the system's queue
    handshakes: Rate = Rate(250, 10)  # of all; who comes faster waits, addresses take turns, and HTTP's status 503 after 10 s
    max_echo_tests: Count = 16  # where everybody may test their connection: streams named echo.*; refuse: server_full
    max_echo_tests_per_address: Count = 2  # refuse: server_full
    echo_test_s: Seconds = 300.0  # so long such a stream lasts; error: timeout
    # Refuse publishers of PCM, and listeners of PCM whose stream has no decoder yet: server_full. "auto": when this machine is full by its
    # own measure; a number: when it has so many streams to encode or decode; None, or "off" in a file: never.
    capacity: Literal["auto"] | Count | None = "auto"
    max_load: Share = 0.75  # "auto": full is where so much of the engine's time is taken
    # "auto": full is also where so much of the processors' time is taken, or of one processor's for all but the model: it must react soon
    max_cpu: Share = 0.6
    max_wait_s: Seconds = 0.03  # "auto" or a number: full is also where 5% of the live packets wait longer to be encoded or decoded
    # "auto": refuse listeners of codes where so much of one processor's time is taken by all but the model; that is more than `max_cpu`, as
    # somebody must be able to hear the last publisher
    max_relay: Share = 0.7
    max_loop_lag_s: Seconds = 0.2  # "auto": refuse everybody while the loop reads 5% of what comes later than this, for whatever reason
    join_wait_s: Seconds = 3.0  # a newcomer that may be admitted in a moment waits so long, in order of arrival; then refuse: server_full
    handshake_s: SomeSeconds = 5.0  # refuse: timeout
    first_packet_s: Seconds = 30.0  # a publisher that sends nothing from its welcome on; error: timeout
    silent_s: Seconds = 600.0  # a publisher that sends nothing any more, not even a gap; error: timeout
    encode_wait_s: Seconds = 0.5  # live: packets that wait so long for the encoder make it drop some until half is left, then a new epoch
    decode_wait_s: Seconds = 0.5  # live: the same for the decoder, with a gap to listeners of PCM
    fast_backlog_s: Seconds = 0.5  # fast: the publisher waits where so much audio waits for encoder or decoder
    listener_queue_s: Seconds = 2.0  # fast: the publisher waits where half of it waits for one listener; live: may be `resume_s` more
    listener_window_s: Seconds = 0.5  # send no packet to a listener that has more than this and a round trip in flight
    listener_max_lag_s: Seconds = 2.0  # live: drop packets that wait so long for one listener until the oldest waits half of it, with a gap
    listener_give_up_s: Seconds = 10.0  # live: disconnect a listener whose lag is twice `listener_max_lag_s` for so long: slow_listener
    resume_s: Seconds = 10.0  # how long a lost connection's stream, its numbers and its packets are kept; 0: not at all
    history_s: Seconds = 2.0  # how much of a stream a late listener may get to warm its decoder: 30 dB in the worst case, see late_join
    # How long a fast publisher waits for one listener, which may lose packets from then on; it waits for the machine without a bound.
    stall_s: Seconds = 10.0
    # A step of the engine that takes longer makes the server unwell, and is given up after twice that.
    hung_step_s: SomeSeconds = 5.0
    record_every_s: SomeSeconds = 1.0  # what has come of the recorded streams is written so often
    record_backlog_s: Seconds = 10.0  # so much of a stream may wait for the disk; then leave packets out of its recording, with a gap
    drain_s: Seconds = 5.0  # how long a stop waits until what was accepted has gone out
    refused_tokens: Rate = Rate(0.2, 10)  # of one address; then none of its tokens is looked at: rate_limited
    # Bound addresses of loopback like others. A proxy on this machine has one for all its clients, and bounds them itself.
    bound_loopback: bool = False
    metrics_made: Rate = Rate(5, 20)  # answers to /metrics that are made anew; who asks more often gets the last one
    control_frames: Rate = Rate(20, 60)  # WebSocket's pings and pongs of one connection; cut off: rate_limited
    # Frames of messages of one connection, each in one or more; what comes faster is not read yet. A browser that sends each of its blocks
    # of 128 samples has 375 a second.
    frames: Rate = Rate(1000, 250)
    incoming_bytes: Rate = Rate(4 << 20, 2 << 20)  # of one connection; what comes faster is not read yet

    def for_chunks(self, chunk_s: float | None) -> Limits:
        """These limits where each packet is a chunk of `chunk_s`: what may wait leaves room for a few of them, and for their long steps.

        Without chunks (None) they are as they are.
        """
        if chunk_s is None:
            return self
        return replace(
            self,
            max_wait_s=max(self.max_wait_s, chunk_s / 2),
            encode_wait_s=max(self.encode_wait_s, 1.5 * chunk_s),
            decode_wait_s=max(self.decode_wait_s, 1.5 * chunk_s),
            fast_backlog_s=max(self.fast_backlog_s, chunk_s),
            listener_queue_s=max(self.listener_queue_s, 4 * chunk_s),
            listener_max_lag_s=max(self.listener_max_lag_s, 4 * chunk_s),
            hung_step_s=max(self.hung_step_s, 30 * chunk_s),
        )
