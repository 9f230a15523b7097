"""What the worker's tests share: an engine that multiplies nothing, and a sink that can be waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from streamcodec.config import CodecConfig, Start
from streamcodec.engine.contract import Codes, Samples, States
from streamcodec.engine.worker import Calls, Result, Worker

HOP = 4
TIMEOUT_S = 30.0


class FakeEngine:
    """Codes are the samples at the frame starts (cut to the codebook), samples are the codes again; the state counts frames.

    `gate` holds every step while it is closed; `entered` says that one has begun. A sample of 666 in any row breaks the step.
    """

    name = "fake"
    encoder_state_size = decoder_state_size = 1
    encoder_start_frames = decoder_start_frames = 1
    decoder_hold_frames = 0
    default_live_start: Start = "exact"

    def __init__(self, lanes: int = 1) -> None:
        self.lanes = lanes
        self.best_batches = ()
        self.config = CodecConfig(upsampling_ratios=(HOP,), target_bandwidths=(1000.0,))
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.batches: list[tuple[str, int, bool]] = []
        self.threads: set[str] = set()

    def hold(self, stream: Any) -> None:
        """Feed `stream` a packet, and return when its step is in the engine, where it stays until the gate opens."""
        self.gate.clear()
        stream.feed(ramp(3))
        assert self.entered.wait(TIMEOUT_S)

    def prepare(self, packet_frames: int) -> None:
        raise NotImplementedError

    def stop_preparing(self) -> None:
        raise NotImplementedError

    def encoder_start(self, start: Start) -> States:
        self.threads.add(threading.current_thread().name)
        return np.full(1, 1000.0 if start == "primed" else 0.0, np.float32)

    def decoder_start(self, start: Start, n_q: int) -> States:  # noqa: ARG002
        return self.encoder_start(start)

    def encode(self, samples: Samples, states: States | None, n_q: Sequence[int], final: bool = False) -> tuple[Codes, States]:
        self._pass("encode", samples, final)
        frames = -(-samples.shape[1] // HOP)
        assert final or samples.shape[1] % HOP == 0
        assert states is not None
        codes = np.repeat(samples[:, None, ::HOP], max(n_q), axis=1).astype(np.int32)
        codes += np.arange(max(n_q), dtype=np.int32)[:, None] * 10_000
        return codes, states + frames

    def decode(self, codes: Codes, states: States | None, final: bool = False) -> tuple[Samples, States]:
        self._pass("decode", codes, final)
        assert states is not None
        return np.repeat(codes[:, 0].astype(np.float32), HOP, axis=1) + states, states

    def embed(self, codes: Codes) -> Samples:
        raise NotImplementedError

    def decode_latents(self, latents: Samples) -> Samples:
        raise NotImplementedError

    def _pass(self, kind: str, data: Any, final: bool) -> None:
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        assert self.gate.wait(TIMEOUT_S)
        self.batches.append((kind, data.shape[0], final))
        if (data == 666).any():
            raise RuntimeError("the engine broke")


class Collector:
    """A sink: what came, in order, and whether the last run is over."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self._arrived = threading.Condition()

    def __call__(self, result: Result) -> None:
        with self._arrived:
            self.results.append(result)
            self._arrived.notify_all()

    def wait(self, condition: Callable[[Collector], bool]) -> None:
        with self._arrived:
            assert self._arrived.wait_for(lambda: condition(self), TIMEOUT_S), self.results

    def wait_ended(self, runs: int = 1) -> None:
        self.wait(lambda c: sum(r.ended for r in c.results) >= runs)

    @property
    def outputs(self) -> list[Any]:
        return [output for result in self.results for output in result.outputs]

    @property
    def error(self) -> Exception | None:
        return next((r.error for r in self.results if r.error is not None), None)


def deliver(calls: Calls) -> None:
    for sink, result in calls:
        sink(result)


def ramp(frames: int, first: int = 0) -> Samples:
    """Samples whose frames are told apart by their first sample."""
    return np.repeat(np.arange(first, first + frames, dtype=np.float32), HOP)


def open_encoder(worker: Worker, sink: Collector, n_q: int = 2, packet_frames: int = 3, start: Start = "exact", **more: Any) -> Any:
    return worker.open_encoder(sink, n_q=n_q, packet_frames=packet_frames, start=start, **more)


def first_book(collector: Collector) -> list[int]:
    return [int(code) for codes in collector.outputs for code in codes[0]]
