"""What a command shows while it works, on standard error: a live line, lines that stay, and a progress bar. All of it by rich.

Text is shown as it is: nothing that a user or a server chose is read as markup or sent to the terminal as a control character.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

__all__ = ["LiveLine", "progress"]

_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\N{REPLACEMENT CHARACTER}")


class LiveLine:
    """A line about the state of things on `stream`: redrawn on a terminal, repeated every few seconds elsewhere.

    `note` prints a line that stays. `quiet` shows notes only.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        quiet: bool = False,
        every_s: float = 0.1,
        log_every_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = _console(stream)
        self._clock = clock
        self._every_s = every_s if self._console.is_terminal else log_every_s
        self._quiet = quiet
        self._last = -math.inf if self._console.is_terminal else clock()
        self._live: Live | None = None

    def due(self) -> bool:
        """Whether it is time to draw again."""
        return not self._quiet and self._clock() - self._last >= self._every_s

    def draw(self, text: str) -> None:
        """Replace the line by `text`."""
        self._last = self._clock()
        if not self._console.is_terminal:
            self.note(text)
            return
        if self._live is None:
            # What the line is redrawn over must not be touched by threads or redirected streams: a pipe may be on standard output.
            self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
            self._live.start()
        self._live.update(_plain(text), refresh=True)

    def note(self, text: str) -> None:
        """Print a line that stays above the live line."""
        self._console.print(_plain(text), soft_wrap=True)

    def clear(self) -> None:
        """Remove the live line from a terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None


@contextlib.contextmanager
def progress(
    seconds: float, doing: str, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[float], None]]:
    """Show on a terminal how much of `seconds` of audio is done, once that takes more than a second.

    The value is a function that is told how many seconds more are done.
    """
    console = _console(stream)
    columns = (
        TextColumn("{task.description} {task.percentage:3.0f}%", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} s", markup=False),
    )
    display = Progress(
        *columns,
        console=console,
        auto_refresh=False,
        transient=True,
        disable=not console.is_terminal,
        get_time=clock,
        redirect_stdout=False,
    )
    task = display.add_task(doing, total=seconds)
    begun = drawn = clock()

    def advance(done_s: float) -> None:
        nonlocal drawn
        display.advance(task, done_s)
        now = clock()
        if now - begun > 1.0 and now - drawn > 0.1:
            drawn = now
            display.start()
            display.refresh()

    try:
        yield advance
    finally:
        display.stop()


def _console(stream: TextIO | None) -> Console:
    return Console(file=stream or sys.stderr, markup=False, highlight=False, emoji=False)


def _plain(text: str) -> Text:
    return Text(text.translate(_CONTROLS), no_wrap=True, overflow="crop")
