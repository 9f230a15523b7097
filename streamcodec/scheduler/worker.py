"""The threads that run the model. Any thread may feed a stream; each step runs one batch of the rows that are due.

There are as many threads as the engine has workers. One thread at a time holds the scheduling lock: it handles the commands in the inbox
and forms a batch. Then it releases the lock and runs the engine. It puts the result into the inbox, where the next holder of the lock
handles it. So two threads never use one row at the same time.

A step that fails is run again row by row, so that only the streams fail that break the engine. A step that hangs can be abandoned: another
thread takes the place of the one that waits for it, and its streams fail.

This file handles neither sockets nor the wire format. The owner of a stream passes in the functions that convert its data on these threads.
Results go to `deliver`, on these threads, as lists of calls to make; a server passes them to its event loop with `call_soon_threadsafe`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain, repeat
from queue import Empty, SimpleQueue
from typing import Any

from streamcodec.config import Start
from streamcodec.engine.base import Engine
from streamcodec.errors import EngineHungError
from streamcodec.scheduler.batcher import Batcher
from streamcodec.scheduler.batching_delay import BatchingDelay
from streamcodec.scheduler.chunk_rows import decoder_row, encoder_row
from streamcodec.scheduler.memory import MemoryReturn
from streamcodec.scheduler.rows import DecoderRowState, EncoderRowState, Row, Step, run_steps
from streamcodec.scheduler.streams import Command, Functions, Result, Sink, Task, WorkerStream

__all__ = ["Calls", "RunningStep", "Worker", "WorkerStats"]


Calls = list[tuple[Sink, Result]]

_MAX_WAIT_S, _MAX_WAIT_SHARE = 0.01, 0.25  # that a step waits for others; the share is of its audio's duration


@dataclass
class WorkerStats:
    """Counters since the start: `busy_s` is the time in engine steps, `scheduling_s` the processor time of the scheduling."""

    steps: int = 0
    rows: int = 0
    busy_s: float = 0.0
    scheduling_s: float = 0.0


_Batch = list[tuple[float, tuple[Task, Step[Any]]]]


@dataclass(eq=False)
class RunningStep:
    """A step that runs or has run: each row's results with its new state, or its error. Times are `time.perf_counter()` seconds."""

    batch: _Batch
    started: float
    done: float = 0.0
    results: list[tuple[Any, Any] | Exception] = field(default_factory=list)


