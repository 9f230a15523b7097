"""Where a recording is, event by event: what the next packet's number is, and how much audio came before it."""

from __future__ import annotations

from streamcodec.errors import LocalProtocolError
from streamcodec.protocol import Gap, ModelInfo, Packet, StreamEnd, StreamStart
from streamcodec.protocol.clock import TIMESTAMP_MODULUS
from streamcodec.recording.format import Mark, RecordedEvent

__all__ = ["Cursor"]


class Cursor:
    """Follows the events of a recording of a `model`, and holds them to their order.

    `start` is that of the stream that runs, None between two streams, of which `streams` have begun. `position` is in samples: packets and
    gaps make it up, history does not. `timestamp` is the next packet's if it follows directly on the last one.
    """

    def __init__(self, model: ModelInfo) -> None:
        self.start: StreamStart | None = None
        self.streams = 0
        self.next_seq = 0
        self.position = 0
        self.timestamp = 0
        self._model = model
        self._layout = model.layout
        self._session: str | None = None
        self._live_seq = 0

    @property
    def in_history(self) -> bool:
        """Whether the next packet is only there to warm up a decoder."""
        return self.next_seq < self._live_seq

    def take(self, event: RecordedEvent) -> None:
        """Go on to behind `event`. Raises `LocalProtocolError` where it cannot come now, `PayloadError` for a packet that is not whole."""
        if isinstance(event, Packet):
            self._packet(event)
        elif isinstance(event, StreamStart):
            self._begin(event)
        elif isinstance(event, Gap):
            self._expect("gap: first_seq", event.first_seq)
            packet = self._packet_samples()
            self.next_seq = event.next_seq
            self.position += max(0, event.next_seq - max(event.first_seq, self._live_seq)) * packet
            self._pass(event.count * packet)
        else:
            self._expect("stream_end: next_seq", event.next_seq)
            self.start = None

    def mark(self, crc: int, now_ms: int) -> Mark:
        """What a reader has to know to begin here; a stream must run."""
        start = self.start
        assert start is not None
        where = self.next_seq, start.epoch, start.n_q, start.packet_frames, self.timestamp, self.position
        return Mark(crc, self.streams, *where, now_ms)

    def agrees(self, mark: Mark) -> bool:
        """Whether it has come to where `mark` is."""
        return self.start is not None and self.mark(mark.crc, mark.time_ms) == mark

    def jump(self, mark: Mark, reason: str) -> list[RecordedEvent]:
        """Go on at `mark` instead; returns the events that say so: what is missing, and a `start` where it is another epoch.

        Raises `LocalProtocolError` where the mark holds what no stream has.
        """
        said: list[RecordedEvent] = []
        same = self.start is not None and mark.streams == self.streams
        if same and mark.next_seq > self.next_seq:
            said.append(Gap(first_seq=self.next_seq, count=mark.next_seq - self.next_seq, reason=reason))
        elif self.start is not None and not same:
            said.append(StreamEnd(next_seq=self.next_seq, reason=reason))
        start = self._start_at(mark, self._session if same else None, reason)
        if not same or not _is_same_epoch(self.start, mark) or mark.next_seq < self.next_seq:
            said.append(start)
        self.start = self.start if not said or not isinstance(said[-1], StreamStart) else start
        self._session, self.streams = start.session, mark.streams
        self.next_seq = self._live_seq = mark.next_seq
        self.position, self.timestamp = mark.position, mark.timestamp
        return said

    def _start_at(self, mark: Mark, session: str | None, reason: str) -> StreamStart:
        model = self._model
        return StreamStart(
            epoch=mark.epoch,
            n_q=mark.n_q,
            bandwidth=mark.n_q * model.bits_per_code * model.sampling_rate / model.hop_length / 1000,
            packet_frames=mark.packet_frames,
            start="resumed",
            first_seq=mark.next_seq,
            live_seq=mark.next_seq,
            format="codes",
            sample_rate=model.sampling_rate,
            channels=model.channels,
            packet_samples=model.packet_samples(mark.packet_frames),
            session=session,
            reason=reason,
        )

    def _begin(self, start: StreamStart) -> None:
        if start.format != "codes":
            raise LocalProtocolError(f"start: format is {start.format!r}, expected 'codes' in a recording")
        self.streams += self.start is None or start.session != self._session
        self.start, self._session = start, start.session
        self.next_seq, self._live_seq = start.first_seq, start.live_seq

    def _packet(self, packet: Packet) -> None:
        self._expect(f"packet {packet.seq}: seq", packet.seq)
        start = self.start
        assert start is not None
        if packet.epoch != start.epoch or not 1 <= packet.n_q <= start.n_q:
            told = f"packet {packet.seq}: epoch {packet.epoch} and n_q {packet.n_q}"
            raise LocalProtocolError(f"{told}, expected epoch {start.epoch} and n_q 1 to {start.n_q}")
        samples = self._model.packet_samples(self._layout.frames(packet.payload, packet.n_q))
        self.position += 0 if self.in_history else samples
        self.next_seq += 1
        self.timestamp = packet.timestamp
        self._pass(samples)

    def _pass(self, samples: int) -> None:
        self.timestamp = (self.timestamp + round(samples * 1e6 / self._model.sampling_rate)) % TIMESTAMP_MODULUS

    def _packet_samples(self) -> int:
        assert self.start is not None
        return self.start.packet_samples or self._model.packet_samples(self.start.packet_frames)

    def _expect(self, what: str, seq: int) -> None:
        if self.start is None:
            raise LocalProtocolError(f"{what} is {seq}, expected a start before it")
        if seq != self.next_seq:
            raise LocalProtocolError(f"{what} is {seq}, expected {self.next_seq}")


def _is_same_epoch(start: StreamStart | None, mark: Mark) -> bool:
    return start is not None and (start.epoch, start.n_q, start.packet_frames) == (mark.epoch, mark.n_q, mark.packet_frames)
