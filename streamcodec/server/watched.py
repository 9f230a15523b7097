"""Files that are read again when they have changed, whoever changes them and however."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["LOOK_EVERY_S", "WatchedFiles"]

LOOK_EVERY_S = 5.0
"""How often to look. Files that change are read when they have stayed the same for as long: they are written piece by piece, one by one."""

_State = tuple[int, int, int, int]


class WatchedFiles:
    """Says whether files have changed since this was made; make it before they are first read."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self._seen = self._look()
        self._settling = False

    def changed(self) -> bool:
        """Whether they have changed, and have stayed the same since the last call; True once for a change. Call it every `LOOK_EVERY_S`."""
        before, self._seen = self._seen, self._look()
        if self._seen != before:
            self._settling = True
            return False
        settled, self._settling = self._settling, False
        return settled

    def _look(self) -> tuple[_State | None, ...]:
        return tuple(map(_state, self.paths))


def _state(path: Path) -> _State | None:
    try:
        found = path.stat()
    except OSError:
        return None
    # The last one tells also of a file that may be read from now on.
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