class Worker:
    """Runs `engine` on as many threads as it has workers; at most `max_batch` rows share a step."""

    def __init__(self, engine: Engine, deliver: Callable[[Calls], None], *, max_batch: int = 16) -> None:
        self.engine = engine
        self.stats = WorkerStats()
        self._deliver = deliver
        self._batcher: Batcher[tuple[Task, Step[Any]]] = Batcher(max_batch, delay=BatchingDelay(engine.workers))
        self._inbox: SimpleQueue[Command | RunningStep | None] = SimpleQueue()
        self._calls: Calls = []
        self._scheduling = threading.Lock()
        self._memory = MemoryReturn()
        self._running: dict[RunningStep, threading.Thread] = {}
        self._threads: list[threading.Thread] = []
        self._started = 0
        self._stopping = False

    def start(self) -> None:
        """Start the threads; streams may be opened and fed before this call."""
        for _ in range(self.engine.workers):
            self._start_thread()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._run, name=f"streamcodec-model-{self._started}", daemon=True)
        self._started += 1
        self._threads.append(thread)
        thread.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Stop after the running steps and drop all waiting input. To process it, `end` the streams first.

        Returns whether all threads have ended; after `timeout_s` (None: never) those that hang are left behind.
        """
        self._stopping = True
        self._inbox.put(None)
        give_up = math.inf if timeout_s is None else time.perf_counter() + timeout_s
        for thread in self._threads:
            thread.join(None if give_up == math.inf else max(0.0, give_up - time.perf_counter()))
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def running(self) -> list[RunningStep]:
        """The steps that the engine has not finished, in the order in which they began."""
        return list(self._running)

    def abandon(self, step: RunningStep) -> bool:
        """Give up a step of `running` that hangs; returns False if it is done already.

        Its streams fail with `EngineHungError`. A new thread takes the place of its own, which ends when the engine comes back.
        """
        thread = self._running.pop(step, None)
        if thread is None:
            return False
        step.done = time.perf_counter()
        hung = EngineHungError(f"a step of the engine did not come back within {step.done - step.started:.1f} s")
        step.results = [hung] * len(step.batch)
        self._threads.remove(thread)
        self._inbox.put(step)
        self._start_thread()
        return True

    def replace_dead(self) -> int:
        """Put a new thread in the place of each that has died, and abandon the step that it ran, if any; returns how many had died."""
        dead = [] if self._stopping else [thread for thread in self._threads if not thread.is_alive()]
        for thread in dead:
            step = next((step for step, owner in list(self._running.items()) if owner is thread), None)
            if step is None or not self.abandon(step):
                self._threads.remove(thread)
                self._start_thread()
        return len(dead)

    def open_encoder(
        self,
        sink: Sink,
        *,
        n_q: int,
        packet_frames: int,
        start: Start,
        prepare: Callable[[Any], Any] = lambda samples: samples,
        finish: Callable[[Any], Any] = lambda packet: packet,
        drain: Callable[[], Any] | None = None,
        snapshot: Callable[[], Any] | None = None,
        saved: EncoderRowState | None = None,
    ) -> WorkerStream:
        """Open an encoder, whose first run goes on from `saved`.

        `prepare` converts each fed item to samples [T], or [C, T] of a model of several channels. `drain` returns the samples that
        `prepare` still holds back when a run ends. `finish` converts each packet, codes [n_q, F] or a `Chunk`, to an output. `snapshot` is
        the value of what these three keep.
        """
        rows = chain([saved], repeat(None))
        make_row = lambda: encoder_row(self.engine, n_q=n_q, packet_frames=packet_frames, start=start, saved=next(rows))  # noqa: E731
        return WorkerStream(self._inbox, Task(make_row, Functions(sink, prepare, finish, drain, snapshot)))

    def open_decoder(
        self,
        sink: Sink,
        *,
        n_q: int,
        start: Start,
        restart: Start | None = None,
        prepare: Callable[[Any], Any] = lambda codes: codes,
        finish: Callable[[Any], Any] = lambda samples: samples,
        saved: DecoderRowState | None = None,
    ) -> WorkerStream:
        """Open a decoder, whose first run goes on from `saved`.

        `prepare` converts each fed item to a packet. `finish` converts the samples of each step, and those that only the end of a run
        gives, to an output. The first run begins with `start`; runs after a `restart()` begin with `restart`, or with `start` if that is
        None.
        """
        rows = chain([(start, saved)], repeat((restart or start, None)))

        def make_row() -> Row:
            begins, value = next(rows)
            return decoder_row(self.engine, n_q=n_q, start=begins, saved=value)

        return WorkerStream(self._inbox, Task(make_row, Functions(sink, prepare, finish)))

    # The worker's threads ----------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._scheduling:
                begun = time.thread_time()
                batch = self._next_batch()
                self.stats.scheduling_s += time.thread_time() - begun
            if batch is None:
                return
            step = RunningStep(batch, time.perf_counter())
            self._running[step] = threading.current_thread()
            results = self._results(batch)
            if self._running.pop(step, None) is None:  # it was abandoned, and another thread is in this one's place
                return
            step.results, step.done = results, time.perf_counter()
            self._inbox.put(step)
            del batch, step, results  # they refer to streams, which would stay in memory until the next batch

    def _next_batch(self) -> _Batch | None:
        """Handle commands and results until a batch is due, and return it; None means stop."""
        while True:
            now = time.perf_counter()
            if not self._handle_inbox(self._batcher.ready_at(now) - now):
                self._inbox.put(None)  # for the other threads
                return None
            if self._calls:
                calls, self._calls = self._calls, []
                self._deliver(calls)
                del calls  # they refer to the streams' owners, which would stay in memory until the next calls
            if batch := self._batcher.take(time.perf_counter(), self.engine.best_batches):
                return batch

    def _handle_inbox(self, wait_s: float) -> bool:
        """Handle everything in the inbox; wait up to `wait_s` seconds for the first entry, which may be infinite. False means stop."""
        self._memory.check(idle=wait_s == math.inf and self._inbox.empty())
        while True:
            try:
                entry = self._inbox.get(wait_s > 0, None if wait_s == math.inf else max(0.0, wait_s))
            except Empty:
                return True
            if entry is None:
                return False
            wait_s = 0.0
            if isinstance(entry, RunningStep):
                self._complete(entry)
                continue
            task, verb, item, posted = entry
            if verb == "close":
                self._drop(task)
            elif not task.released:
                task.inbox.append((verb, item, posted))
                self._pump(task)

    def _pump(self, task: Task) -> None:
        """Feed the stream's input to its row until a step is due. After the end of a run, the row first finishes all its steps."""
        try:
            while not task.waiting and not task.released:
                step = task.row.next_step() if task.row is not None else None
                if step is not None:
                    task.waiting = True
                    self._batcher.add(step.key, (task, step), max(task.due, task.last_done), self._may_wait_s(task, step))
                elif task.input_error is not None:
                    self._fail(task, task.input_error)
                elif task.ending is not None:
                    self._end_run(task)
                elif task.inbox:
                    self._take(task)
                else:
                    return
        except Exception as exc:  # an error in one stream's functions must not end the thread that serves all streams
            self._fail(task, exc)

    def _may_wait_s(self, task: Task, step: Step[Any]) -> float:
        """How long a step may wait for others: not at all if its stream is behind, and else so short that the next packet finds it done."""
        config = self.engine.config
        duration_s = step.data.shape[-1] * (1 if step.encodes else config.hop_length) / config.sampling_rate
        return 0.0 if task.last_done > task.due else min(_MAX_WAIT_S, _MAX_WAIT_SHARE * duration_s)

    def _take(self, task: Task) -> None:
        verb, item, task.due = task.inbox.popleft()
        if verb == "open":
            task.row = task.make_row()
        assert task.row is not None
        if verb == "snapshot":
            self._calls.append((item, task.snapshot()))
        elif verb == "feed":
            try:
                task.row.feed(task.functions.prepare(item))
            except Exception as exc:
                # The input before it is valid, so its whole packets are delivered first.
                task.input_error = exc
        elif verb != "open":
            task.ending = verb
            rest = task.functions.drain() if task.functions.drain is not None else None
            if verb != "cut":
                if rest is not None:
                    task.row.feed(rest)
                task.row.finish()

    def _end_run(self, task: Task) -> None:
        rest = task.row.remainder() if task.row is not None and task.ending != "cut" else []
        now = time.perf_counter()
        self._calls.append((task.functions.sink, Result([task.functions.finish(part) for part in rest], True, task.due, now, now)))
        if task.ending == "end":
            self._release(task)
        else:
            task.row = task.make_row()
        task.ending = None

    def _results(self, batch: _Batch) -> list[tuple[Any, Any] | Exception]:
        """Run the engine; another thread may hold the scheduling lock meanwhile."""
        try:
            results, states = run_steps(self.engine, [task.row for _, (task, _) in batch], [step for _, (_, step) in batch])
        except Exception as exc:  # an error of the engine must not end the thread that serves all streams
            if len(batch) == 1:
                return [exc]
            # States are values, so each row can be tried again: those that did not break the engine go on.
            return [result for row in batch for result in self._results([row])]
        return list(zip(results, states, strict=True))

    def _complete(self, step: RunningStep) -> None:
        if not any(isinstance(result, EngineHungError) for result in step.results):
            self.stats.steps += 1
            self.stats.rows += len(step.batch)
            self.stats.busy_s += step.done - step.started
        if not any(isinstance(result, Exception) for result in step.results):
            self._batcher.record_duration(step.batch[0][1][1].key, len(step.batch), step.done - step.started)
        for result, (_, (task, _)) in zip(step.results, step.batch, strict=True):
            task.waiting = False
            task.last_done = step.done
            if task.released:
                continue
            if isinstance(result, Exception):
                self._fail(task, result)
                continue
            assert task.row is not None
            try:
                outputs = [task.functions.finish(output) for output in task.row.complete(*result)]
            except Exception as exc:
                self._fail(task, exc)
                continue
            self._calls.append((task.functions.sink, Result(outputs, False, task.due, step.started, step.done)))
            self._pump(task)

    def _fail(self, task: Task, exc: Exception) -> None:
        now = time.perf_counter()
        self._calls.append((task.functions.sink, Result([], True, now, now, now, exc)))
        self._drop(task)

    def _release(self, task: Task) -> None:
        """Deliver nothing more, and drop the references to the owner's functions.

        The owner refers to the task through its stream, so these references form a cycle: all would stay in memory until the next
        garbage collection.
        """
        task.released = True
        task.functions = Functions()
        self._memory.stream_ended()

    def _drop(self, task: Task) -> None:
        self._release(task)
        task.waiting = False
        task.inbox.clear()
        self._batcher.discard_if(lambda item: item[0] is task)
