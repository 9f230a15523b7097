"""The command line as a whole: help, and the one line and exit status of whatever a user does wrong."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import typer.main
from cli_rig import COMMANDS, fails

import streamcodec
from streamcodec.audio import write_audio
from streamcodec.cli import main
from streamcodec.cli.app import app, run_coroutine


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert main([command, "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"Usage: streamcodec {command} ")


def test_every_option_and_argument_says_what_it_is():
    group = typer.main.get_command(app)
    assert {name for name, command in group.commands.items() if not command.hidden} == {*COMMANDS, "train"}
    within = {f"{name} {sub}": command for name, group in group.commands.items() for sub, command in getattr(group, "commands", {}).items()}
    tokens = {"token new-key", "token public-keys", "token issue", "token inspect"}
    assert set(within) == tokens | {"admin list", "admin listeners", "admin nodes", "admin end", "admin grant", "admin drain"}
    for name, command in {**group.commands, **within}.items():
        assert command.help, name
        for param in command.params:
            assert param.help and param.help.endswith("."), f"{name}: {param.name}"


def test_the_overview_names_every_command_and_none_is_an_error(capsys):
    assert main([]) == 2
    told = capsys.readouterr().out
    for command in [*COMMANDS, "train"]:
        assert re.search(rf"^  {command} +[A-Z].*\.$", told, re.M), "a line that is not cut"


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"streamcodec {streamcodec.__version__}\n"


@pytest.mark.parametrize("argv", [["--help"], ["mic", "--help"]], ids=" ".join)
def test_the_command_loads_nothing_that_takes_time_to_explain_itself(argv):
    """`streamcodec --help` takes less than 0.4 s on an idle machine."""
    slow = ["torch", "numpy", "websockets", "asyncio", "rich", "soundfile"]
    script = f"import sys; from streamcodec.cli import main; main({argv}); print([m for m in {slow} if m in sys.modules], file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "[]\n")


def test_what_follows_train_is_the_recipes_own(monkeypatch):
    given = []
    monkeypatch.setattr("streamcodec.training.cli.main", lambda argv: given.append(argv) or 3)
    for argv in (["--help"], ["run", "folder", "--seconds", "3", "-x"], []):
        assert main(["train", *argv]) == 3
        assert given.pop() == argv


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("bogus",), "no such command 'bogus'"),
        (("serve", "--port", "99999"), "'99999' is no port, expected 0 to 65535"),
        (("doctor", "--port", "web"), "'web' is no port"),
        (("serve", "--threads", "0"), "'0' is no whole number above 0"),
        (("serve", "--max-listeners", "-1"), "'-1' is no whole number above 0"),
        (("serve", "--capacity", "lots"), "'lots' is neither auto, off nor a whole number above 0"),
        (("mic", "--rate", "fast"), "'fast' is no whole number above 0"),
        (("play", "--slack-ms", "-5"), "'-5' is no number from 0 to 5000"),
        (("play", "--slack-ms", "nan"), "'nan' is no number from 0 to 5000"),
        (("mic", "--bandwidth", "high"), "'high' is no number"),
        (("encode",), "missing argument 'INPUT"),
        (("demo", "--clip", "--input", "x.wav"), "invalid value for '--clip': not allowed with --input"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_wrong_command_line_exits_with_2(argv, message, capsys):
    status, line = fails(capsys, *argv)
    assert status == 2
    assert re.search(message, line), line


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("encode", "none.wav"), "there is no file none.wav"),
        (("encode", "empty"), r"empty holds no file that ends in \.3gp, "),
        (("decode", "empty"), r"empty holds no file that ends in \.codes"),
        (("encode", "talk.wav", "x.codes", "--into", "empty"), "x.codes is the output, and --into names a folder for it"),
        (("encode", "text.wav"), "text.wav is not audio that can be read, expected WAV, FLAC, OGG, MP3 or the like"),
        (("encode", "empty.wav"), "empty.wav is an empty file, expected audio"),
        (("encode", "silent.wav"), "silent.wav holds no samples"),
        (("encode", "instant.wav"), "instant.wav: is shorter than one sample at 24000 Hz"),
        (("encode", "talk.wav", "other.wav"), "other.wav is named like audio, expected another suffix for codes, such as .codes"),
        (("encode", "talk.wav", "none/talk.codes"), "there is no folder none"),
        (("encode", "talk.wav", "--bandwidth", "5"), "bandwidth is 5.0, this model has 1.5, 3, 6, 12, 24 kbps"),
        (("encode", "talk.wav", "--device", "abacus"), "device 'abacus' cannot be used: "),
        (("decode", "none.codes"), "none.codes: No such file or directory"),
        (("decode", "talk.wav"), r"talk.wav: not a codes file \(streamcodec encode writes them\)"),
        (("decode", "text.wav"), r"text.wav: not a codes file"),
        (("mic", "--input", "none.wav"), "there is no file none.wav"),
        (("mic", "--input", "talk.wav", "--server", "nonsense"), "'nonsense' is no WebSocket address, expected for instance ws://"),
        (("mic", "--input", "talk.wav", "--server", "http://127.0.0.1:1"), "is no WebSocket address"),
        (("mic", "--input", "talk.wav", "--stream", "a b"), "stream is 'a b', expected 1 to 64 of"),
        (("play", "--output", "heard.mp3"), r"heard.mp3 has the suffix '.mp3', expected .wav or .flac"),
        (("play", "--output", "none/heard.wav"), "there is no folder none"),
        (("play", "--output", "heard.wav", "--server", "nonsense"), "'nonsense' is no WebSocket address"),
        (("demo", "--silent", "--input", "none.wav"), "there is no file none.wav"),
        (("demo", "--output", "text.wav"), "text.wav cannot be the folder for the results"),
        (("convert", "none.th", "x.safetensors"), "none.th: no such file or folder, and neither an embedded model"),
        (("models", "none"), "none: no such file or folder, and neither an embedded model"),
        (("models", "text.wav"), "text.wav: not a readable "),
        (("serve", "--host", "0.0.0.0"), "everybody who reaches 0.0.0.0 could publish and listen without a token. Expected --token-keys"),
        (("serve", "--allow-origin", "example.org"), "'example.org' is no origin, expected for instance https://example.org"),
        (("serve", "--allow-host", "example.org:80"), "'example.org:80' is no host's name"),
        (("serve", "--token-keys", "talk.wav"), "talk.wav: is no text file, expected a JSON Web Key Set"),
        (("serve", "--token-keys", "empty.wav"), "empty.wav: this is no JSON Web Key Set"),
        (("serve", "--publish-token-file", "none"), "none: No such file or directory"),
        (("serve", "--publish-token-file", "empty.wav"), "empty.wav: holds no token, expected one a line"),
        (("serve", "--listen-token-file", "talk.wav"), "talk.wav: is no text file, expected one token a line"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("speech_file")
def test_a_mistake_is_one_line_and_exits_with_2(argv, message, here, model, capsys):
    (here / "text.wav").write_text("this is no audio\n")
    (here / "empty.wav").touch()
    (here / "empty").mkdir()
    write_audio(here / "silent.wav", np.zeros(0, np.float32), 24_000)
    write_audio(here / "instant.wav", np.zeros(1, np.float32), 192_000)
    if argv[0] not in ("convert", "models", "mic"):
        argv = (*argv, "--model", model)
    status, line = fails(capsys, *argv)
    assert status == 2
    assert re.search(message, line), line
    assert len(line) < 400


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ("mic", "--input", "talk.wav", "--no-retry", "--server", "ws://127.0.0.1:1"),
            "cannot connect to ws://127.0.0.1:1: .*streamcodec serve",
        ),
        (("play", "--output", "x.wav", "--pcm", "--no-retry", "--server", "ws://127.0.0.1:1"), "cannot connect to ws://127.0.0.1:1: "),
        (("serve", "--host", "host.invalid", "--insecure"), "cannot listen on host.invalid:8765: "),
        (("play", "--pcm"), "this machine has no output devices. To record instead: --output heard.wav"),
        (("mic",), "this machine has no input devices. To publish a file instead: --input FILE"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("here", "speech_file", "no_devices")
def test_a_failure_of_the_world_outside_is_one_line_and_exits_with_1(argv, message, model, capsys):
    if argv[0] == "serve":
        argv = (*argv, "--model", model, "--engine", "torch")
    status, line = fails(capsys, *argv)
    assert status == 1
    assert re.search(message, line), line


def test_an_interrupt_exits_with_130(monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("streamcodec.audio.list_devices", interrupted)
    assert main(["devices"]) == 130


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_interrupt_in_the_middle_of_a_callback_lets_it_end():
    reported: list[dict[str, object]] = []
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    async def waiting() -> int:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        awaited: asyncio.Future[None] = loop.create_future()

        def interrupted() -> None:
            signal.raise_signal(signal.SIGINT)
            awaited.set_result(None)

        loop.call_soon(interrupted)
        await awaited
        await asyncio.Event().wait()
        return 0

    assert run_coroutine(waiting()) == 130
    assert reported == []
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers


def test_a_second_interrupt_ends_a_command_that_is_busy():
    async def busy() -> int:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
        return 0

    with pytest.raises(KeyboardInterrupt):
        run_coroutine(busy())


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("streamcodec.audio.list_devices", broken)
    with pytest.raises(ZeroDivisionError):
        main(["devices"])


def test_whoever_reads_our_output_may_stop():
    script = "from streamcodec.cli import main; import sys; sys.exit(main(['serve', '--help']))"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        result = subprocess.run([sys.executable, "-c", script], stdout=nobody, stderr=subprocess.PIPE, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_command_that_needs_torch_says_so_where_torch_cannot_be_imported():
    script = "import sys; sys.modules['torch'] = None; from streamcodec.cli import main; sys.exit(main(['models']))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "streamcodec: this command needs torch: pip install 'streamcodec[codec]'\n"
