"""Converted networks on disk: only a model's first start on a machine converts it."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from streamcodec.engine import graph
from streamcodec.engine.openvino.network import core, openvino
from streamcodec.model import layers, seanet

__all__ = ["is_converted", "kept"]


def is_converted(fingerprint: str, names: Iterable[str]) -> bool:
    """Whether all networks of these names are in the cache for the model with this fingerprint."""
    folder = _cache_folder(fingerprint)
    return all((folder / f"{name}.xml").exists() for name in names)


def kept(fingerprint: str, name: str, convert: Callable[[], Any]) -> Any:
    """The converted network from the cache folder, else from `convert`, which is then kept for the next start."""
    folder = _cache_folder(fingerprint)
    path = folder / f"{name}.xml"
    try:
        if path.exists():
            return core().read_model(path)
    except RuntimeError:
        pass  # damaged: convert anew
    network = convert()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as draft:
            openvino().save_model(network, Path(draft) / f"{name}.xml", compress_to_fp16=False)
            # The weights first: whoever sees the .xml finds its .bin.
            for suffix in (".bin", ".xml"):
                (Path(draft) / f"{name}{suffix}").replace(folder / f"{name}{suffix}")
    except OSError:
        pass  # a folder that cannot be written only costs the next start its time
    return network


def _cache_folder(fingerprint: str) -> Path:
    """Where one model's networks are kept, as these versions of everything convert them."""
    if override := os.environ.get("STREAMCODEC_CACHE"):
        root = Path(override)
    elif sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA", Path.home())) / "streamcodec"
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "streamcodec"
    versions = f"{fingerprint} {openvino().__version__} {torch.__version__} {_source_hash()}"
    return root / hashlib.sha256(versions.encode()).hexdigest()[:16]


def _source_hash() -> str:
    """The code that shapes the networks: another version of it must not meet a network converted by this one."""
    sources = [Path(__file__).with_name("engine.py"), *(Path(str(module.__file__)) for module in (graph, layers, seanet))]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()
