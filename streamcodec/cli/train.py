"""`streamcodec train`: the recipe, which has commands and options of its own."""

from __future__ import annotations

import typer

__all__ = ["PASSED_ON", "train"]

# All that follows is the recipe's, --help included.
PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "allow_interspersed_args": False}


def train(context: typer.Context) -> int:
    """Train a model of your own (see streamcodec train --help)."""
    from streamcodec.training.cli import main

    return main(context.args)
