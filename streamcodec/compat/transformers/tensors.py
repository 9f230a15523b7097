"""Checks the tensors of a call and turns them into the arrays that an engine takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from streamcodec.codec.arrays import check_codes, owned
from streamcodec.compat.transformers.config import EncodecConfig
from streamcodec.config import CodecConfig
from streamcodec.errors import AudioError, CodesError, InputError, TensorError
from streamcodec.types import Codes, Samples

__all__ = ["checked_chunks", "checked_clips", "checked_mask"]


def checked_clips(config: EncodecConfig, values: Any, mask: Any) -> Samples:
    """Clips [B, channels, T] as a float32 array of its own, silent where the mask is 0."""
    if not isinstance(values, Tensor):
        raise InputError(f"input_values is a {type(values).__name__}, expected a tensor [B, channels, T]")
    shape = list(values.shape)
    if values.dim() != 3 or 0 in shape:
        raise TensorError(f"input_values has shape {shape}, expected [B, channels, T] with at least one clip and one sample")
    if values.shape[1] != config.audio_channels:
        raise TensorError(f"input_values has shape {shape}, expected {config.audio_channels} channel(s)")
    # Scaling by the loudness makes floats of integers; without it, torch refuses them.
    if values.dtype != torch.float32 and not (config.normalize and not (values.is_floating_point() or values.is_complex())):
        raise TensorError(f"input_values are {values.dtype}, expected torch.float32")
    values = values.detach().float()
    finite = values.isfinite()
    if not finite.all():
        at = finite.logical_not().nonzero()[0].tolist()
        raise AudioError(f"input_values holds {values[tuple(at)].item()} at {at}, expected finite samples")
    if mask is not None:
        values = values * _fitted(checked_mask(mask), values, whole=config.chunk_length is None)
    return owned(values.cpu().numpy())


def checked_mask(mask: Any) -> Tensor:
    """A mask [B, T] or [B, channels, T] with its axis of channels."""
    if not isinstance(mask, Tensor):
        raise InputError(f"padding_mask is a {type(mask).__name__}, expected a tensor [B, T] or [B, channels, T]")
    if mask.dim() < 2 or 0 in mask.shape[:-1]:
        raise TensorError(f"padding_mask has shape {list(mask.shape)}, expected [B, T] or [B, channels, T]")
    return mask.reshape(mask.shape[0], -1, mask.shape[-1])


def _fitted(mask: Tensor, values: Tensor, *, whole: bool) -> Tensor:
    length = values.shape[-1]
    if whole:
        mask = mask[..., :length]  # the rest of a longer one counts only for chunks
    fits = mask.shape[-1] == length and mask.shape[0] in (1, len(values)) and mask.shape[1] in (1, values.shape[1])
    if not fits:
        raise TensorError(f"padding_mask has shape {list(mask.shape)} and input_values {list(values.shape)}: expected one shape")
    return mask.detach().to(values.device).bool()


def checked_chunks(
    config: CodecConfig, codes: Any, scales: Any, whole: bool, last_frame_pad_length: int
) -> list[tuple[Codes, Samples | None]]:
    """For each chunk, codes int32 [B, n_q, frames] without padding and scales [B] or None.

    `codes` is a tensor or a list of its chunks. Scales beyond the last chunk are ignored. A model that codes clips as a `whole` has one.
    """
    if not isinstance(codes, (Tensor, list, tuple)) or not all(isinstance(chunk, Tensor) for chunk in codes):
        raise CodesError(f"audio_codes is a {type(codes).__name__}, expected a tensor [chunks, B, n_q, frames]")
    if len(codes) == 0 or (whole and len(codes) != 1):
        raise CodesError(f"audio_codes has {len(codes)} chunk(s), expected {'1' if whole else '1 or more'}")
    if not isinstance(scales, (Tensor, Sequence)) or len(scales) < len(codes):
        told = f"has {len(scales)}" if isinstance(scales, (Tensor, Sequence)) else f"is a {type(scales).__name__}"
        raise CodesError(f"audio_scales {told}, expected a scale or None for each of {len(codes)} chunk(s)")
    chunks: list[tuple[Codes, Samples | None]] = []
    for i, (chunk, scale) in enumerate(zip(codes, scales, strict=False)):
        if chunk.dim() != 3:
            raise TensorError(f"audio_codes has chunks of shape {list(chunk.shape)}, expected [B, n_q, frames]")
        if chunk.dtype not in (torch.int64, torch.int32):
            raise TensorError(f"audio_codes are {chunk.dtype}, expected torch.int64")
        if i == len(codes) - 1 and last_frame_pad_length > 0:
            chunk = chunk[..., :-last_frame_pad_length]
        if chunk.shape[-1] == 0:
            raise TensorError("audio_codes has a chunk without frames, expected at least one")
        checked, _ = check_codes(config, chunk.cpu().numpy(), batch=True)
        if chunks and len(checked) != len(chunks[0][0]):
            raise TensorError(f"audio_codes has chunks of {len(chunks[0][0])} and {len(checked)} clips, expected one number")
        chunks.append((checked, _scales(scale, len(checked))))
    return chunks


def _scales(scale: Any, rows: int) -> Samples | None:
    if scale is None:
        return None
    if not isinstance(scale, Tensor):
        raise CodesError(f"a scale is a {type(scale).__name__}, expected a tensor [B, 1] or None")
    if scale.numel() not in (1, rows):
        raise TensorError(f"a scale has shape {list(scale.shape)}, expected [{rows}, 1]")
    flat = scale.detach().float().cpu().numpy().reshape(-1)
    return np.ascontiguousarray(np.broadcast_to(flat, rows), np.float32)
