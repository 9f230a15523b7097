"""The server: a socket, a registry of streams and one model worker, started and stopped together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any, Self

import websockets
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

import streamcodec
from streamcodec.codec import Codec
from streamcodec.config import DEFAULT_PACKET_FRAMES
from streamcodec.engine.warming import warm_up
from streamcodec.errors import InputError, WireCode
from streamcodec.processors import available_processors
from streamcodec.protocol import READ_CONTROL_BYTES, SUBPROTOCOL, now_us
from streamcodec.scheduler.worker import Calls, Worker
from streamcodec.server.address import explain_refusal, is_loopback, where_to_listen
from streamcodec.server.auth import Access, TokenKeys, Tokens
from streamcodec.server.auth.gatekeeper import Gatekeeper
from streamcodec.server.capacity.admission import Admission
from streamcodec.server.capacity.calibration import measure
from streamcodec.server.capacity.monitor import CapacityMonitor
from streamcodec.server.capacity.recent import LoopLag
from streamcodec.server.connection import ClientHandler
from streamcodec.server.door import Door, free_descriptors
from streamcodec.server.entrance import Entrance
from streamcodec.server.handshake import Handshake, model_info
from streamcodec.server.http import HttpEndpoints
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics
from streamcodec.server.page import Answer, Page
from streamcodec.server.recording import Recorder, RecordingFolder
from streamcodec.server.refusals import Bound, Refusals
from streamcodec.server.registry import Registry
from streamcodec.server.sites import Sites
from streamcodec.server.watchdog import Watchdog
from streamcodec.server.websocket import WRITE_LIMIT, MessageConnection

__all__ = ["DEFAULT_PORT", "Server"]

DEFAULT_PORT = 8765
HANDSHAKE_S = 10.0
"""WebSocket's opening and closing handshakes may take so long."""
PING_EVERY_S = 10.0
"""How often a client is asked for a sign of life, and how long it may take to give one."""
_WARM_UP_FRAMES = (1, 2, 3, DEFAULT_PACKET_FRAMES)
_MAX_STEP_S = 4.0  # of audio in one step of a model in chunks

log = logging.getLogger("streamcodec.server")


