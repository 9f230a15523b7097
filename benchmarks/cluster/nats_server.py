"""A server of NATS that a benchmark may kill and start again, and what the cluster's buckets hold."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from streamcodec.errors import MissingDependencyError
from streamcodec.server.processes.nats_server import find_nats_server

__all__ = ["NatsProgram", "nats_program", "stored_messages"]

_PATIENCE_S, _LOOK_EVERY_S = 60.0, 0.02


def nats_program() -> str | None:
    """Where `nats-server` is; None where it is not installed."""
    try:
        return str(find_nats_server())
    except MissingDependencyError:
        return None


class NatsProgram:
    """NATS on loopback, with its files in `folder` and further `options`; it keeps its port when it is started again."""

    def __init__(self, folder: Path, *options: str, jetstream: bool = True, patience_s: float = _PATIENCE_S) -> None:
        self.port = -1
        self.log = folder / "log"
        self._folder = folder
        self._options = ("--jetstream", "--store_dir", str(folder / "store"), *options) if jetstream else options
        self._patience_s = patience_s
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """Its address."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The number of its process, while it runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it; returns when it takes connections. Raises `RuntimeError` where it does not come up."""
        program, ports = nats_program(), self._folder / "ports"
        if program is None:
            raise RuntimeError("nats-server is not installed")
        ports.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [
                *(program, "--addr", "127.0.0.1", "--port", str(self.port), "--ports_file_dir", str(ports)),
                *("--log", str(self.log), *self._options),
            ]
        )
        told, give_up = ports / f"nats-server_{self._process.pid}.ports", time.perf_counter() + self._patience_s
        while not (told.is_file() and told.read_text().endswith("}")):
            if self._process.poll() is not None or time.perf_counter() > give_up:
                raise RuntimeError(f"nats-server does not start: {self.log.read_text() if self.log.exists() else 'it has no log'}")
            time.sleep(_LOOK_EVERY_S)
        self.port = int(json.loads(told.read_text())["nats"][0].rpartition(":")[2])

    def kill(self) -> None:
        """End it without a word (SIGKILL)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


async def stored_messages(url: str) -> dict[str, int]:
    """How many messages JetStream has in each bucket: a key that was deleted is one, too, until its mark has gone."""
    import nats

    client = await nats.connect(url)
    try:
        streams = await client.jetstream().streams_info()
        return {one.config.name.rpartition("_")[2]: one.state.messages for one in streams if one.config.name is not None}
    finally:
        await client.close()
