"""The schedule: which phase, learning rate and loss weights apply when this share of the budget is spent. Pure arithmetic.

    progress   0 ......................... adversarial ......................... 1
    phase      QUANTIZED                 | ADVERSARIAL
    learning   warm-up, then slowly down | cosine to the end

Averaged weights are good at any time; a bigger budget stretches the phases, and a phase once entered is never left.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from enum import IntEnum
from typing import Any

from streamcodec.config import CodecConfig
from streamcodec.errors import InputError
from streamcodec.training.augment import Augmentation

__all__ = ["EMBEDDED", "REFINING", "TUNING", "Phase", "Recipe"]

EMBEDDED = CodecConfig(num_filters=16, pad_mode="constant", use_conv_shortcut=False, search_beam=4)
"""The embedded model's architecture: 342 MMAC per second of audio each way, and to search its codebooks 285 at 6 kbps."""


class Phase(IntEnum):
    """What is trained: the autoencoder with its codebooks, then against a discriminator too."""

    QUANTIZED = 1
    ADVERSARIAL = 2


@dataclass(frozen=True)
class Recipe:
    """Every number of a training run; `steps`, where given, is the budget instead of `hours` of computing.

    A row of a batch is a stream of `stream_seconds`, heard crop by crop with its states carried along; 0 makes every crop a stream of its
    own, and so does a `trim_right_ratio` below 1. At `late_joins` of the crops the decoder begins anew in the middle of a stream.
    """

    hours: float = 12.0
    steps: int | None = None
    seed: int = 0
    crop_frames: int = 48
    stream_seconds: float = 15.0
    late_joins: float = 0.05
    batch: int = 12
    music_share: float = 0.07
    augmentation: Augmentation = field(default_factory=Augmentation)

    adversarial_from: float = 0.60
    decay_from: float = 0.60

    learning_rate: float = 1e-3
    small_rate: float = 5e-5
    encoder_rate: float = 1.0
    warmup_steps: int = 200
    betas: tuple[float, float] = (0.8, 0.99)
    clip: float = 1.0
    average: float = 0.999

    mel: float = 1.6
    mel_floor: float = 3e-4
    relative: float = 0.3
    noise: float = 3.0
    snr_first: float = 0.05
    snr_last: float = 0.03
    level: float = 0.0
    commitment: float = 0.1
    latent_power: float = 0.3
    straight_average: float = 0.01

    decoder_only: bool = False
    n_q: tuple[int, ...] = (2, 4, 8, 8, 16, 32)
    fit_batches: int = 120
    kmeans_batches: int = 60
    revive_every: int = 20
    codebook_decay: float = 0.99

    forgiven_db: float = 0.0
    disturbance_pull: float = 0.4
    envelopes_pull: float = 0.3
    similarity_pull: float = 0.0
    adversarial_pull: float = 0.5
    adversarial_rows: int = 6
    feature_matching: float = 2.0
    discriminator_rate: float = 3e-4

    def __post_init__(self) -> None:
        if self.adversarial_from < 0.0:
            raise InputError(f"adversarial_from is {self.adversarial_from}, expected a share of the budget")
        if self.steps is None and self.hours <= 0.0:
            raise InputError(f"hours is {self.hours}, expected more than 0")
        if self.stream_seconds < 0.0:
            raise InputError(f"stream_seconds is {self.stream_seconds}, expected at least 0")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recipe:
        """The inverse of `to_dict`."""
        settings: dict[str, Any] = _with_tuples(values["augmentation"])
        return cls(**{**_with_tuples(values), "augmentation": Augmentation(**settings)})

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain values."""
        return asdict(self)

    def with_budget(self, hours: float | None, steps: int | None) -> Recipe:
        """The same recipe over another budget; None keeps what it had."""
        return replace(self, hours=self.hours if hours is None else hours, steps=self.steps if steps is None else steps)

    def progress(self, step: int, hours: float) -> float:
        """The share of the budget that `step` steps in `hours` hours of computing have spent; 1 and more is all of it."""
        return step / self.steps if self.steps is not None else hours / self.hours

    def phase(self, progress: float) -> Phase:
        """The phase at `progress`."""
        return Phase.QUANTIZED if progress < self.adversarial_from else Phase.ADVERSARIAL

    def rate(self, step: int, progress: float) -> float:
        """The factor on every learning rate: up over the warm-up, down to a half until `decay_from`, then a cosine to 2%."""
        warm = min(1.0, (step + 1) / self.warmup_steps)
        if progress < self.decay_from:
            return warm * (1.0 - 0.5 * progress / self.decay_from)
        rest = min(1.0, (progress - self.decay_from) / max(1.0 - self.decay_from, 1e-9))
        return warm * (0.02 + 0.48 * 0.5 * (1.0 + math.cos(math.pi * rest)))

    def snr_weight(self, progress: float) -> float:
        """The weight of the negative SNR, fading until the last phase."""
        faded = min(1.0, max(0.0, progress / max(self.adversarial_from, 1e-9)))
        return self.snr_first + (self.snr_last - self.snr_first) * faded

    def averaging(self, step: int) -> float:
        """The decay of the averaged weights, short at first so that they leave the initialisation behind."""
        return min(self.average, (1.0 + step) / (10.0 + step))


_LISTENING = Recipe(
    adversarial_from=1.0,
    mel=1.2,
    mel_floor=2e-4,
    noise=0.3,
    snr_last=0.05,
    n_q=(2, 4, 8, 8, 8, 16, 32, 32),
    forgiven_db=20.0,
)  # what takes a model on is mostly told what a listener hears

TUNING = replace(
    _LISTENING,
    decoder_only=True,
    hours=1.0,
    batch=16,
    decay_from=0.3,
    learning_rate=4e-4,
    small_rate=6e-5,
    average=0.995,
    disturbance_pull=1.5,
    envelopes_pull=1.5,
)
"""What makes the most of a model's decoder while its codes stay what they are."""

REFINING = replace(
    _LISTENING,
    hours=17.0,
    batch=64,
    decay_from=0.0,
    learning_rate=1.2e-3,
    small_rate=1.2e-4,
    encoder_rate=0.5,
    warmup_steps=100,
    relative=0.2,
    level=0.1,
    commitment=0.04,
    codebook_decay=0.9995,
    average=0.9995,
    disturbance_pull=1.2,
    envelopes_pull=1.0,
    similarity_pull=1.0,
)
"""What takes a whole model on, codebooks too, in big batches."""


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
