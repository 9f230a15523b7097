"""A real server on a loopback port, clients good and bad, and what their audio must be."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import logging
import threading
import time
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import msgpack
import numpy as np
import pytest
from patience import TIMEOUT_S, patient_limits, run_patiently
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

import streamcodec
from streamcodec.audio import float_to_pcm, pcm_to_float
from streamcodec.client import Player, PublishOptions, listen, publish
from streamcodec.codec import Codec
from streamcodec.config import Start
from streamcodec.engine.warming import warm_up
from streamcodec.protocol import MAX_MESSAGE_BYTES, SUBPROTOCOL, Gap, Packet, StreamEnd, StreamStart, now_us, pack_codes, unpack_codes
from streamcodec.server import Limits, Server
from streamcodec.server.ports import public

PACKET = 1920
OURS = "the fingerprint of the server's model"


@functools.lru_cache(maxsize=2)
def tiny_codec(use: str = "server") -> Codec:  # noqa: ARG001
    """A small reflect-padded model; one for the server's thread, another for the test's."""
    from made_up_models import small_model  # loads torch, which a test with an engine of its own does without

    return streamcodec.load(small_model())


@functools.lru_cache(maxsize=1)
def _warmed() -> None:
    """Compile what the server's model runs for the first time: on a slow machine that takes longer than any test may."""
    warm_up(tiny_codec().engine, (1, 2, 3, 6))


def offline_codec() -> Codec:
    return tiny_codec("test")


def run(main: Coroutine[Any, Any, None], *, errors_expected: bool = False, warmed: bool = True) -> None:
    """Run a test to its end; nothing may be logged as an error, left running or have an exception that nobody asked for.

    `warmed` is for those whose servers have the small model.
    """
    complaints: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            complaints.append(f"{record.name}: {record.getMessage()} {record.exc_info}")

    handler = Handler(logging.ERROR)

    async def guarded() -> None:
        before = asyncio.all_tasks()
        await main
        gc.collect()
        await until(lambda: asyncio.all_tasks() <= before, "tasks are left over")

    if warmed:
        _warmed()
    logging.getLogger().addHandler(handler)
    try:
        run_patiently(guarded())
        gc.collect()
    finally:
        logging.getLogger().removeHandler(handler)
    if not errors_expected:
        assert complaints == []
    assert not any("never retrieved" in complaint for complaint in complaints)


async def until(condition: Callable[[], Any], what: str = "it never came true") -> None:
    """Wait for `condition` by looking again and again."""
    give_up = time.monotonic() + TIMEOUT_S / 2
    while not condition():
        assert time.monotonic() < give_up, what
        await asyncio.sleep(0.005)


def voice(seed: int, seconds: float = 1.0, rate: int = 24_000, channels: int = 1) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Something like speech: a gliding tone with noise, 16-bit values, [T] or [C, T]; the channels differ."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    glide = np.sin(2 * np.pi * (100 + 37 * seed % 300 + 80 * t) * t) * 0.4 * np.abs(np.sin(3 * t + seed))
    x = glide + rng.normal(0, 0.02, (channels, len(t)))
    x = np.rint(np.clip(x, -1, 1) * 32_767).astype(np.float32) / 32_768
    return x[0] if channels == 1 else x


def s16(x: Any) -> Any:
    """As a 16-bit wire carries it."""
    return pcm_to_float(float_to_pcm(x, "pcm_s16le"), "pcm_s16le")


def offline_codes(codec: Codec, x: Any, bandwidth: float, start: str, rate: int = 24_000) -> Any:
    """What a stream of these samples must be, [n_q, F]."""
    if start == "exact" and rate == 24_000:
        return codec.encode(x, bandwidth=bandwidth)
    encoder = codec.stream_encoder(bandwidth, start=start, sample_rate=rate)
    return np.concatenate([*encoder.feed(x), *encoder.flush()], axis=1)


def offline_audio(codec: Codec, codes: Any, bandwidth: float, start: str) -> Any:
    if start == "exact":
        return codec.decode(codes)
    decoder = codec.stream_decoder(bandwidth, start=start)
    return np.concatenate([decoder.feed(codes), decoder.flush()])


def same_codes(codec: Codec, got: Any, x: Any, bandwidth: float, start: Start, rate: int = 24_000) -> None:
    """Codes [n_q, F] are those of a stream of `x`, but for near-ties: steps are batched, and sums have another order there."""
    from parity import assert_same_codes

    assert_same_codes(codec, got, offline_codes(codec, x, bandwidth, start, rate), x, start, rate=rate)


