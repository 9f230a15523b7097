"""The packages' own models, most with random weights: what ours is compared with is what the packages themselves have made.

A package is imported when a model of it is made: that of `transformers` takes many seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.imports import without_torchaudio
from streamcodec.published import PUBLISHED

__all__ = ["encodec_model", "fill_codebooks", "published_fields", "transformers_checkpoint", "transformers_model"]


def published_fields(name: str) -> dict[str, Any]:
    """The published architecture `name` as `transformers` takes it."""
    return {field: value for field, value in PUBLISHED[name].to_dict().items() if field != "search_beam"}


def transformers_model(seed: int = 0, **overrides: Any) -> Any:
    """`transformers.EncodecModel`; the published 24 kHz architecture unless `overrides` say otherwise."""
    from transformers import EncodecConfig, EncodecModel

    _without_progress_bars()
    torch.manual_seed(seed)
    model: Any = EncodecModel(EncodecConfig(**overrides))
    model.eval()
    fill_codebooks((layer.codebook.embed for layer in model.quantizer.layers), _latent_std(model.encoder, model.config.audio_channels))
    return model


def transformers_checkpoint(folder: Path) -> Any:
    """`transformers.EncodecModel` from a folder."""
    from transformers import EncodecModel

    _without_progress_bars()
    model: Any = EncodecModel.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    return model


def _without_progress_bars() -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def encodec_model(name: str = "encodec_24khz", seed: int = 0) -> Any:
    """`encodec.EncodecModel` of the published architecture `name`; the package has those at 24 and 48 kHz."""
    with without_torchaudio(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's deprecation of the weight norm that the package uses
        from encodec.model import EncodecModel

        torch.manual_seed(seed)
        model: Any = getattr(EncodecModel, name.replace("encodec_", "encodec_model_"))(pretrained=False).eval()
    fill_codebooks((layer._codebook.embed for layer in model.quantizer.vq.layers), _latent_std(model.encoder, model.channels))
    for layer in model.quantizer.vq.layers:
        layer._codebook.inited.fill_(1)
    return model


def _latent_std(encoder: torch.nn.Module, channels: int) -> float:
    with torch.no_grad():
        return float(encoder(0.1 * torch.randn(1, channels, 24_000, generator=torch.Generator().manual_seed(5))).std())


@torch.no_grad()
def fill_codebooks(embeds: Iterable[torch.Tensor], latent_std: float) -> None:
    """Random codebooks on the scale of the residuals they meet, as trained ones are: the packages initialise them with zeros."""
    generator = torch.Generator().manual_seed(5)
    for i, embed in enumerate(embeds):
        embed.copy_(torch.randn(embed.shape, generator=generator) * latent_std * 0.9**i)
