"""Publishing: samples or codes in, messages out, with a bound in seconds on what waits for a slow uplink and on what is under way.

    queue_s of audio, the oldest dropped -> 1 s and a round trip under way, see `SendWindow` -> the server's pong says that it has it

What no pong has answered is sent again where the connection breaks and the server kept the stream.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from streamcodec.audio.samples import check_block, float_to_pcm
from streamcodec.client.connection import Connection, open_connection
from streamcodec.client.reconnect import Note, reopen, resumable
from streamcodec.client.send_queue import Audio, Lost, SendQueue
from streamcodec.config import DEFAULT_PACKET_FRAMES, Start
from streamcodec.errors import ConnectionFailed, InputError, LocalProtocolError
from streamcodec.protocol import DtxFilter, Ended, Format, Gap, PublishHello, Resume, Welcome, is_quiet, now_us, pack_codes

__all__ = ["Publisher", "publish"]


_ACK_EVERY_S = 0.5  # how often the server is asked how far it has read
_MEASURED_S = 2.0  # how much more is kept than a resumption needs: what a window holds is measured there too
_PCM_S = 0.1  # of a packet of PCM, at most


def publish(
    url: str,
    stream: str,
    *,
    format: Format = "pcm_s16le",
    sample_rate: int = 24_000,
    channels: int = 1,
    model: str | None = None,
    bandwidth: float | None = None,
    packet_frames: int = DEFAULT_PACKET_FRAMES,
    start: Start | None = None,
    pace: Literal["live", "fast"] = "live",
    silence_db: float | None = None,
    token: str | None = None,
    queue_s: float = 1.0,
    note: Note = lambda _: None,
) -> Publisher:
    """Prepare to publish `stream` at `url`; enter the result with `async with` to connect.

    As PCM (the server encodes): blocks of `channels` channels at `sample_rate` Hz, mixed down before they are sent. As codes: packets of
    `packet_frames` frames from a `Codec` whose fingerprint is `model`. `bandwidth` is in kbps, the model's default where None. With
    `silence_db`, PCM only, the server gives packets that are quieter than so many dBFS one codebook, and sends listeners few of them; of
    codes `Codec.stream_encoder` does. Of a run of such codes one packet every 0.8 s is sent, and a gap with reason `silence` names the
    others.

    A live publisher is a clock: where the uplink falls more than `queue_s` behind, the oldest audio is dropped and the server told. A fast
    one is as quick as the server lets it be and drops nothing. A connection that breaks is resumed without loss for as long as the server
    keeps the stream, and what waited meanwhile has as long again to go out; `note` is told so in a line. Raises `InputError` for what
    cannot be asked for.
    """
    pcm = format != "codes"
    if not pcm and model is None:
        raise InputError("publishing codes needs the fingerprint of the model that made them: model=codec.fingerprint")
    try:
        hello = PublishHello(
            stream=stream,
            format=format,
            sample_rate=sample_rate if pcm else None,
            channels=1 if pcm else None,
            model=model,
            bandwidth=bandwidth,
            packet_frames=packet_frames,
            start=start,
            pace=pace,
            silence_db=silence_db,
            token=token,
            client="streamcodec",
        )
    except LocalProtocolError as exc:
        raise InputError(str(exc)) from exc
    return Publisher(url, hello, channels, queue_s, note)


class Publisher:
    """One published stream; made by `publish`.

    `on_sent` is told of each packet when the socket has taken it: its number, when its last sample was captured, and when it went (us).
    """

    def __init__(self, url: str, hello: PublishHello, channels: int, queue_s: float, note: Note) -> None:
        self.url = url
        self.hello = hello
        self.dropped_s = 0.0
        self.server_dropped = 0
        self.resumed = 0
        self.on_sent: Callable[[int, int, int], None] = lambda *_: None
        self._channels = channels
        self._queue_s = queue_s
        self._note = note
        self._queue = SendQueue()
        self._thinner = DtxFilter()
        self._lost_s = 0.0
        self._patient_until = -math.inf  # what could not be sent while the connection was lost may wait until then
        self._changed = asyncio.Event()
        self._connection: Connection
        self._task: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self._closing = False
        self._ended: asyncio.Future[Ended]

    async def __aenter__(self) -> Self:
        self._connection = await open_connection(self.url, self.hello)
        self._queue.keep_s = self.welcome.resume_ms / 1000 + _MEASURED_S
        self._ended = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and not self._closing:
                await self.end()
        finally:
            assert self._task is not None
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            await self._connection.close()

    @property
    def welcome(self) -> Welcome:
        """What the server agreed to."""
        return self._connection.welcome

    @property
    def queued_s(self) -> float:
        """Seconds of audio that wait for the uplink."""
        return self._queue.waiting_s

    @property
    def round_trip_ms(self) -> float | None:
        """The quickest recent round trip to the server."""
        trip = self._connection.clock.round_trip
        return None if trip is None else trip / 1000

    def server_time(self, local_us: int) -> int:
        """A time of `now_us()` on the server's clock."""
        return self._connection.clock.to_server(local_us)

    def offer(self, block: Any, captured_us: int | None = None) -> None:
        """Queue a block without waiting: samples [T] or [C, T], or codes [n_q, F], of the stream's codebooks or the first few.

        `captured_us` is when its first sample was captured, on `now_us()`; by default a block's length ago. Beyond `queue_s` of waiting
        audio the oldest is dropped, counted in `dropped_s`, and the server is told. Raises an `InputError`, or why the connection is over.
        """
        self._enqueue(block, captured_us)
        # An uplink that is silent may be lost already: what it does not take would be missing when the connection is resumed.
        patient = time.monotonic() < self._patient_until or self._connection.in_doubt
        self.dropped_s += self._queue.drop_beyond(self._queue_s + (self._queue.keep_s if patient else 0.0))

    def lose(self, seconds: float) -> None:
        """Say that so much audio, next behind what was offered, was lost before it could be offered; the server is told in packets.

        What comes next must be offered with its `captured_us`: with PCM, whose packets have no fixed length, that says how long the gap is.
        """
        self._check_open()
        model, coded = self.welcome.model, self.hello.format == "codes"
        packet_s = self.hello.packet_frames * model.hop_length / model.sampling_rate if coded else _PCM_S
        # What is no whole packet is told with the next loss.
        self._lost_s += seconds
        count = max(0 if coded else 1, round(self._lost_s / packet_s))
        self._lost_s -= count * packet_s
        if count:
            self._queue.lose(count)
            self._thinner.restart()
            self._changed.set()

    async def send(self, block: Any, captured_us: int | None = None) -> None:
        """Queue a block as `offer` does, but wait for room instead of dropping."""
        self._enqueue(block, captured_us)
        while self._queue.waiting_s > self._queue_s:
            self._check()
            self._changed.clear()
            await self._changed.wait()
        self._check()

    async def end(self) -> Ended:
        """Send what waits, say that this is all, and return the server's count of it."""
        self._closing = True
        self._queue.settle()
        self._changed.set()
        # Shielded: whoever gives up waiting must not take the answer from everybody else.
        return await asyncio.shield(self._ended)

    def _enqueue(self, block: Any, captured_us: int | None) -> None:
        self._check_open()
        if self.hello.format == "codes":
            codes = np.asarray(block)
            most_q, max_frames = self.welcome.n_q or 0, self.hello.packet_frames
            if codes.ndim != 2 or not 1 <= codes.shape[0] <= most_q or not 1 <= codes.shape[1] <= max_frames:
                raise InputError(f"codes have shape {list(codes.shape)}, this stream's are [1 to {most_q}, 1 to {max_frames}]")
            payload, n_q = pack_codes(codes, self.welcome.model.bits_per_code), codes.shape[0]
            duration_s = codes.shape[1] * self.welcome.model.hop_length / self.welcome.model.sampling_rate
            # A shorter one is the last: how long the stream is shall not get lost.
            quiet = is_quiet(n_q, most_q, self.welcome.model.bits_per_code) and codes.shape[1] == max_frames
            if self._thinner.leaves_out(quiet, duration_s):
                self._queue.leave_out()
                return
            pieces = [(payload, duration_s)]
        else:
            pieces, n_q = self._pcm(block), 0
        captured = now_us() - round(sum(d for _, d in pieces) * 1e6) if captured_us is None else captured_us
        for payload, duration_s in pieces:
            self._queue.add(Audio(payload, captured, duration_s, n_q))
            captured += round(duration_s * 1e6)
        self._changed.set()

    def _pcm(self, block: Any) -> list[tuple[bytes, float]]:
        assert self.hello.sample_rate is not None and self.hello.format != "codes"
        # Mixed down here: the codec is mono, so more channels would only cost uplink.
        samples = check_block(block, self._channels)
        step = round(_PCM_S * self.hello.sample_rate)
        parts = [samples[at : at + step] for at in range(0, len(samples), step)]
        return [(float_to_pcm(part, self.hello.format), len(part) / self.hello.sample_rate) for part in parts]

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _check_open(self) -> None:
        self._check()
        if self._closing:
            raise InputError("this publisher was ended: open another one")

    async def _run(self) -> None:
        while True:
            connection = self._connection
            sending = asyncio.create_task(self._send(connection))
            try:
                await self._receive(connection)
                return
            except Exception as exc:
                lost = exc
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
            try:
                if not resumable(lost, connection.welcome.resume_ms):
                    raise lost
                await self._resume(connection, lost)
            except Exception as exc:
                self._fail(exc)
                return

    async def _resume(self, broken: Connection, lost: Exception) -> None:
        begun, self._patient_until = time.monotonic(), math.inf
        resume_s = broken.welcome.resume_ms / 1000
        await broken.close()

        def hello() -> PublishHello:
            session, secret = broken.session, broken.welcome.session
            assert secret is not None
            next_seq = session.next_seq + self._queue.numbers
            return replace(self.hello, resume=Resume(session=secret, epoch=session.epoch, next_seq=next_seq))

        self._connection = await reopen(self.url, hello, lost, resume_s)
        # The welcome says so as a pong would: what waits must not all be on its way before the first one comes.
        self._connection.acknowledged = self._connection.session.next_seq
        self._queue.send_again(self._connection.session.next_seq)
        # An uplink that is too slow never catches up: behind the window it is a clock again.
        self._patient_until = time.monotonic() + resume_s
        self.resumed += 1
        self._note(f"{lost}; resumed after {time.monotonic() - begun:.1f} s")

    async def _send(self, connection: Connection) -> None:
        session, queue = connection.session, self._queue
        connection.on_pong, connection.ahead_s = lambda: self._acknowledged(connection), lambda: queue.ahead_s
        unasked_s = 0.0
        try:
            while True:
                while queue and not self._is_full(connection):
                    entry, seq = queue.next(), session.next_seq
                    queue.sent(seq, entry)
                    if isinstance(entry, Lost):
                        session.send_gap(entry.count, entry.reason)
                    else:
                        session.send_packet(entry.payload, connection.clock.to_server(entry.captured), n_q=entry.n_q)
                        unasked_s += entry.duration_s
                    if unasked_s >= _ACK_EVERY_S or connection.window.in_doubt:
                        unasked_s = 0.0
                        await connection.ping()
                    else:
                        await connection.flush()
                    if isinstance(entry, Audio):
                        self.on_sent(seq, entry.captured + round(entry.duration_s * 1e6), now_us())
                    self._changed.set()
                if not queue:
                    self._patient_until = -math.inf
                    if self._closing:
                        session.end()
                        await connection.flush()
                        return
                self._changed.clear()
                if unasked_s and connection.window.in_doubt:
                    # What is under way is to run out, and only a pong says that it has.
                    unasked_s = 0.0
                    await connection.ping()
                await self._changed.wait()
        except ConnectionFailed:
            return  # whoever receives learns why
        except Exception as exc:
            self._fail(exc)

    def _is_full(self, connection: Connection) -> bool:
        """Whether so much is under way that more would only wait in buffers; unknown before the server's first pong."""
        return connection.acknowledged is not None and self._queue.sent_s > connection.window.max_s

    def _acknowledged(self, connection: Connection) -> None:
        if connection.acknowledged is not None:
            self._queue.acknowledge(connection.acknowledged)
        self._changed.set()

    async def _receive(self, connection: Connection) -> None:
        while True:
            message = await connection.receive()
            if isinstance(message, Gap):
                self.server_dropped += message.count
            elif isinstance(message, Ended):
                if not self._ended.done():
                    self._ended.set_result(message)
                return

    def _fail(self, exc: Exception) -> None:
        if self._failure is None:
            self._failure = exc
        if not self._ended.done():
            self._ended.set_exception(self._failure)
            self._ended.exception()
        self._changed.set()