class Heard:
    """What one listener got, up to the end of so many streams; its session has checked every number."""

    def __init__(self, listener: Any) -> None:
        self.listener = listener
        self.events: list[Any] = []

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def to_end(self, ends: int = 1) -> Heard:
        async for event in self.listener:
            self.events.append(event)
            if len(self.of(StreamEnd)) >= ends:
                break
        return self

    async def to(self, condition: Callable[[Heard], Any]) -> Heard:
        while not condition(self):
            self.events.append(await anext(self.listener))
        return self

    def codes(self, codec: Codec, live_only: bool = True) -> Any:
        live_from = self.of(StreamStart)[0].live_seq if live_only else 0
        parts = [unpack_codes(p.payload, p.n_q, codec.config.bits_per_code) for p in self.of(Packet) if p.seq >= live_from]
        return np.concatenate(parts, axis=1)

    def audio(self, codec: Codec | None = None, **options: Any) -> Any:
        player = Player(codec, **options)
        return np.concatenate([player.feed(event) for event in self.events])


async def listening(stack: contextlib.AsyncExitStack, url: str, stream: str, codec: Codec | None = None, **options: Any) -> Heard:
    """Open a listener for codes (with `codec`) or PCM, and wait until the server has it."""
    if codec is not None:
        options["model"] = codec.fingerprint
    return Heard(await stack.enter_async_context(listen(url, stream, **options)))


async def publish_all(url: str, stream: str, audio: Any, block: int = 1000, **options: Any) -> Any:
    """Publish a clip as fast as it goes; returns the server's count."""
    async with publish(url, stream, PublishOptions(pace="fast", **options)) as publisher:
        for at in range(0, audio.shape[-1], block):
            await publisher.send(audio[..., at : at + block])
        return await publisher.end()


class Raw:
    """A client that sends what it is told to, right or wrong."""

    def __init__(self, ws: Any) -> None:
        self.ws = ws

    async def send(self, value: Any) -> None:
        if isinstance(value, dict) and value.get("model") == OURS:
            value = {**value, "model": tiny_codec().fingerprint}
        data = value if isinstance(value, (bytes, str)) else msgpack.packb(value)
        with contextlib.suppress(ConnectionClosed):
            await self.ws.send(data)

    async def receive(self) -> Any:
        return msgpack.unpackb(await self.ws.recv())

    async def last_word(self) -> tuple[dict[str, Any] | None, int | None]:
        """Read to the end: the refusal or error, if there was one, and the close code."""
        word = None
        try:
            while True:
                message = await self.receive()
                if isinstance(message, dict) and message["type"] in ("refuse", "error"):
                    word = message
        except ConnectionClosed:
            return word, self.ws.close_code


@contextlib.asynccontextmanager
async def raw(url: str, **options: Any) -> AsyncIterator[Raw]:
    settings = {"subprotocols": [SUBPROTOCOL], "compression": None, "max_size": MAX_MESSAGE_BYTES, "proxy": None}
    settings |= {"ping_interval": None, "open_timeout": TIMEOUT_S, **options}
    async with connect(url, **settings) as ws:
        yield Raw(ws)


def publish_hello(stream: str = "bad", **changes: Any) -> dict[str, Any]:
    hello = {"type": "hello", "version": 1, "role": "publish", "stream": stream, "format": "codes", "model": OURS}
    return {**hello, "bandwidth": 6.0, "packet_frames": 6, **changes}


def pcm_hello(stream: str = "bad", **changes: Any) -> dict[str, Any]:
    hello = {"type": "hello", "version": 1, "role": "publish", "stream": stream, "format": "pcm_f32le", "sample_rate": 24_000}
    return {**hello, "channels": 1, **changes}


def listen_hello(stream: str = "bad", **changes: Any) -> dict[str, Any]:
    return {"type": "hello", "version": 1, "role": "listen", "stream": stream, "format": "pcm_s16le", **changes}


def packet(seq: int = 0, *, epoch: int = 0, n_q: int = 8, frames: int = 6, payload: bytes | None = None) -> list[Any]:
    if payload is None:
        payload = pack_codes(np.full((n_q, frames), seq % 1024), 10) if n_q else bytes(4 * PACKET)
    return [seq, epoch, 0, n_q, payload]


