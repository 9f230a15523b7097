"""Which codec a benchmark's process loads."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamcodec.codec import Codec, load

__all__ = ["FULL", "FULL_SIZE", "Loading", "model_folder", "model_name"]

FULL = "full"
FULL_SIZE = "full size"  # as tables name it


@dataclass(frozen=True)
class Loading:
    """How to load the codec: a value that another process can be told. `threads` are the model's, all workers together."""

    model: str
    engine: Any = "auto"
    precision: Any = "fp32"
    threads: int = 1
    workers: int = 1

    def __call__(self) -> Codec:
        return load(self.model, engine=self.engine, precision=self.precision, threads=self.threads, workers=self.workers)


@contextmanager
def model_folder(name: str) -> Iterator[str]:
    """What `load` takes for `name`: for "full", a folder with the published architecture and random weights, else `name` itself."""
    if name != FULL:
        yield name
        return
    from benchmarks.peers import transformers_peer

    with tempfile.TemporaryDirectory() as folder:
        transformers_peer().save(Path(folder))
        yield folder


def model_name(name: str) -> str:
    """A model as tables name it."""
    return FULL_SIZE if name == FULL else Path(name).name
