"""Fits a model's codebooks to audio, and leaves its encoder and decoder as they are."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel
from streamcodec.training.quantize import as_vectors, refitted

__all__ = ["refit"]


@torch.no_grad()
def refit(model: EncodecModel, batches: Iterable[Tensor], iterations: int = 3) -> int:
    """Move the codebooks to the latents of `batches` [B, 1, T]; returns how many latents these are.

    Decoded audio gets closer to such audio without any training; codes made before mean something else from then on. Raises `InputError`
    where there are fewer latents than a codebook has entries.
    """
    latents = [as_vectors(model.encoder(x, None, True)[0]) for x in batches]
    count, needed = sum(map(len, latents)), model.config.codebook_size
    if count < needed:
        raise InputError(f"{count} frames of audio, expected at least {needed}: one for each entry of a codebook")
    model.quantizer.embed.copy_(refitted(model.quantizer.embed, torch.cat(latents), iterations))
    return count
