"""What the tests of this room share: a tiny model, and a few seconds of sound that is a bit like speech."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from streamcodec.config import CodecConfig
from streamcodec.training.data.augment import Augmentation
from streamcodec.training.data.batches import Crops
from streamcodec.training.stages.adversarial import AdversarialSettings
from streamcodec.training.stages.autoencoder import AutoencoderSettings

RATE = 24_000
TINY = CodecConfig(
    num_filters=4,
    hidden_size=8,
    codebook_dim=8,
    codebook_size=16,
    num_lstm_layers=1,
    pad_mode="constant",
    use_conv_shortcut=False,
    target_bandwidths=(0.6, 1.2),
)
CROPS = Crops(
    batch=4, crop_frames=24, stream_seconds=0.64, augmentation=Augmentation(speed=0.2, reverb=0.2, noise=0.2, other=0.2, band=0.2)
)
SMALL = replace(CROPS, batch=2)
AUTOENCODER = AutoencoderSettings(
    steps=60, crops=SMALL, rate=3e-4, warmup_steps=5, n_q=(2, 4), kmeans_batches=10, fit_batches=20, revive_every=5
)
ADVERSARIAL = AdversarialSettings(steps=20, crops=SMALL, streams=8, n_q=(2, 4), discriminator_alone=3, warmup_steps=2)


def voice(seconds: float, rate: int, seed: int) -> NDArray[np.float32]:
    """Syllables of a gliding harmonic tone with a little breath, and pauses between them."""
    chance = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    pitch = 110.0 * (1.0 + seed % 3) * (1.0 + 0.1 * np.sin(2 * np.pi * 0.7 * t))
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    tone = sum(np.sin(k * phase) / k for k in range(1, 8))
    envelope = np.clip(np.sin(2 * np.pi * 3.0 * t), 0.0, None) ** 0.5
    sound = 0.1 * envelope * (tone + 0.1 * chance.standard_normal(len(t)))
    return np.asarray(sound, dtype=np.float32)


def write_voices(folder: Path, speakers: int = 2, files: int = 2, seconds: float = 2.0, rate: int = RATE) -> Path:
    """WAV files below `folder`, one sub-folder a speaker."""
    for speaker in range(speakers):
        (folder / f"speaker{speaker}").mkdir(parents=True)
        for i in range(files):
            soundfile.write(folder / f"speaker{speaker}" / f"{i}.wav", voice(seconds, rate, speaker + 10 * i), rate)
    return folder
