"""Streams that come and go at random in a worker, in real time: what each is, how it is fed, what came out, and what is run before them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from threading import Event
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from benchmarks.churn.check import EndedStream, RunOf
from streamcodec.audio import bundled_clip
from streamcodec.codec import Codec
from streamcodec.config import CodecConfig, Start
from streamcodec.engine.openvino.network import OFTEN
from streamcodec.scheduler.streams import Result, WorkerStream
from streamcodec.scheduler.worker import Worker
from streamcodec.types import Codes, Samples

__all__ = ["PACKET_FRAMES", "LiveStream", "Spec", "draw_spec", "make_sound", "touch"]


PACKET_FRAMES = (1, 2, 3, 6, 25)
_SOUND_S = 40
_MEAN_LIFE_S = 4.0
_UNTIL_FULL = 2000  # last steps, after which the caches of oneDNN and torch, 1,024 convolutions each, have no room left


@dataclass(frozen=True)
class Spec:
    """A stream: what it does, from where in the sound (frames), for how long, when it starts afresh (s since it came), and how it goes."""

    kind: Literal["encode", "decode"]
    n_q: int
    packet_frames: int
    start: Start
    place: int
    life_s: float
    restarts_s: tuple[float, ...]
    flush: bool


def make_sound(rate: int, longest_s: float) -> Samples:
    """The bundled clip over and over, each time louder or softer and with other noise, to the end of the last stream of `longest_s`."""
    clip, _ = bundled_clip()
    rng = np.random.default_rng(0)
    sound = np.resize(clip, _SOUND_S * rate) * np.repeat(rng.uniform(0.2, 1.2, _SOUND_S), rate)
    sound = (sound + 10 ** rng.uniform(-4, -2) * rng.standard_normal(len(sound))).astype(np.float32)
    return sound[: round((_SOUND_S / 2 + longest_s) * rate)]


def draw_spec(rng: random.Random, config: CodecConfig, longest_s: float) -> Spec:
    """A stream at random: lives are short on the whole, and a few are `longest_s`."""
    life_s = min(longest_s, rng.expovariate(1 / _MEAN_LIFE_S))
    restarts = sorted(rng.uniform(0, life_s) for _ in range(rng.choice((0, 0, 1, 2))))
    return Spec(
        kind=rng.choice(("encode", "decode")),
        n_q=config.n_q_for(rng.choice(config.target_bandwidths)),
        packet_frames=rng.choice(PACKET_FRAMES),
        start=rng.choice(("exact", "primed")),
        place=rng.randrange(_SOUND_S * 75 // 2),
        life_s=life_s,
        restarts_s=tuple(restarts),
        flush=rng.random() < 0.6,
    )


class LiveStream:
    """One stream in the worker. `tick` feeds what has fallen due; when `over`, `job` says what to compare."""

    def __init__(self, spec: Spec, worker: Worker, now: float, sound: Samples, codes: Codes) -> None:
        self.spec = spec
        self.error: Exception | None = None
        self._begun = now
        self._hop = worker.engine.config.hop_length
        self._rate = worker.engine.config.frame_rate * self._hop
        self._sound, self._codes = sound, codes[: spec.n_q]
        self._at = 0  # samples or frames fed, all runs together
        self._bounds = [0]  # where runs begin
        self._outputs: list[list[npt.NDArray[Any]]] = [[]]
        self._ended_runs = 0
        self._left = False
        self._taken: list[list[npt.NDArray[Any]]] | None = None
        if spec.kind == "encode":
            self._stream: WorkerStream = worker.open_encoder(self._take, n_q=spec.n_q, packet_frames=spec.packet_frames, start=spec.start)
        else:
            self._stream = worker.open_decoder(self._take, n_q=spec.n_q, start=spec.start)

    @property
    def left(self) -> bool:
        """Whether it is fed no more."""
        return self._left

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it."""
        return self._left and (not self.spec.flush or self._ended_runs == len(self._bounds) or self.error is not None)

    def tick(self, now: float) -> None:
        """Feed what has fallen due by `now` (s), start afresh or leave where it is time to."""
        age = now - self._begun
        while len(self._bounds) <= len(self.spec.restarts_s) and age >= self.spec.restarts_s[len(self._bounds) - 1]:
            self._feed(self.spec.restarts_s[len(self._bounds) - 1])
            self._stream.restart()
            self._bounds.append(self._at)
        self._feed(min(age, self.spec.life_s))
        if age >= self.spec.life_s:
            self._left = True
            if self.spec.flush:
                self._stream.end()
            else:
                self._stream.close()
                self._taken = [list(outputs) for outputs in self._outputs]

    def job(self) -> EndedStream:
        """What was fed and what came of it, run by run."""
        taken = self._outputs if self._taken is None else self._taken
        ends = [*self._bounds[1:], self._at]
        runs = []
        for index, (begin, end) in enumerate(zip(self._bounds, ends, strict=True)):
            fed = self._slice(begin, end)
            if index >= len(taken):
                break
            parts = taken[index]
            out = np.concatenate(parts, axis=-1) if parts else fed[..., :0]
            runs.append(RunOf(fed, out, ended=self.spec.flush or index < len(taken) - 1))
        return EndedStream(self.spec.kind, self.spec.n_q, self.spec.start, runs)

    def _feed(self, age: float) -> None:
        if self.spec.kind == "encode":
            due = int(age * self._rate)
        else:
            due = int(age * self._rate / self._hop / self.spec.packet_frames) * self.spec.packet_frames
        if due > self._at:
            step = due - self._at if self.spec.kind == "encode" else self.spec.packet_frames
            while self._at < due:
                self._stream.feed(self._slice(self._at, self._at + step))
                self._at += step

    def _slice(self, begin: int, end: int) -> npt.NDArray[Any]:
        if self.spec.kind == "encode":
            first = self.spec.place * self._hop
            return self._sound[first + begin : first + end]
        return self._codes[:, self.spec.place + begin : self.spec.place + end]

    def _take(self, result: Result) -> None:
        if result.error is not None:
            self.error = result.error
            return
        self._outputs[-1] += result.outputs
        if result.ended:
            self._ended_runs += 1
            self._outputs.append([])


