"""Streams as the worker sees them, and the handles by which other threads feed them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from streamcodec.errors import LocalProtocolError
from streamcodec.scheduler.rows import Row

__all__ = ["Command", "Functions", "Result", "Sink", "Task", "WorkerStream"]


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one step for one stream.

    `outputs` are the packets or samples after `finish`. `ended` means that a run is over, after `end`, `restart` or `cut`. `due`,
    `started` and `done` are `time.perf_counter()` seconds: when the step's input was complete, when the step began and when it was done.
    `error` is the reason if the stream was closed by an error.
    """

    outputs: list[Any]
    ended: bool
    due: float
    started: float
    done: float
    error: Exception | None = None


Sink = Callable[[Result], None]
_ignore: Callable[[Any], None] = lambda _: None  # noqa: E731


@dataclass(frozen=True, slots=True)
class Functions:
    """What the owner of a stream passes in: where results go, and how its data is converted on the worker's threads."""

    sink: Sink = _ignore
    prepare: Callable[[Any], Any] = _ignore
    finish: Callable[[Any], Any] = _ignore
    drain: Callable[[], Any] | None = None
    snapshot: Callable[[], Any] | None = None


class Task:
    """One stream as the worker sees it; only the holder of the scheduling lock uses it."""

    def __init__(self, make_row: Callable[[], Row], functions: Functions) -> None:
        # The lock's holder makes the row too, as a start state may need an engine run.
        self.make_row = make_row
        self.functions = functions
        self.row: Row | None = None
        self.inbox: deque[tuple[str, Any, float]] = deque()
        self.due = 0.0
        self.last_done = 0.0  # when its last step was done: a stream with a backlog queues again after each step
        self.ending: str | None = None
        self.input_error: Exception | None = None
        self.waiting = False
        self.released = False

    def snapshot(self) -> Result:
        """The row, and what converts its data, as values: the one output, a pair; or why there is none, which does the stream no harm."""
        now = time.perf_counter()
        try:
            assert self.row is not None
            value = self.row.snapshot(), self.functions.snapshot() if self.functions.snapshot is not None else None
        except Exception as exc:
            return Result([], False, now, now, now, exc)
        return Result([value], False, now, now, now)


Command = tuple[Task, str, Any, float]
"""What a handle asks of the worker: for which stream, what, with which input, and when (`time.perf_counter`)."""


class WorkerStream:
    """A handle to one stream in the worker, made by `Worker.open_encoder` and `Worker.open_decoder`. Any thread may call its methods."""

    def __init__(self, inbox: SimpleQueue[Any], task: Task) -> None:
        self._inbox = inbox
        self._task = task
        self._ended = False
        self._closed = False
        self._post("open", None)

    def feed(self, item: Any) -> None:
        """Queue `item` as input; `prepare(item)` converts it to samples or codes on a worker thread."""
        self._post("feed", item)

    def restart(self) -> None:
        """End the current run as `end` does, then continue with a fresh state."""
        self._post("restart", None)

    def cut(self) -> None:
        """End the current run after its last whole packet and drop the remaining input, then continue with a fresh state."""
        self._post("cut", None)

    def snapshot(self, sink: Sink) -> None:
        """Give `sink` the stream as a value, as it is when all that was fed before this call was processed as far as steps are due.

        The result's one output is the pair of the row's value and that of the functions' `snapshot`. It comes behind all results of what
        was fed before and before all others. None comes if the stream is closed or fails meanwhile.
        """
        self._post("snapshot", sink)

    def end(self) -> None:
        """Process all input and close the stream; its last result has `ended` set."""
        self._post("end", None)
        self._ended = True

    def close(self) -> None:
        """Close the stream at once and drop its waiting input. Steps that have not begun give no result. Works after `end` as well."""
        if not self._closed:
            self._closed = self._ended = True
            self._inbox.put((self._task, "close", None, time.perf_counter()))

    def _post(self, verb: str, item: Any) -> None:
        if self._ended:
            raise LocalProtocolError(f"{verb} on a stream that was ended or closed")
        self._inbox.put((self._task, verb, item, time.perf_counter()))
