"""The subscribers of codes: each gets a stream's packets with the codebooks that it may have."""

from __future__ import annotations

from streamcodec.config import CodecConfig
from streamcodec.protocol import Gap, Message, Packet, PayloadLayout
from streamcodec.server.fanout.replay import ReplayBuffer
from streamcodec.server.fanout.subscriber import Subscriber
from streamcodec.server.info import StreamInfo

__all__ = ["CodesBranch"]


class CodesBranch:
    """Passes on codes, and remembers the packets of the last `keep_s`."""

    def __init__(self, info: StreamInfo, config: CodecConfig, keep_s: float) -> None:
        self.subscribers: set[Subscriber] = set()
        self.history: ReplayBuffer[Packet] = ReplayBuffer(keep_s, config.frame_rate, self.frames)
        self._info = info
        self._config = config
        self._layout = PayloadLayout.of(config)

    def frames(self, packet: Packet) -> int:
        """The number of frames in a packet."""
        return self._layout.frames(packet.payload, packet.n_q)

    def ladder(self, max_n_q: int | None) -> list[int]:
        """The numbers of codebooks that a subscriber may get of this stream, lowest first; it wants `max_n_q`, None: all.

        A packet can be cut between pairs of codebooks only. Who wants an odd number gets the next number to which it can be cut.
        """
        most = self._info.n_q
        wanted = most if max_n_q is None else min(most, max_n_q)
        cuts = sorted({n_q for n_q in (*self._config.n_q_choices, wanted) if n_q % 2 == 0 and n_q < most} | {most})
        highest = next(n_q for n_q in cuts if n_q >= wanted)
        return [n_q for n_q in cuts if n_q <= highest]

    def packet(self, packet: Packet, frames: int) -> None:
        """The stream's next packet."""
        self.history.add(packet)
        duration_s = self._config.packet_s(frames)
        # A shorter packet is the last one of its epoch: its length must not get lost.
        quiet = self._layout.is_quiet(packet.n_q, self._info.n_q) and frames == self._info.packet_frames
        cuts = {packet.n_q: packet}
        for subscriber in self.subscribers:
            cut = cuts.get(subscriber.n_q) or self._cut(packet, subscriber.n_q, cuts)
            if quiet or not subscriber.relay(cut, duration_s):
                subscriber.put(cut, duration_s, quiet=quiet)

    def gap(self, gap: Gap) -> None:
        """Packets of the stream will never come."""
        self.history.gap(gap)
        self.put(gap)

    def put(self, message: Message) -> None:
        """The same message for every subscriber."""
        for subscriber in self.subscribers:
            subscriber.put(message)

    def replay(self, subscriber: Subscriber, entries: list[Packet | Gap]) -> None:
        """Give a subscriber what was sent before it came."""
        for entry in entries:
            if isinstance(entry, Packet):
                packet = self._cut(entry, subscriber.n_q, {entry.n_q: entry})
                subscriber.put(packet, self._config.packet_s(self.frames(entry)), past=True)
            else:
                subscriber.put(entry)

    def _cut(self, packet: Packet, n_q: int, known: dict[int, Packet]) -> Packet:
        """The first `n_q` codebooks of a packet; `known` are those of its cuts that were made before."""
        n_q = min(n_q, packet.n_q)
        if n_q not in known:
            payload = self._layout.truncate(packet.payload, packet.n_q, n_q)
            known[n_q] = Packet(packet.seq, packet.epoch, packet.timestamp, n_q, payload)
        return known[n_q]
