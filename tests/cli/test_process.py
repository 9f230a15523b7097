"""What a command does as a process: errors of the system are one line, closed streams are no trap, and every signal ends it tidily."""

from __future__ import annotations

import asyncio
import errno
import io
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile as sf
from cli_rig import Terminal, fails

from streamcodec.cli import main
from streamcodec.cli.app import run_coroutine
from streamcodec.cli.process import secure_standard_streams
from streamcodec.cli.status import LiveLine, progress


@pytest.fixture
def default_signals() -> Iterator[None]:
    """Signals end this process, even if it was started by nohup, which lets it ignore SIGHUP."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and shells of POSIX")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "heard.wav"), "streamcodec: heard.wav: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "streamcodec: x: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "streamcodec: Input/output error"),
        (OSError("two\nlines"), "streamcodec: two lines"),
        (TimeoutError(), "streamcodec: TimeoutError"),
    ],
)
def test_an_error_of_the_system_is_one_line_with_the_file_and_the_reason(monkeypatch, capsys, error, line):
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("streamcodec.audio.list_devices", broken)
    assert fails(capsys, "devices") == (1, line)


LONG = "x" * 256


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("encode", LONG), "File name too long"),
        (("encode", "talk.wav", LONG), "cannot be written: File name too long"),
        (("decode", LONG), "File name too long"),
        (("mic", "--input", f"{LONG}.wav"), "File name too long"),
        (("mic", "--input", "talk.wav", "--keep", f"{LONG}.wav"), "cannot be written: File name too long"),
        (("mic", "--input", "talk.wav", "--ledger", LONG), "cannot be written: File name too long"),
        (("mic", "--input", "talk.wav", "--ledger", "absent/x"), "absent/x cannot be written: there is no folder absent"),
        (("mic", "--input", "talk.wav", "--ledger", "folder"), "folder is a folder, expected a file"),
        (("play", "--pcm", "--output", f"{LONG}.wav"), "cannot be written: File name too long"),
        (("play", "--pcm", "--output", "x.wav", "--ledger", "absent/x"), "there is no folder absent"),
        (("convert", "speech-24k", LONG), "cannot be written: File name too long"),
        (("convert", "speech-24k", "folder"), "folder is a folder, expected a file"),
        (("convert", "speech-24k", "talk.wav/x"), "Not a directory"),
        (("convert", "speech-24k", "talk.wav/x", "--layout", "hf"), "Not a directory"),
        (("serve", "--publish-token-file", LONG), "File name too long"),
        (("demo", "--output", LONG), "File name too long"),
        (("demo", "--input", LONG, "--silent"), "File name too long"),
    ],
    ids=lambda value: " ".join(value).replace(LONG, "LONG") if isinstance(value, tuple) else "",
)
def test_a_file_that_cannot_be_is_named_with_the_reason(here, capsys, argv, message):
    sf.write(here / "talk.wav", np.zeros(2_400), 24_000)
    (here / "folder").mkdir()
    status, line = fails(capsys, *argv)
    assert status in (1, 2) and message in line


def test_what_a_stream_cannot_encode_is_escaped(monkeypatch):
    for encoding in ("ascii", "utf-8"):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
        secure_standard_streams()
        sys.stdout.write("caf\xe9 \udcff.wav\n")
        sys.stdout.flush()
        assert raw.getvalue().replace(b"\xc3\xa9", rb"\xe9") == rb"caf\xe9 \udcff.wav" + b"\n"


@posix
@pytest.mark.parametrize(
    ("argv", "status"),
    [(("--version",), 0), (("play", "--pcm", "--output", "-"), 2), (("mic", "--input", "-"), 2)],
    ids=["version", "play", "mic"],
)
def test_closed_standard_streams_are_no_trap(here, argv, status):
    command = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-m", "streamcodec.cli", *argv]
    assert subprocess.run(command, cwd=here, check=False).returncode == status


@posix
def test_ctrl_c_is_one_status_even_where_an_import_makes_another_error_of_it(monkeypatch):
    def interrupted(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("numpy.core.multiarray failed to import") from None

    monkeypatch.setattr("streamcodec.audio.list_devices", interrupted)
    assert main(["devices"]) == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_before_a_command_is_known_is_no_traceback(monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("streamcodec.cli.app.main", interrupted)
    assert main(["devices"]) == 130


@posix
@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_ends_a_command_so_that_it_tidies_up(monkeypatch, name):
    tidied = []

    def killed(*_: object) -> None:
        try:
            signal.raise_signal(getattr(signal, name))
        finally:
            tidied.append(True)

    monkeypatch.setattr("streamcodec.audio.list_devices", killed)
    with pytest.raises(SystemExit) as ended:
        main(["devices"])
    assert (ended.value.code, tidied) == (128 + getattr(signal, name), [True])
    assert signal.getsignal(getattr(signal, name)) is signal.SIG_DFL


@posix
@pytest.mark.usefixtures("default_signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_cancels_a_coroutine(name):
    tidied = []

    async def waiting() -> int:
        asyncio.get_running_loop().call_soon(signal.raise_signal, getattr(signal, name))
        try:
            await asyncio.Event().wait()
        finally:
            tidied.append(True)
        return 0

    assert (run_coroutine(waiting()), tidied) == (130, [True])


@posix
def test_a_signal_that_is_ignored_stays_ignored():
    async def hung_up() -> int:
        signal.raise_signal(signal.SIGHUP)
        await asyncio.sleep(0)
        return 0

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_coroutine(hung_up()) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


class _Closed(io.StringIO):
    def write(self, text: str) -> int:  # noqa: ARG002
        raise BrokenPipeError

    def flush(self) -> None:
        raise BrokenPipeError


def test_nobody_has_to_read_what_a_command_says_while_it_works():
    line = LiveLine(_Closed())
    line.note("a note")
    line.draw("status")
    line.clear()
    with progress(1.0, "encoding", stream=_Closed()) as advance:
        advance(1.0)


def test_a_terminal_that_cannot_redraw_gets_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    terminal, times = Terminal(), iter(range(0, 1000, 4))
    with progress(3_600.0, "encoding", stream=terminal, clock=lambda: float(next(times))) as advance:
        for _ in range(6):
            advance(600.0)
    lines = terminal.getvalue().split("\n")
    assert len(lines) >= 3 and "\x1b" not in terminal.getvalue()
    assert any(re.fullmatch(r"encoding  50% 1800/3600 s \d+:\d\d left", line) for line in lines), lines
    terminal = Terminal()
    line = LiveLine(terminal, log_every_s=0.0)
    line.draw("status")
    assert terminal.getvalue() == "status\n"


@pytest.mark.parametrize("size", ["100", "0"])
def test_the_remaining_time_is_told(monkeypatch, size):
    """Of a terminal whose size is 0 nobody told it the size."""
    monkeypatch.setenv("COLUMNS", size)
    monkeypatch.setenv("LINES", size)
    terminal, times = Terminal(), iter(range(0, 1000, 2))
    with progress(3_600.0, "encoding", stream=terminal, clock=lambda: float(next(times))) as advance:
        for _ in range(4):
            advance(360.0)
        assert any(part.endswith(" left") for part in terminal.screen), terminal.screen
