"""A run: a recipe's stages, one after the other, each in a folder of its own below the run's.

    NAME/
      recipe.json            what was run, all defaults written out
      log.jsonl              one line for each stage that is done: kind, fingerprint, hours of computing
      01-adversarial/        checkpoints, steps.csv, quality.csv, and model.safetensors, once it is done

A run made anew goes on where it stopped: a stage whose model is there is done.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import torch

from streamcodec.config import CodecConfig
from streamcodec.errors import InputError, ModelNotFoundError, UnsupportedModelError
from streamcodec.model import checkpoint
from streamcodec.model.checkpoint import weights_fingerprint
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.hub import load_model
from streamcodec.output_file import check_outputs, write_text
from streamcodec.training.data.corpus import Corpus
from streamcodec.training.losses.discriminator import Discriminator, DiscriminatorSettings, load_discriminator, save_discriminator
from streamcodec.training.recipe import Recipe, Stage
from streamcodec.training.rundir import latest_checkpoint, load_checkpoint
from streamcodec.training.stages.kinds import DISCRIMINATOR, KINDS, StageInputs
from streamcodec.training.stages.loop import DEFAULT_PACE, Intervals

__all__ = ["TrainingRun", "export_run"]

log = logging.getLogger(__name__)

_MODEL = "model.safetensors"


class TrainingRun:
    """A recipe's run in one folder.

    Raises `InputError` for a base with another fingerprint, or a folder whose run was of another recipe.
    """

    def __init__(
        self,
        folder: Path,
        recipe: Recipe,
        corpus: Corpus,
        pace: Intervals = DEFAULT_PACE,
        *,
        base: str | None = None,
        discriminator: Path | None = None,
        device: str = "cpu",
    ) -> None:
        self.folder, self.recipe, self.corpus, self.pace = folder, recipe, corpus, pace
        self.discriminator, self.device = discriminator, device
        self.base = _base(recipe, base)
        self.config = recipe.config if self.base is None else self.base.config
        if self.config.granularity != "frames":
            raise UnsupportedModelError(f"only models that code frame by frame can be trained: this one {self.config.why_not_frames}")
        corpus.check_rate(self.config.sampling_rate)
        folder.mkdir(parents=True, exist_ok=True)
        self._note_recipe()

    def train(self) -> bool:
        """Run every stage that is not done; False where SIGTERM or SIGINT asked to stop before the last was."""
        models: list[EncodecModel] = []
        for number, stage in enumerate(self.recipe.stages, 1):
            model = self._stage(number, stage, models)
            if model is None:
                return False
            models.append(model)
        return True

    def _stage(self, number: int, stage: Stage, models: list[EncodecModel]) -> EncodecModel | None:
        folder = self._folders()[number - 1]
        done = folder / _MODEL
        is_new = not done.is_file()
        if is_new:
            log.info("stage %d of %d: %s", number, len(self.recipe.stages), stage.kind)
            folder.mkdir(exist_ok=True)
            left = [path for path in self._folders()[: number - 1] if (path / DISCRIMINATOR).is_file()]
            discriminator = left[-1] / DISCRIMINATOR if left else self.discriminator
            work = StageInputs(self.corpus, self.config, folder, self.base, models, self.pace, discriminator, self.device)
            model = KINDS[stage.kind].run(stage.settings, work)
            if model is None:
                return None
            checkpoint.save(model, done, layout="streamcodec")
        stored = checkpoint.load_file(done)
        if is_new:
            self._note_stage(number, stage, folder, stored)
        return stored

    def _folders(self) -> list[Path]:
        return [self.folder / f"{number:02d}-{stage.kind}" for number, stage in enumerate(self.recipe.stages, 1)]

    def _note_recipe(self) -> None:
        path = self.folder / "recipe.json"
        values = {
            "base": None if self.base is None else weights_fingerprint(self.base),
            "config": self.config.to_dict(),
            "stages": [stage.to_dict() for stage in self.recipe.stages],
        }
        text = json.dumps(values, indent=2) + "\n"
        # Stages that have not begun may change: what was run is what is noted.
        begun = sum(folder.is_dir() for folder in self._folders())
        if path.is_file() and _begun(json.loads(path.read_text(encoding="utf-8")), begun) != _begun(json.loads(text), begun):
            raise InputError(f"{self.folder}: this run is of another recipe or base ({path}), expected a new name for this one")
        write_text(path, text)

    def _note_stage(self, number: int, stage: Stage, folder: Path, model: EncodecModel) -> None:
        saved = latest_checkpoint(folder)
        hours = None if saved is None else load_checkpoint(saved)["seconds"] / 3600.0
        digits = weights_fingerprint(model)
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": number, "kind": stage.kind, "fingerprint": digits, "hours": hours}) + "\n")
        log.info("stage %d of %d: %s is done, fingerprint %s", number, len(self.recipe.stages), stage.kind, digits)


def export_run(folder: Path, target: Path, layout: checkpoint.Layout = "hf", discriminator: Path | None = None) -> EncodecModel:
    """Write the model that a run left last to `target`: of its last stage that is done, or the averaged weights of one that is under way.

    `discriminator` is where that of the last adversarial stage goes, for who wants to train on. Raises
    `ModelNotFoundError` where there is neither. Weights are stored in float16, but in float32 where that would change the codes of a
    model whose decoder alone was trained.
    """
    stages = sorted(path for path in folder.glob("[0-9][0-9]-*") if (path / _MODEL).is_file() or latest_checkpoint(path))
    if not stages:
        raise ModelNotFoundError(f"{folder}: no stage of a run in this folder")
    written = target / _MODEL if layout == "hf" else target
    if written.parent.is_dir():
        check_outputs([written, discriminator], [file for stage in stages for file in stage.iterdir() if file.is_file()])
    saved = latest_checkpoint(stages[-1])
    learner = None if saved is None else load_checkpoint(saved)["learner"]
    if (stages[-1] / _MODEL).is_file():
        model = checkpoint.load_file(stages[-1] / _MODEL)
    else:
        assert learner is not None
        model = EncodecModel(_config_of(folder))
        model.load_state_dict(learner["average"])
        model.eval()
    if discriminator is not None:
        save_discriminator(_discriminator_of(folder, stages), discriminator)
    codes_are_kept = all(path.name.endswith("-adversarial") for path in stages)
    checkpoint.save(model, target, layout=layout, dtype=torch.float32 if codes_are_kept and not _fits_half(model) else torch.float16)
    return checkpoint.load_file(target)


def _begun(values: dict[str, Any], stages: int) -> dict[str, Any]:
    # A run from before the configuration had some field is of that field's default.
    return values | {"config": CodecConfig.from_dict(values["config"]).to_dict(), "stages": values["stages"][:stages]}


def _base(recipe: Recipe, instead: str | None) -> EncodecModel | None:
    name = instead or recipe.base
    if name is None:
        return None
    model = load_model(name)
    if recipe.fingerprint is not None and (found := weights_fingerprint(model)) != recipe.fingerprint:
        raise InputError(f"base {name} has fingerprint {found}, the recipe expects {recipe.fingerprint}: give a file of that model as base")
    return model


def _fits_half(model: EncodecModel) -> bool:
    """Whether float16 holds what codes are made of, encoder and codebooks, exactly."""
    return all(torch.equal(t, t.half().float()) for t in (*model.encoder.parameters(), model.quantizer.embed))


def _config_of(folder: Path) -> CodecConfig:
    return CodecConfig.from_dict(json.loads((folder / "recipe.json").read_text(encoding="utf-8"))["config"])


def _discriminator_of(folder: Path, stages: list[Path]) -> Discriminator:
    """What the last of `stages` that has a discriminator left, or learns with at the moment."""
    values = json.loads((folder / "recipe.json").read_text(encoding="utf-8"))
    for path in reversed(stages):
        if (path / DISCRIMINATOR).is_file():
            return load_discriminator(path / DISCRIMINATOR)
        saved = latest_checkpoint(path)
        learner = {} if saved is None else load_checkpoint(saved)["learner"]
        if "discriminator" in learner:
            given = values["stages"][int(path.name[:2]) - 1]["discriminator"]
            discriminator = Discriminator(_config_of(folder).sampling_rate, DiscriminatorSettings.from_dict(given))
            discriminator.load_state_dict(learner["discriminator"])
            return discriminator
    raise ModelNotFoundError(f"{folder}: no stage with a discriminator has begun")
