"""A recording published again: its packets as they are, at the pace of their audio or as fast as the server takes them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from streamcodec.client.publisher import INTERRUPTED_S, Publisher, PublishOptions, publish
from streamcodec.client.sources import RealTime
from streamcodec.config import DEFAULT_PACKET_FRAMES, Start
from streamcodec.errors import StreamCodecError
from streamcodec.protocol import Ended, Gap, Packet, StreamEnd, StreamStart, now_us
from streamcodec.recording import Cursor, RecordingReader

__all__ = ["Replay"]


class Replay:
    """Publishes the recording that `reader` reads as `stream` at `url`, beginning with the first packet at or behind `from_s`.

    Each epoch begins where it began, and what is missing is named by the same gaps. What a file holds of several streams, or of one whose
    packets change their shape, becomes as many streams. History, which only warmed a decoder up, is left out. `seconds` of audio lie before
    what is sent now, `on_packet` is called behind each packet, and `on_end` gets the server's count of each stream.
    """

    def __init__(
        self,
        reader: RecordingReader,
        url: str,
        stream: str,
        *,
        from_s: float = 0.0,
        fast: bool = False,
        token: str | None = None,
        note: Callable[[str], None] = lambda _: None,
        on_packet: Callable[[Publisher], None] = lambda _: None,
        on_end: Callable[[Ended], None] = lambda _: None,
    ) -> None:
        self._url = url
        self._stream = stream
        self._fast = fast
        self._token = token
        self._note = note
        self._on_packet = on_packet
        self._on_end = on_end
        self._model = reader.header.model
        self._cursor = Cursor(self._model)
        self._cursor.position = reader.seek(from_s) if from_s else 0
        self._from = round(from_s * self._model.sampling_rate)
        self._events = reader.events()
        self._event: Packet | Gap | None = None  # the next one to be sent
        self._at = 0
        self._other_stream = self._other_epoch = False

    @property
    def seconds(self) -> float:
        return self._at / self._model.sampling_rate

    async def run(self) -> None:
        """Publish what is left. Raises `ConnectionFailed` where the connection is lost for good; a further call goes on from there."""
        if self._event is None:
            self._advance()
        while self._event is not None:
            if isinstance(self._event, Packet):
                await self._publish(self._event)
            else:  # a stream begins with a packet
                self._advance()

    async def _publish(self, first: Packet) -> None:
        async with publish(self._url, self._stream, self._options(first), note=self._note) as publisher:
            pace = RealTime()
            self._other_stream = self._other_epoch = False
            try:
                while self._event is not None and not self._other_stream:
                    await self._send(publisher, self._event, pace)
                    self._advance()
            except asyncio.CancelledError:
                # The stream is ended in order: nothing that was sent is lost.
                with contextlib.suppress(TimeoutError, StreamCodecError):
                    async with asyncio.timeout(INTERRUPTED_S):
                        self._on_end(await publisher.end())
                raise
            self._on_end(await publisher.end())

    async def _send(self, publisher: Publisher, event: Packet | Gap, pace: RealTime) -> None:
        passed_s = (self._cursor.position - self._at) / self._model.sampling_rate
        captured = now_us() if self._fast else await pace.until_over(passed_s)
        if isinstance(event, Packet):
            await publisher.pass_on(event, captured, new_epoch=self._other_epoch)
            self._other_epoch = False
            self._on_packet(publisher)
        else:
            publisher.skip(event.count, event.reason)

    def _options(self, first: Packet) -> PublishOptions:
        start = self._cursor.start
        assert start is not None
        return PublishOptions(
            format="codes",
            model=self._model.fingerprint,
            bandwidth=start.bandwidth,
            packet_frames=start.packet_frames if self._model.chunk_length is None else DEFAULT_PACKET_FRAMES,
            start=self._kind(start, first),
            pace="fast" if self._fast else "live",
            token=self._token,
        )

    def _kind(self, start: StreamStart, first: Packet) -> Start | None:
        """How the encoder of what begins with `first` has started; a model in chunks knows one way only."""
        if self._model.chunk_length is not None:
            return None
        return "exact" if start.start == "exact" and first.seq == start.first_seq else "primed"

    def _advance(self) -> None:
        """Go on to the next event that is to be sent; None where there is none."""
        cursor = self._cursor
        for event in self._events:
            last, at, history = cursor.start, cursor.position, cursor.in_history
            cursor.take(event)
            if isinstance(event, StreamStart):
                self._other_stream |= last is None or not _is_same_stream(last, event)
                self._other_epoch = True
            elif isinstance(event, StreamEnd):
                self._other_stream = True
            elif not history and cursor.position > self._from:
                self._event, self._at = event, at
                return
        self._event = None


def _is_same_stream(one: StreamStart, other: StreamStart) -> bool:
    known = None not in (one.session, other.session)
    return (one.n_q, one.packet_frames) == (other.n_q, other.packet_frames) and (not known or one.session == other.session)
