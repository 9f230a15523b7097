"""The start from which the waveform is learnt: with the usual initialisations and spectral losses, it is not.

Orthogonal maps carry the signal through encoder and decoder at its own level, residual branches start as nothing, the LSTMs shut.
"""

from __future__ import annotations

import torch
from torch import nn

from streamcodec.model.encodec import EncodecModel
from streamcodec.model.layers import LSTM, CausalConv1d, CausalConvTranspose1d, ResidualBlock

__all__ = ["initialise"]


@torch.no_grad()
def initialise(model: EncodecModel, generator: torch.Generator) -> None:
    """Set every weight of encoder and decoder.

    All convs are orthogonal with gain 1 and have no bias. A transposed conv is orthogonal in the tap that meets x[t] and zero in the one
    that meets x[t - 1]; the last conv of each residual branch is zero; the decoder's last conv is scaled by 0.3; the LSTM's output gates
    are biased shut (-3).
    """
    for module in model.modules():
        if isinstance(module, CausalConv1d):
            nn.init.orthogonal_(module.conv.weight, generator=generator)
            assert module.conv.bias is not None
            nn.init.zeros_(module.conv.bias)
        elif isinstance(module, CausalConvTranspose1d):
            weight = torch.empty_like(module.conv.weight[..., 1])
            nn.init.orthogonal_(weight, generator=generator)
            module.conv.weight.zero_()
            module.conv.weight[..., 1] = weight
            assert module.conv.bias is not None
            nn.init.zeros_(module.conv.bias)
        elif isinstance(module, LSTM):
            _shut(module.lstm, generator)
    for module in model.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.block[3].conv.weight)  # type: ignore[union-attr, arg-type]
    model.decoder.layers[-1].conv.weight.mul_(0.3)  # type: ignore[union-attr, operator]


def _shut(lstm: nn.LSTM, generator: torch.Generator) -> None:
    size = lstm.hidden_size
    for name, parameter in lstm.named_parameters():
        if name.startswith("weight"):
            nn.init.uniform_(parameter, -(size**-0.5), size**-0.5, generator=generator)
        else:
            nn.init.zeros_(parameter)
            if name.startswith("bias_ih"):
                parameter[3 * size :] = -3.0  # the gates are ordered input, forget, cell, output
