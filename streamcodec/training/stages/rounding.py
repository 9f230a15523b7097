"""Makes an encoder one that bfloat16 does not bend: its matrices are rounded for good, and its biases make up for that."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn

from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.layers import StreamingLayer

__all__ = ["rounded"]


@torch.no_grad()
def rounded(model: EncodecModel, batches: Sequence[Tensor]) -> EncodecModel:
    """A copy of `model` whose encoder has weights that bfloat16 holds exactly, and the same mean at each conv over `batches` [B, 1, T].

    An engine that computes in bfloat16 rounds weights again for every sum, always the same way: that shifts what layers put out, in quiet
    passages most, while the rounding of signals is noise. The correction of biases is that of Nagel et al., "Data-Free Quantization"
    (2019), measured instead of derived. Codes made before mean the same; the encoder makes slightly others. Raises `InputError` where
    there is no audio.
    """
    if not batches:
        raise InputError("0 batches of audio, expected at least 1")
    copy = deepcopy(model)
    wanted, got = list(batches), list(batches)
    for whole, part in zip(_layers(model), _layers(copy), strict=True):
        for name, conv in part.named_modules():
            if isinstance(conv, nn.LSTM):
                for parameter in conv.parameters():
                    if parameter.ndim > 1:
                        parameter.copy_(parameter.bfloat16())
            elif isinstance(conv, nn.Conv1d):
                conv.weight.copy_(conv.weight.bfloat16())
                assert conv.bias is not None
                conv.bias.add_(_mean(whole, name, wanted) - _mean(part, name, got))
        wanted, got = ([layer(x, None, True)[0] for x in heard] for layer, heard in ((whole, wanted), (part, got)))
    return copy


def _layers(model: EncodecModel) -> Sequence[StreamingLayer]:
    return cast(Sequence[StreamingLayer], model.encoder.layers)


def _mean(layer: StreamingLayer, name: str, batches: Sequence[Tensor]) -> Tensor:
    """What the conv `name` of a layer puts out on average [channels]."""
    means: list[Tensor] = []
    hook = layer.get_submodule(name).register_forward_hook(lambda _conv, _inputs, output: means.append(output.mean(dim=(0, 2))))
    try:
        for x in batches:
            layer(x, None, True)
    finally:
        hook.remove()
    return torch.stack(means).mean(dim=0)
