"""The packages `encodec`, `transformers` and `moshi` behind one small interface."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.peers.random_models import encodec_model, transformers_checkpoint, transformers_model

__all__ = ["Peer", "encodec_peer", "has_mimi", "mimi_peer", "naive", "transformers_peer"]


@dataclass(frozen=True)
class Peer:
    """A package's model: `encode` takes audio [B, 1, T] and kbps, `decode` codes [B, n_q, F]; `save` writes a checkpoint.

    A peer that `streams` keeps its state from call to call, for a batch of one size.
    """

    name: str
    encode: Callable[[torch.Tensor, float], torch.Tensor]
    decode: Callable[[torch.Tensor], torch.Tensor]
    save: Callable[[Path], Any]
    streams: bool = False


def transformers_peer(checkpoint: Path | None = None, device: str = "cpu", **overrides: Any) -> Peer:
    """`transformers.EncodecModel` from `checkpoint`, or with random weights and the published architecture but for `overrides`.

    On another `device` it takes and returns what lies there.
    """
    model = transformers_model(**overrides) if checkpoint is None else transformers_checkpoint(checkpoint)
    model.to(device)

    def encode(x: torch.Tensor, bandwidth: float) -> torch.Tensor:
        codes: torch.Tensor = model.encode(x, bandwidth=bandwidth).audio_codes[0]
        return codes

    def decode(codes: torch.Tensor) -> torch.Tensor:
        audio: torch.Tensor = model.decode(codes[None], [None]).audio_values
        return audio

    return Peer("transformers", encode, decode, model.save_pretrained)


def encodec_peer() -> Peer:
    """The package `encodec`, with random weights."""
    model = encodec_model()

    def encode(x: torch.Tensor, bandwidth: float) -> torch.Tensor:
        model.set_target_bandwidth(bandwidth)
        codes: torch.Tensor = model.encode(x)[0][0]
        return codes

    def decode(codes: torch.Tensor) -> torch.Tensor:
        audio: torch.Tensor = model.decode([(codes, None)])
        return audio

    return Peer("encodec", encode, decode, lambda path: torch.save(model.state_dict(), path))


def has_mimi() -> bool:
    """Whether the package `moshi` is here; its pins are not ours, so no extra of ours installs it."""
    return all(importlib.util.find_spec(name) for name in ("moshi", "sentencepiece"))


def mimi_peer(batch: int) -> Peer:
    """moshi's Mimi streaming `batch` streams at once, as its README does: 80 ms and one frame per call, 8 codebooks, whatever the kbps."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaders: Any = importlib.import_module("moshi.models.loaders")
        torch.manual_seed(0)
        model: Any = loaders.get_mimi(None, device="cpu", num_codebooks=8)
    model.eval()
    generator = torch.Generator().manual_seed(5)
    for name, buffer in model.named_buffers():
        if name.endswith("embedding_sum"):
            buffer.normal_(generator=generator)
    model.streaming_forever(batch)

    def encode(x: torch.Tensor, bandwidth: float) -> torch.Tensor:  # noqa: ARG001
        codes: torch.Tensor = model.encode(x)
        return codes

    def decode(codes: torch.Tensor) -> torch.Tensor:
        audio: torch.Tensor = model.decode(codes)
        return audio

    return Peer("Mimi", encode, decode, lambda path: torch.save(model.state_dict(), path), streams=True)


def naive(peer: Peer, clip: npt.NDArray[np.float32], bandwidth: float, packet: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
    """Every `packet` samples of `clip` [T] encoded and decoded alone, as if nothing came before: codes [n_q, F] and audio [T]."""
    codes, audio = [], []
    with torch.inference_mode():
        for at in range(0, len(clip), packet):
            part = peer.encode(torch.from_numpy(clip[at : at + packet])[None, None], bandwidth)
            codes.append(part[0].numpy())
            audio.append(peer.decode(part)[0, 0].numpy())
    return np.concatenate(codes, axis=1), np.concatenate(audio)[: len(clip)]
