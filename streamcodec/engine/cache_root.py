"""Where what is made once for this machine is kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_root"]


def cache_root() -> Path:
    """The user's cache folder for this package, or what $STREAMCODEC_CACHE names; it need not exist."""
    if override := os.environ.get("STREAMCODEC_CACHE"):
        return Path(override)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "streamcodec"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "streamcodec"
