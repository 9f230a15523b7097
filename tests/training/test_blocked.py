"""Blocks of steps are the model's own layers: the same samples, latents and gradients, only sooner."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_material import TINY

from streamcodec.config import CodecConfig
from streamcodec.model.encodec import EncodecModel
from streamcodec.training.blocked import Blocked, can_be_blocked
from streamcodec.training.recipe import EMBEDDED

CONFIGS = [
    EMBEDDED,
    TINY,
    replace(TINY, num_residual_layers=3, use_conv_shortcut=True),
    replace(TINY, num_lstm_layers=0, upsampling_ratios=(3, 7), kernel_size=5, last_kernel_size=3, target_bandwidths=(10.0,)),
]
IDS = ["embedded", "tiny", "dilated, with shortcuts", "odd strides, no LSTM"]


def model_of(config: CodecConfig) -> EncodecModel:
    torch.manual_seed(0)
    return EncodecModel(config)


def whole(model: EncodecModel, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents and samples as the layers compute them."""
    latents = model.encoder(x, None, True)[0]
    return latents, model.decoder(latents, None, True)[0][:, 0]


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_blocks_compute_what_the_layers_do(config: CodecConfig) -> None:
    model = model_of(config)
    x = torch.randn(2, 1, 11 * config.hop_length)
    latents, samples = whole(model, x)
    blocked = Blocked(model)
    torch.testing.assert_close(blocked.encode(x, torch.float32), latents, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(blocked.decode(latents, torch.float32), samples, rtol=1e-4, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(frames=st.integers(1, 12), rows=st.integers(1, 3))
def test_any_number_of_frames_and_rows(frames: int, rows: int) -> None:
    model = model_of(TINY)
    x = torch.randn(rows, 1, frames * TINY.hop_length)
    latents, samples = whole(model, x)
    blocked = Blocked(model)
    torch.testing.assert_close(blocked.encode(x, torch.float32), latents, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(blocked.decode(latents, torch.float32), samples, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", CONFIGS, ids=IDS)
def test_gradients_are_those_of_the_layers(config: CodecConfig) -> None:
    model = model_of(config)
    parameters = [*model.encoder.parameters(), *model.decoder.parameters()]
    x, weights = torch.randn(2, 1, 6 * config.hop_length), torch.randn(2, 6 * config.hop_length)
    expected = torch.autograd.grad((whole(model, x)[1] * weights).sum(), parameters)
    blocked = Blocked(model)
    got = torch.autograd.grad((blocked.decode(blocked.encode(x, torch.float32), torch.float32) * weights).sum(), parameters)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(b.abs().max()) + 1e-6)


@torch.no_grad()
def test_half_the_bits_stay_close() -> None:
    model = model_of(EMBEDDED)
    x = 0.1 * torch.randn(2, 1, 12 * EMBEDDED.hop_length)
    latents, samples = whole(model, x)
    blocked = Blocked(model)
    assert float((blocked.encode(x) - latents).norm() / latents.norm()) < 0.03
    y = blocked.decode(latents)
    assert y.dtype is torch.float32 and float((y - samples).norm() / samples.norm()) < 0.03


def test_models_that_reflect_or_look_ahead_are_left_to_the_layers() -> None:
    assert can_be_blocked(EMBEDDED)
    assert not can_be_blocked(CodecConfig())
    assert not can_be_blocked(replace(EMBEDDED, trim_right_ratio=0.5))
