"""Steps of the encoder or decoder by compiled code: a few operations on memory that is laid out for short steps.

A short step spends its time on reading weights and on what lies between the layers, and little on multiplications. So a step is one call
of one compiled function (`step_kernel`) that runs a program (`step_program`): all weights are read once, in half precision where that is
exact, and nothing is copied or reordered between the layers.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt

from streamcodec.engine.parallel import run_together
from streamcodec.engine.step_memory import StepProgram, Weights
from streamcodec.engine.step_program import build_program
from streamcodec.model.layers import Sequence1d
from streamcodec.types import Samples, States

__all__ = ["CompiledStep"]

Floats = npt.NDArray[np.float32]


class CompiledStep:
    """Runs steps of any size of an encoder or a decoder.

    `frame` is the shape of x for one frame, [T] or [C, 1], and `state_size` the size of the state. Any number of threads may call it at the
    same time; each call runs on `threads` threads, which share its streams. The functions are compiled at the first start on a machine,
    which takes some seconds.
    """

    def __init__(self, layers: Sequence1d, frame: Sequence[int], state_size: int, threads: int = 1) -> None:
        self._layers = layers
        self._state_size = state_size
        self._threads = threads
        self._helpers = ThreadPoolExecutor(threads - 1, "streamcodec-step") if threads > 1 else None
        self._weights = Weights()
        self._memories: list[Floats] = []  # of the calls that are done
        self._programs: dict[Sequence[int], StepProgram] = {}
        self._lock = threading.Lock()
        # Compiles now, so that no stream waits for it.
        self(np.zeros((1, *frame), np.float32), np.zeros((1, state_size), np.float32))

    def __call__(self, x: Samples, states: States) -> tuple[Samples, States]:
        """x and states [B, S] -> y and new states [B, S]: an encoder maps samples [B, T] to latents [B, C, F], a decoder the reverse."""
        program = self._programs.get(x.shape[1:]) or self._build(x.shape[1:])
        y, new_states = np.empty((len(x), *program.y_shape), np.float32), np.empty_like(states)
        if len(x) == 1 or self._helpers is None:
            program(x, states, y, new_states)
            return y, new_states
        share = -(-len(x) // self._threads)
        parts = [slice(at, at + share) for at in range(0, len(x), share)]
        run_together([partial(program, x[part], states[part], y[part], new_states[part]) for part in parts], self._helpers)
        return y, new_states

    def _build(self, shape: Sequence[int]) -> StepProgram:
        with self._lock:
            if shape not in self._programs:
                self._programs[shape] = build_program(self._layers, shape, self._state_size, self._weights, self._memories)
            return self._programs[shape]
