"""The kinds of stages that a recipe may name: the settings of each, and how it makes a model of the one before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from streamcodec.config import CodecConfig
from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel
from streamcodec.training.data.batches import Batches, Crops
from streamcodec.training.data.corpus import Corpus
from streamcodec.training.losses.discriminator import load_discriminator, save_discriminator
from streamcodec.training.rundir import latest_checkpoint
from streamcodec.training.stages.adversarial import AdversarialLearner, AdversarialSettings
from streamcodec.training.stages.autoencoder import AutoencoderLearner, AutoencoderSettings
from streamcodec.training.stages.averaging import averaged
from streamcodec.training.stages.codebooks import refit
from streamcodec.training.stages.latents import weighed
from streamcodec.training.stages.loop import Intervals, Learner, learn
from streamcodec.training.stages.rounding import rounded

__all__ = ["DISCRIMINATOR", "KINDS", "Kind", "StageInputs"]

DISCRIMINATOR = "discriminator.safetensors"
"""What an adversarial stage leaves in its folder beside the model."""


@dataclass(frozen=True)
class StageInputs:
    """What a stage has to work with: the recipe's base, if it has one, the models that stages before it left, and a folder of its own.

    `discriminator` is the file of one to go on with; `device` is where stages learn that do so in steps.
    """

    corpus: Corpus
    config: CodecConfig
    folder: Path
    base: EncodecModel | None
    models: Sequence[EncodecModel]
    pace: Intervals
    discriminator: Path | None = None
    device: str = "cpu"

    @property
    def so_far(self) -> EncodecModel | None:
        """The newest model, if there is one."""
        return self.models[-1] if self.models else self.base

    @property
    def model(self) -> EncodecModel:
        """The newest model; raises `InputError` where there is none."""
        if self.so_far is None:
            raise InputError("this stage needs a model: expected a base or a stage of kind autoencoder before it")
        return self.so_far


@dataclass(frozen=True)
class FitSettings:
    """What a stage hears that fits something at once: `batches` of 4 crops of `crop_frames` frames, each a stream of its own."""

    batches: int = 6
    crop_frames: int = 750
    seed: int = 0

    def heard(self, work: StageInputs) -> Iterator[Tensor]:
        """The batches [4, 1, T]."""
        work.corpus.check_rate(work.config.sampling_rate)
        crops = Crops(batch=4, crop_frames=self.crop_frames, stream_seconds=0.0)
        batches = Batches(work.corpus, crops, work.config.hop_length, self.seed)
        return (batches(step) for step in range(self.batches))


@dataclass(frozen=True)
class CodebooksSettings(FitSettings):
    """Codebooks fitted to a corpus, and nothing else."""

    batches: int = 140


@dataclass(frozen=True)
class LatentWeightingSettings(FitSettings):
    """Latents turned so that codebooks spend their bits on what is heard, by `strength` from 0 to 1."""

    strength: float = 0.4


@dataclass(frozen=True)
class AveragingSettings:
    """The average of the model so far and of the one that stage number `stage` left (0 is the base), which has `share` of it."""

    stage: int
    share: float = 0.5


def _adversarial(settings: AdversarialSettings, work: StageInputs) -> EncodecModel | None:
    begun = None if work.discriminator is None else load_discriminator(work.discriminator)
    learner = AdversarialLearner(work.model, settings, work.corpus, work.folder / "coded", begun, work.device)
    model = _learnt(learner, settings.steps, work)
    if model is not None:
        save_discriminator(learner.discriminator, work.folder / DISCRIMINATOR)
    return model


def _autoencoder(settings: AutoencoderSettings, work: StageInputs) -> EncodecModel | None:
    fresh = latest_checkpoint(work.folder) is None
    return _learnt(
        AutoencoderLearner(work.config, settings, work.corpus, work.so_far, fresh=fresh, device=work.device), settings.steps, work
    )


def _learnt(learner: Learner, steps: int, work: StageInputs) -> EncodecModel | None:
    clips = work.corpus.clips(work.pace.clip_seconds, work.pace.clips) if work.pace.clips else []
    return learner.average.cpu() if learn(learner, steps, work.folder, work.pace, clips) else None


def _codebooks(settings: CodebooksSettings, work: StageInputs) -> EncodecModel:
    return refit(work.model, settings.heard(work))


def _latent_weighting(settings: LatentWeightingSettings, work: StageInputs) -> EncodecModel:
    return weighed(work.model, list(settings.heard(work)), settings.strength)


def _bf16_rounding(settings: FitSettings, work: StageInputs) -> EncodecModel:
    return rounded(work.model, list(settings.heard(work)))


def _averaging(settings: AveragingSettings, work: StageInputs) -> EncodecModel:
    models = [work.base, *work.models]
    other = models[settings.stage] if 0 <= settings.stage < len(models) else None
    if other is None:
        first = 1 if work.base is None else 0
        raise InputError(f"stage is {settings.stage}, expected {first} to {len(models) - 1}: a stage before this one")
    return averaged(work.model, other, settings.share)


@dataclass(frozen=True)
class Kind:
    """A kind of stage: the dataclass of its settings, and what makes a model by them, or None where it was told to stop."""

    settings: type[Any]
    run: Callable[[Any, StageInputs], EncodecModel | None]


KINDS: Mapping[str, Kind] = {
    "autoencoder": Kind(AutoencoderSettings, _autoencoder),
    "adversarial": Kind(AdversarialSettings, _adversarial),
    "codebooks": Kind(CodebooksSettings, _codebooks),
    "latent-weighting": Kind(LatentWeightingSettings, _latent_weighting),
    "averaging": Kind(AveragingSettings, _averaging),
    "bf16-rounding": Kind(FitSettings, _bf16_rounding),
}
