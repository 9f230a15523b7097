"""The command line: one file for each command with its options. Every command imports its work when it runs, so that help is quick."""

from __future__ import annotations

import os
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's) and return its exit status."""
    # torch's threads, when they have nothing to do, would keep the processors busy for a while, which other threads here need.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        # Imported here, so that Ctrl-C in the program's first moments is no traceback either.
        from streamcodec.cli import app

        return app.main(argv)
    except KeyboardInterrupt:
        return 130
