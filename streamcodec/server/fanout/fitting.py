"""Whether packets and gaps fit the stream that they should be of: what another node says is looked at before it reaches a listener."""

from __future__ import annotations

from collections.abc import Sequence

from streamcodec.errors import SnapshotError
from streamcodec.protocol import Gap, Packet, PayloadLayout
from streamcodec.server.fanout.decode import DecodedPacket
from streamcodec.server.info import StreamInfo

__all__ = ["check_history", "check_order", "fitting_frames"]


def fitting_frames(packet: Packet, info: StreamInfo, layout: PayloadLayout) -> int:
    """The frames in a packet of the stream `info`. Raises `PayloadError` or `SnapshotError`."""
    frames = layout.frames(packet.payload, packet.n_q)
    if not 1 <= packet.n_q <= info.n_q or frames > info.packet_frames:
        told = f"{packet.n_q} codebooks and {frames} frames"
        raise SnapshotError(f"packet {packet.seq} has {told}, expected at most {info.n_q} and {info.packet_frames}")
    return frames


def check_history(
    history: Sequence[Packet | Gap], info: StreamInfo, layout: PayloadLayout, *, epoch: int, first_seq: int, next_seq: int
) -> None:
    """Raise `InputError` unless these are packets of `epoch`, which began with `first_seq`, and gaps, each number up to `next_seq` once."""
    for item in history:
        if isinstance(item, Packet):
            fitting_frames(item, info, layout)
            if item.epoch != epoch or item.seq < first_seq:
                raise SnapshotError(f"packet {item.seq} is of epoch {item.epoch}, expected {epoch}, from number {first_seq} on")
    check_order(history, next_seq)


def check_order(items: Sequence[Packet | Gap | DecodedPacket], next_seq: int) -> None:
    """Raise `SnapshotError` unless each number up to `next_seq` comes once, from the first one on."""
    expected: int | None = None
    for item in items:
        first = item.first_seq if isinstance(item, Gap) else item.seq
        if expected not in (None, first):
            raise SnapshotError(f"number {first} follows on {expected}, expected that one")
        expected = item.next_seq if isinstance(item, Gap) else first + 1
    if expected not in (None, next_seq):
        raise SnapshotError(f"numbers go up to {expected}, expected {next_seq}")
