"""Which codec a benchmark's process loads."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamcodec.codec import Codec, load

__all__ = ["FULL", "FULL_32K", "FULL_SIZE", "FULL_STEREO", "Loading", "model_folder", "model_name"]

FULL = "full"
FULL_32K = "full-32k"
FULL_STEREO = "full-48k"
_ARCHITECTURES = {FULL: "encodec_24khz", FULL_32K: "encodec_32khz", FULL_STEREO: "encodec_48khz"}
_NAMES = {FULL: "full size", FULL_32K: "full size, 32 kHz", FULL_STEREO: "full size, 48 kHz"}  # as tables name them
FULL_SIZE = _NAMES[FULL]


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
    """What `load` takes for `name`: for "full", "full-32k" or "full-48k", a folder with a published architecture and random weights."""
    if name not in _ARCHITECTURES:
        yield name
        return
    from benchmarks.peers.references import reference_of

    with tempfile.TemporaryDirectory() as folder:
        yield str(reference_of("transformers", _ARCHITECTURES[name]).save(Path(folder)))


def model_name(name: str) -> str:
    """A model as tables name it."""
    return _NAMES.get(name) or Path(name).name
