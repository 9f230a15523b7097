"""The threads that own the model. Streams feed them from any thread; each step runs one batch of the rows that are due.

There are as many threads as the engine has workers. One at a time holds the scheduling lock, takes what came in and forms a batch. It runs
the engine without the lock; the result goes back through the inbox to whoever holds the lock then. So no two threads ever touch one row.

This file knows no sockets and no wire format. A stream passes in functions for what is to be done with its bytes on these threads. Results
go to `deliver` on these threads, several at once, as calls to make: a server passes its loop's `call_soon_threadsafe`.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, repeat
from queue import Empty, SimpleQueue
from typing import Any

from streamcodec.config import Start
from streamcodec.engine.base import Engine
from streamcodec.errors import LocalProtocolError
from streamcodec.scheduler.batcher import Batcher
from streamcodec.scheduler.memory import MemoryReturn
from streamcodec.scheduler.rows import DecoderRow, EncoderRow, Step, run_steps
from streamcodec.types import Codes

__all__ = ["Result", "Worker", "WorkerStats", "WorkerStream"]


@dataclass(frozen=True, slots=True)
class Result:
    """What one step gave one stream.

    `outputs` are what `finish` made of the packets or samples. `ended` says that a run is over: by `end`, `restart` or `cut`.
    `due`, `started` and `done` are `time.perf_counter()` seconds: the step's input was complete, the step began, it was over.
    `error` is why the stream was closed, if it was.
    """

    outputs: list[Any]
    ended: bool
    due: float
    started: float
    done: float
    error: Exception | None = None


_ignore: Callable[[Any], None] = lambda _: None  # noqa: E731
Sink = Callable[[Result], None]
Calls = list[tuple[Sink, Result]]


@dataclass
class WorkerStats:
    """Counters since the start; `busy_s` is time inside engine steps, `scheduling_s` what the threads took of processors between them."""

    steps: int = 0
    rows: int = 0
    busy_s: float = 0.0
    scheduling_s: float = 0.0


class WorkerStream:
    """One stream's place in the worker; made by `Worker.open_encoder` and `Worker.open_decoder`. Any thread may call it."""

    def __init__(
        self,
        worker: Worker,
        make_row: Callable[[], EncoderRow | DecoderRow],
        sink: Sink,
        prepare: Callable[[Any], Any],
        finish: Callable[[Any], Any],
        drain: Callable[[], Any] | None,
    ) -> None:
        self._worker = worker
        self._ended = False
        self._closed = False
        # Below: for whoever keeps the books. The row is made there too, as a start state may take a run of the engine.
        self.make_row = make_row
        self.row: EncoderRow | DecoderRow | None = None
        self.due = 0.0
        self.freed = 0.0  # when its last step was over: who works off a backlog stands in line again for each step of it
        self.sink = sink
        self.prepare = prepare
        self.finish = finish
        self.drain = drain
        self.inbox: deque[tuple[str, Any, float]] = deque()
        self.ending: str | None = None
        self.refused: Exception | None = None
        self.waiting = False
        self.gone = False
        self._post("open", None)

    def feed(self, item: Any) -> None:
        """Give the stream `item`; `prepare(item)`, on a worker's thread, makes samples or codes of it."""
        self._post("feed", item)

    def restart(self) -> None:
        """End the current run, as `end` does, and go on with a fresh state."""
        self._post("restart", None)

    def cut(self) -> None:
        """End the current run behind its last whole packet, dropping what is left over, and go on with a fresh state."""
        self._post("cut", None)

    def end(self) -> None:
        """Bring all that was fed to its end; the last result has `ended` set and the stream is closed behind it."""
        self._post("end", None)
        self._ended = True

    def close(self) -> None:
        """Drop the stream with all that is under way, ended or not; no result comes any more from steps that have not begun."""
        if not self._closed:
            self._closed = self._ended = True
            self._worker._inbox.put((self, "close", None, time.perf_counter()))

    def _post(self, verb: str, item: Any) -> None:
        if self._ended:
            raise LocalProtocolError(f"{verb} on a stream that was ended or closed")
        self._worker._inbox.put((self, verb, item, time.perf_counter()))


