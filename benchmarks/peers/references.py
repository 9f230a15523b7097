"""The packages' models as what ours must equal: clips to chunks and back, in the arrays that our own codec takes and gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.peers.random_models import encodec_model, published_fields, transformers_model
from streamcodec.codec import Chunk
from streamcodec.published import PUBLISHED
from streamcodec.types import Codes, Samples

__all__ = ["PACKAGES", "EncodecReference", "Reference", "TransformersReference", "reference_of"]


class Reference(ABC):
    """A package's `model`. Its `encode` and `decode` make the package's own calls, one each."""

    package: str

    def __init__(self, model: Any) -> None:
        self.model = model

    @torch.inference_mode()
    def encode(self, clips: Samples, bandwidth: float) -> list[Chunk]:
        """Clips [B, C, T] as chunks of codes [B, n_q, frames] and scales [B] or None; one chunk, if clips are coded as a whole."""
        return [Chunk(_codes(codes), _scales(scale)) for codes, scale in self._encode(torch.from_numpy(clips), bandwidth)]

    @torch.inference_mode()
    def decode(self, chunks: Sequence[Chunk]) -> Samples:
        """What `encode` gave, as samples [B, C, T]."""
        scales = [None if chunk.scale is None else torch.from_numpy(chunk.scale)[:, None] for chunk in chunks]
        decoded = self._decode([torch.from_numpy(chunk.codes).long() for chunk in chunks], scales)
        samples: Samples = decoded.numpy()
        return samples

    @abstractmethod
    def save(self, folder: Path) -> Path:
        """Write the package's own checkpoint into `folder`; return the path to load."""

    @abstractmethod
    def _encode(self, clips: Tensor, bandwidth: float) -> Sequence[tuple[Tensor, Tensor | None]]: ...

    @abstractmethod
    def _decode(self, codes: list[Tensor], scales: list[Tensor | None]) -> Tensor: ...


class TransformersReference(Reference):
    """`transformers.EncodecModel`."""

    package = "transformers"

    def save(self, folder: Path) -> Path:
        self.model.save_pretrained(folder)
        return folder

    def _encode(self, clips: Tensor, bandwidth: float) -> Sequence[tuple[Tensor, Tensor | None]]:
        codes, scales, unused = self.model.encode(clips, bandwidth=bandwidth, return_dict=False)
        return [*zip(codes[:-1], scales[:-1], strict=True), (codes[-1][..., : codes.shape[-1] - unused], scales[-1])]

    def _decode(self, codes: list[Tensor], scales: list[Tensor | None]) -> Tensor:
        decoded: Tensor = self.model.decode(codes, scales, return_dict=False)[0]
        return decoded


class EncodecReference(Reference):
    """`encodec.EncodecModel`."""

    package = "encodec"

    def save(self, folder: Path) -> Path:
        path = folder / "reference.th"
        torch.save(self.model.state_dict(), path)
        return path

    def _encode(self, clips: Tensor, bandwidth: float) -> Sequence[tuple[Tensor, Tensor | None]]:
        self.model.set_target_bandwidth(bandwidth)
        frames: list[tuple[Tensor, Tensor | None]] = self.model.encode(clips)
        return frames

    def _decode(self, codes: list[Tensor], scales: list[Tensor | None]) -> Tensor:
        decoded: Tensor = self.model.decode(list(zip(codes, scales, strict=True)))
        return decoded


PACKAGES = {"encodec": ("encodec_24khz", "encodec_48khz"), "transformers": tuple(PUBLISHED)}
"""The published architectures that each package has."""


def reference_of(package: str, name: str, seed: int = 0) -> Reference:
    """A package's model of the published architecture `name`, with random weights."""
    if package == "encodec":
        return EncodecReference(encodec_model(name, seed))
    return TransformersReference(transformers_model(seed, **published_fields(name)))


def _codes(codes: Tensor) -> Codes:
    return codes.numpy().astype(np.int32)


def _scales(scale: Tensor | None) -> Samples | None:
    return None if scale is None else scale[:, 0].numpy()
