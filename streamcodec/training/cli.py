"""The recipe's commands, from fetching packages and building a corpus to training, weighing and exporting. Paths are always arguments."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from streamcodec.config import CodecConfig
from streamcodec.errors import InputError
from streamcodec.model import checkpoint
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.hub import load_model
from streamcodec.training.batches import Batches
from streamcodec.training.blending import blended
from streamcodec.training.corpus import Corpus, Folder, build
from streamcodec.training.export import export
from streamcodec.training.fetch import fetch, unpacked
from streamcodec.training.loop import Pace, Run
from streamcodec.training.plots import plot
from streamcodec.training.recipe import EMBEDDED, REFINING, TUNING, Recipe
from streamcodec.training.refit import refit
from streamcodec.training.rounding import rounded
from streamcodec.training.sources import SOURCES
from streamcodec.training.weighting import weighed

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0 when it is done, 3 when training was told to stop before its end."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    status: int = arguments.run(arguments)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="streamcodec train", description="Train a codec model of your own, or the embedded one anew.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("fetch", help="download the corpus's Debian packages and unpack them")
    command.add_argument("folder", type=Path, nargs="?", default=Path("packages"))
    command.set_defaults(run=_fetch)

    command = commands.add_parser("build", help="turn audio into a corpus")
    command.add_argument("--packages", type=Path, help="what `fetch` downloaded")
    for option, what in (
        ("--audio", "speech of your own, in any format"),
        ("--music", "music and noise of your own"),
        ("--held-out", "speech to evaluate on, never trained on"),
    ):
        command.add_argument(option, type=Path, action="append", default=[], metavar="FOLDER", help=f"{what}; may be repeated")
    command.add_argument("--corpus", type=Path, default=Path("corpus"))
    command.set_defaults(run=_build)

    command = commands.add_parser("train", help="train, or go on from the run's latest checkpoint")
    command.add_argument("name", help="the run's name")
    _add_run(command, hours=Recipe().hours)
    command.add_argument("--filters", type=int, help="channels of the first layer (16)")
    command.add_argument("--lstm-layers", type=int, help="LSTM layers (2)")
    command.add_argument("--batch", type=int, help="crops a step (12)")
    command.set_defaults(run=_train)

    command = commands.add_parser("refine", help="train all of a model further, or go on")
    _add_base(command)
    _add_run(command, hours=REFINING.hours)
    _add_steps(command, REFINING)
    command.set_defaults(run=_refine)

    command = commands.add_parser("tune", help="train a model's decoder alone, or go on: its codes stay what they are")
    _add_base(command)
    _add_run(command, hours=TUNING.hours)
    _add_steps(command, TUNING)
    command.set_defaults(run=_tune)

    command = commands.add_parser("plot", help="draw a run's logs")
    command.add_argument("run_folder", type=Path, metavar="RUN")
    command.add_argument("target", type=Path, help="a .png file")
    command.set_defaults(run=_plot)

    command = commands.add_parser("export", help="write a run's averaged weights as a model")
    command.add_argument("run_folder", type=Path, metavar="RUN")
    _add_target(command)
    command.set_defaults(run=_export)

    command = commands.add_parser("refit", help="fit a model's codebooks to a corpus, and nothing else of it")
    _add_fitted(command, what="fit to", batches=140)
    command.set_defaults(run=_refit)

    command = commands.add_parser("blend", help="average two models' weights, of which one went on from the other")
    command.add_argument("model", help="embedded name, checkpoint or hub id")
    command.add_argument("other", help="the same, of the same configuration")
    _add_target(command)
    command.add_argument("--share", type=float, default=0.5, help="of the other (0.5)")
    command.set_defaults(run=_blend)

    command = commands.add_parser("weigh", help="turn a model's latents so that its codebooks spend their bits on what is heard")
    _add_fitted(command, what="listen to")
    command.add_argument("--strength", type=float, default=0.4, help="from 0, latents as they are, to 1, small errors all as audible (0.4)")
    command.set_defaults(run=_weigh)

    command = commands.add_parser("round", help="round a model's encoder to bfloat16 and fit its biases, so that bf16 costs less")
    _add_fitted(command, what="fit to")
    command.set_defaults(run=_round)
    return parser


def _add_base(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", help="the run's name")
    command.add_argument("model", help="embedded name, checkpoint or hub id")


def _add_run(command: argparse.ArgumentParser, hours: float) -> None:
    command.add_argument("--corpus", type=Path, default=Path("corpus"))
    command.add_argument("--runs", type=Path, default=Path("runs"), help="the folder that holds the runs' folders")
    command.add_argument("--hours", type=float, help=f"budget in hours of computing ({hours:g})")
    command.add_argument("--steps", type=int, help="budget in steps instead")
    command.add_argument("--threads", type=int, help="processor threads at most (all)")
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute; cuda is untested (cpu)")


def _add_steps(command: argparse.ArgumentParser, recipe: Recipe) -> None:
    command.add_argument("--batch", type=int, help=f"crops a step ({recipe.batch})")
    command.add_argument(
        "--crop-frames", type=int, help=f"frames of a crop ({recipe.crop_frames}), through which gradients go back; streams are carried on"
    )
    begins = "learning rate, of which it begins with half" if recipe.decay_from == 0.0 else "learning rate at first"
    command.add_argument("--rate", type=float, help=f"{begins} ({recipe.learning_rate:g})")


def _add_fitted(command: argparse.ArgumentParser, what: str, batches: int = 6) -> None:
    command.add_argument("model", help="embedded name, checkpoint or hub id")
    _add_target(command)
    command.add_argument("--corpus", type=Path, default=Path("corpus"))
    command.add_argument("--batches", type=int, default=batches, help=f"batches of 4 crops to {what} ({batches})")
    command.add_argument("--crop-frames", type=int, default=750, help="frames of a crop (750, which are 10 s)")


def _add_target(command: argparse.ArgumentParser) -> None:
    command.add_argument("target", type=Path, help="a folder for layout hf, a .safetensors file for layout streamcodec")
    command.add_argument("--layout", choices=("hf", "streamcodec"), default="hf")


def _fetch(arguments: argparse.Namespace) -> int:
    fetch(arguments.folder)
    return 0


def _build(arguments: argparse.Namespace) -> int:
    folders = []
    if arguments.packages is not None:
        folders += [Folder(s.name, unpacked(arguments.packages, s), s.kind, s.held_out, s.pattern, s.licence) for s in SOURCES]
    folders += [Folder(path.name, path) for path in arguments.audio]
    folders += [Folder(path.name, path, kind="music") for path in arguments.music]
    folders += [Folder(path.name, path, held_out=True) for path in arguments.held_out]
    if len({f.name for f in folders}) < len(folders):
        raise InputError("two folders have the same last name, which names the source: rename one")
    corpus = build(folders, arguments.corpus)
    logging.info("%.2f h in %s", corpus.hours(), arguments.corpus)
    return 0


def _train(arguments: argparse.Namespace) -> int:
    recipe = Recipe()
    if arguments.batch:
        recipe = replace(recipe, batch=arguments.batch)
    config = replace(
        EMBEDDED,
        num_filters=arguments.filters or EMBEDDED.num_filters,
        num_lstm_layers=EMBEDDED.num_lstm_layers if arguments.lstm_layers is None else arguments.lstm_layers,
    )
    return _run(arguments, config, recipe)


def _refine(arguments: argparse.Namespace) -> int:
    return _take_on(arguments, REFINING)


def _tune(arguments: argparse.Namespace) -> int:
    return _take_on(arguments, TUNING)


def _take_on(arguments: argparse.Namespace, recipe: Recipe) -> int:
    base = load_model(arguments.model)
    rate = arguments.rate or recipe.learning_rate
    recipe = replace(
        recipe,
        batch=arguments.batch or recipe.batch,
        crop_frames=arguments.crop_frames or recipe.crop_frames,
        learning_rate=rate,
        small_rate=recipe.small_rate * rate / recipe.learning_rate,
    )
    return _run(arguments, base.config, recipe, base)


def _run(arguments: argparse.Namespace, config: CodecConfig, recipe: Recipe, base: EncodecModel | None = None) -> int:
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    recipe = recipe.with_budget(arguments.hours, arguments.steps)
    run = Run(arguments.runs / arguments.name, Corpus(arguments.corpus), config, recipe, Pace(), base=base, device=arguments.device)
    return 0 if run.train() else 3


def _plot(arguments: argparse.Namespace) -> int:
    plot(arguments.run_folder, arguments.target)
    return 0


def _export(arguments: argparse.Namespace) -> int:
    export(arguments.run_folder, arguments.target, arguments.layout)
    return 0


def _refit(arguments: argparse.Namespace) -> int:
    model = load_model(arguments.model)
    count = refit(model, _heard(arguments, model))
    checkpoint.save(model, arguments.target, layout=arguments.layout)  # float32: the rest of the model is left bit for bit
    logging.info("codebooks fitted to %d latents: %s", count, arguments.target)
    return 0


def _blend(arguments: argparse.Namespace) -> int:
    model = blended(load_model(arguments.model), load_model(arguments.other), arguments.share)
    checkpoint.save(model, arguments.target, layout=arguments.layout)
    logging.info("%g of %s and %g of %s: %s", 1 - arguments.share, arguments.model, arguments.share, arguments.other, arguments.target)
    return 0


def _weigh(arguments: argparse.Namespace) -> int:
    model = load_model(arguments.model)
    heard = list(_heard(arguments, model))
    checkpoint.save(weighed(model, heard, arguments.strength), arguments.target, layout=arguments.layout)
    logging.info("latents weighed by what is heard of %d crops: %s", sum(map(len, heard)), arguments.target)
    return 0


def _round(arguments: argparse.Namespace) -> int:
    model = load_model(arguments.model)
    heard = list(_heard(arguments, model))
    checkpoint.save(rounded(model, heard), arguments.target, layout=arguments.layout)
    logging.info("encoder rounded to bfloat16, biases fitted to %d crops: %s", sum(map(len, heard)), arguments.target)
    return 0


def _heard(arguments: argparse.Namespace, model: EncodecModel) -> Iterator[Tensor]:
    """As many batches of the corpus as the command was told, each crop a stream of its own."""
    corpus = Corpus(arguments.corpus)
    corpus.check_rate(model.config.sampling_rate)
    recipe = replace(Recipe(), batch=4, stream_seconds=0.0, crop_frames=arguments.crop_frames)
    batches = Batches(corpus, recipe, model.config.hop_length)
    return (batches(step) for step in range(arguments.batches))
