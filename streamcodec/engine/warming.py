"""A first run is slow, for each shape and on each lane: what streams will ask for runs once before there are any."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from streamcodec.engine.contract import Codes, Engine
from streamcodec.engine.rows import DecoderRow, EncoderRow, run_steps

__all__ = ["warm_up"]

_PACKETS = 3


def warm_up(engine: Engine, lengths: Iterable[int]) -> None:
    """Run a few packets of silence of each of these `lengths` (frames) there and back, on all of the engine's lanes at a time.

    One of the lanes is the calling thread: torch keeps some of its kernels by thread. Nobody else may use the engine meanwhile.
    """
    with ThreadPoolExecutor(engine.lanes, "streamcodec-warm-up") as pool:

        def together(jobs: list[Callable[[], None]]) -> None:
            others = [pool.submit(job) for job in jobs[1:]]
            jobs[0]()
            for other in others:
                other.result()

        for frames in lengths:
            streams = [_Stream(engine, frames) for _ in range(engine.lanes)]
            for _ in range(_PACKETS):
                # In step with each other: a lane that is free again would be taken a second time instead of one that has never run.
                together([stream.encode for stream in streams])
                together([stream.decode for stream in streams])


class _Stream:
    """Silence in packets of `frames`."""

    def __init__(self, engine: Engine, frames: int) -> None:
        n_q, start = engine.config.n_q_for(None), engine.default_live_start
        self._engine = engine
        self._silence = np.zeros(frames * engine.config.hop_length, np.float32)
        self._encoder = EncoderRow(engine, n_q=n_q, packet_frames=frames, start=start)
        self._decoder = DecoderRow(engine, n_q=n_q, start=start)
        self._packets: list[Codes] = []

    def encode(self) -> None:
        self._encoder.feed(self._silence)
        while (step := self._encoder.next_step()) is not None:
            codes, states = run_steps(self._engine, [self._encoder], [step])
            self._packets += self._encoder.complete(codes[0], states[0])

    def decode(self) -> None:
        while self._packets:
            self._decoder.feed(self._packets.pop(0))
            while (step := self._decoder.next_step()) is not None:
                samples, states = run_steps(self._engine, [self._decoder], [step])
                self._decoder.complete(samples[0], states[0])
