"""Publishing: samples or codes in, packets out, with a bound in seconds on what waits for a slow uplink.

block -> packets (`Packetizer`) -> queue_s of audio, the oldest dropped (`SendQueue`) -> 1 s and a round trip under way (`Uplink`)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from streamcodec.client.packetizer import Packetizer
from streamcodec.client.reconnect import Note
from streamcodec.client.send_queue import Audio
from streamcodec.client.tokens import Token, token_now
from streamcodec.client.trust import trusting
from streamcodec.client.uplink import OnSent, Uplink
from streamcodec.config import DEFAULT_PACKET_FRAMES, Start
from streamcodec.errors import InputError, LocalProtocolError, Refused
from streamcodec.protocol import Ended, Format, Packet, PublishHello, Welcome

__all__ = ["INTERRUPTED_S", "PublishOptions", "Publisher", "publish"]

INTERRUPTED_S = 2.0
"""How long (s) a publisher that is interrupted may take to end its stream in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOptions:
    """What is published, and how.

    As PCM (the server encodes): blocks of `channels` channels at `sample_rate` Hz, mixed down before they are sent; without `mix_down` all
    are sent, for a stereo model. As codes: packets of `packet_frames` frames, or the chunks, from a `Codec` whose fingerprint is `model`. A
    model in chunks has packets of its own length. `bandwidth` is in kbps, the model's default where None.

    With `silence_db`, PCM only, the server gives packets that are quieter than so many dBFS one codebook, and sends listeners few of them;
    of codes `Codec.stream_encoder` does. Of a run of such codes one packet every 0.8 s is sent, and a gap with reason `silence` names the
    others.

    A `token` may be a function that is asked for each connection: a stream goes on behind the end of a token where it gives the next one.

    A `pace` of "live" is a clock: where the uplink falls more than `queue_s` behind, the oldest audio is dropped and the server is told.
    "fast" is as quick as the server lets it be and drops nothing.

    `tls_ca` is a PEM file of authorities, or of the server's own certificate, that are trusted instead of the system's.
    """

    format: Format = "pcm_s16le"
    sample_rate: int = 24_000
    channels: int = 1
    mix_down: bool = True
    model: str | None = None
    bandwidth: float | None = None
    packet_frames: int = DEFAULT_PACKET_FRAMES
    start: Start | None = None
    pace: Literal["live", "fast"] = "live"
    silence_db: float | None = None
    token: Token = None
    tls_ca: Path | None = None
    queue_s: float = 1.0

    def hello(self, stream: str) -> PublishHello:
        """The hello that asks for this. Raises `InputError` for what cannot be asked for."""
        pcm = self.format != "codes"
        if not pcm and self.model is None:
            raise InputError("publishing codes needs the fingerprint of the model that made them: model=codec.fingerprint")
        try:
            return PublishHello(
                stream=stream,
                format=self.format,
                sample_rate=self.sample_rate if pcm else None,
                channels=(1 if self.mix_down else self.channels) if pcm else None,
                model=self.model,
                bandwidth=self.bandwidth,
                packet_frames=self.packet_frames,
                start=self.start,
                pace=self.pace,
                silence_db=self.silence_db,
                can_move=True,
                token=token_now(self.token),
                client="streamcodec",
            )
        except LocalProtocolError as exc:
            raise InputError(str(exc)) from exc


def publish(url: str, stream: str, options: PublishOptions | None = None, *, note: Note = lambda _: None) -> Publisher:
    """Prepare to publish `stream` at `url`; enter the result with `async with` to connect.

    A connection that breaks is resumed without loss for as long as the server keeps the stream: there, at a server that it has named for
    that, or where it says that the session has moved. What waited meanwhile has as long again to go out; `note` is told so in a line.
    Raises `InputError` for what cannot be asked for.
    """
    return Publisher(url, stream, options or PublishOptions(), note)


