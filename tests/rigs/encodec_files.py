"""The package `encodec`'s own reading and writing of `.ecdc` files, with models that the test gives it instead of those it downloads."""

from __future__ import annotations

import functools
import importlib
import io
import types
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.harness.imports import without_torchaudio
from streamcodec.published import PUBLISHED

__all__ = ["package_file", "package_module", "package_reads"]

Frames = Sequence[tuple[npt.NDArray[Any], float | None]]


@functools.cache
def package_module() -> types.ModuleType:
    """`encodec.compress`."""
    with without_torchaudio(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The package has a function of this name as well, which an import statement would give.
        return importlib.import_module("encodec.compress")


class StandIn:
    """As much of a model of the package as its files need: it codes every clip as the frames it was given, and keeps what it decodes."""

    def __init__(self, name: str, frames: Frames = (), lm: Any = None) -> None:
        config = PUBLISHED[name]
        self.name, self.bits_per_codebook, self.normalize = name, config.bits_per_code, config.normalize
        self.segment_length, self.segment_stride = config.chunk_length, config.chunk_stride
        self.sample_rate, self.frame_rate = config.sampling_rate, int(config.frame_rate)
        self.frames = [(torch.from_numpy(np.asarray(codes, np.int64))[None], _scale(scale)) for codes, scale in frames]
        self._lm = lm

    def to(self, device: str) -> StandIn:  # noqa: ARG002
        return self

    def get_lm_model(self) -> Any:
        return self._lm

    def encode(self, wav: torch.Tensor) -> Any:  # noqa: ARG002
        return self.frames

    def decode(self, frames: Any) -> torch.Tensor:
        self.frames = frames
        return torch.zeros(1, 1, 1)


def _scale(scale: float | None) -> torch.Tensor | None:
    return None if scale is None else torch.tensor([[scale]])


def package_file(name: str, frames: Frames, samples: int, lm: Any = None) -> bytes:
    """What the package writes for a clip with these chunks: codes [n_q, frames] and scales."""
    file = io.BytesIO()
    package_module().compress_to_file(StandIn(name, frames, lm), torch.zeros(1, 1).expand(1, samples), file, use_lm=lm is not None)
    return file.getvalue()


def package_reads(name: str, data: bytes, lm: Any = None) -> list[tuple[npt.NDArray[np.int64], float | None]]:
    """The chunks that the package reads from the bytes of a file; raises what it raises."""
    module, model = package_module(), StandIn(name, lm=lm)
    before = module.MODELS
    module.MODELS = {name: lambda: model}
    try:
        module.decompress(data)
    finally:
        module.MODELS = before
    return [(codes[0].numpy(), None if scale is None else float(scale)) for codes, scale in model.frames]
