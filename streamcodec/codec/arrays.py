"""Checks the arrays that callers pass in and converts them to the arrays that the model takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from streamcodec.config import CodecConfig
from streamcodec.errors import CodesError, InputError
from streamcodec.types import Codes, Samples

__all__ = ["as_numpy", "check_codes", "owned"]


def as_numpy(values: Any) -> tuple[npt.NDArray[Any], Callable[[npt.NDArray[Any]], Any]]:
    """`values` as a numpy array, and a function that converts results to the caller's kind of array.

    torch tensors give torch tensors on the same device; everything else gives numpy arrays. Raises `InputError` for values that are not
    an array of numbers.
    """
    if type(values).__module__.partition(".")[0] == "torch":
        import torch

        if isinstance(values, torch.Tensor):
            device = values.device
            try:
                return values.detach().cpu().numpy(), lambda result: torch.from_numpy(result).to(device)
            except (TypeError, RuntimeError) as exc:
                raise InputError(f"a tensor of {values.dtype} has no numpy array: {exc}") from exc
    try:
        return np.asarray(values), lambda result: result
    except (ValueError, TypeError) as exc:
        raise InputError(f"a {type(values).__name__} is not an array of numbers: {exc}") from exc


def owned(values: npt.NDArray[Any]) -> Samples:
    """`values` as a contiguous and writable float32 array: torch warns about read-only arrays."""
    return np.require(values, np.float32, ["C", "W"])


def check_codes(config: CodecConfig, codes: npt.NDArray[Any], *, batch: bool) -> tuple[Codes, bool]:
    """A copy of the codes as int32 [B, n_q, F], and whether they had a batch axis; raises `CodesError` if they do not fit `config`."""
    shapes = "[n_q, frames] or [B, n_q, frames]" if batch else "[n_q, frames]"
    if codes.ndim not in ((2, 3) if batch else (2,)) or 0 in codes.shape[:-2] + codes.shape[-1:]:
        raise CodesError(f"codes have shape {list(codes.shape)}, expected {shapes} with at least one frame")
    if not np.issubdtype(codes.dtype, np.integer):
        raise CodesError(f"codes are {codes.dtype}, expected integers")
    if not 1 <= codes.shape[-2] <= config.num_quantizers:
        raise CodesError(f"codes have n_q {codes.shape[-2]}, this model has {config.num_quantizers} codebooks (shape {list(codes.shape)})")
    low, high = int(codes.min()), int(codes.max())
    if low < 0 or high >= config.codebook_size:
        raise CodesError(f"codes range from {low} to {high}, expected 0 to {config.codebook_size - 1}")
    return np.array(codes if codes.ndim == 3 else codes[None], np.int32, order="C"), codes.ndim == 3
