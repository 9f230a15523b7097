"""Trains a language model of whole numbers on the codes that a codec makes of a corpus.

It learns in floating point with values between layers as coarse as they will be, in 8 bits; what is left is rounded afterwards.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from streamcodec.codec import Codec
from streamcodec.errors import InputError
from streamcodec.model.fixed_point import FixedPointModel, fixed_point_from_floats
from streamcodec.training.data.corpus import Corpus
from streamcodec.types import Codes

__all__ = ["LanguageModelSettings", "bits_per_code", "codes_of", "train_language_model"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LanguageModelSettings:
    """What is learnt, and how long; the defaults are those of the model for the embedded voice."""

    predicted: int = 8
    """The codebooks that are predicted from the past, which are its context too; of the others only the frequencies are learnt."""
    window: int = 8
    dim: int = 96
    hidden: int = 256
    narrow: int = 128
    steps: int = 6_000
    batch: int = 192
    rate: float = 3e-3
    warmup_steps: int = 50
    dropped: float = 0.1
    """The share of frames of which only the first codebooks are known, as in streams of lower bandwidths."""
    seed: int = 0


def codes_of(codec: Codec, corpus: Corpus, clips: int, seconds: float, *, held_out: bool = False) -> Codes:
    """Codes [clips, num_quantizers, frames] of speech at the highest bandwidth, spread over the corpus's sources.

    Raises `InputError` if no source is so long.
    """
    kbps = max(codec.config.target_bandwidths)
    sounds = corpus.clips(seconds, clips, held_out=held_out)
    if not sounds:
        raise InputError(f"the corpus holds no{' held-out' if held_out else ''} speech of {seconds:g} s in one source")
    return np.stack([codec.encode(sound, bandwidth=kbps) for sound in sounds]).astype(np.int32)


class _CoarseModel(nn.Module):
    """The model in floating point: values between layers are 0..1, and logarithms in nats."""

    def __init__(self, counts: NDArray[np.int64], settings: LanguageModelSettings) -> None:
        super().__init__()
        n_q, size = counts.shape
        k, s = min(settings.predicted, n_q), settings
        self.embedding = nn.Parameter(torch.randn(k, size + 1, s.dim) * 0.15)
        self.mix, self.hidden = nn.Linear(s.window * s.dim, s.hidden), nn.Linear(s.hidden, s.narrow)
        self.heads = nn.Parameter(torch.randn(k, size, s.narrow) * 0.02)
        # Each code was seen once more than it was: none is impossible.
        shares = (counts + 1) / (counts + 1).sum(axis=1, keepdims=True)
        self.heads_bias = nn.Parameter(torch.from_numpy(np.log(shares)).float())
        self.register_buffer("first_rows", torch.arange(k) * (size + 1), persistent=False)
        self.first_rows: Tensor

    def forward(self, indices: Tensor) -> Tensor:
        """Indices [B, window, k], codes plus 1 or 0 where one is missing -> logits [B, k, size] of the frame that follows."""
        rows = self.embedding.reshape(-1, self.embedding.shape[-1])
        frames = _coarse(F.embedding(indices + self.first_rows, rows).sum(dim=2))
        x = _coarse(self.hidden(_coarse(self.mix(frames.flatten(1)))))
        return torch.einsum("bh,kch->bkc", x, self.heads) + self.heads_bias[: len(self.heads)]

    def floats(self) -> dict[str, Tensor]:
        """The tensors as `fixed_point_from_floats` takes them."""
        linear = {"mix": self.mix, "hidden": self.hidden}
        weights = {name: layer.weight for name, layer in linear.items()} | {f"{name}_bias": layer.bias for name, layer in linear.items()}
        return {
            name: tensor.detach()
            for name, tensor in {"embedding": self.embedding, "heads": self.heads, "heads_bias": self.heads_bias, **weights}.items()
        }


def _coarse(x: Tensor) -> Tensor:
    """Values clipped to 0..1 and rounded down to 8 bits; gradients pass as if they were not rounded."""
    clipped = x.clamp(0, 1)
    return clipped + ((clipped * 255).floor() / 255 - clipped).detach()


def train_language_model(
    codes: Codes, codebook_size: int, settings: LanguageModelSettings, progress: Callable[[int, float], None] | None = None
) -> FixedPointModel:
    """Train on codes [clips, n_q, frames]; `progress` is told the step and its loss, in bits for each code."""
    torch.manual_seed(settings.seed)
    chance = np.random.default_rng(settings.seed)
    clips, n_q, frames = codes.shape
    counts = np.stack([np.bincount(codes[:, k].ravel(), minlength=codebook_size) for k in range(n_q)])
    learner = _CoarseModel(counts, settings)
    k, window = len(learner.heads), settings.window
    # [clips, window + frames, k]; before the first frame all codes are missing
    padded = F.pad(torch.from_numpy(codes[:, :k].astype(np.int64)).transpose(1, 2) + 1, (0, 0, window, 0))
    optimizer = torch.optim.AdamW(learner.parameters(), lr=settings.rate, betas=(0.9, 0.98), weight_decay=0.01)
    for step in range(settings.steps):
        ramp = min(1.0, (step + 1) / settings.warmup_steps)
        for group in optimizer.param_groups:
            group["lr"] = settings.rate * ramp * (0.02 + 0.49 * (1 + math.cos(math.pi * step / settings.steps)))
        rows, begins = chance.integers(clips, size=settings.batch), chance.integers(frames, size=settings.batch)
        drawn = padded[rows[:, None], begins[:, None] + np.arange(window + 1)]
        given, target = drawn[:, :-1].clone(), drawn[:, -1] - 1
        known = np.where(chance.random(settings.batch) < settings.dropped, chance.integers(1, k + 1, settings.batch), k)
        given[torch.from_numpy(np.arange(k) >= known[:, None])[:, None].expand_as(given)] = 0
        loss = F.cross_entropy(learner(given).flatten(0, 1), target.flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if progress is not None:
            progress(step, float(loss.detach()) / math.log(2))
    return fixed_point_from_floats(learner.floats())


def bits_per_code(model: FixedPointModel, codes: Codes, n_q: int) -> NDArray[np.float64]:
    """What the arithmetic coder spends for codes [clips, n_q, frames] of each of the first `n_q` codebooks, in bits a code [n_q]."""
    spent = torch.zeros(n_q, dtype=torch.float64)
    clips, _, frames = codes.shape
    indices = torch.zeros(clips, model.num_codebooks, dtype=torch.int64)
    history = model.start(clips)
    with torch.inference_mode():
        for t in range(frames):
            levels, history = model(indices, history)
            actual = torch.from_numpy(codes[:, :n_q, t].astype(np.int64))
            nats = torch.log_softmax(levels[:, :n_q].double() * (math.log(2) / 16), dim=-1)
            spent -= nats.gather(2, actual[..., None])[..., 0].sum(dim=0) / math.log(2)
            indices[:, :n_q] = actual + 1
    return np.asarray(spent.numpy() / (clips * frames))
