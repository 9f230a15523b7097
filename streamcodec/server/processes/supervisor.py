"""Starts the processes of one server, starts one again that has died, and ends them all: in order where they do so, in time in any case."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from typing import Any

from streamcodec.errors import StreamCodecError
from streamcodec.protocol.fields import shown
from streamcodec.server.processes.nats_server import EmbeddedNats
from streamcodec.server.processes.restarts import Restarts

__all__ = ["PREPARED", "READY", "ServerProcess", "Supervisor"]

READY, PREPARED = "ready", "prepared"
"""What a process says on its standard output, each once, in a line of JSON with this as its one key: it serves; others may start."""
_MARGIN_S = 2.0  # a process ends itself in time; one that is stopped as a whole cannot

log = logging.getLogger("streamcodec.server")


class ServerProcess:
    """One of the processes, by its number from 1 on. `told` is what it has said of itself since it was ready; None: it is not."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.restarts = Restarts()
        self.process: Process | None = None
        self.told: dict[str, Any] | None = None
        self.ready = asyncio.Event()
        self.prepared = asyncio.Event()
        self.status: int | None = None

    def send(self, number: int) -> None:
        """Send it a signal, where it runs."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def follow(self) -> int:
        """Hear what it says until it has ended; its status."""
        process = self.process
        assert process is not None and process.stdout is not None
        async for line in process.stdout:
            try:
                [(what, value)] = json.loads(line).items()
            except (ValueError, AttributeError):
                log.warning("process %d has said %s", self.number, shown(line))
                continue
            if what == READY:
                self.told = value
                self.ready.set()
            elif what == PREPARED:
                self.prepared.set()
        status = await process.wait()
        self.told = None
        self.ready.clear()
        return status


class Supervisor:
    """Keeps so many processes running, which `start` starts by their numbers, and `nats` between them, if it is ours.

    The first one starts alone: what it leaves for the others (an engine's cache, the page's model) is made once. `stop_s` is how long a
    process may take to stop that is not told to drain.
    """

    def __init__(
        self, processes: int, start: Callable[[int], Awaitable[Process]], nats: EmbeddedNats | None, *, drain_s: float, stop_s: float
    ) -> None:
        self.processes = [ServerProcess(number) for number in range(1, processes + 1)]
        self._start = start
        self._nats = nats
        self._drain_s = drain_s
        self._stop_s = stop_s
        self._loop = asyncio.get_running_loop()
        self._up = False
        self._ending = asyncio.Event()
        self._signal = signal.SIGTERM
        self._failed = 0
        self._kill: asyncio.TimerHandle | None = None
        self.on_ready: Callable[[ServerProcess], None] = lambda _: None
        self.on_drain: Callable[[float], None] = lambda _: None

    @property
    def ending(self) -> bool:
        """Whether it ends, and starts nothing any more."""
        return self._ending.is_set()

    @property
    def served(self) -> bool:
        """Whether all have served at once."""
        return self._up

    @property
    def answering(self) -> list[ServerProcess]:
        """The processes that serve."""
        return [one for one in self.processes if one.told is not None]

    async def run(self, up: Callable[[], Awaitable[None]]) -> int:
        """Run all to their end; the exit status. `up` is awaited when all serve. Where this is cancelled they stop, and it returns.

        Raises `StreamCodecError` where NATS does not start.
        """
        first, *others = self.processes
        keeping: list[asyncio.Task[None]] = []
        between: asyncio.Task[None] | None = None
        try:
            if self._nats is not None:
                await self._nats.start()
                between = self._loop.create_task(self._keep_nats(self._nats))
            keeping.append(self._loop.create_task(self._kept(first)))
            await self._until(first.prepared)
            keeping += [self._loop.create_task(self._kept(one)) for one in others]
            for one in self.processes:
                await self._until(one.ready)
            if not self.ending:
                self._up = True
                await up()
            await self._ending.wait()
        except asyncio.CancelledError:
            self._end(signal.SIGINT, self._stop_s)
        except BaseException:
            self._end(signal.SIGTERM, self._drain_s)
            raise
        finally:
            await asyncio.gather(*keeping)
            if self._kill is not None:
                self._kill.cancel()
            if between is not None:
                between.cancel()
                await asyncio.wait([between])
            if self._nats is not None:
                await self._nats.stop()
        return self._failed or int(any(one.status for one in self.processes))

    def drain(self, within_s: float | None = None) -> None:
        """Let all processes drain, and end those that have not ended soon after that time (s)."""
        within_s = self._drain_s if within_s is None else within_s
        log.info("draining: the processes stop within %g s", within_s)
        self.on_drain(within_s + 2 * _MARGIN_S)
        self._end(signal.SIGTERM, within_s)

    def kill(self) -> None:
        """End all processes wherever they are."""
        for one in self.processes:
            one.send(signal.SIGKILL)

    # -------------------------------------------------------------------------------------------------------------------------------

    def _end(self, number: signal.Signals, within_s: float) -> None:
        if not self.ending:
            self._signal = number
            self._ending.set()
            for one in self.processes:
                one.send(number)
        give_up = self._loop.time() + within_s + _MARGIN_S
        if self._kill is None or give_up < self._kill.when():
            if self._kill is not None:
                self._kill.cancel()
            self._kill = self._loop.call_at(give_up, self._give_up)

    def _give_up(self) -> None:
        for one in self.processes:
            if one.process is not None and one.process.returncode is None:
                log.error("process %d has not ended in time: killed", one.number)
        self.kill()

    def _fail(self, status: int) -> None:
        self._failed = self._failed or status
        self._end(signal.SIGTERM, self._drain_s)

    async def _kept(self, one: ServerProcess) -> None:
        try:
            await self._keep(one)
        except Exception:
            log.exception("process %d is not looked after any longer", one.number)
            one.send(signal.SIGKILL)
            self._fail(1)

    async def _keep(self, one: ServerProcess) -> None:
        while not self.ending:
            begun, one.status = self._loop.time(), None
            try:
                one.process = await self._start(one.number)
            except OSError as exc:
                log.error("process %d cannot be started: %s", one.number, exc.strerror or exc)
                one.status = 1
            else:
                if self.ending:
                    one.send(self._signal)
                one.status = await self._followed(one)
            if self.ending:
                return
            if not self._up:
                self._fail(one.status if one.status > 0 else 1)
                return
            wait_s = one.restarts.died(self._loop.time() - begun)
            if one.restarts.hopeless and not self.answering:
                log.critical("process %d has ended again and again, and no other one runs: all is over", one.number)
                self._fail(1)
                return
            log.error("process %d has ended %s: it starts again in %g s", one.number, _how(one.status), wait_s)
            await self._pause(wait_s)

    async def _followed(self, one: ServerProcess) -> int:
        telling = self._loop.create_task(self._tell_when_ready(one))
        try:
            return await one.follow()
        finally:
            telling.cancel()

    async def _tell_when_ready(self, one: ServerProcess) -> None:
        await one.ready.wait()
        self.on_ready(one)
        if self._up:
            log.info("process %d serves again", one.number)

    async def _keep_nats(self, nats: EmbeddedNats) -> None:
        """Until it is cancelled: also processes that drain need it."""
        restarts = Restarts()
        while True:
            begun = self._loop.time()
            status = await nats.ended()
            wait_s = restarts.died(self._loop.time() - begun)
            log.error("nats-server has ended %s: it starts again in %g s, and the processes go on alone", _how(status), wait_s)
            await asyncio.sleep(wait_s)
            try:
                await nats.start()
            except (StreamCodecError, OSError) as exc:
                log.error("nats-server cannot be started again: %s", exc)

    async def _pause(self, wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._ending.wait()

    async def _until(self, event: asyncio.Event) -> None:
        """Wait for `event`, or until all ends."""
        task = self._loop.create_task(event.wait())
        try:
            await self._until_done(task)
        finally:
            task.cancel()

    async def _until_done(self, task: asyncio.Task[Any]) -> None:
        ending = self._loop.create_task(self._ending.wait())
        try:
            await asyncio.wait([task, ending], return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()


def _how(status: int) -> str:
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"
