"""Turns a model's latents so that its codebooks spend their bits on what is heard.

Codebooks make the squared error of the latents small, whichever direction it lies in; a decoder makes much of an error in one direction
and nothing of that in another. Training does not even this out: the gradient that passes straight through a quantizer does not know that
a direction is coded better the more room it takes. So how much is heard of each is measured,

    G = mean of J'J,    J = d(what is perceived) / d(latents),

and the latents are turned by A = G ^ (strength / 2), the decoder by its inverse. At strength 1 an error of a given size would be heard
alike wherever it lies, were all errors small; they are not, and between 0.3 and 0.5 most is gained.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor

from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.layers import Conv1d
from streamcodec.training.losses.spectral import SpectralLoss
from streamcodec.training.losses.stoi import StoiLoss
from streamcodec.training.stages.quantize import as_vectors

__all__ = ["weighed"]

_LOUDNESS = 0.2  # the share of log-mel levels in what is heard; that of the envelopes is 1
_LEAST = 1e-3  # of the most audible direction: what is heard less counts as much


@torch.no_grad()
def weighed(model: EncodecModel, batches: Sequence[Tensor], strength: float = 0.4) -> EncodecModel:
    """A copy of `model` whose latents take room as they are heard in `batches` [B, 1, T]; without a quantizer it says the same.

    Latents keep their power; codes mean something else. Raises `InputError` where there is no audio or `strength` is not from 0 to 1.
    """
    if not 0.0 <= strength <= 1.0:
        raise InputError(f"strength is {strength}, expected 0 to 1")
    if not batches:
        raise InputError("0 batches of audio, expected at least 1")
    latents = [model.encoder(x, None, True)[0] for x in batches]
    heard, directions = torch.linalg.eigh(_audibility(model, batches, latents).double())
    heard = heard.clamp(min=_LEAST * float(heard.max()))
    turn = directions * heard ** (strength / 2.0) @ directions.t()
    vectors = torch.cat([as_vectors(z) for z in latents]).double()
    turn = turn * (vectors.square().mean() / (vectors @ turn).square().mean()).sqrt()
    back = torch.linalg.inv(turn).float()
    turn = turn.float()
    copy = deepcopy(model)
    last, first = (cast(Conv1d, layer).conv for layer in (copy.encoder.layers[-1], copy.decoder.layers[0]))
    assert last.bias is not None
    last.weight.copy_(torch.einsum("ij,jck->ick", turn, last.weight))
    last.bias.copy_(turn @ last.bias)
    first.weight.copy_(torch.einsum("oik,ij->ojk", first.weight, back))
    copy.quantizer.embed.copy_(copy.quantizer.embed @ turn)
    return copy


def _audibility(model: EncodecModel, batches: Sequence[Tensor], latents: Sequence[Tensor]) -> Tensor:
    """G [dim, dim] about what half the codebooks make of the `latents` [B, dim, F] of `batches` [B, 1, T]: how much of an error is heard,
    per frame.

    What is heard are the envelopes behind STOI and log-mel levels, each in units of what is heard of half the codebooks' error. G is the
    covariance of J'v, v being random signs, over frames.
    """
    rate, dim = model.config.sampling_rate, model.config.codebook_dim
    envelopes, spectral = StoiLoss(rate), SpectralLoss(rate, (512, 1024), (56, 72), floor=2e-4)
    chance = torch.Generator().manual_seed(0)
    found, lost, frames = torch.zeros(2, dim, dim), torch.zeros(dim, dim), 0
    for x, z in zip(batches, latents, strict=True):
        coded = model.quantizer.decode(model.quantizer.encode(z, (model.config.num_quantizers + 1) // 2))
        error = as_vectors(z - coded)
        lost += error.t() @ error
        frames += len(error)
        with torch.enable_grad():
            coded.requires_grad_(True)
            y = model.decoder(coded, None, True)[0][:, 0, : x.shape[2]]
            heard = [envelopes.relative(y, x[:, 0])], spectral.log_mels(y)
            for mine, parts in zip(found, heard, strict=True):
                signs = [torch.randint(0, 2, part.shape, generator=chance) * 2.0 - 1.0 for part in parts]
                total = torch.stack([(sign * part).sum() for sign, part in zip(signs, parts, strict=True)]).sum()
                gradient = as_vectors(torch.autograd.grad(total, coded, retain_graph=True)[0])
                mine += gradient.t() @ gradient
    shares = torch.tensor([1.0, _LOUDNESS])
    units = (found * lost).sum(dim=(1, 2)) / frames**2
    return (found / frames * (shares / units)[:, None, None]).sum(dim=0)
