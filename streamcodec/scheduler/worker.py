"""The threads that run the model. Any thread may feed a stream; each step runs one batch of the rows that are due.

There are as many threads as the engine has workers. One thread at a time holds the scheduling lock: it handles the commands in the inbox
and forms a batch. Then it releases the lock and runs the engine. It puts the result into the inbox, where the next holder of the lock
handles it. So two threads never use one row at the same time.

This file handles neither sockets nor the wire format. The owner of a stream passes in the functions that convert its data on these threads.
Results go to `deliver`, on these threads, as lists of calls to make; a server passes them to its event loop with `call_soon_threadsafe`.
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


_ignore: Callable[[Any], None] = lambda _: None  # noqa: E731
Sink = Callable[[Result], None]
Calls = list[tuple[Sink, Result]]


@dataclass
class WorkerStats:
    """Counters since the start: `busy_s` is the time in engine steps, `scheduling_s` the processor time of the scheduling."""

    steps: int = 0
    rows: int = 0
    busy_s: float = 0.0
    scheduling_s: float = 0.0


class WorkerStream:
    """A handle to one stream in the worker, made by `Worker.open_encoder` and `Worker.open_decoder`. Any thread may call its methods."""

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
        # Only the holder of the scheduling lock uses the attributes below. It also makes the row, as a start state may need an engine run.
        self.make_row = make_row
        self.row: EncoderRow | DecoderRow | None = None
        self.due = 0.0
        self.last_done = 0.0  # when its last step was done: a stream with a backlog queues again after each step
        self.sink = sink
        self.prepare = prepare
        self.finish = finish
        self.drain = drain
        self.inbox: deque[tuple[str, Any, float]] = deque()
        self.ending: str | None = None
        self.input_error: Exception | None = None
        self.waiting = False
        self.released = False
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

    def end(self) -> None:
        """Process all input and close the stream; its last result has `ended` set."""
        self._post("end", None)
        self._ended = True

    def close(self) -> None:
        """Close the stream at once and drop its waiting input. Steps that have not begun give no result. Works after `end` as well."""
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
    """A step that has run: the engine's results or its error."""

    batch: _Batch
    started: float
    done: float = 0.0
    results: Any = None
    states: Any = None
    error: Exception | None = None


class Worker:
    """Runs `engine` on as many threads as it has workers; at most `max_batch` rows share a step."""

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
        """Start the threads; streams may be opened and fed before this call."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop after the running steps and drop all waiting input. To process it, `end` the streams first."""
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

        `prepare` converts each fed item to samples [T]. `drain` returns the samples that `prepare` still holds back when a run ends.
        `finish` converts each packet's codes [n_q, F] to an output.
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
        """Open a decoder.

        `prepare` converts each fed item to codes [n_q, F]. `finish` converts the samples [T] of each step to an output. The first run
        begins with `start`; runs after a `restart()` begin with `restart`, or with `start` if that is None.
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
            del batch  # it refers to streams, which would stay in memory until the next batch

    def _next_batch(self) -> _Batch | None:
        """Handle commands and results until a batch is due, and return it; None means stop."""
        while True:
            if not self._handle_inbox(wait=not len(self._batcher) and not self._calls):
                self._inbox.put(None)  # for the other threads
                return None
            if self._calls:
                calls, self._calls = self._calls, []
                self._deliver(calls)
                del calls  # they refer to the streams' owners, which would stay in memory until the next calls
            if batch := self._batcher.take(time.perf_counter(), self.engine.best_batches):
                return batch

    def _handle_inbox(self, *, wait: bool) -> bool:
        """Handle everything in the inbox; if `wait`, wait for the first entry. False means stop."""
        self._memory.check(idle=wait and self._inbox.empty())
        while True:
            try:
                entry = self._inbox.get(block=wait)
            except Empty:
                return True
            if entry is None:
                return False
            wait = False
            if isinstance(entry, _Done):
                self._complete(entry)
                continue
            stream, verb, item, posted = entry
            if verb == "close":
                self._drop(stream)
            elif not stream.released:
                stream.inbox.append((verb, item, posted))
                self._pump(stream)

    def _pump(self, stream: WorkerStream) -> None:
        """Feed the stream's input to its row until a step is due. After the end of a run, the row first finishes all its steps."""
        try:
            while not stream.waiting and not stream.released:
                step = stream.row.next_step() if stream.row is not None else None
                if step is not None:
                    stream.waiting = True
                    self._batcher.add(step.key, (stream, step), max(stream.due, stream.last_done))
                elif stream.input_error is not None:
                    self._fail(stream, stream.input_error)
                elif stream.ending is not None:
                    self._end_run(stream)
                elif stream.inbox:
                    self._take(stream)
                else:
                    return
        except Exception as exc:  # an error in one stream's functions must not end the thread that serves all streams
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
                # The input before it is valid, so its whole packets are delivered first.
                stream.input_error = exc
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
            self._release(stream)
        else:
            stream.row = stream.make_row()
        stream.ending = None

    def _step(self, batch: _Batch) -> _Done:
        """Run the engine; another thread may hold the scheduling lock meanwhile."""
        done = _Done(batch, time.perf_counter())
        try:
            done.results, done.states = run_steps(self.engine, [stream.row for _, (stream, _) in batch], [step for _, (_, step) in batch])
        except Exception as exc:  # an error of the engine must not end the thread that serves all streams
            done.error = exc
        done.done = time.perf_counter()
        return done

    def _complete(self, step: _Done) -> None:
        self.stats.steps += 1
        self.stats.rows += len(step.batch)
        self.stats.busy_s += step.done - step.started
        self._batcher.record_duration(step.batch[0][1][1].key, len(step.batch), step.done - step.started)
        for row, (_, (stream, _)) in enumerate(step.batch):
            stream.waiting = False
            stream.last_done = step.done
            if stream.released:
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

    def _release(self, stream: WorkerStream) -> None:
        """Deliver nothing more, and drop the references to the owner's functions.

        The owner refers to the stream, so these references form a cycle: both would stay in memory until the next garbage collection.
        """
        stream.released = True
        stream.sink, stream.prepare, stream.finish, stream.drain = _ignore, _ignore, _ignore, None
        self._memory.stream_ended()

    def _drop(self, stream: WorkerStream) -> None:
        self._release(stream)
        stream.waiting = False
        stream.inbox.clear()
        self._batcher.discard_if(lambda item: item[0] is stream)