class Server:
    """Carries streams from publishers to listeners; use it as an async context manager.

    `port` 0 takes any free one; `port` then says which. Everything runs on the loop that entered it, the model on threads of its own. Each
    stream is recorded where `recordings` name a folder for it.
    Raises `InputError` where others than this machine could reach it and need no token, unless it is `insecure` on purpose.
    """

    def __init__(
        self,
        codec: Codec,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        *,
        tokens: Tokens | None = None,
        token_keys: TokenKeys | None = None,
        insecure: bool = False,
        sites: Sites | None = None,
        page: Page | None = None,
        recordings: RecordingFolder | None = None,
        limits: Limits | None = None,
        max_batch: int = 16,
    ) -> None:
        self._access = Access(tokens or Tokens(), token_keys)
        if not (insecure or is_loopback(host)) and (open_roles := self._access.open_roles):
            raise InputError(
                f"everybody who reaches {host or 'this machine'} could {' and '.join(open_roles)} without a token. Expected --token-keys, "
                "or --publish-token-file and --listen-token-file; or --insecure, where that is meant"
            )
        model = model_info(codec)
        self.codec = codec
        self.host = host
        self.port = port
        self.sites = sites or Sites()
        self.page = page if page is not None and page.is_built else None
        chunk_s = codec.config.chunk_length_s
        self.limits = (limits or Limits()).for_chunks(chunk_s)
        self.metrics = Metrics()
        program = f"streamcodec {streamcodec.__version__}"
        self._recorder: Recorder | None = None
        if recordings is not None:
            limits = self.limits
            self._recorder = Recorder(recordings, model, codec.config, program, limits.record_every_s, limits.record_backlog_s)
            self.metrics.collect_from(self._recorder.families)
        # Longer steps take more memory, and many of their rows take no less time together.
        self._max_batch = max_batch if chunk_s is None else max(1, min(max_batch, int(_MAX_STEP_S / chunk_s)))
        self._connections: set[ClientHandler] = set()
        self._entrances: set[Entrance] = set()
        self._stopping = False
        self._worker: Worker
        self._socket: WebSocketServer
        self._loop: asyncio.AbstractEventLoop
        self._lost = asyncio.Event()
        self._lost_reason = ""
        self.engine_hangs = False
        self.registry: Registry
        self._gate: Gatekeeper
        self._door: Door
        self.refusals: Refusals
        self._handshake = Handshake(model, codec.config, self.limits, program)

    @property
    def url(self) -> str:
        """Where clients connect."""
        host = self.host or "localhost"
        return f"ws://[{host}]:{self.port}" if ":" in host else f"ws://{host}:{self.port}"

    @property
    def page_url(self) -> str | None:
        """Where a browser on this machine finds the page; None where there is none."""
        if self.page is None:
            return None
        host = "localhost" if self.host in ("", "0.0.0.0", "::", "*") else self.host
        return f"http://[{host}]:{self.port}/" if ":" in host else f"http://{host}:{self.port}/"

    async def page_is_ready(self) -> None:
        """Wait until the page's model is exported, or could not be."""
        if self.page is not None:
            await asyncio.shield(self._exporting)

    @property
    def room(self) -> int | None:
        """How many live publishers of PCM in packets of the default length there is room for in all; None: nobody knows."""
        return self.registry.admission.room()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        in_frames = self.codec.config.granularity == "frames"
        await asyncio.to_thread(warm_up, self.codec.engine, _WARM_UP_FRAMES if in_frames else [self.codec.config.packet_frames_for()])
        self._worker = Worker(self.codec.engine, self._deliver, max_batch=self._max_batch)
        costs = await asyncio.to_thread(measure, self.codec.engine) if self.limits.capacity == "auto" else None
        admission = Admission(
            self.limits,
            costs,
            self.codec.config.frame_rate,
            workers=self.codec.engine.workers,
            cores=available_processors(),
            max_batch=self._max_batch,
            packet_frames=self.codec.config.packet_frames_for(),
        )
        self._lag = LoopLag(admission.lags, now_us() / 1e6)
        recorded = None if self._recorder is None else self._recorder.record
        self.registry = Registry(self._worker, self.limits, self.metrics, admission, wrapped=recorded)
        self._capacity = CapacityMonitor(admission, self._worker.stats, self.metrics)
        self.refusals = Refusals(self._loop.time)
        self.metrics.collect_from(self.refusals.families)
        self._door = Door(self.limits, self.refusals, self._loop.time, free_descriptors())
        wanted = self.limits.max_publishers + self.limits.max_listeners
        if self._door.most < wanted:
            told = "this process may open too few files for its %d publishers and listeners: it takes %d connections (see ulimit -n)"
            log.warning(told, wanted, self._door.most)
        self._gate = Gatekeeper(self._access, self.limits, self.refusals, self._loop.time)
        self._watchdog = Watchdog(self._worker, self.limits.hung_step_s, now_us() / 1e6, self._give_up)
        http = HttpEndpoints(self.metrics, self.registry, self._capacity, self._watchdog, self._loop.time)
        try:
            self._socket = await serve(
                self._handle,
                **await where_to_listen(self.host, self.port),
                subprotocols=[websockets.Subprotocol(SUBPROTOCOL)],
                compression=None,
                # Many may come at once; one that finds no place waits for a second before it asks again.
                backlog=self.limits.max_listeners + self.limits.max_publishers,
                max_size=READ_CONTROL_BYTES,  # until a publisher is let in
                max_queue=8,
                write_limit=WRITE_LIMIT,
                create_connection=self._open_entrance,  # type: ignore[arg-type]
                open_timeout=HANDSHAKE_S,
                ping_interval=PING_EVERY_S,
                ping_timeout=PING_EVERY_S,
                close_timeout=HANDSHAKE_S,
                process_request=self._admit_request(http),
                server_header=f"streamcodec/{streamcodec.__version__}",
            )
        except (OSError, UnicodeError) as exc:
            self.codec.engine.stop_preparing()
            raise explain_refusal(self.host, self.port, exc) from exc
        # After all that may fail or be cancelled, as the program would wait for it when it ends.
        if self.limits.capacity is not None and in_frames:
            self.codec.engine.prepare(DEFAULT_PACKET_FRAMES)
        self._worker.start()
        if self._recorder is not None:
            self._recorder.start()
        if self.page is not None:
            self._exporting = self._loop.run_in_executor(None, self.page.export)
        self._tick()
        self.port = self._socket.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def until_lost(self) -> str:
        """Wait until the engine is lost, as step after step hangs, and return the reason in words: only a new process helps then."""
        await self._lost.wait()
        return self._lost_reason

    async def stop(self) -> None:
        """Stop in order: take nothing new, send what was accepted, tell every client, close.

        Each part takes `drain_s` at most, whatever hangs; `engine_hangs` says whether a thread was left behind.
        """
        if self._stopping:
            return
        self._stopping = True
        self._ticking.cancel()
        self.codec.engine.stop_preparing()
        self.registry.closing = True
        self._socket.close(close_connections=False)
        for entrance in list(self._entrances):
            entrance.close()
        streams = list(self.registry.streams.values())
        for stream in streams:
            stream.end("the server is closing")
        await self._until(lambda: all(stream.ended.is_set() for stream in streams))
        await self._until(lambda: all(listener.empty for group in self.registry.listeners.values() for listener in group))
        if closing := [asyncio.create_task(c.close(WireCode.SERVER_CLOSING, "the server is closing")) for c in self._connections]:
            done, late = await asyncio.wait(closing, timeout=self.limits.drain_s)
            if late:
                # A peer that reads nothing cannot be told.
                for connection in self._connections:
                    connection.peer.abort()
                done, _ = await asyncio.wait(closing)
            for task in done:
                if (error := task.exception()) is not None:
                    log.error("a connection did not close in order", exc_info=error)
        try:
            await asyncio.wait_for(self._socket.wait_closed(), self.limits.drain_s)
        except TimeoutError:
            log.warning("a client that has sent no hello kept its connection open")
        self.engine_hangs = not await asyncio.to_thread(self._worker.stop, self.limits.drain_s)
        if self.engine_hangs:
            log.error("a step of the engine has not come back: the process must be ended")
        if self._recorder is not None and not await asyncio.to_thread(self._recorder.stop, self.limits.drain_s):
            log.error("the disk does not take what was recorded: recordings lack their end")
        if self.page is not None:
            await self._exporting

    def _give_up(self, reason: str) -> None:
        log.critical("the engine is lost: %s", reason)
        self._lost_reason = reason
        self._lost.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        """Wait for `condition`, for `drain_s` at most."""
        give_up = self._loop.time() + self.limits.drain_s
        while not condition() and self._loop.time() < give_up:  # noqa: ASYNC110 - a few rounds, once in a server's life
            await asyncio.sleep(0.01)

    async def _handle(self, ws: ServerConnection) -> None:
        assert isinstance(ws, MessageConnection)
        connection = ClientHandler(ws, self.registry, self._handshake, self._gate, self._door)
        if self._stopping:
            await connection.close(WireCode.SERVER_CLOSING, "the server is closing")
            return
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)

    def _open_entrance(self, *args: Any, **kwargs: Any) -> asyncio.Protocol:
        """The protocol of a connection: a WebSocket's, behind the page's where there is one."""
        websocket = partial(MessageConnection, *args, limits=self.limits, door=self._door, cut_off_by=self._cut_off, **kwargs)
        if self.page is None:
            return websocket()
        return Entrance(self._page_answer, self._door, partial(websocket, entered=True), HANDSHAKE_S, self._entrances)

    def _page_answer(self, headers: Headers, path: str) -> Answer | None:
        assert self.page is not None
        # A request that is refused is refused by `_admit_request`.
        return None if self.sites.refusal(headers, self.host) is not None else self.page.answer(path, headers)

    def _admit_request(self, http: HttpEndpoints) -> Callable[[ServerConnection, Request], Response | None]:
        def respond(ws: ServerConnection, request: Request) -> Response | None:
            assert isinstance(ws, MessageConnection)
            if (foreign := self.sites.refusal(request.headers, self.host)) is not None:
                self.refusals.note(foreign.bound, ws.address, foreign.reason)
                return ws.respond(foreign.status, f"{foreign.reason}.\n")
            return http.respond(ws, request)

        return respond

    def _cut_off(self, ws: MessageConnection, reason: str) -> None:
        self.refusals.note(Bound.CONTROL_FRAMES, ws.address, f"cut off for {reason}")

    def _deliver(self, calls: Calls) -> None:
        def make() -> None:
            for sink, result in calls:
                try:
                    sink(result)
                except Exception:
                    log.exception("a stream could not take its result")
            self._correct_capacity()

        try:
            self._loop.call_soon_threadsafe(make)
        except RuntimeError:
            log.debug("the loop closed before the worker's last results")

    def _tick(self) -> None:
        now = now_us() / 1e6
        self._watchdog.check(now)
        self._correct_capacity()  # where codes are passed on no results come, after which it is done
        self._ticking = self._loop.call_later(self._lag.tick(now) - now, self._tick)

    def _correct_capacity(self) -> None:
        self._capacity.correct(lambda: self.registry.demand)
