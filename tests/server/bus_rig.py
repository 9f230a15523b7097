"""Places where nodes have a bus: a hub in memory, and NATS with a proxy in front of each node, so that each can be cut off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from live_rig import until
from patience import TIMEOUT_S, run_patiently

from benchmarks.cluster.nats_server import NatsProgram, nats_program
from streamcodec.server.cluster.bus import Bus
from streamcodec.server.cluster.joining import nats_bus
from streamcodec.server.cluster.memory import MemoryBus, MemoryHub
from streamcodec.server.cluster.nats_settings import NatsSettings

__all__ = ["NATS_SERVER", "MemorySite", "NatsServerProcess", "NatsSite", "Proxy", "Site", "at"]

NATS_SERVER = nats_program() or "nats-server"


class MemorySite:
    """Nodes on a hub."""

    def __init__(self) -> None:
        self.hub = MemoryHub()
        self._buses: list[MemoryBus] = []

    async def start(self) -> None:
        pass

    async def node(self) -> Bus:
        """The open bus of a new node."""
        self._buses.append(MemoryBus(self.hub))
        await self._buses[-1].open()
        return self._buses[-1]

    def cut(self, bus: Bus) -> None:
        """Break a node's connection, and let it make no other."""
        self.hub.cut(bus)

    async def heal(self, bus: Bus) -> None:
        """Let it connect again."""
        self.hub.heal(bus)

    async def burst(self, _bus: Bus, publish: Callable[[], None], _size: int) -> None:
        """Let all that `publish` sends arrive at a node at once."""
        publish()

    async def kill(self) -> None:
        """End the bus itself, with all that it had in memory."""
        self.hub.stop()

    async def restart(self) -> None:
        """Start it again."""
        self.hub.start()

    async def close(self) -> None:
        for bus in self._buses:
            await bus.close()


class Proxy:
    """Between a node and NATS: it can break connections, refuse them, stand still, and hold back what comes from NATS."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self.standing = False
        self.held: bytearray | None = None
        self._target = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._to_node: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Break all connections and take no more."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def release(self) -> None:
        """Send on, at once, what was held back."""
        assert self._to_node is not None and self.held is not None
        self._to_node.write(bytes(self.held))
        self.held = None

    async def close(self) -> None:
        self.cut()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there, beyond = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(beyond)
        self._to_node = writer
        for one, other, to_node in ((reader, beyond, False), (there, writer, True)):
            task = asyncio.create_task(self._pass(one, other, to_node))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to_node: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if self.standing:
                    continue
                if to_node and self.held is not None:
                    self.held += data
                else:
                    writer.write(data)
        for one in (writer, self._to_node):
            if one is not None:
                one.transport.abort()


class NatsServerProcess:
    """A server of NATS on loopback, on a free port that it keeps, for tests that must not wait in the loop's thread."""

    def __init__(self, folder: Path, *options: str, jetstream: bool = True) -> None:
        self._program = NatsProgram(folder, *options, jetstream=jetstream, patience_s=TIMEOUT_S / 2)

    @property
    def port(self) -> int:
        return self._program.port

    @property
    def log(self) -> Path:
        """What it has written so far."""
        return self._program.log

    async def start(self) -> None:
        await asyncio.to_thread(self._program.start)

    async def kill(self) -> None:
        """End it without a word."""
        await asyncio.to_thread(self._program.kill)


class NatsSite:
    """Nodes on a server of NATS."""

    def __init__(self, folder: Path) -> None:
        self.server = NatsServerProcess(folder)
        self.proxies: dict[Bus, Proxy] = {}

    async def start(self) -> None:
        await self.server.start()

    async def node(self) -> Bus:
        proxy = Proxy(self.server.port)
        await proxy.open()
        bus = nats_bus(NatsSettings((f"nats://127.0.0.1:{proxy.port}",)))
        self.proxies[bus] = proxy
        await bus.open()
        return bus

    def cut(self, bus: Bus) -> None:
        self.proxies[bus].cut()

    async def heal(self, bus: Bus) -> None:
        await self.proxies[bus].open()

    async def burst(self, bus: Bus, publish: Callable[[], None], size: int) -> None:
        proxy = self.proxies[bus]
        proxy.held = bytearray()
        publish()
        await until(lambda: proxy.held is not None and proxy.held.count(b"MSG ") >= size, "NATS has not sent all messages")
        proxy.release()

    async def kill(self) -> None:
        await self.server.kill()

    async def restart(self) -> None:
        await self.server.start()

    async def close(self) -> None:
        for bus, proxy in self.proxies.items():
            await bus.close()
            await proxy.close()
        await self.server.kill()


Site = MemorySite | NatsSite


def at(site: Site, main: Callable[[Site], Awaitable[None]]) -> None:
    """Run `main` at a site."""

    async def run() -> None:
        try:
            await site.start()
            await main(site)
        finally:
            await site.close()

    run_patiently(run())
