"""What tests need besides Python: where it is missing they are skipped and say so, and where CI is set they fail."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["needs"]


def needs(*programs: str, without: str | None = None) -> pytest.MarkDecorator:
    """A mark for tests that run `programs`; `without` says what else they would have to do without, if anything."""
    missing = [program for program in programs if shutil.which(program) is None] + ([without] if without else [])
    skipped = bool(missing) and not os.environ.get("CI")
    return pytest.mark.skipif(skipped, reason=f"missing here: {', '.join(missing)}; where CI is set this is a failure")
