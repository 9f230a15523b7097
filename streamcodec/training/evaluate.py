"""How good the averaged model is on voices that it never heard, per bandwidth, without leaving the training run."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import soxr
import torch

from streamcodec.model.encodec import EncodecModel
from streamcodec.training.losses.spectral import SpectralLoss, si_sdr
from streamcodec.training.stages.quantize import perplexity
from streamcodec.types import Samples

__all__ = ["evaluate", "perceived"]


@torch.no_grad()
def evaluate(model: EncodecModel, clips: Sequence[Samples], *, perceptual: bool = False) -> list[dict[str, float]]:
    """One row per bandwidth: means over the clips, all of one length.

    `sisdr` and `level` (output over input) in dB, `mel` in nepers, `perplexity_first` and `perplexity_least` of the codebooks in use; with
    `perceptual`, `pesq` (wideband) and `stoi` too, where the packages that measure them are installed.
    """
    x = torch.from_numpy(np.stack(clips))
    spectral = SpectralLoss(model.config.sampling_rate)
    latents = model.encoder(x[:, None], None, True)[0]
    codes = model.quantizer.encode(latents, model.config.num_quantizers)
    rows = []
    for n_q in model.config.n_q_choices:
        decoded = model.quantizer.decode(codes[:, :n_q])
        y = model.decoder(decoded, None, True)[0][:, 0, : x.shape[1]]
        used = perplexity(codes[:, :n_q], model.config.codebook_size)
        row = {
            "kbps": model.config.bandwidth_of(n_q),
            "sisdr": float(si_sdr(y, x).mean()),
            "mel": float(spectral(y, x).mel),
            "level": float(10.0 * torch.log10(y.square().mean() / x.square().mean())),
            "perplexity_first": float(used[0]),
            "perplexity_least": float(used.min()),
        }
        if perceptual:
            row |= perceived(clips, list(y.numpy()), model.config.sampling_rate)
        rows.append(row)
    return rows


def perceived(originals: Sequence[Samples], outputs: Sequence[Samples], rate: int) -> dict[str, float]:
    """Mean `pesq` (wideband, ITU-T P.862.2) and `stoi` (Taal et al., 2011) of pairs of clips; whichever package is absent is left out."""
    pairs = [(soxr.resample(a, rate, 16_000), soxr.resample(b, rate, 16_000)) for a, b in zip(originals, outputs, strict=True)]
    scores: dict[str, float] = {}
    pesq, pystoi = _optional("pesq"), _optional("pystoi")
    if pesq is not None:
        heard = []
        for a, b in pairs:
            try:
                heard.append(float(pesq.pesq(16_000, a, b, "wb")))
            except pesq.NoUtterancesError:
                continue
        if heard:
            scores["pesq"] = float(np.mean(heard))
    if pystoi is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # clips too short to say
            scores["stoi"] = float(np.mean([pystoi.stoi(a, b, 16_000) for a, b in pairs]))
    return scores


def _optional(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