def touch(codec: Codec, worker: Worker, most: int, *, until_full: bool) -> None:
    """Run steps of every size: engines keep a bounded number of compiled kernels and networks, and filling that is no leak.

    Without `until_full` every size runs once, which is enough where nobody watches memory. They run on the worker's thread, by way of a
    stream that comes before all others: torch keeps a cache for each thread.
    """
    done = Event()
    n_q = codec.config.num_quantizers

    def prepare(_: object) -> npt.NDArray[np.int32]:
        try:
            _touch(codec, most, OFTEN if until_full else 1, _UNTIL_FULL if until_full else 1)
        finally:
            done.set()
        return np.zeros((n_q, 0), np.int32)

    first = worker.open_decoder(lambda _: None, n_q=n_q, start="primed", prepare=prepare)
    first.feed(None)
    done.wait()
    first.close()


def _touch(codec: Codec, most: int, often: int, last: int) -> None:
    engine, n_q, rng = codec.engine, codec.config.num_quantizers, np.random.default_rng(0)

    def step(rows: int, length: int, *, final: bool = False) -> None:
        sound = rng.standard_normal((rows, length)).astype(np.float32)
        codes, _ = engine.encode(sound, np.zeros((rows, engine.traits.encoder_state_size), np.float32), [n_q] * rows, final)
        engine.decode(codes, np.zeros((rows, engine.traits.decoder_state_size), np.float32), final)

    for rows in range(1, most + 1):
        for frames in PACKET_FRAMES:
            for _ in range(often if rows in engine.best_batches else 1):
                step(rows, frames * codec.hop_length)
    for _ in range(last):  # the last step of a stream may have any length
        step(1, int(rng.integers(1, max(PACKET_FRAMES) * codec.hop_length)), final=True)
