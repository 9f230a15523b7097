"""The server: a socket, a registry of streams and one model worker, started and stopped together."""

from __future__ import annotations

import asyncio
import http
import logging
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import websockets
from prometheus_client.core import Metric
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

import streamcodec
from streamcodec.codec import Codec
from streamcodec.config import DEFAULT_PACKET_FRAMES
from streamcodec.engine.warming import warm_up
from streamcodec.errors import StreamCodecError, WireCode
from streamcodec.protocol import READ_BYTES, SUBPROTOCOL, ModelInfo, now_us
from streamcodec.scheduler.worker import Calls, Worker
from streamcodec.server.auth import Tokens
from streamcodec.server.capacity.admission import Admission
from streamcodec.server.capacity.calibration import cores, measure
from streamcodec.server.capacity.load_model import Work
from streamcodec.server.connection import Connection
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics, counter_family, gauge_family
from streamcodec.server.registry import Registry

__all__ = ["DEFAULT_PORT", "Server"]

DEFAULT_PORT = 8765
HANDSHAKE_S = 10.0
"""WebSocket's opening and closing handshakes may take so long."""
PING_EVERY_S = 10.0
"""How often a client is asked for a sign of life, and how long it may take to give one."""
_USUAL_FRAMES = (1, 2, 3, DEFAULT_PACKET_FRAMES)

log = logging.getLogger("streamcodec.server")


