"""A decoder in training: its rows are streams that go on from batch to batch, and all but its last layer may compute in bfloat16."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from streamcodec.model.layers import Sequence1d, StreamingLayer
from streamcodec.training.stages.streams import Streams

__all__ = ["StatefulDecoder", "bf16_where_fast"]


class StatefulDecoder:
    """Decodes latents [B, dim, F] to samples [B, T] with the states that their `streams` carry."""

    def __init__(self, decoder: Sequence1d) -> None:
        layers = cast("list[StreamingLayer]", list(decoder.layers))
        self._body, self._end = Sequence1d(layers[:-1]), layers[-1]

    def __call__(self, latents: Tensor, goes_on: Tensor, streams: Streams) -> Tensor:
        # All but the last layer in bfloat16: samples rounded to 8 bits would be heard by the losses in quiet bands.
        with bf16_where_fast(latents.device):
            latents = streams.through(self._body, "body", latents, goes_on)
        return streams.through(self._end, "end", latents.float(), goes_on)[:, 0]


def bf16_where_fast(device: torch.device) -> torch.autocast:
    """Autocast to bfloat16 on devices that compute in it; a processor that only emulates it is seven times slower than in float32."""
    fast = device.type != "cpu" or torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast)
