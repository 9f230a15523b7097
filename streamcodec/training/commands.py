"""What `streamcodec train` does, as plain functions: `data`, `run`, `export`, `language_model` and `plot`. Paths are always arguments."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from streamcodec.codec import load
from streamcodec.errors import InputError
from streamcodec.model.checkpoint import Layout
from streamcodec.model.fixed_point import save_fixed_point
from streamcodec.output_file import check_output
from streamcodec.training import plots
from streamcodec.training.data.corpus import Corpus, Folder, build
from streamcodec.training.data.fetch import fetch, unpacked
from streamcodec.training.data.sources import SOURCES
from streamcodec.training.language_model import LanguageModelSettings, bits_per_code, codes_of, train_language_model
from streamcodec.training.recipe import load_recipe
from streamcodec.training.run import TrainingRun, export_run

__all__ = ["data", "export", "language_model", "plot", "run"]

_CLIP_S = 20.0
_LOGGED_STEPS = 200

log = logging.getLogger(__name__)


def data(
    corpus: Path,
    *,
    packages: Path | None = Path("packages"),
    audio: Sequence[Path] = (),
    music: Sequence[Path] = (),
    held_out: Sequence[Path] = (),
) -> Corpus:
    """Build a corpus: of the Debian packages that the embedded model heard, fetched into `packages` unless it is None, and of own folders.

    `audio` is speech, `music` music and noise, `held_out` speech to evaluate on. Raises `InputError` where two folders' last names agree.
    """
    folders = []
    if packages is not None:
        fetch(packages)
        folders += [Folder(s.name, unpacked(packages, s), s.kind, s.held_out, s.pattern, s.licence) for s in SOURCES]
    folders += [Folder(path.name, path) for path in audio]
    folders += [Folder(path.name, path, kind="music") for path in music]
    folders += [Folder(path.name, path, held_out=True) for path in held_out]
    if len({f.name for f in folders}) < len(folders):
        raise InputError("two folders have the same last name, which names the source: rename one")
    built = build(folders, corpus)
    log.info("%.2f h in %s", built.hours(), corpus)
    return built


def run(
    recipe: str,
    *,
    name: str | None = None,
    corpus: Path = Path("corpus"),
    runs: Path = Path("runs"),
    base: str | None = None,
    discriminator: Path | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> bool:
    """Run a recipe, shipped or a file, or go on with it, in `runs`/`name` (the recipe's own by default); False where told to stop.

    `base` is the model to begin with instead of the recipe's: by name, file or hub id, but with the same fingerprint; `discriminator` is an
    exported one for the first adversarial stage to go on with. `device` is where stages learn that do so in steps, such as "cuda".
    """
    if threads is not None:
        torch.set_num_threads(threads)
    wanted = load_recipe(recipe)
    return TrainingRun(runs / (name or wanted.name), wanted, Corpus(corpus), base=base, discriminator=discriminator, device=device).train()


def export(run_folder: Path, target: Path, *, layout: Layout = "hf", discriminator: Path | None = None) -> None:
    """Write the model of a run, see `export_run`."""
    export_run(run_folder, target, layout, discriminator)


def language_model(
    target: Path, *, model: str = "speech-24k", corpus: Path = Path("corpus"), minutes: float = 60.0, steps: int | None = None
) -> None:
    """Train a language model of whole numbers on `minutes` of speech as a codec codes it, and log what it spends on held-out speech."""
    check_output(target)
    codec, sounds = load(model), Corpus(corpus)
    sounds.check_rate(codec.sample_rate)
    clips = max(1, round(60 * minutes / _CLIP_S))
    log.info("coding %d clips of %g s", clips, _CLIP_S)
    codes = codes_of(codec, sounds, clips, _CLIP_S)
    settings = LanguageModelSettings() if steps is None else LanguageModelSettings(steps=steps)

    def progress(step: int, loss: float) -> None:
        if step % _LOGGED_STEPS == 0:
            log.info("step %d: %.3f bits a code", step, loss)

    trained = train_language_model(codes, codec.config.codebook_size, settings, progress)
    save_fixed_point(trained, target)
    held_out = sounds.clips(_CLIP_S, 1, held_out=True)
    if held_out:
        heard = codes_of(codec, sounds, 10, _CLIP_S, held_out=True)
        for n_q in codec.config.n_q_choices:
            spent = bits_per_code(trained, heard, n_q).mean()
            log.info(
                "%g kbps: %.2f bits a code of %d on held-out speech", codec.config.bandwidth_of(n_q), spent, codec.config.bits_per_code
            )


def plot(stage_folder: Path, target: Path) -> None:
    """Write a PNG of what a stage has logged."""
    plots.plot(stage_folder, target)