class Publisher:
    """One published stream; made by `publish`. `dropped_s` is the audio that was dropped because the uplink was too slow."""

    def __init__(self, url: str, stream: str, options: PublishOptions, note: Note) -> None:
        self.url = url
        self.hello = options.hello(stream)
        self.dropped_s = 0.0
        self._channels = options.channels
        self._queue_s = options.queue_s
        self._uplink = Uplink(url, self.hello, note, trusting(url, options.tls_ca), options.token)
        self._packetizer: Packetizer

    async def __aenter__(self) -> Self:
        await self._uplink.open()
        self._packetizer = Packetizer(self.hello, self.welcome, self._channels)
        model = self.welcome.model
        if self.hello.format == "codes" and model.chunk_length is not None:
            # A chunk that waits for the one before it is no backlog.
            self._queue_s = max(self._queue_s, 2 * model.chunk_length / model.sampling_rate)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and not self._uplink.queue.closed:
                await self.end()
        finally:
            await self._uplink.close()

    @property
    def welcome(self) -> Welcome:
        """What the server agreed to."""
        return self._uplink.connection.welcome

    @property
    def on_sent(self) -> OnSent:
        """Called for each packet when the socket has taken it: its number, when its last sample was captured, and when it went (us)."""
        return self._uplink.on_sent

    @on_sent.setter
    def on_sent(self, told: OnSent) -> None:
        self._uplink.on_sent = told

    @property
    def queued_s(self) -> float:
        """Seconds of audio that wait for the uplink."""
        return self._uplink.queue.waiting_s

    @property
    def server_dropped(self) -> int:
        """How many packets the server says that it dropped."""
        return self._uplink.server_dropped

    @property
    def closing(self) -> Refused | None:
        """Why to `end` the stream now and to go on elsewhere, where the server has said that it will close; None while it has not."""
        return self._uplink.connection.closing

    @property
    def resumed(self) -> int:
        """How often the session went on with another connection."""
        return self._uplink.resumed

    @property
    def round_trip_ms(self) -> float | None:
        """The quickest recent round trip to the server."""
        trip = self._uplink.connection.clock.round_trip
        return None if trip is None else trip / 1000

    def server_time(self, local_us: int) -> int:
        """A time of `now_us()` on the server's clock."""
        return self._uplink.connection.clock.to_server(local_us)

    def offer(self, block: Any, captured_us: int | None = None) -> None:
        """Queue a block without waiting: samples [T] or [C, T], or codes [n_q, F], of the stream's codebooks or the first few.

        `captured_us` is when its first sample was captured, on `now_us()`; by default a block's length ago. Beyond `queue_s` of waiting
        audio the oldest is dropped, counted in `dropped_s`, and the server is told. Raises an `InputError`, or why the connection is over.
        """
        self._enqueue(block, captured_us)
        queue = self._uplink.queue
        # If the connection may be lost already, its queue may be longer: what is dropped now would be missing after it is resumed.
        self.dropped_s += queue.drop_beyond(self._queue_s + (queue.keep_s if self._uplink.catching_up else 0.0))

    def lose(self, seconds: float) -> None:
        """Say that so much audio, next behind what was offered, was lost before it could be offered; the server is told in packets.

        What comes next must be offered with its `captured_us`: with PCM, whose packets have no fixed length, that says how long the gap is.
        """
        self._check_open()
        if count := self._packetizer.lost(seconds):
            self._uplink.queue.lose(count)
            self._uplink.changed.set()

    async def send(self, block: Any, captured_us: int | None = None) -> None:
        """Queue a block as `offer` does, but wait for room instead of dropping."""
        self._enqueue(block, captured_us)
        await self._room()

    async def pass_on(self, packet: Packet, captured_us: int, *, new_epoch: bool = False) -> None:
        """Queue a packet of codes as it is, whoever made it, and wait for room; its number is given anew.

        `new_epoch` says that its encoder has started afresh. Raises `InputError` for a packet that is none of this stream's.
        """
        self._check_open()
        model, welcome = self.welcome.model, self.welcome
        if self.hello.format != "codes" or not 1 <= packet.n_q <= (welcome.n_q or 0):
            raise InputError(f"a packet of {packet.n_q} codebooks, this stream's are {self.hello.format} of 1 to {welcome.n_q} codebooks")
        duration_s = model.packet_s(model.layout.frames(packet.payload, packet.n_q))
        self._uplink.queue.add(Audio(packet.payload, captured_us, duration_s, packet.n_q, new_epoch))
        self._uplink.changed.set()
        await self._room()

    def skip(self, count: int, reason: str) -> None:
        """Say that the next `count` packets will never come, and why."""
        self._check_open()
        self._uplink.queue.lose(count, reason)
        self._uplink.changed.set()

    async def _room(self) -> None:
        while self.queued_s > self._queue_s:
            self._uplink.check()
            self._uplink.changed.clear()
            await self._uplink.changed.wait()
        self._uplink.check()

    async def end(self) -> Ended:
        """Send what waits, say that this is all, and return the server's count of it."""
        return await self._uplink.end()

    def _enqueue(self, block: Any, captured_us: int | None) -> None:
        self._check_open()
        packets = self._packetizer.packets(block, captured_us)
        if packets is None:
            self._uplink.queue.leave_out()
            return
        for packet in packets:
            self._uplink.queue.add(packet)
        self._uplink.changed.set()

    def _check_open(self) -> None:
        self._uplink.check()
        if self._uplink.queue.closed:
            raise InputError("this publisher was ended: open another one")
