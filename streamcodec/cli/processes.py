"""`serve --processes N`: several server processes that act as one, joined by a server of NATS of their own."""

from __future__ import annotations

import asyncio
import os
import pickle
import secrets
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamcodec.cli.serving import ProcessPart, more_lines, room_for, sayer
from streamcodec.errors import InputError

if TYPE_CHECKING:
    from streamcodec.server.processes.nats_server import EmbeddedNats
    from streamcodec.server.processes.supervisor import ServerProcess, Supervisor
    from streamcodec.server.settings import Origins, Settings

__all__ = ["run_processes"]

_PARTS_OF_A_STOP = 8  # each takes `drain_s` at most
_END_S = 1.0  # of this process, behind the last of the others


def run_processes(settings: Settings, origins: Origins) -> Coroutine[Any, Any, int]:
    """The processes of a server, to be awaited to their end. Raises `InputError` and `MissingDependencyError`."""
    import logging

    from streamcodec.cli.operate import cluster_of, operations_of, recordings_of, tokens_and_keys_of
    from streamcodec.server.cluster.joining import nats_bus
    from streamcodec.server.cluster.nats_settings import NatsSettings
    from streamcodec.server.door import ask_for_descriptors
    from streamcodec.server.logs import set_up_logs
    from streamcodec.server.processes.nats_server import find_nats_server
    from streamcodec.server.processes.shares import shared_limits

    if sys.platform != "linux":
        raise InputError("--processes needs Linux, which spreads the connections of one port over processes: expected --processes 1")
    program = None
    if cluster_of(settings) is None:
        program = find_nats_server()
        nats_bus(NatsSettings(("nats://127.0.0.1",)))  # whether there is what it takes
    # What each process would find wrong is told once.
    tokens_and_keys_of(settings, origins)
    admin_token = operations_of(settings).admin_token
    recordings_of(settings)
    limits = shared_limits(settings.limits, settings.processes)
    set_up_logs(settings.log_format, logging.DEBUG if settings.verbose else logging.INFO)
    ask_for_descriptors(1024)
    return _run(settings, origins, program, admin_token, limits)


async def _run(settings: Settings, origins: Origins, program: Path | None, admin_token: str | None, limits: list[Any]) -> int:
    from streamcodec.server.address import explain_refusal, reserved_port, url_of
    from streamcodec.server.processes.nats_server import EmbeddedNats
    from streamcodec.server.processes.supervisor import Supervisor

    try:
        port, keepers = await reserved_port(settings.host, settings.port)
    except (OSError, UnicodeError) as exc:
        raise explain_refusal(settings.host, settings.port, exc) from exc
    async with AsyncExitStack() as stack:
        for keeper in keepers:
            stack.enter_context(keeper)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streamcodec-", ignore_cleanup_errors=True)))
        nats = None if program is None else EmbeddedNats(program, folder)
        address = settings.cluster_address or url_of("ws" if settings.tls_certificate is None else "wss", settings.host, port)
        internal = secrets.token_urlsafe(32)
        start = _starter(settings, origins, limits, folder, nats, internal, {"port": port, "address": address})
        supervisor = Supervisor(
            settings.processes,
            start,
            nats,
            drain_s=settings.drain_seconds,
            stop_s=_PARTS_OF_A_STOP * settings.limits.drain_s,
        )
        up = await _fronted(stack, settings, supervisor, internal, admin_token)
        status = await supervisor.run(up)
    if supervisor.served:
        sayer(settings)("stopped")
    return status


def _starter(
    settings: Settings,
    origins: Origins,
    limits: list[Any],
    folder: Path,
    nats: EmbeddedNats | None,
    internal: str,
    where: Mapping[str, Any],
) -> Callable[[int], Awaitable[Process]]:
    """What starts the process of a number."""
    from pydantic import SecretStr

    from streamcodec.processors import available_processors, processor_shares, usable_processors
    from streamcodec.server.settings import Settings

    shares = processor_shares(settings.processes, available_processors(), usable_processors())
    threads = None if settings.threads is None else max(1, settings.threads // settings.processes)
    own = {
        "port": where["port"],
        "threads": threads,
        "private_host": "127.0.0.1",
        "private_port": 0,
        "admin_token": SecretStr(internal),
        "admin_token_file": None,
    }

    async def start(number: int) -> Process:
        part = ProcessPart(number, shares[number - 1], folder / "page", None if nats is None else nats.settings, where["address"])
        # They were checked when they were read.
        its_own = Settings.model_construct(**{**dict(settings), **own, "limits": limits[number - 1]})
        told = pickle.dumps((its_own, origins, part))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "streamcodec.cli", "server-process", str(number), str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # what is typed at a terminal comes to the supervisor alone
        )
        assert process.stdin is not None
        with suppress(OSError):  # it has ended already
            process.stdin.write(told)
            await process.stdin.drain()
            process.stdin.close()
        return process

    return start


async def _fronted(
    stack: AsyncExitStack, settings: Settings, supervisor: Supervisor, internal: str, admin_token: str | None
) -> Callable[[], Awaitable[None]]:
    """Open the private port of all processes, if there is to be one, and give what is to be done when all of them serve."""
    import streamcodec
    from streamcodec.cli.operate import end_in_time
    from streamcodec.server.admin import OperatorGuard
    from streamcodec.server.ports.private import PrivatePort
    from streamcodec.server.ports.routes import Routes
    from streamcodec.server.processes.asking import AskedProcesses
    from streamcodec.server.processes.front import Front
    from streamcodec.server.refusals import Refusals
    from streamcodec.server.sites import Sites

    clock, say = asyncio.get_running_loop().time, sayer(settings)
    asked = AskedProcesses(lambda: {one.number: one.told["private"] for one in supervisor.processes if one.told is not None}, internal)
    stack.push_async_callback(asked.close)
    refusals = Refusals(clock)
    guard = None if admin_token is None else OperatorGuard(admin_token, refusals, clock)
    end_in_time(supervisor)
    front = Front(supervisor, asked, guard, supervisor.drain)
    private: PrivatePort | None = None
    if settings.private_port is not None:
        hosts = Sites(hosts=settings.allow_host)
        private = PrivatePort(settings.private_host, settings.private_port, Routes(front.routes), hosts, refusals)
        await private.open()
        stack.push_async_callback(private.close)
    telling: set[asyncio.Task[None]] = set()

    def ready(one: ServerProcess) -> None:
        task = asyncio.create_task(front.tell_narrowed(one.number))
        telling.add(task)
        task.add_done_callback(telling.discard)

    supervisor.on_ready = ready

    async def up() -> None:
        told = [one.told for one in supervisor.processes if one.told is not None]
        first, rooms = told[0], [one["room"] for one in told]
        room = room_for(None if None in rooms else sum(rooms), first["packets"])
        processors = "+".join(str(one["processors"]) for one in told)
        described = f"{first['model']}, {len(told)} processes, {processors} processor(s){room}"
        say(f"streamcodec {streamcodec.__version__} at {first['url']}: {described}")
        for line in more_lines(settings, first["page"], None if private is None else private.url):
            say(line)

    return up
