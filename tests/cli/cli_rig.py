"""What the commands' tests share: a command that must fail, what a folder holds, and a server as a process of its own."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamcodec.cli import main

COMMANDS = [
    "admin",
    "serve",
    "mic",
    "play",
    "record",
    "replay",
    "echo",
    "demo",
    "encode",
    "decode",
    "tokenize",
    "convert",
    "export",
    "models",
    "token",
    "devices",
    "doctor",
]


def fails(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str]:
    """Run what must fail: its status, and the one line it says."""
    status = main([str(word) for word in argv])
    said = capsys.readouterr()
    assert status != 0
    [line] = said.err.splitlines()
    assert line.startswith("streamcodec")
    return status, line


def contents(folder: Path) -> dict[str, bytes]:
    """What the files in and below a folder hold, by their paths in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Terminal(io.StringIO):
    """Shows what would be on a screen: carriage returns, and the sequences that move up, erase a line, colour, hide the cursor."""

    def isatty(self) -> bool:
        return True

    @property
    def screen(self) -> list[str]:
        lines, row, column = [""], 0, 0
        for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|.", self.getvalue(), re.DOTALL):
            if part == "\n":
                row, column = row + 1, 0
                if row == len(lines):
                    lines.append("")
            elif part == "\r":
                column = 0
            elif part.startswith("\x1b"):
                if part == "\x1b[2K":
                    lines[row] = ""
                else:
                    assert part in ("\x1b[1A", "\x1b[?25l", "\x1b[?25h") or part.endswith("m"), repr(part)
                    row -= part == "\x1b[1A"
            else:
                lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + 1 :]
                column += 1
        return "\n".join(line.rstrip() for line in lines).rstrip("\n").split("\n")


@contextlib.contextmanager
def serving(model: str, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`streamcodec serve` as a process of its own, and its URL."""
    command = [
        sys.executable,
        "-m",
        "streamcodec.cli",
        "serve",
        "--port",
        "0",
        "--model",
        model,
        "--engine",
        "torch",
        "--capacity",
        "off",
        *more,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        banner = process.stdout.readline()
        match = re.match(r"streamcodec \S+ at (wss?://127\.0\.0\.1:\d+): model ", banner)
        assert match, banner or process.communicate()
        assert process.stdout.readline() == f"talk and listen in a browser: {re.sub('^ws', 'http', match[1])}/\n"
        yield process, match[1]
    finally:
        process.kill()
        process.communicate()