class GatedEngine:
    """The engine of `codec`, whose encoder or decoder steps a test can hold."""

    def __init__(self, codec: Codec) -> None:
        self._engine = codec.engine
        self.encoding, self.decoding = threading.Event(), threading.Event()
        self.encoding.set()
        self.decoding.set()
        self.held = threading.Event()
        self.break_decoding = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def encode(self, *args: Any, **options: Any) -> Any:
        self._wait(self.encoding)
        return self._engine.encode(*args, **options)

    def decode(self, *args: Any, **options: Any) -> Any:
        self._wait(self.decoding)
        if self.break_decoding:
            raise RuntimeError("the engine broke")
        return self._engine.decode(*args, **options)

    def _wait(self, gate: threading.Event) -> None:
        if not gate.is_set():
            self.held.set()
        assert gate.wait(TIMEOUT_S)

    def open(self) -> None:
        self.encoding.set()
        self.decoding.set()


class StoppedClock:
    """`now_us` in `modules` of the server: it stands still unless the test sets `us` forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: types.ModuleType) -> None:
        self.us = now_us()
        for module in modules:
            monkeypatch.setattr(module, "now_us", self)

    def __call__(self) -> int:
        return self.us


def gated() -> tuple[Codec, GatedEngine]:
    codec = tiny_codec()
    engine = GatedEngine(codec)
    return Codec(engine, name=codec.name, fingerprint=codec.fingerprint), engine  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def serving(codec: Codec | None = None, **options: Any) -> AsyncIterator[Server]:
    """A server on a free port that must be left as it was found: no stream, no listener, no connection.

    Its limits are `small_limits()` where a test gives none of its own.
    """
    options.setdefault("limits", small_limits())
    with pytest.MonkeyPatch.context() as patch:
        # A client that does not read answers no pings either; that must not end its connection in the middle of a slow test.
        patch.setattr(public, "PING_EVERY_S", TIMEOUT_S)
        async with Server(codec or tiny_codec(), port=0, **options) as server:
            yield server
            await is_clean(server)


async def is_clean(server: Server) -> None:
    await until(lambda: not server.registry.streams, f"streams are left: {server.registry.streams}")
    await until(lambda: not server.registry.listeners, f"listeners are left: {server.registry.listeners}")
    await until(lambda: not server._connections, "connections are left")


async def http_get(server: Server, path: str, headers: str = "") -> tuple[int, str]:
    """Status and body. `headers` are lines that each end in CRLF; among them Host, where it is not to be the server's address."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    if "Host:" not in headers:
        headers += f"Host: {server.host}:{server.port}\r\n"
    writer.write(f"GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body


async def figures(server: Server) -> dict[str, float]:
    """What `/metrics` says, by sample: `publishers`, `packets_dropped_total{reason=closing}`."""
    status, text = await http_get(server, "/metrics")
    assert status == 200
    return samples(text)


def samples(text: str) -> dict[str, float]:
    """Prometheus' text by sample, without the package's prefix; every family must have a help text."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        assert family.name.startswith("streamcodec_") and family.documentation and family.type != "unknown", family
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            name = sample.name.removeprefix("streamcodec_") + (f"{{{labels}}}" if labels else "")
            assert name not in found, f"{name} occurs twice"
            found[name] = sample.value
    return found


async def beside_a_stream(server: Server, incident: Callable[[], Awaitable[None]]) -> None:
    """Let `incident` happen in the middle of somebody else's stream: that one must not notice, and the server must be well after it."""
    codec = offline_codec()
    x = voice(5, 1.2)
    half = len(x) // 2
    async with contextlib.AsyncExitStack() as stack:
        as_codes = await listening(stack, server.url, "steady", codec)
        as_pcm = await listening(stack, server.url, "steady", format="pcm_f32le")
        publisher = await stack.enter_async_context(publish(server.url, "steady", PublishOptions(pace="fast", bandwidth=6.0)))
        await publisher.send(x[:half])
        await as_codes.to(lambda heard: len(heard.of(Packet)) >= 2)
        await incident()
        await publisher.send(x[half:])
        ended = await publisher.end()
        await as_codes.to_end()
        await as_pcm.to_end()
    assert ended.dropped == 0
    assert as_codes.of(Gap) == as_pcm.of(Gap) == []
    same_codes(codec, as_codes.codes(codec), x, 6.0, publisher.welcome.start)
    np.testing.assert_allclose(as_pcm.audio(), offline_audio(codec, as_codes.codes(codec), 6.0, publisher.welcome.start), atol=1e-4)
    assert await http_get(server, "/healthz") == (200, "ok\n")
    await is_clean(server)


def small_limits(**changes: Any) -> Limits:
    """Limits that admit every client, forget at once who vanishes, and wait for a slow machine; `changes` are what a test is about."""
    return patient_limits(**{"resume_s": 0.0, **changes})
