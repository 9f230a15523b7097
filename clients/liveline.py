"""One line that keeps telling how it goes: redrawn on a terminal, repeated every few seconds elsewhere."""

from __future__ import annotations

import math
import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

__all__ = ["LiveLine"]


class LiveLine:
    """Draws a status line on `stream`; `note` prints a line that stays. `quiet` draws no status."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        quiet: bool = False,
        every_s: float = 0.1,
        log_every_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._every_s = every_s if self._terminal else log_every_s
        self._quiet = quiet
        self._last = -math.inf if self._terminal else clock()
        self._drawn = 0

    def due(self) -> bool:
        """Whether it is time to draw again."""
        return not self._quiet and self._clock() - self._last >= self._every_s

    def draw(self, text: str) -> None:
        """Replace the line by `text`."""
        self._last = self._clock()
        if self._terminal:
            text = text[: shutil.get_terminal_size().columns - 1]
            self._stream.write("\r" + text.ljust(self._drawn))
            self._drawn = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def note(self, text: str) -> None:
        """Print a line that stays above the status."""
        self.clear()
        self._stream.write(text + "\n")
        self._stream.flush()

    def clear(self) -> None:
        """Wipe the status line from a terminal."""
        if self._terminal and self._drawn:
            self._stream.write("\r" + " " * self._drawn + "\r")
            self._stream.flush()
            self._drawn = 0
