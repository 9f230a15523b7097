"""Listening: messages in, events out, and what turns them into samples."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np

from streamcodec.audio.samples import PcmFormat, Samples, pcm_to_float
from streamcodec.client.connection import Connection, open_connection
from streamcodec.errors import InputError, LocalProtocolError
from streamcodec.protocol import Format, Gap, ListenHello, Message, Packet, StreamEnd, StreamStart, Waiting, Welcome, unpack_codes

if TYPE_CHECKING:
    from streamcodec.codec import Codec, StreamDecoder

__all__ = ["Event", "Listener", "Player", "listen"]

Event = Waiting | StreamStart | Packet | Gap | StreamEnd


def listen(
    url: str,
    stream: str,
    *,
    format: Format = "codes",
    model: str | None = None,
    bandwidth: float | None = None,
    history_ms: int | None = None,
    token: str | None = None,
) -> Listener:
    """Prepare to listen to `stream` at `url`; enter the result with `async with` to connect, then iterate over its events.

    As codes, `model` is the fingerprint of the `Codec` that will decode them, and `bandwidth` (kbps) may be less than the publisher's. As
    PCM the server decodes. Raises `InputError` for what cannot be asked for.
    """
    if format == "codes" and model is None:
        raise InputError("listening to codes needs the fingerprint of the model that will decode them: model=codec.fingerprint")
    try:
        hello = ListenHello(
            stream=stream, format=format, model=model, bandwidth=bandwidth, history_ms=history_ms, token=token, client="streamcodec"
        )
    except LocalProtocolError as exc:
        raise InputError(str(exc)) from exc
    return Listener(url, hello)


class Listener:
    """One listening connection, an asynchronous iterator of events; made by `listen`."""

    def __init__(self, url: str, hello: ListenHello) -> None:
        self.url = url
        self.hello = hello
        self.packets = 0
        self.lost = 0
        self._connection: Connection

    async def __aenter__(self) -> Self:
        self._connection = await open_connection(self.url, self.hello)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._connection.close()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        """The next event; raises why the connection is over, when it is."""
        message: Message = await self._connection.receive()
        if isinstance(message, Packet):
            self.packets += 1
        elif isinstance(message, Gap):
            self.lost += message.count
        assert isinstance(message, (Waiting, StreamStart, Packet, Gap, StreamEnd))
        return message

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


class Player:
    """Turns a listener's events into samples [T] at `sample_rate`; it keeps the decoder's state and knows no clock.

    `codec` decodes codes and is not needed for PCM. With `fill_gaps` packets that were lost become as much silence, so that a recording
    keeps its length; a live listener leaves them out, since silence would only delay what follows.
    """

    def __init__(self, codec: Codec | None = None, *, fill_gaps: bool = False) -> None:
        self._codec = codec
        self._fill_gaps = fill_gaps
        self._start: StreamStart | None = None
        self._decoder: StreamDecoder | None = None
        self._silent_before = 0
        self._skip = 0

    @property
    def sample_rate(self) -> int:
        """Samples per second of what comes out, once a stream has started."""
        return 24_000 if self._start is None else self._start.sample_rate

    def feed(self, event: Event) -> Samples:
        """Take one event; return the samples that it settles, history excepted."""
        if isinstance(event, StreamStart):
            tail = self._finish()
            self._open(event)
            return tail
        if isinstance(event, Packet):
            return self._packet(event)
        if isinstance(event, Gap) and self._fill_gaps and self._start is not None:
            return np.zeros(event.count * self._packet_samples(), np.float32)
        if isinstance(event, StreamEnd):
            return self._finish()
        return np.empty(0, np.float32)

    def _packet_samples(self) -> int:
        assert self._start is not None
        hop = self._codec.hop_length if self._codec is not None else self._start.sample_rate // 75
        return self._start.packet_frames * hop

    def _open(self, start: StreamStart) -> None:
        self._start = start
        self._silent_before = start.live_seq
        self._skip = 0
        if start.format == "codes":
            if self._codec is None:
                raise InputError("this stream comes as codes: a Player needs the codec that decodes them")
            kind = "primed" if start.start == "resumed" else start.start
            self._decoder = self._codec.stream_decoder(start.bandwidth, start=kind)

    def _packet(self, packet: Packet) -> Samples:
        assert self._start is not None
        if self._decoder is None:
            format: PcmFormat = "pcm_s16le" if self._start.format == "pcm_s16le" else "pcm_f32le"
            live = packet.seq >= self._silent_before
            return pcm_to_float(packet.payload, format) if live else np.empty(0, np.float32)
        assert self._codec is not None
        codes = unpack_codes(packet.payload, packet.n_q, self._codec.config.bits_per_code)
        samples = self._decoder.feed(codes)
        if packet.seq < self._silent_before:
            self._skip += codes.shape[1] * self._codec.hop_length
        return self._audible(samples)

    def _audible(self, samples: Samples) -> Samples:
        """Cut off what is left of the history: a decoder may hold its first frames back."""
        skipped = min(self._skip, samples.size)
        self._skip -= skipped
        return samples[skipped:]

    def _finish(self) -> Samples:
        decoder, self._decoder = self._decoder, None
        return self._audible(decoder.flush()) if decoder is not None else np.empty(0, np.float32)
