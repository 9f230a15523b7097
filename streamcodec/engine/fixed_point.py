"""Runs a language model of whole numbers, frame by frame, with torch or whatever runs its step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from streamcodec.errors import CodesError
from streamcodec.model.fixed_point import FixedPointModel
from streamcodec.model.modes import running
from streamcodec.types import Codes, Samples

__all__ = ["FixedPointEngine", "LevelStep", "torch_step"]

LevelStep = Callable[[npt.NDArray[np.int64], Samples], tuple[Samples, Samples]]
"""A frame's indices [1, num_codebooks] and the history -> levels [1, num_codebooks, codebook_size] and the new history."""


class FixedPointEngine:
    """A model and what runs its step: `torch_step` by default."""

    def __init__(self, model: FixedPointModel, step: LevelStep | None = None) -> None:
        self.model = model
        self.fingerprint = model.fingerprint
        self._step = torch_step(model) if step is None else step
        self._start = model.start().numpy()

    def predict(self, frame: Codes | None, state: Samples | None, n_q: int) -> tuple[npt.NDArray[np.int64], Samples]:
        """The codes [n_q] of a frame, None before the first one, and the state -> levels [n_q, codebook_size], new state."""
        if not 1 <= n_q <= self.model.num_codebooks:
            raise CodesError(f"codes have n_q {n_q}, the language model has {self.model.num_codebooks} codebooks")
        indices = np.zeros((1, self.model.num_codebooks), np.int64)
        if frame is not None:
            indices[0, :n_q] = frame + 1
        levels, state = self._step(indices, self._start if state is None else state)
        return levels[0, :n_q].astype(np.int64), state


def torch_step(model: FixedPointModel) -> LevelStep:
    """The step by torch, on the CPU."""

    def step(indices: npt.NDArray[np.int64], history: Samples) -> tuple[Samples, Samples]:
        with running(torch.device("cpu")):
            levels, history_after = model(torch.from_numpy(indices), torch.from_numpy(history))
            return levels.numpy(), history_after.numpy()

    return step
