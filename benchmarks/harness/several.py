"""`serve --processes N` as its users run it, for loads that run against a server of several processes."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import tomli_w

__all__ = ["ServerCommand", "server_command"]

_PATIENCE_S = 600.0


class ServerCommand:
    """A `streamcodec serve` that runs; `url` is where."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.url = url
        self._process = process

    def usage(self) -> dict[str, float]:
        """What all of its processes have used: seconds, and memory now (MiB); those that have ended count no more."""
        spent, resident = 0.0, 0
        own = psutil.Process(self._process.pid)
        for one in (own, *own.children(recursive=True)):
            try:
                with one.oneshot():
                    spent += sum(one.cpu_times()[:2])
                    resident += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return {"cpu_s": spent, "at": time.perf_counter(), "rss_mib": resident / 2**20}


@contextmanager
def server_command(settings: Mapping[str, Any]) -> Iterator[ServerCommand]:
    """Serve on a free port of loopback, with the settings of a TOML file, until the block ends. Raises `RuntimeError` where it does not."""
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder) / "server.toml", Path(folder) / "log"
        config.write_text(tomli_w.dumps({"port": 0, **settings}), encoding="utf-8")
        command = [sys.executable, "-m", "streamcodec.cli", "serve", "--config", str(config)]
        with log.open("w") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None
            try:
                found = re.match(r"streamcodec \S+ at (ws://[^ ]+): ", process.stdout.readline())
                if found is None:
                    raise RuntimeError(f"the server does not start: {log.read_text(encoding='utf-8')}")
                yield ServerCommand(process, found[1])
                process.terminate()
                process.wait(_PATIENCE_S)
            finally:
                process.kill()
