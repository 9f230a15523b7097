"""Importing packages that import more than they need here."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator

__all__ = ["without_torchaudio"]


@contextlib.contextmanager
def without_torchaudio() -> Iterator[None]:
    """While an import goes on, an empty module stands for torchaudio: PyPI's does not load beside every torch.

    For packages that import it for a file reader or a resampler that nothing here calls.
    """
    kept = sys.modules.get("torchaudio")
    sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    try:
        yield
    finally:
        del sys.modules["torchaudio"]
        if kept is not None:
            sys.modules["torchaudio"] = kept
