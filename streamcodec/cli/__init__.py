"""The command line: one file for each command with its options. Every command imports its work when it runs, so that help is quick."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: the process's) and return its exit status."""
    try:
        # Imported here, so that Ctrl-C in the program's first moments is no traceback either.
        from streamcodec.cli import app

        return app.main(argv)
    except KeyboardInterrupt:
        return 130
