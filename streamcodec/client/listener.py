"""Listening: messages in, events out; the server is told how far they have come, and a connection that breaks is resumed."""

from __future__ import annotations

import contextlib
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from streamcodec.client.connection import Connection
from streamcodec.client.kept_connection import KeptConnection
from streamcodec.client.reconnect import Note
from streamcodec.client.tokens import Token, token_now, with_token
from streamcodec.client.trust import trusting
from streamcodec.errors import ConnectionFailed, InputError, LocalProtocolError
from streamcodec.protocol import (
    SILENCE,
    Format,
    Gap,
    ListenHello,
    Message,
    Packet,
    Report,
    Resume,
    StreamEnd,
    StreamStart,
    Waiting,
    Welcome,
)

__all__ = ["Event", "Listener", "listen"]

Event = Waiting | StreamStart | Packet | Gap | StreamEnd

# How much audio comes between two reports; and the longest time between them while packets come.
_REPORT_AUDIO_S = 0.24
_REPORT_EVERY_S = 0.5


def listen(
    url: str,
    stream: str,
    *,
    format: Format = "codes",
    model: str | None = None,
    bandwidth: float | None = None,
    min_bandwidth: float | None = None,
    history_ms: int | None = None,
    token: Token = None,
    tls_ca: Path | None = None,
    note: Note = lambda _: None,
) -> Listener:
    """Prepare to listen to `stream` at `url`; enter the result with `async with` to connect, then iterate over its events.

    As codes, `model` is the fingerprint of the `Codec` that will decode them, and `bandwidth` (kbps) may be less than the publisher's; with
    `min_bandwidth` the server goes down as far as that where the connection is slow, and up again. As PCM the server decodes.

    A connection that breaks is resumed behind what was received, for as long as the server keeps it: there, at a server that it has named
    for that, or where it says that the session has moved. `note` is told so in a line. A `token` may be a function that is asked for each
    connection. `tls_ca` is a PEM file of authorities, or of the server's own certificate, that are trusted instead of the system's. Raises
    `InputError` for what cannot be asked for.
    """
    if format == "codes" and model is None:
        raise InputError("listening to codes needs the fingerprint of the model that will decode them: model=codec.fingerprint")
    try:
        hello = ListenHello(
            stream=stream,
            format=format,
            model=model,
            bandwidth=bandwidth,
            min_bandwidth=min_bandwidth,
            history_ms=history_ms,
            can_move=True,
            token=token_now(token),
            client="streamcodec",
        )
    except LocalProtocolError as exc:
        raise InputError(str(exc)) from exc
    return Listener(url, hello, note, trusting(url, tls_ca), token)


class Listener:
    """One listening connection, an asynchronous iterator of events; made by `listen`.

    `packets` have come, `lost` will never come, and `silent` were left out as silence. `received_us` is when the last event came
    (`now_us()`), however long it waited to be asked for.
    """

    def __init__(self, url: str, hello: ListenHello, note: Note, tls: ssl.SSLContext | None = None, token: Token = None) -> None:
        self.url = url
        self.hello = hello
        self.packets = 0
        self.lost = 0
        self.silent = 0
        self.received_us = 0
        self._token = token
        self._kept = KeptConnection(url, note, tls, token)
        self._ready: deque[Event] = deque()
        self._left: tuple[StreamStart | None, int] | None = None  # the stream when the connection broke, and the number expected
        self._playing: tuple[int | None, int | None, int | None] = (None, None, None)
        self._unreported_s = 0.0
        self._reported_at: float | None = None

    async def __aenter__(self) -> Self:
        await self._kept.open(self.hello)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._kept.close()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event; raises why the connection is over, when it is and cannot be resumed."""
        while not self._ready:
            try:
                message = await self._connection.receive()
            except ConnectionFailed as exc:
                await self._resume(exc)
                continue
            self.received_us = self._connection.received
            # Kept before the report is sent: if the caller gives up waiting meanwhile, the next call finds it there.
            self._ready.extend(self._events(message))
            if self._report_is_due(message):
                with contextlib.suppress(ConnectionFailed):  # the task that receives learns why
                    await self._report()
        return self._ready.popleft()

    def playing(self, seq: int, margin_ms: int | None = None, late_ms: int | None = None) -> None:
        """Say what was played last, and what the playout buffer says: how much is in hand, and how late packets come (ms)."""
        self._playing = (seq, margin_ms, late_ms)

    async def ask_bandwidth(self, bandwidth: float) -> None:
        """Ask for at most `bandwidth` kbps of a stream of codes from now on; no more than was asked for at first."""
        await self._report(bandwidth)

    def _events(self, message: Message) -> list[Event]:
        assert isinstance(message, (Waiting, StreamStart, Packet, Gap, StreamEnd))
        events: list[Event] = [message]
        if self._left is not None:
            (left, next_seq), self._left = self._left, None
            begins = isinstance(message, StreamStart)
            if left is None:
                events = [message] if begins else []
            elif isinstance(message, StreamStart) and message.session == left.session:
                missing = message.live_seq - next_seq
                gap: list[Event] = [Gap(first_seq=next_seq, count=missing, reason="resumed_late")] if missing > 0 else []
                events = [] if message.start == "continued" else [*gap, message]
            else:
                events = [StreamEnd(next_seq=next_seq, reason="the stream ended while the connection was lost"), message]
        for event in events:
            if isinstance(event, Packet):
                self.packets += 1
            elif isinstance(event, Gap) and event.reason == SILENCE:
                self.silent += event.count
            elif isinstance(event, Gap):
                self.lost += event.count
        return events

    def _report_is_due(self, message: Message) -> bool:
        start = self._connection.session.start
        if not isinstance(message, Packet) or start is None:
            return False
        model = self.welcome.model
        self._unreported_s += model.packet_s(start.packet_frames)
        return (
            self._reported_at is None
            or self._unreported_s >= _REPORT_AUDIO_S - 1e-6
            or time.monotonic() - self._reported_at >= _REPORT_EVERY_S
        )

    async def _report(self, bandwidth: float | None = None) -> None:
        session, (played, margin_ms, late_ms) = self._connection.session, self._playing
        if session.close_code is not None:
            return
        self._unreported_s, self._reported_at = 0.0, time.monotonic()
        session.report(Report(received=session.next_seq, played=played, margin_ms=margin_ms, late_ms=late_ms, bandwidth=bandwidth))
        await self._connection.flush()

    async def _resume(self, lost: ConnectionFailed) -> None:
        session = self._connection.session
        if self._left is None:
            self._left = (session.start if session.streamed else None, session.next_seq)
        start, next_seq = self._left
        resume = None
        if start is not None and start.session is not None:
            resume = Resume(session=start.session, epoch=start.epoch, next_seq=next_seq)
        await self._kept.resume(lost, lambda: replace(with_token(self.hello, self._token), resume=resume))
        self._reported_at = None

    @property
    def _connection(self) -> Connection:
        return self._kept.current

    @property
    def resumed(self) -> int:
        """How often the session went on with another connection."""
        return self._kept.resumed

    @property
    def welcome(self) -> Welcome:
        """What the server agreed to."""
        return self._connection.welcome

    @property
    def round_trip_ms(self) -> float | None:
        """The quickest recent round trip to the server."""
        trip = self._connection.clock.round_trip
        return None if trip is None else trip / 1000

    def captured_us(self, packet: Packet) -> int:
        """When the packet's first sample was captured, on this program's `now_us()`."""
        return self._connection.clock.to_local(self._connection.server_time(packet.timestamp))
