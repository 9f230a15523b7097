"""The cache of converted networks on disk: a model is converted only at its first start on a machine."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from streamcodec.engine import graph
from streamcodec.engine.cache_root import cache_root, source_hash
from streamcodec.engine.openvino.network import core, openvino
from streamcodec.model import layers, padding, seanet

__all__ = ["is_converted", "load_or_convert"]

log = logging.getLogger("streamcodec.engine")


def is_converted(fingerprint: str, names: Iterable[str]) -> bool:
    """Whether the cache holds all networks with these names for the model with this fingerprint."""
    folder = _cache_folder(fingerprint)
    return all((folder / f"{name}.xml").exists() for name in names)


def load_or_convert(fingerprint: str, name: str, convert: Callable[[], Any]) -> Any:
    """Load a converted network from the cache; if it is not there, call `convert` and cache the result for the next start."""
    folder = _cache_folder(fingerprint)
    path = folder / f"{name}.xml"
    try:
        if path.exists():
            return core().read_model(path)
    except RuntimeError:
        pass  # a damaged file is converted again
    log.info("converting the model's %s for this processor, once: the result is cached for the next start", name)
    network = convert()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            openvino().save_model(network, Path(temporary) / f"{name}.xml", compress_to_fp16=False)
            # The weights (.bin) move first, so that another process that sees the .xml also finds its .bin.
            for suffix in (".bin", ".xml"):
                (Path(temporary) / f"{name}{suffix}").replace(folder / f"{name}{suffix}")
    except OSError:
        pass  # if the folder cannot be written, the next start only has to convert again
    return network


def _cache_folder(fingerprint: str) -> Path:
    """The cache folder of one model's networks; it depends on the versions of OpenVINO, torch and this code."""
    versions = f"{fingerprint} {openvino().__version__} {torch.__version__} {_source_hash()}"
    return cache_root() / hashlib.sha256(versions.encode()).hexdigest()[:16]


def _source_hash() -> str:
    """A hash of the source code that determines the networks, so that other versions of it do not load this version's networks."""
    sources = [*map(Path(__file__).with_name, ("engine.py", "half.py")), *(Path(str(m.__file__)) for m in (graph, layers, padding, seanet))]
    return source_hash(sources)