_Command = tuple[WorkerStream, str, Any, float]
_Batch = list[tuple[float, tuple[WorkerStream, Step[Any]]]]


@dataclass
class _Done:
    """A step that was run: what the engine gave, or why it did not."""

    batch: _Batch
    started: float
    done: float = 0.0
    results: Any = None
    states: Any = None
    error: Exception | None = None


class Worker:
    """Owns `engine` on as many threads as it has workers; at most `max_batch` rows share a step."""

    def __init__(self, engine: Engine, deliver: Callable[[Calls], None], *, max_batch: int = 16) -> None:
        self.engine = engine
        self.stats = WorkerStats()
        self._deliver = deliver
        self._batcher: Batcher[tuple[WorkerStream, Step[Any]]] = Batcher(max_batch)
        self._inbox: SimpleQueue[_Command | _Done | None] = SimpleQueue()
        self._calls: Calls = []
        self._scheduling = threading.Lock()
        self._memory = MemoryReturn()
        self._threads = [threading.Thread(target=self._run, name=f"streamcodec-model-{i}", daemon=True) for i in range(engine.workers)]

    def start(self) -> None:
        """Start the threads; streams may be opened and fed before."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop after the steps under way; what waits is dropped. Drain streams with `end` first where that matters."""
        self._inbox.put(None)
        for thread in self._threads:
            thread.join()

    def open_encoder(
        self,
        sink: Sink,
        *,
        n_q: int,
        packet_frames: int,
        start: Start,
        prepare: Callable[[Any], Any] = lambda samples: samples,
        finish: Callable[[Codes], Any] = lambda codes: codes,
        drain: Callable[[], Any] | None = None,
    ) -> WorkerStream:
        """Open an encoder.

        `prepare` makes samples [T] of what is fed, `drain` returns what it still holds back when a run ends, and `finish` makes an output
        of each packet's codes [n_q, F].
        """
        make_row = lambda: EncoderRow(self.engine, n_q=n_q, packet_frames=packet_frames, start=start)  # noqa: E731
        return WorkerStream(self, make_row, sink, prepare, finish, drain)

    def open_decoder(
        self,
        sink: Sink,
        *,
        n_q: int,
        start: Start,
        restart: Start | None = None,
        prepare: Callable[[Any], Any] = lambda codes: codes,
        finish: Callable[[Any], Any] = lambda samples: samples,
    ) -> WorkerStream:
        """Open a decoder: `prepare` makes codes [n_q, F] of what is fed, `finish` makes an output of the samples [T] of each step.

        The first run has `start`; those behind a `restart()` have `restart`, or the same where it is None.
        """
        starts = chain([start], repeat(restart or start))
        make_row = lambda: DecoderRow(self.engine, n_q=n_q, start=next(starts))  # noqa: E731
        return WorkerStream(self, make_row, sink, prepare, finish, None)

    # The worker's threads ----------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._scheduling:
                begun = time.thread_time()
                batch = self._next_batch()
                self.stats.scheduling_s += time.thread_time() - begun
            if batch is None:
                return
            self._inbox.put(self._step(batch))
            del batch  # it holds streams

    def _next_batch(self) -> _Batch | None:
        """Keep the books until a step is due, and return it; None means stop."""
        while True:
            if not self._take_in(wait=not len(self._batcher) and not self._calls):
                self._inbox.put(None)  # for the other threads
                return None
            if self._calls:
                calls, self._calls = self._calls, []
                self._deliver(calls)
                del calls  # they hold streams' owners, and it may be long until the next ones
            if batch := self._batcher.take(time.perf_counter(), self.engine.best_batches):
                return batch

    def _take_in(self, *, wait: bool) -> bool:
        """Apply all that came, waiting for something if `wait`; False means stop."""
        self._memory.check(idle=wait and self._inbox.empty())
        while True:
            try:
                news = self._inbox.get(block=wait)
            except Empty:
                return True
            if news is None:
                return False
            wait = False
            if isinstance(news, _Done):
                self._complete(news)
                continue
            stream, verb, item, posted = news
            if verb == "close":
                self._drop(stream)
            elif not stream.gone:
                stream.inbox.append((verb, item, posted))
                self._pump(stream)

    def _pump(self, stream: WorkerStream) -> None:
        """Feed the row what has come until a step is due; past an end nothing is fed before the row has run dry."""
        try:
            while not stream.waiting and not stream.gone:
                step = stream.row.next_step() if stream.row is not None else None
                if step is not None:
                    stream.waiting = True
                    self._batcher.add(step.key, (stream, step), max(stream.due, stream.freed))
                elif stream.refused is not None:
                    self._fail(stream, stream.refused)
                elif stream.ending is not None:
                    self._end_run(stream)
                elif stream.inbox:
                    self._take(stream)
                else:
                    return
        except Exception as exc:  # whatever one stream's functions raise must not end the thread that serves everybody else
            self._fail(stream, exc)

    def _take(self, stream: WorkerStream) -> None:
        verb, item, stream.due = stream.inbox.popleft()
        if verb == "open":
            stream.row = stream.make_row()
            return
        assert stream.row is not None
        if verb == "feed":
            try:
                stream.row.feed(stream.prepare(item))
            except Exception as exc:
                # What came before it is sound: its whole packets come out first.
                stream.refused = exc
        else:
            stream.ending = verb
            rest = stream.drain() if stream.drain is not None else None
            if verb != "cut":
                if rest is not None:
                    stream.row.feed(rest)
                stream.row.finish()

    def _end_run(self, stream: WorkerStream) -> None:
        rest = stream.row.remainder() if isinstance(stream.row, EncoderRow) and stream.ending != "cut" else []
        now = time.perf_counter()
        self._calls.append((stream.sink, Result([stream.finish(part) for part in rest], True, stream.due, now, now)))
        if stream.ending == "end":
            self._let_go(stream)
        else:
            stream.row = stream.make_row()
        stream.ending = None

    def _step(self, batch: _Batch) -> _Done:
        """Run the engine; other threads keep the books meanwhile."""
        done = _Done(batch, time.perf_counter())
        try:
            done.results, done.states = run_steps(self.engine, [stream.row for _, (stream, _) in batch], [step for _, (_, step) in batch])
        except Exception as exc:  # the engine's own failure must not end the thread that serves everybody else
            done.error = exc
        done.done = time.perf_counter()
        return done

    def _complete(self, step: _Done) -> None:
        self.stats.steps += 1
        self.stats.rows += len(step.batch)
        self.stats.busy_s += step.done - step.started
        self._batcher.took(step.batch[0][1][1].key, len(step.batch), step.done - step.started)
        for row, (_, (stream, _)) in enumerate(step.batch):
            stream.waiting = False
            stream.freed = step.done
            if stream.gone:
                continue
            if step.error is not None:
                self._fail(stream, step.error)
                continue
            assert stream.row is not None
            try:
                outputs = [stream.finish(output) for output in stream.row.complete(step.results[row], step.states[row])]
            except Exception as exc:
                self._fail(stream, exc)
                continue
            self._calls.append((stream.sink, Result(outputs, False, stream.due, step.started, step.done)))
            self._pump(stream)

    def _fail(self, stream: WorkerStream, exc: Exception) -> None:
        now = time.perf_counter()
        self._calls.append((stream.sink, Result([], True, now, now, now, exc)))
        self._drop(stream)

    def _let_go(self, stream: WorkerStream) -> None:
        """Nothing comes of it any more. Its functions are its owner's, who holds it: as a circle both would live on until a collection."""
        stream.gone = True
        stream.sink, stream.prepare, stream.finish, stream.drain = _ignore, _ignore, _ignore, None
        self._memory.left()

    def _drop(self, stream: WorkerStream) -> None:
        self._let_go(stream)
        stream.waiting = False
        stream.inbox.clear()
        self._batcher.discard_if(lambda item: item[0] is stream)
