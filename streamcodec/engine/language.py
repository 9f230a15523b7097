"""Runs EnCodec's language model with torch, frame by frame, as the package `encodec` does."""

from __future__ import annotations

import torch

from streamcodec.model.language_model import LanguageModel, LanguageState
from streamcodec.model.modes import running
from streamcodec.types import Codes, Samples

__all__ = ["TorchLanguageEngine"]


class TorchLanguageEngine:
    """The language model in float32 on the CPU; its probabilities are the package's, bit for bit, with the same torch and threads."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model

    def predict(self, frame: Codes | None, state: LanguageState | None, n_q: int) -> tuple[Samples, LanguageState]:
        """The codes [n_q] of a frame, None before the first one, and the state -> probabilities [n_q, codebook_size], new state."""
        with running(torch.device("cpu")):
            # [n_q] -> [1, n_q, 1]; 0 stands for the frame before the first
            indices = torch.zeros(n_q, dtype=torch.int64) if frame is None else torch.from_numpy(frame).long() + 1
            shares, state = self.model(indices[None, :, None], state)
            # [1, codebook_size, n_q, 1] -> [n_q, codebook_size]
            return shares[0, :, :, 0].T.numpy(), state
