"""Where what is made once for this machine is kept, and for which version of the sources that made it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["cache_root", "source_hash"]


def cache_root() -> Path:
    """The user's cache folder for this package, or what $STREAMCODEC_CACHE names; it need not exist."""
    if override := os.environ.get("STREAMCODEC_CACHE"):
        return Path(override)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "streamcodec"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "streamcodec"


def source_hash(sources: Iterable[Path]) -> str:
    """The SHA-256 of these files, in hexadecimal digits: another version of them must not load what this one has made."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()
