"""Publishing: samples or codes in, messages out, with a bound in seconds on what waits for a slow uplink."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np

from streamcodec.audio.samples import check_block, float_to_pcm
from streamcodec.client.connection import Connection, now_us, open_connection
from streamcodec.config import DEFAULT_PACKET_FRAMES, Start
from streamcodec.errors import ConnectionFailed, InputError, LocalProtocolError
from streamcodec.protocol import Ended, Format, Gap, PublishHello, Welcome, pack_codes

__all__ = ["Publisher", "publish"]


@dataclass(frozen=True, slots=True)
class _Outgoing:
    payload: bytes
    captured: int
    duration_s: float
    new_epoch: bool


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
    token: str | None = None,
    queue_s: float = 1.0,
) -> Publisher:
    """Prepare to publish `stream` at `url`; enter the result with `async with` to connect.

    As PCM (the server encodes): blocks of `channels` channels at `sample_rate` Hz, mixed down before they are sent. As codes: packets of
    `packet_frames` frames from a `Codec` whose fingerprint is `model`. `bandwidth` is in kbps, the model's default where None.

    A live publisher is a clock: where the uplink falls more than `queue_s` behind, the oldest audio is dropped and the server told. A fast
    one is as quick as the server lets it be and drops nothing. Raises `InputError` for what cannot be asked for.
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
            token=token,
            client="streamcodec",
        )
    except LocalProtocolError as exc:
        raise InputError(str(exc)) from exc
    return Publisher(url, hello, channels, queue_s)


class Publisher:
    """One published stream; made by `publish`."""

    def __init__(self, url: str, hello: PublishHello, channels: int, queue_s: float) -> None:
        self.url = url
        self.hello = hello
        self.dropped_s = 0.0
        self.server_dropped = 0
        self._channels = channels
        self._queue_s = queue_s
        self._queue: deque[_Outgoing] = deque()
        self._queued_s = 0.0
        self._lost = 0
        self._changed = asyncio.Event()
        self._connection: Connection
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: Exception | None = None
        self._closing = False
        self._ended: asyncio.Future[Ended]

    async def __aenter__(self) -> Self:
        self._connection = await open_connection(self.url, self.hello)
        self._ended = asyncio.get_running_loop().create_future()
        self._tasks = [asyncio.create_task(self._send()), asyncio.create_task(self._receive())]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None and not self._closing:
                await self.end()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._connection.close()

    @property
    def welcome(self) -> Welcome:
        """What the server agreed to."""
        return self._connection.welcome

    @property
    def queued_s(self) -> float:
        """Seconds of audio that wait for the uplink."""
        return self._queued_s

    @property
    def round_trip_ms(self) -> float | None:
        """The quickest recent round trip to the server."""
        trip = self._connection.clock.round_trip
        return None if trip is None else trip / 1000

    def server_time(self, local_us: int) -> int:
        """A time of `now_us()` on the server's clock."""
        return self._connection.clock.to_server(local_us)

    def offer(self, block: Any, captured_us: int | None = None) -> None:
        """Queue a block without waiting: samples [T] or [C, T], or codes [n_q, F].

        `captured_us` is when its first sample was captured, on `now_us()`; by default a block's length ago. Beyond `queue_s` of waiting
        audio the oldest is dropped, counted in `dropped_s`, and the server is told. Raises an `InputError`, or why the connection is over.
        """
        self._enqueue(block, captured_us)
        while self._queued_s > self._queue_s and len(self._queue) > 1:
            stale = self._queue.popleft()
            self._queued_s -= stale.duration_s
            self.dropped_s += stale.duration_s
            self._lost += 1

    async def send(self, block: Any, captured_us: int | None = None) -> None:
        """Queue a block as `offer` does, but wait for room instead of dropping."""
        self._enqueue(block, captured_us)
        while self._queued_s > self._queue_s:
            self._check()
            self._changed.clear()
            await self._changed.wait()
        self._check()

    async def end(self) -> Ended:
        """Send what waits, say that this is all, and return the server's count of it."""
        self._closing = True
        self._changed.set()
        # Shielded: whoever gives up waiting must not take the answer from everybody else.
        return await asyncio.shield(self._ended)

    def _enqueue(self, block: Any, captured_us: int | None) -> None:
        self._check()
        if self._closing:
            raise InputError("this publisher was ended: open another one")
        if self.hello.format == "codes":
            codes = np.asarray(block)
            if codes.ndim != 2 or codes.shape[0] != self.welcome.n_q or not 1 <= codes.shape[1] <= self.hello.packet_frames:
                wanted = f"[{self.welcome.n_q}, 1 to {self.hello.packet_frames}]"
                raise InputError(f"codes have shape {list(codes.shape)}, this stream's are {wanted}")
            payload = pack_codes(codes, self.welcome.model.bits_per_code)
            duration_s = codes.shape[1] * self.welcome.model.hop_length / self.welcome.model.sampling_rate
            pieces = [(payload, duration_s)]
        else:
            pieces = self._pcm(block)
        captured = now_us() - round(sum(d for _, d in pieces) * 1e6) if captured_us is None else captured_us
        for payload, duration_s in pieces:
            self._queue.append(_Outgoing(payload, captured, duration_s, False))
            self._queued_s += duration_s
            captured += round(duration_s * 1e6)
        self._changed.set()

    def _pcm(self, block: Any) -> list[tuple[bytes, float]]:
        assert self.hello.sample_rate is not None and self.hello.format != "codes"
        # Mixed down here: the codec is mono, so more channels would only cost uplink.
        samples = check_block(block, self._channels)
        step = self.hello.sample_rate // 10
        parts = [samples[at : at + step] for at in range(0, len(samples), step)]
        return [(float_to_pcm(part, self.hello.format), len(part) / self.hello.sample_rate) for part in parts]

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    async def _send(self) -> None:
        session = self._connection.session
        try:
            while True:
                if self._lost:
                    count, self._lost = self._lost, 0
                    session.send_gap(count, "uplink")
                while self._queue and not self._lost:
                    item = self._queue.popleft()
                    self._queued_s -= item.duration_s
                    session.send_packet(item.payload, self._connection.clock.to_server(item.captured), item.new_epoch)
                    await self._connection.flush()
                    self._changed.set()
                if self._lost:
                    continue
                if self._closing:
                    session.end()
                    await self._connection.flush()
                    return
                self._changed.clear()
                await self._changed.wait()
        except Exception as exc:
            self._fail(exc)

    async def _receive(self) -> None:
        try:
            while True:
                message = await self._connection.receive()
                if isinstance(message, Gap):
                    self.server_dropped += message.count
                elif isinstance(message, Ended):
                    self._ended.set_result(message)
                    return
        except Exception as exc:
            self._fail(exc)

    def _fail(self, exc: Exception) -> None:
        # A refusal says more than the broken pipe that it causes.
        if self._failure is None or type(self._failure) is ConnectionFailed:
            self._failure = exc
        if not self._ended.done():
            self._ended.set_exception(self._failure)
            self._ended.exception()
        self._changed.set()
