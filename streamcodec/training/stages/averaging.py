"""The average of two models, of which one went on from the other: what the noise of small batches moved either way meets in the middle."""

from __future__ import annotations

from copy import deepcopy

import torch

from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel

__all__ = ["averaged"]


@torch.no_grad()
def averaged(model: EncodecModel, other: EncodecModel, share: float = 0.5) -> EncodecModel:
    """A copy of `model` with `share` of every weight and every codebook entry from `other`; codes mean something else.

    Good where both lie in one valley (Wortsman et al., "Model soups", 2022), as a model does and what further training made of it. Raises
    `InputError` for models of different configurations, or a share that is not from 0 to 1.
    """
    if not 0.0 <= share <= 1.0:
        raise InputError(f"share is {share}, expected 0 to 1")
    if model.config != other.config:
        raise InputError("the two models have different configurations, expected one that went on from the other")
    copy = deepcopy(model)
    for mine, its in zip(copy.state_dict().values(), other.state_dict().values(), strict=True):
        mine.lerp_(its, share)
    return copy
