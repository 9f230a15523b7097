"""The command line's programs, run beside a benchmark as their users run them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from queue import Empty, Queue
from threading import Thread

__all__ = ["Program", "serving_url"]

_PATIENCE_S = 180.0  # a busy machine starts programs slowly


class Program:
    """One of the command line's programs, its messages collected as they come."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "streamcodec.cli", *arguments]
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._lines: Queue[str] = Queue()
        self.said: list[str] = []
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            self._lines.put(text.rstrip())

    def wait_for(self, words: str, seconds: float = _PATIENCE_S, among: str = "") -> str:
        """The first line with both `words` and `among` in it."""
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            try:
                self.said.append(self._lines.get(timeout=0.2))
            except Empty:
                if self._process.poll() is not None:
                    break
                continue
            if words in self.said[-1] and among in self.said[-1]:
                return self.said[-1]
        raise RuntimeError(f"{self._process.args!r} never said {words!r}, but: {self.said}")

    def stop(self) -> None:
        """Interrupt it and wait."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def serving_url(server: Program) -> str:
    """The WebSocket address at which a `streamcodec serve` says that it serves."""
    return server.wait_for("ws://").split(" at ")[1].split(": model")[0]
