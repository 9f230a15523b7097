"""The server: a socket, a registry of streams and one model worker, started and stopped together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import streamcodec
from streamcodec.codec import Codec
from streamcodec.config import DEFAULT_PACKET_FRAMES
from streamcodec.defaults import DEFAULT_HOST, DEFAULT_PORT
from streamcodec.engine.warming import warm_up
from streamcodec.errors import InputError, StreamCodecError
from streamcodec.protocol import now_us
from streamcodec.scheduler.worker import Calls, Worker
from streamcodec.server.address import is_loopback, url_of
from streamcodec.server.admin import Admin
from streamcodec.server.auth import Access, Permits, TokenKeys, Tokens
from streamcodec.server.auth.gatekeeper import Gatekeeper
from streamcodec.server.capacity.calibration import measured_admission
from streamcodec.server.capacity.monitor import CapacityMonitor
from streamcodec.server.capacity.recent import LoopLag
from streamcodec.server.cluster.joined import ClusterOptions, Joined
from streamcodec.server.cluster.own_record import address_for_clients
from streamcodec.server.connection import ClientHandler
from streamcodec.server.connections import Connections
from streamcodec.server.door import Door, free_descriptors
from streamcodec.server.draining import Draining
from streamcodec.server.echo import EchoTests
from streamcodec.server.gauges import Gauges
from streamcodec.server.handshake import Handshake, model_info
from streamcodec.server.http import HttpEndpoints
from streamcodec.server.leaving import all_sent, everybody_left, send_away
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics
from streamcodec.server.operations import Operations
from streamcodec.server.page import Page
from streamcodec.server.ports.certificates import Certificates
from streamcodec.server.ports.opening import open_ports
from streamcodec.server.ports.private import PrivatePort
from streamcodec.server.ports.public import PublicPort
from streamcodec.server.ports.routes import Routes
from streamcodec.server.proxies import Proxies
from streamcodec.server.recording import Recorder, RecordingFolder
from streamcodec.server.refusals import Refusals
from streamcodec.server.registry import Registry
from streamcodec.server.sites import Sites
from streamcodec.server.watchdog import Watchdog
from streamcodec.server.watched import LOOK_EVERY_S
from streamcodec.server.websocket import MessageConnection

__all__ = ["DEFAULT_PORT", "Server"]

_WARM_UP_FRAMES = (1, 2, 3, DEFAULT_PACKET_FRAMES)
_MAX_STEP_S = 4.0  # of audio in one step of a model in chunks

log = logging.getLogger("streamcodec.server")


class Server:
    """Carries streams from publishers to listeners; use it as an async context manager.

    `port` 0 takes any free one; `port` then says which. With `tls_certificate` and `tls_key`, PEM files, it speaks TLS. With a
    `private_port`, health, figures and what else whoever runs the server may ask for are answered there, on `private_host`, and `/metrics`
    nowhere else. Each stream is recorded where `recordings` name a folder for it. With `echo` everybody may test their connection, see
    `EchoTests`. With `cluster` it is a node among others; those on this machine may have the same port (`shares_port`). Everything runs on
    the loop that entered it, the model on threads of its own. Raises `InputError` where others could reach it and need no token, unless it
    is `insecure` on purpose.
    """

    def __init__(
        self,
        codec: Codec,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        *,
        tokens: Tokens | None = None,
        token_keys: TokenKeys | None = None,
        operations: Operations | None = None,
        insecure: bool = False,
        sites: Sites | None = None,
        page: Page | None = None,
        proxies: Proxies | None = None,
        tls_certificate: Path | None = None,
        tls_key: Path | None = None,
        private_port: int | None = None,
        private_host: str = DEFAULT_HOST,
        recordings: RecordingFolder | None = None,
        echo: bool = False,
        cluster: ClusterOptions | None = None,
        limits: Limits | None = None,
        max_batch: int = 16,
        shares_port: bool = False,
    ) -> None:
        self._operations = operations or Operations()
        self._access = Access(tokens or Tokens(), token_keys, asks=self._operations.auth_url is not None)
        self._access.check_reach(host, insecure=insecure)
        if (tls_certificate is None) != (tls_key is None):
            raise InputError("TLS needs a certificate and its key: --tls-certificate and --tls-key")
        self._certificates = None if tls_certificate is None or tls_key is None else Certificates(tls_certificate, tls_key)
        model = model_info(codec)
        self.codec = codec
        self.host = host
        self.port = port
        self.sites = sites or Sites()
        self._proxies = proxies or Proxies()
        self.page = page if page is not None and page.is_built else None
        chunk_s = codec.config.chunk_length_s
        self.limits = (limits or Limits()).for_chunks(chunk_s)
        self.metrics = Metrics()
        self._echo = EchoTests(self.limits, allowed=echo)
        self._joining = cluster
        self._address = (lambda: self.url) if cluster is None else address_for_clients(cluster.address, host, lambda: self.url)
        self.cluster: Joined | None = None
        program = f"streamcodec {streamcodec.__version__}"
        self._recorder: Recorder | None = None
        if recordings is not None:
            self._recorder = Recorder(recordings, model, codec.config, program, self.limits.record_every_s, self.limits.record_backlog_s)
            self.metrics.collect_from(self._recorder.families)
        # Longer steps take more memory, and many of their rows take no less time together.
        self._max_batch = max_batch if chunk_s is None else max(1, min(max_batch, int(_MAX_STEP_S / chunk_s)))
        self._connections = Connections()
        self._stopping = False
        self._worker: Worker
        self._private_host, self._private_port = private_host, private_port
        self._shares_port = shares_port
        self._public: PublicPort
        self.private: PrivatePort | None = None
        self._loop: asyncio.AbstractEventLoop
        self._over = asyncio.Event()
        self._lost_reason: str | None = None
        self._leaving: asyncio.Task[None] | None = None
        self.on_drain: Callable[[float], None] = lambda _: None
        self.draining: Draining
        self.engine_hangs = False
        self.registry: Registry
        self._gate: Gatekeeper
        self._door: Door
        self.refusals: Refusals
        self._handshake = Handshake(model, codec.config, self.limits, program, lambda: self.registry.cluster.named)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return url_of("ws" if self._certificates is None else "wss", self.host, self.port)

    @property
    def page_url(self) -> str | None:
        """Where a browser on this machine finds the page; None where there is none."""
        if self.page is None:
            return None
        host = "localhost" if self.host in ("", "0.0.0.0", "::", "*") else self.host
        return f"{url_of('http' if self._certificates is None else 'https', host, self.port)}/"

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
        admission = await measured_admission(self.codec.engine, self.limits, self._max_batch)
        self._lag = LoopLag(admission.lags, now_us() / 1e6)
        recorded = None if self._recorder is None else self._recorder.record
        self.draining = Draining(self._loop.time, self._operations.drain_to, lambda: self.registry.cluster)
        self.registry = Registry(self._worker, self.limits, self.metrics, admission, self.draining, echo=self._echo, wrapped=recorded)
        if self._joining is not None:
            self.registry.cluster = self.cluster = Joined(self._joining, self.registry, self.codec.fingerprint, self._address)
            self.metrics.collect_from(self.cluster.families)
        self._capacity = CapacityMonitor(admission, self._worker.stats, self.metrics)
        self.refusals = Refusals(self._loop.time)
        self.metrics.collect_from(self.refusals.families)
        self._door = Door(self.limits, self.refusals, self._loop.time, free_descriptors(), self._proxies)
        self._door.warn_of_few_files()
        self.permits = Permits(self._access.clock)
        self._gate = Gatekeeper(
            self._access, self.limits, self.refusals, self._loop.time, self.permits, self._operations.auth_url, self._echo
        )
        self._operations.count_in(self.metrics)
        self.registry.observe = self.refusals.observe = self._operations.observer
        self._watchdog = Watchdog(self._worker, self.limits.hung_step_s, now_us() / 1e6, self._give_up)
        self.metrics.collect_from(Gauges(self.registry, self._capacity, self._watchdog, self._door).families)
        self._make_ports(HttpEndpoints(self.metrics, self.registry, self._watchdog, self._loop.time))
        try:
            self.port = await open_ports(self.private, self._public, self.port)
        except StreamCodecError:
            self.codec.engine.stop_preparing()
            raise
        # After all that may fail or be cancelled, as the program would wait for it when it ends.
        if self.limits.capacity is not None and in_frames:
            self.codec.engine.prepare(DEFAULT_PACKET_FRAMES)
        self._worker.start()
        if self._recorder is not None:
            self._recorder.start()
        self._operations.start()
        if self.cluster is not None:
            await self.cluster.open()
        if self.page is not None:
            self._exporting = self._loop.run_in_executor(None, self.page.export)
        self._tick()
        if self._certificates is not None:
            self.metrics.collect_from(self._certificates.families)
            self._check_certificates(self._certificates)
        return self

    def _make_ports(self, http: HttpEndpoints) -> None:
        at_home = self._private_port is None and is_loopback(self.host) and not self.sites.hosts and not self._proxies.trusted
        self._public = PublicPort(
            self.host,
            Routes([*http.health, http.figures if at_home else http.no_figures]),
            sites=self.sites,
            page=self.page,
            certificates=self._certificates,
            proxies=self._proxies,
            limits=self.limits,
            door=self._door,
            refusals=self.refusals,
            metrics=self.metrics,
            handle=self._handle,
            shares_port=self._shares_port,
        )
        if self._private_port is not None:
            routes = Routes([*http.health, http.figures])
            admin = Admin(self.registry, self.permits, lambda: self._connections)
            routes.add(*self._operations.admin_routes(admin, self.drain, self.refusals, self._loop.time))
            self.private = PrivatePort(self._private_host, self._private_port, routes, Sites(hosts=self.sites.hosts), self.refusals)
        elif not at_home:
            log.info("/metrics is not answered, as others could read it: a private port answers it (--private-port)")

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()

    async def until_over(self) -> str | None:
        """Wait until the server is drained, or until the engine is lost, as step after step hangs: then only a new process helps.

        Returns the reason in words where it is lost.
        """
        await self._over.wait()
        return self._lost_reason

    def drain(self, within_s: float | None = None, go_to: str | None = None) -> None:
        """Let nobody in any more, and let everybody leave: `until_over` returns when they have, or in time to stop `within_s`.

        Clients are told where to go. `on_drain` is called with the time. Raises `InputError` for a time or an address that cannot be.
        """
        within_s = self._operations.drain_s if within_s is None else within_s
        self.draining.begin(within_s, go_to)
        log.info("draining: nobody new is let in, and the server stops within %g s", within_s)
        self.on_drain(within_s)
        if self._leaving is None:
            self._leaving = asyncio.create_task(everybody_left(self.registry, self._connections))
            self._leaving.add_done_callback(lambda _: self._over.set())

    def reload(self, tokens: Tokens, token_keys: TokenKeys | None) -> None:
        """Let these tokens and keys be the ones that are good from now on; sessions that rest on another one end."""
        self._gate.access = replace(self._gate.access, tokens=tokens, keys=token_keys)
        self.permits.reload(self._gate.access)

    async def stop(self) -> None:
        """Stop in order: take nothing new, send what was accepted, tell every client, close.

        Each part takes `drain_s` at most, and half of the time that a drain has left, whatever hangs; `engine_hangs` says whether a thread
        was left behind, the engine's or the page's.
        """
        if self._stopping:
            return
        self._stopping = True
        if self._leaving is not None:
            self._leaving.cancel()
        self._ticking.cancel()
        if self._certificates is not None:
            self._checking.cancel()
        self.codec.engine.stop_preparing()
        self.registry.closing = True
        self._public.close()
        await all_sent(self.registry)
        await send_away(self._connections, self.draining.farewell(), self.draining.part_s(self.limits.drain_s))
        await self._public.wait_closed(self.draining.part_s(self.limits.drain_s))
        self.engine_hangs = not await asyncio.to_thread(self._worker.stop, self.draining.part_s(self.limits.drain_s))
        if self.engine_hangs:
            log.error("a step of the engine has not come back: the process must be ended")
        if self._recorder is not None and not await asyncio.to_thread(self._recorder.stop, self.draining.part_s(self.limits.drain_s)):
            log.error("the disk does not take what was recorded: recordings lack their end")
        if self.page is not None and not (await asyncio.wait([self._exporting], timeout=self.draining.part_s(self.limits.drain_s)))[0]:
            log.warning("the page's model is still being exported: the process must be ended")
            self.engine_hangs = True
        if self.private is not None:
            await self.private.close()
        if self.cluster is not None:
            await self.cluster.close()
        await self._operations.close()

    def _give_up(self, reason: str) -> None:
        log.critical("the engine is lost: %s", reason)
        self._lost_reason = reason
        self._over.set()

    async def _handle(self, ws: MessageConnection) -> None:
        connection = ClientHandler(ws, self.registry, self._handshake, self._gate, self._door, self.permits)
        if self._stopping:
            await connection.close(self.draining.farewell())
            return
        self._connections.add(connection)
        try:
            await connection.serve()
        finally:
            self._connections.discard(connection)

    def _deliver(self, calls: Calls) -> None:
        def make() -> None:
            self.metrics.stepped([(result.started, result.done) for _, result in calls if result.error is None])
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
        self.permits.look()
        self._correct_capacity()  # where codes are passed on no results come, after which it is done
        self._ticking = self._loop.call_later(self._lag.tick(now) - now, self._tick)

    def _check_certificates(self, certificates: Certificates) -> None:
        certificates.check()
        self._checking = self._loop.call_later(LOOK_EVERY_S, self._check_certificates, certificates)

    def _correct_capacity(self) -> None:
        self._capacity.correct(lambda: self.registry.demand)
