"""A server that is told to stop drains and ends in time, whatever hangs; and it reads tokens and keys again when their files change."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import pytest
from cli_rig import fails, serving
from live_rig import a_server, run
from patience import pass_time

from streamcodec.cli import operate
from streamcodec.client import listen, publish
from streamcodec.client.publisher import PublishOptions
from streamcodec.errors import InputError, Refused
from streamcodec.server import Grant, TokenKeys, Tokens
from streamcodec.server.settings import Settings
from streamcodec.server.watched import LOOK_EVERY_S, WatchedFiles

TIMEOUT_S = 300
posix = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


async def _closed(http):
    def ready():
        try:
            with urllib.request.urlopen(f"{http}/readyz", timeout=TIMEOUT_S) as answer:
                return answer.status
        except urllib.error.HTTPError as exc:
            return exc.code

    while await asyncio.to_thread(ready) != 503:  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.01)


@posix
def test_sigterm_drains_and_a_second_one_ends_at_once(model):
    with serving(model, "--drain-seconds", "600", "--drain-to", "wss://b.example") as (process, url):

        async def scene():
            # It sends no ping so soon, so it does not hear of the draining and stays.
            async with publish(url, "live", PublishOptions()):
                process.send_signal(signal.SIGTERM)
                await _closed(url.replace("ws:", "http:"))
                with pytest.raises(Refused) as caught:
                    async with listen(url, "other", format="pcm_s16le"):
                        pass
                assert (caught.value.code, caught.value.go_to) == ("server_closing", "wss://b.example")
                assert process.poll() is None
                process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(process.wait, TIMEOUT_S)
                raise Refused("left", "", False)

        with pytest.raises(Refused, match="left"):
            run(scene())
        assert process.returncode == 128 + signal.SIGTERM
        assert "a second SIGTERM: ended at once" in process.stderr.read()


@posix
def test_one_of_several_processes_drains_however_often_it_is_told_so(monkeypatch):
    """Its supervisor tells it, and so does a system that signals all processes of a service."""
    statuses = []
    monkeypatch.setattr(operate, "_exit", lambda why, status: statuses.append(status))  # noqa: ARG005

    class Drains:
        times = 0
        drained = asyncio.Event()

        def drain(self):
            self.times += 1
            self.drained.set()

    async def scene():
        server = Drains()
        operate.end_in_time(server, again=False)
        for times in (1, 2):
            server.drained.clear()
            os.kill(os.getpid(), signal.SIGTERM)
            await server.drained.wait()
            assert server.times == times

    run(scene())
    assert statuses == []


@posix
def test_a_server_that_hangs_ends_in_time(monkeypatch, capsys):
    """The timer runs on a thread of its own, and the process is ended from there."""
    ended, statuses = threading.Event(), []
    monkeypatch.setattr(os, "_exit", lambda status: (statuses.append(status), ended.set()))

    async def scene():
        async with a_server() as server:
            operate.end_in_time(server)
            server.on_drain(0.01)
            assert ended.wait(TIMEOUT_S), "while the loop does nothing else"

    run(scene())
    assert statuses == [1]
    assert "has not stopped within 0.01 s: ended" in capsys.readouterr().err


@posix
def test_a_drained_server_does_not_wait_for_what_hangs_when_python_ends(model):
    hang = "import atexit, threading; atexit.register(threading.Event().wait)"
    program = [sys.executable, "-c", f"{hang}; from streamcodec.cli import main; raise SystemExit(main())"]
    options = ["--port", "0", "--model", model, "--engine", "torch", "--capacity", "off", "--no-page", "--drain-seconds", "600"]
    with subprocess.Popen([*program, "serve", *options], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert " at ws://" in process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert (process.wait(TIMEOUT_S), process.stdout.read()) == (0, "stopped\n")
        finally:
            process.kill()


def test_files_that_change_are_read_again_and_nonsense_changes_nothing(tmp_path, caplog):
    keys, other = TokenKeys.generate("HS256"), TokenKeys.generate("HS256")
    path = tmp_path / "keys.json"
    path.write_text(keys.serialize())
    files = WatchedFiles([path])
    token = keys.sign(Grant(listen=["*"], expires=4e9))

    def read():
        return Tokens(), TokenKeys.parse(path.read_text())

    async def scene():
        async with a_server(token_keys=keys) as server:
            watching = asyncio.create_task(operate.reload_when_changed(server, files, read))
            async with listen(server.url, "live", format="pcm_s16le", token=token) as listener:
                await anext(listener)
                path.write_text("{}")
                await _passes(lambda: "cannot be read again" in caplog.text)
                assert len(server.permits) == 1
                path.write_text(other.serialize() + "\n")
                await _passes(lambda: not len(server.permits))
                with pytest.raises(Refused, match="the key that has signed the token is not good any more"):
                    await anext(listener)
            watching.cancel()

    async def _passes(condition):
        while not condition():
            await pass_time(LOOK_EVERY_S)
            await asyncio.sleep(0.01)

    run(scene())


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"webhook": "https://a.example"}, "a webhook is signed"),
        ({"webhook": "https://a.example", "webhook_secret": "whsec_x"}, "the webhook's secret is malformed"),
        ({"admin_token": "x" * 20}, "expected --private-port"),
        ({"admin_token": "short", "private_port": 1}, "too short"),
        ({"admin_token": "x" * 20, "admin_token_file": "there", "private_port": 1}, "there are two of admin_token"),
        ({"admin_token_file": "absent", "private_port": 1}, "absent: No such file"),
        ({"admin_token_file": "two", "private_port": 1}, "expected one line"),
    ],
)
@pytest.mark.usefixtures("here")
def test_what_does_not_fit_together_is_refused(settings, why, tmp_path):
    (tmp_path / "there").write_text("y" * 20)
    (tmp_path / "two").write_text("y" * 20 + "\nz")
    with pytest.raises(InputError, match=why):
        operate.operations_of(Settings(**settings))


@pytest.mark.usefixtures("here")
def test_secrets_come_from_files_too(tmp_path):
    (tmp_path / "there").write_text("y" * 20 + "\n")
    found = operate.operations_of(Settings(admin_token_file="there", private_port=1, drain_seconds=3, drain_to="wss://b.example"))
    assert (found.admin_token, found.drain_s, found.drain_to) == ("y" * 20, 3, "wss://b.example")
    assert "yyy" not in repr(found)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--drain-to", "http://b.example"), "is no address of a server"),
        (("--auth-url", "http://b.example"), "expected https://..."),
        (("--webhook", "https://user:pass@b.example"), "a name or a password"),
        (("--drain-seconds", "0"), "1 to 86400"),
    ],
)
def test_a_flag_that_is_wrong_is_one_line(flags, told, capsys):
    status, line = fails(capsys, "serve", *flags)
    assert status == 2 and told in line and "pass@" not in line
