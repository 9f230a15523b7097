"""The packages of `clients/web` for tests: their own tests, and programs bundled from them that Node runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from programs import needs

__all__ = ["WEB", "bundled", "needs_packages", "vitest"]

WEB = Path(__file__).resolve().parents[2] / "clients" / "web"
_TOOLS = WEB / "node_modules" / ".bin"

needs_packages = needs("node", without=None if (_TOOLS / "vitest").exists() else "the packages of clients/web (make page-setup)")


def vitest(*files: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the packages' own tests, those of `files` or all."""
    command = [_TOOLS / "vitest", "run", *files]
    told = {**os.environ, "NO_COLOR": "1", **environment}
    return subprocess.run(command, cwd=WEB, env=told, capture_output=True, text=True, timeout=1200, check=False)


def bundled(entry: str, folder: Path) -> Path:
    """A program in TypeScript below `clients/web` as one file that Node runs, in `folder`."""
    program = folder / f"{Path(entry).stem}.mjs"
    options = ["--bundle", "--format=esm", "--platform=node", "--conditions=source", "--log-level=warning", f"--outfile={program}"]
    subprocess.run([_TOOLS / "esbuild", entry, *options], cwd=WEB, timeout=1200, check=True)
    return program