class Server:
    """Carries streams from publishers to listeners; use it as an async context manager.

    `port` 0 takes any free one; `port` then says which. Everything runs on the loop that entered it, the model on threads of its own.
    """

    def __init__(
        self,
        codec: Codec,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        *,
        tokens: Tokens | None = None,
        limits: Limits | None = None,
        max_batch: int = 16,
    ) -> None:
        self.codec = codec
        self.host = host
        self.port = port
        self.limits = limits or Limits()
        self.metrics = Metrics()
        self.tokens = tokens or Tokens()
        self._max_batch = max_batch
        self._connections: set[Connection] = set()
        self._stopping = False
        self._worker: Worker
        self._socket: WebSocketServer
        self._loop: asyncio.AbstractEventLoop
        self.registry: Registry
        config = codec.config
        self._model = ModelInfo(
            name=codec.name[:200],
            fingerprint=codec.fingerprint,
            sampling_rate=config.sampling_rate,
            hop_length=config.hop_length,
            codebook_size=config.codebook_size,
            num_quantizers=config.num_quantizers,
            bandwidths=tuple(sorted(config.target_bandwidths)),
        )

    @property
    def url(self) -> str:
        """Where clients connect."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ws://{host}:{self.port}"

    @property
    def room(self) -> int | None:
        """How many live publishers of PCM in packets of the default length there is room for in all; None: nobody knows."""
        return self.registry.admission.room()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(warm_up, self.codec.engine, _USUAL_FRAMES)
        self._worker = Worker(self.codec.engine, self._deliver, max_batch=self._max_batch)
        costs = await asyncio.to_thread(measure, self.codec.engine) if self.limits.capacity == "auto" else None
        admission = Admission(
            self.limits,
            costs,
            self.codec.config.frame_rate,
            workers=self.codec.engine.workers,
            cores=cores(),
            max_batch=self._max_batch,
        )
        self.registry = Registry(self._worker, self.limits, self.metrics, admission)
        self.metrics.collect_from(self._figures)
        self._told_room = admission.room()
        try:
            self._socket = await serve(
                self._handle,
                self.host,
                self.port,
                subprotocols=[websockets.Subprotocol(SUBPROTOCOL)],
                compression=None,
                max_size=READ_BYTES,
                # A few packets: what waits in buffers is latency that no queue of ours sees.
                max_queue=8,
                write_limit=4096,
                open_timeout=HANDSHAKE_S,
                ping_interval=PING_EVERY_S,
                ping_timeout=PING_EVERY_S,
                close_timeout=HANDSHAKE_S,
                process_request=self._http,
                server_header=f"streamcodec/{streamcodec.__version__}",
            )
        except OSError as exc:
            self.codec.engine.stop_preparing()
            raise StreamCodecError(
                f"cannot listen on {self.host}:{self.port}: {exc.strerror or exc}. Another port: --port N, or 0 for any free one"
            ) from exc
        # Behind all that may fail or be cancelled, as the program's end would wait for it.
        if self.limits.capacity is not None:
            self.codec.engine.prepare(DEFAULT_PACKET_FRAMES)
        self._worker.start()
        self.port = self._socket.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop gracefully: take nothing new, bring out what was accepted, tell everybody, close."""
        if self._stopping:
            return
        self._stopping = True
        self.codec.engine.stop_preparing()
        self.registry.closing = True
        self._socket.close(close_connections=False)
        streams = list(self.registry.streams.values())
        for stream in streams:
            stream.end("the server is closing")
        await self._until(lambda: all(stream.ended.is_set() for stream in streams))
        await self._until(lambda: all(listener.empty for group in self.registry.listeners.values() for listener in group))
        if closing := [asyncio.create_task(c.close(WireCode.SERVER_CLOSING, "the server is closing")) for c in self._connections]:
            done, late = await asyncio.wait(closing, timeout=self.limits.drain_s)
            if late:
                # Peers that read nothing cannot be told.
                for connection in self._connections:
                    connection.abort()
                done, _ = await asyncio.wait(closing)
            for task in done:
                if (error := task.exception()) is not None:
                    log.error("a connection did not close in order", exc_info=error)
        try:
            await asyncio.wait_for(self._socket.wait_closed(), self.limits.drain_s)
        except TimeoutError:
            log.warning("a client that has not even said what it wants kept its connection open")
        await asyncio.to_thread(self._worker.stop)

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for `condition`, at most `drain_s`."""
        give_up = self._loop.time() + self.limits.drain_s
        while not condition() and self._loop.time() < give_up:  # noqa: ASYNC110 - a few rounds, once in a server's life
            await asyncio.sleep(0.01)

    async def _handle(self, ws: ServerConnection) -> None:
        connection = Connection(ws, self.registry, self._model, self.tokens, f"streamcodec {streamcodec.__version__}")
        if self._stopping:
            await connection.close(WireCode.SERVER_CLOSING, "the server is closing")
            return
        self._connections.add(connection)
        self._correct()  # streams that say nothing bring no results behind which to do it, and whoever comes now may ask for room
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)

    def _deliver(self, calls: Calls) -> None:
        def make() -> None:
            for sink, result in calls:
                try:
                    sink(result)
                except Exception:
                    log.exception("a stream could not take its result")
            self._correct()

        try:
            self._loop.call_soon_threadsafe(make)
        except RuntimeError:
            log.debug("the loop closed before the worker's last results")

    def _correct(self) -> None:
        now, admission = now_us() / 1e6, self.registry.admission
        if not admission.correction_due(now):
            return
        admission.worked(now, self.registry.demand, self._work())
        room = admission.room()
        if room and self._told_room and not 2 / 3 < room / self._told_room < 3 / 2:
            self._told_room = room
            log.info("room for about %d live publishers of PCM now", room)

    def _work(self) -> Work:
        """All that was done so far; on the loop's thread, whose time is counted."""
        stats, metrics = self._worker.stats, self.metrics
        return Work(
            steps=stats.steps,
            rows=stats.rows,
            busy_s=stats.busy_s,
            cpu_s=time.process_time(),
            beside_s=time.thread_time() + stats.scheduling_s,
            messages=metrics.packets_received + metrics.packets_sent,
        )

    def _http(self, ws: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        if path == "/healthz":
            return ws.respond(http.HTTPStatus.OK, "ok\n")
        if path == "/metrics":
            return self._metrics(ws, request)
        if "Upgrade" not in request.headers:
            return ws.respond(http.HTTPStatus.UPGRADE_REQUIRED, f"A WebSocket server for the subprotocol {SUBPROTOCOL}: see PROTOCOL.md.\n")
        return None

    def _metrics(self, ws: ServerConnection, request: Request) -> Response:
        text, media_type = self.metrics.render(", ".join(request.headers.get_all("Accept")))
        response = ws.respond(http.HTTPStatus.OK, text)
        del response.headers["Content-Type"]
        response.headers["Content-Type"] = media_type
        return response

    def _figures(self) -> Iterator[Metric]:
        """What is not counted but looked at when somebody reads `/metrics`."""
        work, registry, now_s = self._work(), self.registry, now_us() / 1e6
        admission = registry.admission
        shares = admission.shares(registry.demand)
        yield gauge_family(
            "capacity_publishers", "Live publishers of PCM that there is room for in all; 0: not known.", admission.room() or 0
        )
        load = {"engine": shares.engine, "processors": shares.processors, "interpreter": shares.interpreter}
        yield gauge_family("predicted_load_ratio", "What the streams are expected to take of the machine; 1 is all.", load, "of")
        quantiles = (0.5, 0.95, 0.99)
        waits = dict(zip(map(str, quantiles), admission.waits(now_s, *quantiles), strict=True))
        yield gauge_family("live_wait_seconds", "What live packets of the last two seconds waited for the model.", waits, "quantile")
        yield gauge_family("newcomers_waiting", "Clients that wait for the answer to their hello.", registry.num_waiting)
        yield gauge_family("publishers", "Streams there are.", len(registry.streams))
        yield gauge_family("listeners", "Listeners there are.", registry.num_listeners)
        lag_s = max((one.lag_s(now_s) for group in registry.listeners.values() for one in group), default=0.0)
        yield gauge_family("listener_lag_seconds_max", "How far the listener that is most behind is behind.", lag_s)
        yield counter_family("engine_steps", "Steps that the engine ran.", work.steps)
        yield counter_family("engine_rows", "Packets that were encoded or decoded in these steps.", work.rows)
        yield counter_family("engine_busy_seconds", "Time inside the engine's steps.", work.busy_s)
        yield counter_family("process_cpu_seconds", "Processor time of the whole process.", work.cpu_s)
        yield counter_family(
            "beside_engine_cpu_seconds", "Processor time of the loop, and of the model's threads between steps.", work.beside_s
        )
