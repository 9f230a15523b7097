"""What a command shows while it works, on standard error: a live line, lines that stay, and a progress bar. All of it by rich.

Text is shown as it is: nothing that a user or a server chose is read as markup or sent to the terminal as a control character.
"""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import TextIO, cast

from rich.console import Console, ConsoleDimensions
from rich.live import Live
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

__all__ = ["LiveLine", "progress"]

_CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], "\N{REPLACEMENT CHARACTER}")


_USUAL_SIZE = 80, 24


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
        self._redraws = _redraws(self._console)
        self._every_s = every_s if self._redraws else log_every_s
        self._quiet = quiet
        self._last = -math.inf if self._redraws else clock()
        self._live: Live | None = None

    def due(self) -> bool:
        """Whether it is time to draw again."""
        return not self._quiet and self._clock() - self._last >= self._every_s

    def draw(self, text: str) -> None:
        """Replace the line by `text`."""
        self._last = self._clock()
        if not self._redraws:
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
    seconds: float | None, doing: str, *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[float], None]]:
    """Show on a terminal how much of `seconds` of audio is done and how long the rest will take, once that takes more than a second.

    A terminal that cannot redraw a line gets a new one every five seconds. The value is a function that is told how many seconds more are
    done. `seconds` is None where nobody knows it.
    """
    console = _console(stream)
    columns = (
        TextColumn("{task.description} {task.percentage:3.0f}%" if seconds is not None else "{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} s" if seconds is not None else "{task.completed:.0f} s", markup=False),
        *([_Remaining()] if seconds is not None else []),
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
    redraws = _redraws(console)
    task = display.add_task(doing, total=seconds)
    begun = drawn = clock()

    def advance(done_s: float) -> None:
        nonlocal drawn
        display.advance(task, done_s)
        now = clock()
        if redraws and now - begun > 1.0 and now - drawn > 0.1:
            drawn = now
            display.start()
            display.refresh()
        elif console.is_terminal and not redraws and now - drawn > 5.0:
            drawn = now
            console.print(_plain(" ".join(str(column(display.tasks[task])) for column in columns if not isinstance(column, BarColumn))))

    try:
        yield advance
    finally:
        display.stop()


class _Remaining(ProgressColumn):
    """How long the rest takes, as far as the speed so far tells."""

    def render(self, task: Task) -> Text:
        left_s = task.time_remaining
        return Text("" if left_s is None or task.finished else f"{left_s // 60:.0f}:{left_s % 60:02.0f} left")


class _Patient:
    """A stream that may close at any time, as `2>&1 | head` does: what cannot be written is dropped, and the work goes on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"


def _console(stream: TextIO | None) -> Console:
    stream = stream or sys.stderr
    file = None if stream is None else cast(TextIO, _Patient(stream))
    console = Console(file=file, stderr=True, markup=False, highlight=False, emoji=False)
    if not (console.width and console.height):
        # A terminal that nobody told its size, as of many serial lines and containers: nothing would fit into it.
        console.size = ConsoleDimensions(*_USUAL_SIZE)
    return console


def _redraws(console: Console) -> bool:
    return console.is_terminal and not console.is_dumb_terminal


def _plain(text: str) -> Text:
    return Text(text.translate(_CONTROLS), no_wrap=True, overflow="crop")
