"""The server as a process of its own: its address, its tokens, its end, and that of a client that is interrupted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest
from cli_rig import fails, serving

from streamcodec.cli import main

# Nothing waits so long but what hangs.
TIMEOUT_S = 300


def test_a_port_in_use_is_one_line_and_exits_with_1(model, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, line = fails(capsys, "serve", "--port", port, "--model", model, "--engine", "torch")
    assert status == 1
    assert line.startswith(f"streamcodec: cannot listen on 127.0.0.1:{port}: ")
    assert "in use" in line


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_the_server_tells_its_address_answers_and_stops_in_order(stop, model, speech_file, capsys):
    with serving(model) as (process, url):
        http = url.replace("ws:", "http:")
        with urllib.request.urlopen(f"{http}/healthz", timeout=TIMEOUT_S) as answer:
            assert (answer.status, answer.read()) == (200, b"ok\n")
        with urllib.request.urlopen(f"{http}/metrics", timeout=TIMEOUT_S) as answer:
            assert b"streamcodec" in answer.read()
        assert main(["mic", "--server", url, "--input", str(speech_file), "--fast", "--quiet", "--no-retry"]) == 0
        assert "published 26 packets as 'live'" in capsys.readouterr().err
        process.send_signal(stop)
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (0, "stopped\n")
    assert "publishes live: pcm_s16le, 6 kbps, 6 frames a packet" in err
    assert "Traceback" not in err


@pytest.mark.usefixtures("here")
def test_tokens_are_asked_for_and_taken_from_the_environment(model, speech_file, tmp_path, monkeypatch, capsys):
    (tmp_path / "tokens").write_text("secret\nother\n")
    with serving(model, "--publish-token-file", "tokens") as (_, url):
        status, line = fails(capsys, "mic", "--server", url, "--input", speech_file, "--fast", "--quiet")
        assert status == 1
        assert "refused by the server: the token does not allow to publish (unauthorized; do not retry unchanged)" in line
        monkeypatch.setenv("STREAMCODEC_TOKEN", "other")
        assert main(["mic", "--server", url, "--input", str(speech_file), "--fast", "--quiet"]) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("argv", [("mic", "--input", "-"), ("play", "--pcm", "--output", "heard.wav")], ids=lambda argv: argv[0])
def test_an_interrupted_client_says_no_more_than_it_must(argv, model, here):
    with serving(model) as (_, url):
        script = "import sys; from streamcodec.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", script, argv[0], "--server", url, *argv[1:], "--quiet"]
        reading, writing = os.pipe()
        os.write(writing, bytes(4_800))  # a publisher begins when something comes
        process = subprocess.Popen(command, stdin=reading, stderr=subprocess.PIPE, text=True, cwd=here)
        assert process.stderr is not None
        assert process.stderr.readline().startswith(("publishing pipe", "listening to 'live'"))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT_S)
        os.close(reading)
        os.close(writing)
    assert process.returncode == 130
    assert "Traceback" not in err and "Fatal" not in err and "Exception" not in err
    assert len(err.splitlines()) <= 2
