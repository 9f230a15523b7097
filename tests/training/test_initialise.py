"""What training starts from: a codec that lets speech through before anything was learnt."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from training_material import TINY

from streamcodec.config import CodecConfig
from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel
from streamcodec.training.losses.spectral import snr
from streamcodec.training.recipe import EMBEDDED
from streamcodec.training.stages.initialise import LATENT_RMS, initialise


def low_noise(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    """Noise with speech's slope: most of it below 1 kHz."""
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal((rows, length)))
    slope = 1.0 / (1.0 + (np.fft.rfftfreq(length, 1 / 24_000) / 800.0) ** 2)
    return torch.from_numpy(0.2 * np.fft.irfft(spectrum * slope, length)).float()


def started(config: CodecConfig) -> EncodecModel:
    model = EncodecModel(config)
    initialise(model, low_noise(96, 40 * config.hop_length), torch.Generator().manual_seed(0))
    return model


@torch.no_grad()
def through(model: EncodecModel, x: torch.Tensor) -> torch.Tensor:
    latents = model.encoder(x[:, None], None, True)[0]
    samples: torch.Tensor = model.decoder(latents, None, True)[0]
    return samples[:, 0, : x.shape[1]]


@pytest.mark.parametrize(
    "config",
    [
        EMBEDDED,
        replace(EMBEDDED, use_conv_shortcut=True, num_residual_layers=2),
        replace(EMBEDDED, pad_mode="reflect", num_lstm_layers=0),
        # Stages too narrow to carry every sample take the strongest components already there.
        replace(EMBEDDED, num_filters=8),
    ],
    ids=["embedded", "shortcuts", "reflecting, no LSTM", "narrow"],
)
def test_what_is_like_the_training_audio_comes_through(config: CodecConfig) -> None:
    x = low_noise(4, 30 * config.hop_length, seed=1)
    assert snr(through(started(config), x), x).min() > 12.0


def test_an_untrained_model_gives_silence_for_silence() -> None:
    assert through(started(EMBEDDED), torch.zeros(1, 10 * EMBEDDED.hop_length)).abs().max() < 1e-3


def test_latents_have_their_power_and_all_of_them_vary() -> None:
    latents = started(EMBEDDED).encoder(low_noise(4, 9600, seed=1)[:, None], None, True)[0].detach()
    assert latents.square().mean().sqrt() == pytest.approx(LATENT_RMS, rel=0.1)
    assert latents.var(dim=(0, 2)).min() > 1e-5


def test_too_little_audio_says_how_much_is_needed() -> None:
    with pytest.raises(InputError, match=r"expected at least 640 frames"):
        initialise(EncodecModel(EMBEDDED), torch.zeros(2, 9600), torch.Generator())


def test_equal_seeds_make_equal_starts() -> None:
    audio = low_noise(96, 40 * TINY.hop_length)
    one, other = EncodecModel(TINY), EncodecModel(TINY)
    for model in (one, other):
        initialise(model, audio, torch.Generator().manual_seed(3))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
