"""Which weights and which engine code a stored figure belongs to, and whether the repository has moved on since.

The engine's code is told by a checksum of its sources: it needs no history and holds for uncommitted changes too.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

__all__ = ["Repository", "commit", "outdated", "repository"]

_ROOT = Path(__file__).parents[2]
# What computes codes and audio: everything that a figure of any benchmark runs through.
_ENGINE = ("types.py", "config.py", "model", "engine", "scheduler", "codec", "codec.py")
_WRITTEN = (":(exclude)benchmarks/results", ":(exclude)benchmarks/RESULTS.md")


@dataclass(frozen=True)
class Repository:
    """What the repository holds: the embedded models' fingerprints by name, and the checksum of the engine's sources."""

    models: Mapping[str, str]
    engine: str

    def __str__(self) -> str:
        models = ", ".join(f"{name} {fingerprint}" for name, fingerprint in self.models.items())
        return f"weights: {models}; engine code: {self.engine}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The first one that `text` names, as `str` writes it."""
        found = re.search(r"weights: ([^;\n]*); engine code: (\w+)", text)
        if found is None:
            raise ValueError("the text names no weights and no engine code")
        return cls(dict(model.split(" ") for model in found[1].split(", ") if model), found[2])


@cache
def repository() -> Repository:
    """What the repository holds now."""
    # Here: what loads a server must not have torch beside it.
    from streamcodec.model.checkpoint import weights_fingerprint
    from streamcodec.model.hub import embedded_models, load_model

    return Repository({name: weights_fingerprint(load_model(name)) for name in embedded_models()}, engine_checksum(_ROOT / "streamcodec"))


def engine_checksum(package: Path) -> str:
    """Twelve hexadecimal digits of the SHA-256 of the engine's Python sources below `package`, names included."""
    digest = hashlib.sha256()
    for part in _ENGINE:
        for file in sorted((package / part).rglob("*.py")) if (package / part).is_dir() else [package / part]:
            if file.is_file():
                digest.update(f"{file.relative_to(package).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def commit(root: Path = _ROOT) -> str | None:
    """The commit that is checked out, marked where tracked files differ from it; None outside a checkout.

    What benchmarks write does not count: one that has run changes nothing about what the next one measures.
    """
    try:
        name = _git(root, "describe", "--always", "--exclude=*")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *_WRITTEN)
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{name}-dirty" if changed else name


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def outdated(ran: Mapping[str, Any], now: Repository) -> list[str]:
    """Why a stored run no longer tells of what the repository holds; empty where it does."""
    told = []
    stored = ran["machine"].get("models")
    if stored is None:
        told.append("earlier weights, of which no fingerprint was stored")
    else:
        told += [
            f"other weights of `{name}` ({stored[name][:8]}, now {fingerprint[:8]})"
            for name, fingerprint in now.models.items()
            if stored.get(name, fingerprint) != fingerprint
        ]
    if "engine" not in ran:
        told.append("earlier engine code, of which no checksum was stored")
    elif ran["engine"] != now.engine:
        told.append(f"other engine code ({ran['engine']}, now {now.engine})")
    return told
