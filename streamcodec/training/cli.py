"""`streamcodec train`: the command line over `commands`, and nothing else."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from streamcodec.training import commands

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0 when it is done, 3 when a run was told to stop before its end."""
    arguments = vars(_parser().parse_args(argv))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    command = arguments.pop("command")
    return 3 if getattr(commands, command.replace("-", "_"))(**arguments) is False else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="streamcodec train", description="Train a codec model of your own, or the embedded one anew.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    command = commands.add_parser("data", help="build a corpus: from Debian packages, which are downloaded, and from audio of your own")
    command.add_argument("corpus", type=Path, nargs="?", default=Path("corpus"))
    command.add_argument("--packages", type=Path, default=Path("packages"), help="where packages are unpacked; those there are used")
    command.add_argument("--no-packages", dest="packages", action="store_const", const=None, help="audio of your own alone")
    for option, what in (
        ("--audio", "speech of your own, in any format"),
        ("--music", "music and noise of your own"),
        ("--held-out", "speech to evaluate on, never trained on"),
    ):
        command.add_argument(option, type=Path, action="append", default=[], metavar="FOLDER", help=f"{what}; may be repeated")

    command = commands.add_parser("run", help="run a recipe, or go on with it where it stopped")
    command.add_argument("recipe", help="the name of a shipped recipe, or a .toml file")
    command.add_argument("--name", help="the run's name (the recipe's)")
    command.add_argument("--corpus", type=Path, default=Path("corpus"))
    command.add_argument("--runs", type=Path, default=Path("runs"), help="the folder that holds the runs' folders")
    command.add_argument("--base", metavar="MODEL", help="the model to begin with, where the recipe's is not to be found by its name")
    command.add_argument("--discriminator", type=Path, metavar="FILE", help="an exported discriminator to go on with")
    command.add_argument("--device", default="cpu", help="where stages learn that do so in steps: cpu or cuda")
    command.add_argument("--threads", type=int, help="processor threads at most (all)")

    command = commands.add_parser("export", help="write a run's averaged weights as a model")
    command.add_argument("run_folder", type=Path, metavar="RUN")
    command.add_argument("target", type=Path, help="a folder for layout hf, a .safetensors file for layout streamcodec")
    command.add_argument("--layout", choices=("hf", "streamcodec"), default="hf")
    command.add_argument("--discriminator", type=Path, metavar="FILE", help="write the discriminator's weights here, to train on with")

    command = commands.add_parser("language-model", help="train a language model of whole numbers, which makes .ecdc files smaller")
    command.add_argument("target", type=Path, help="a .safetensors file")
    command.add_argument("--model", default="speech-24k", help="the codec whose codes it predicts: a name, a file, a folder or a hub id")
    command.add_argument("--corpus", type=Path, default=Path("corpus"))
    command.add_argument("--minutes", type=float, default=60.0, help="of speech to learn from (60)")
    command.add_argument("--steps", type=int, help="steps of training (6000)")

    command = commands.add_parser("plot", help="draw a stage's logs")
    command.add_argument("stage_folder", type=Path, metavar="STAGE")
    command.add_argument("target", type=Path, help="a .png file")
    return parser
