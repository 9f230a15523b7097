"""Fetches the corpus's packages with the ordinary Debian tools and unpacks them without installing anything."""

from __future__ import annotations

import logging
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from streamcodec.errors import InputError, MissingDependencyError
from streamcodec.training.data.sources import SOURCES, CorpusSource

__all__ = ["fetch", "unpacked"]

log = logging.getLogger(__name__)


def unpacked(folder: Path, source: CorpusSource) -> Path:
    """Where the package of `source` lies below `folder`."""
    return folder / source.package


def fetch(folder: Path, sources: Iterable[CorpusSource] = SOURCES) -> None:
    """Download and unpack every source's package into `folder`, one sub-folder a package; those already there are left alone.

    Raises `MissingDependencyError` where there is no `apt-get` or `dpkg`, `InputError` for a package that cannot be had.
    """
    for tool in ("apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise MissingDependencyError(f"{tool} is not on this machine: the corpus comes from Debian packages (or use audio of your own)")
    folder.mkdir(parents=True, exist_ok=True)
    for package, target in sorted({(s.package, unpacked(folder, s)) for s in sources}):
        if target.is_dir():
            continue
        log.info("fetching %s", package)
        parts = folder / f".{package}"
        shutil.rmtree(parts, ignore_errors=True)
        (parts / "tree").mkdir(parents=True)
        done = subprocess.run(["apt-get", "download", package], cwd=parts, capture_output=True, text=True, check=False)
        debs = list(parts.glob("*.deb"))
        if done.returncode or not debs:
            raise InputError(f"apt-get download {package} failed: {done.stderr.strip()[-300:] or done.stdout.strip()[-300:]}")
        subprocess.run(["dpkg", "-x", str(debs[0]), str(parts / "tree")], check=True)
        (parts / "tree").rename(target)
        shutil.rmtree(parts)
