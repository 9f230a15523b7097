"""The start from which training goes on: a linear transform codec, fitted to speech, written into the network's weights.

    samples -> stacked, stride by stride -> principal components of a frame's samples = latents -> the frame's samples, estimated

From random weights the waveform is learnt an octave an hour, the lowest first, and codebooks that come meanwhile keep what is not there
from ever coming; a linear map is known at once. It passes the ELUs because every value has two channels, itself and its negative, whose
difference behind an ELU is close to twice the value where that is small. The channels that it does not need start orthogonal, and unheard.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.layers import LSTM, Conv1d, ConvTranspose1d, ResidualBlock

__all__ = ["LATENT_RMS", "initialise"]

LATENT_RMS = 0.1
"""What latents start at and are held to: as loud as what is behind the decoder's first layer, so that equal steps disturb both alike."""

_LEVEL = 0.25  # gain of samples inside the network: small, where an ELU is nearly straight
_SPREAD = 0.2  # standard deviation of the strongest component
_FLATTEN = 0.4  # components are divided by this power of their standard deviation: codebooks are to see what is quiet too


@torch.no_grad()
def initialise(model: EncodecModel, audio: Tensor, generator: torch.Generator) -> None:
    """Set every weight of encoder and decoder so that speech like `audio` [N, T] comes through as well as a linear map can bring it.

    Latents have an RMS of `LATENT_RMS` and are the principal components of a frame's samples, as many as there are latents or half as many
    as the last stage has channels. The decoder estimates the samples from those of the frame and of the one before (Wiener's filter). The
    last conv of each residual branch is zero, and so is what the last layer of an LSTM would write into its cells: both add nothing yet.
    Raises `InputError` where `audio` has too few frames to fit that to.
    """
    hop = model.config.hop_length
    if audio.shape[0] * (audio.shape[1] // hop - 1) < 2 * hop:
        raise InputError(f"audio has shape {list(audio.shape)}, expected at least {2 * hop} frames of {hop} besides each row's first")
    _scatter(model, generator)
    first, *strided, last = (layer for layer in model.encoder.layers if isinstance(layer, Conv1d))
    opened, closed = (layer for layer in model.decoder.layers if isinstance(layer, Conv1d))
    transposed = [layer for layer in model.decoder.layers if isinstance(layer, ConvTranspose1d)]

    _carry(first, torch.tensor([[_LEVEL]]), paired=False)
    signal = _LEVEL * audio[:, :, None].double()  # [N, steps, values]: what the first pairs of channels carry
    for layer, back in zip(strided, reversed(transposed), strict=True):
        is_last = layer is strided[-1]
        stacked = signal[:, : signal.shape[1] // layer.stride * layer.stride].reshape(len(signal), -1, layer.stride * signal.shape[2])
        most = min(stacked.shape[2], layer.conv.out_channels // 2, last.conv.out_channels if is_last else stacked.shape[2])
        analysis = torch.eye(most).double() if most == stacked.shape[2] and not is_last else _components(stacked, most)
        if is_last:
            analysis = _flattened(analysis, stacked)
        signal = stacked @ analysis.t()
        _carry(layer, analysis)
        _carry_back(back, *_estimator(stacked, signal))
    gain = LATENT_RMS / signal.square().mean().sqrt()
    _carry(last, gain * torch.eye(signal.shape[2]).double(), pairs=False)
    _carry(opened, torch.eye(signal.shape[2]).double() / gain, paired=False)
    _carry(closed, torch.tensor([[1.0 / _LEVEL]]), pairs=False)


def _carry(layer: Conv1d, matrix: Tensor, *, paired: bool = True, pairs: bool = True) -> None:
    """Map the first values of the steps that `layer` strides over by `matrix` [out, stride * in]; they may be `paired`, results `pairs`."""
    out, inputs = matrix.shape[0], matrix.shape[1] // layer.stride
    maps = matrix.float().view(out, layer.stride, inputs).transpose(1, 2)
    maps = torch.cat([maps, -maps], dim=1) / 2.0 if paired else maps
    maps = torch.cat([maps, -maps]) if pairs else maps
    weight = layer.conv.weight
    weight[: len(maps)] = 0.0
    weight[: len(maps), : maps.shape[1], weight.shape[2] - layer.stride :] = maps  # the taps that meet the newest steps


def _carry_back(layer: ConvTranspose1d, now: Tensor, before: Tensor) -> None:
    """Estimate the values of `layer.stride` steps, one after the other in the rows of maps [stride * out, in], from those of two frames."""
    out, inputs = now.shape[0] // layer.stride, now.shape[1]
    each = layer.conv.weight.view(-1, layer.stride, layer.conv.in_channels, 2)  # [out, stride, in, (x[t - 1], x[t])]
    each[: 2 * out] = 0.0
    for tap, matrix in ((1, now), (0, before)):
        maps = matrix.float().view(layer.stride, out, inputs).transpose(0, 1)
        maps = torch.cat([maps, -maps], dim=2) / 2.0
        each[: 2 * out, :, : 2 * inputs, tap] = torch.cat([maps, -maps])


def _covariance(a: Tensor, b: Tensor) -> Tensor:
    return a.reshape(-1, a.shape[-1]).t() @ b.reshape(-1, b.shape[-1]) / (a.numel() // a.shape[-1])


def _components(values: Tensor, count: int) -> Tensor:
    """The strongest principal components [count, D] of values [N, T, D]."""
    vectors: Tensor = torch.linalg.eigh(_covariance(values, values))[1]  # weakest first
    return vectors.flip(1)[:, :count].t()


def _flattened(analysis: Tensor, values: Tensor) -> Tensor:
    """With each row scaled so that strong components are less far above weak ones, the strongest at `_SPREAD`."""
    spread = (values @ analysis.t()).square().mean(dim=(0, 1)).sqrt() + 1e-9
    scale = spread**-_FLATTEN
    return analysis * (scale * _SPREAD / (spread * scale).max())[:, None]


def _estimator(values: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """The best linear estimate of values [N, T, D] from those `known` [N, T, K] of the same step and of the one before: two maps [D, K]."""
    both = torch.cat([known[:, 1:], known[:, :-1]], dim=2)
    power = _covariance(both, both)
    power += 1e-6 * power.diagonal().mean() * torch.eye(len(power))
    maps = torch.linalg.solve(power, _covariance(both, values[:, 1:])).t()
    return maps[:, : known.shape[2]], maps[:, known.shape[2] :]


def _scatter(model: EncodecModel, generator: torch.Generator) -> None:
    """What everything starts from that carries nothing: orthogonal convs, and identities beside branches that add nothing."""
    for module in model.modules():
        if isinstance(module, Conv1d | ConvTranspose1d):
            nn.init.orthogonal_(module.conv.weight, generator=generator)
            assert module.conv.bias is not None
            nn.init.zeros_(module.conv.bias)
        elif isinstance(module, LSTM):
            _silence(module.lstm, generator)
    for module in model.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.block[3].conv.weight)  # type: ignore[union-attr, arg-type]
            if module.shortcut is not None:
                nn.init.dirac_(module.shortcut.conv.weight)


def _silence(lstm: nn.LSTM, generator: torch.Generator) -> None:
    size = lstm.hidden_size
    for name, parameter in lstm.named_parameters():
        if name.startswith("weight"):
            nn.init.uniform_(parameter, -(size**-0.5), size**-0.5, generator=generator)
        else:
            nn.init.zeros_(parameter)
        if name.endswith(f"_l{lstm.num_layers - 1}"):
            parameter[2 * size : 3 * size] = 0.0  # the gates are ordered input, forget, cell, output
