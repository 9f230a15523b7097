"""Fits a model's codebooks to audio, and leaves its encoder and decoder as they are."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy

import torch
from torch import Tensor

from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel
from streamcodec.training.stages.quantize import as_vectors, refitted

__all__ = ["refit"]


@torch.no_grad()
def refit(model: EncodecModel, batches: Iterable[Tensor], iterations: int = 3) -> EncodecModel:
    """A copy of `model` whose codebooks moved to the latents of `batches` [B, 1, T].

    Decoded audio gets closer to such audio without any training; codes made before mean something else from then on. Raises `InputError`
    where there are fewer latents than a codebook has entries.
    """
    latents = [as_vectors(model.encoder(x, None, True)[0]) for x in batches]
    count, needed = sum(map(len, latents)), model.config.codebook_size
    if count < needed:
        raise InputError(f"{count} frames of audio, expected at least {needed}: one for each entry of a codebook")
    copy = deepcopy(model)
    copy.quantizer.embed.copy_(refitted(model.quantizer.embed, torch.cat(latents), iterations))
    return copy
