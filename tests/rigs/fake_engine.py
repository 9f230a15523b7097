"""An engine that multiplies nothing."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from patience import TIMEOUT_S

from streamcodec.config import CodecConfig, Start
from streamcodec.engine.base import StreamTraits
from streamcodec.types import Codes, Samples, States

HOP = 4


class FakeEngine:
    """Codes are the samples at the frame starts (cut to the codebook), samples are the codes again; the state counts frames.

    `gate` holds every step while it is closed; `entered` says that one has begun. A sample of 666 in any row breaks the step.
    """

    name = "fake"
    traits = StreamTraits(1, 1, 1, 1, 0, "exact")

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
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


def ramp(frames: int, first: int = 0) -> Samples:
    """Samples whose frames are told apart by their first sample."""
    return np.repeat(np.arange(first, first + frames, dtype=np.float32), HOP)
