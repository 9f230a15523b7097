"""The server as a process of its own: its address, its tokens, its end, and that of a client that is interrupted."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request

import pytest
from certificates import make_pair
from cli_rig import fails, serving
from live_rig import a_server, command, run, started

from streamcodec.cli import main
from streamcodec.errors import Refused
from streamcodec.server.settings.sizes import size_of_bytes

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
        with urllib.request.urlopen(f"{http}/", timeout=TIMEOUT_S) as answer:
            assert b"<title>streamcodec: talk and listen</title>" in answer.read()
        assert main(["mic", "--server", url, "--input", str(speech_file), "--fast", "--quiet", "--no-retry"]) == 0
        assert "published 26 packets as 'live'" in capsys.readouterr().err
        process.send_signal(stop)
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out) == (0, "stopped\n")
    assert "publishes live: pcm_s16le, 6 kbps, 6 frames a packet" in err
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_server_with_a_certificate_speaks_tls_by_its_own_event_loop(model, speech_file, tmp_path, capsys):
    pair = make_pair(tmp_path)
    flags = ("--tls-certificate", str(pair.certificate), "--tls-key", str(pair.key), "--private-port", "0")
    with serving(model, *flags) as (process, url):
        assert url.startswith("wss:")
        private = process.stdout.readline().removeprefix("private port: ").strip()
        context = ssl.create_default_context(cafile=pair.certificate)
        with urllib.request.urlopen(f"{re.sub('^ws', 'http', url)}/", timeout=TIMEOUT_S, context=context) as answer:
            assert b"<title>streamcodec: talk and listen</title>" in answer.read()
        publish = ["mic", "--server", url, "--input", str(speech_file), "--fast", "--quiet"]
        status, line = fails(capsys, *publish)
        assert status == 1 and "not trusted: self-signed certificate" in line
        assert main([*publish, "--tls-ca", str(pair.certificate)]) == 0
        with urllib.request.urlopen(f"{private}/metrics", timeout=TIMEOUT_S) as answer:
            assert b"streamcodec_tls_certificate_expires_seconds" in answer.read()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0 and "Traceback" not in err


@pytest.mark.usefixtures("here")
def test_tokens_are_asked_for_and_taken_from_the_environment(model, speech_file, tmp_path, monkeypatch, capsys):
    (tmp_path / "tokens").write_text("secret\nother\n")

    async def scene() -> None:
        said = ""
        async with started(command("serve", "--port", "0", "--model", model, "--capacity", "off", "--publish-token-file", "tokens")):
            while not (address := re.search(r"ws://127\.0\.0\.1:\d+", said)):
                await asyncio.sleep(0.005)
                said += capsys.readouterr().out
            publish = ("mic", "--server", address[0], "--input", speech_file, "--fast", "--quiet")
            with pytest.raises(Refused, match=r"a token is needed to publish \(unauthorized; do not retry unchanged\)"):
                await command(*publish)
            monkeypatch.setenv("STREAMCODEC_TOKEN", "other")
            assert await command(*publish) == 0

    run(scene())


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("argv", [("mic", "--input", "-"), ("play", "--pcm", "--output", "heard.wav")], ids=lambda argv: argv[0])
def test_an_interrupted_client_says_no_more_than_it_must(argv, here):
    def interrupted(url: str) -> tuple[int, str]:
        script = "import sys; from streamcodec.cli import main; sys.exit(main())"
        words = [sys.executable, "-c", script, argv[0], "--server", url, *argv[1:], "--quiet"]
        reading, writing = os.pipe()
        os.write(writing, bytes(4_800))  # a publisher begins when something comes
        process = subprocess.Popen(words, stdin=reading, stderr=subprocess.PIPE, text=True, cwd=here)
        assert process.stderr is not None
        assert process.stderr.readline().startswith(("publishing pipe", "listening to 'live'"))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT_S)
        os.close(reading)
        os.close(writing)
        return process.returncode, err

    async def scene() -> tuple[int, str]:
        async with a_server() as server:
            return await asyncio.to_thread(interrupted, server.url)

    status, err = run(scene())
    assert status == 130
    assert "Traceback" not in err and "Fatal" not in err and "Exception" not in err
    assert len(err.splitlines()) <= 2


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_the_server_and_a_client_record_and_an_interrupt_ends_both_in_order(model, speech_file, tmp_path, capsys):
    folder, file = tmp_path / "recordings", tmp_path / "talk.rec"
    with serving(model, "--record", str(folder), "--record-quota", "10MB", "--echo") as (process, url):
        recording = [
            sys.executable,
            "-m",
            "streamcodec.cli",
            "record",
            "live",
            "--server",
            url,
            "--output",
            str(file),
            "--follow",
            "--quiet",
        ]
        with subprocess.Popen(recording, stderr=subprocess.PIPE, text=True) as recorder:
            assert recorder.stderr is not None
            assert "waiting" in recorder.stderr.readline()
            assert main(["mic", "--server", url, "--input", str(speech_file), "--fast", "--quiet", "--no-retry"]) == 0
            for line in recorder.stderr:
                if "ends" in line:
                    break
            recorder.send_signal(signal.SIGINT)
            _, told = recorder.communicate(timeout=TIMEOUT_S)
            assert recorder.returncode == 130 and f"{file}: 2.01 s" in told
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    [kept] = folder.iterdir()
    capsys.readouterr()
    assert main(["decode", str(file), str(kept), "--model", model, "--engine", "torch"]) == 0
    decoded = [path.with_suffix(".decoded.wav").read_bytes() for path in (file, kept)]
    assert decoded[0] == decoded[1] and len(decoded[0]) > 90_000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--record-quota", "2GB"], "expected --record FOLDER"),
        (["--record-rotate"], "expected --record FOLDER"),
        (["--record", "recordings", "--record-rotate"], "to keep a quota"),
        (["--record", "recordings", "--record-quota", "lots"], "is no size, expected for instance 500MB or 2GB"),
        (["--record", "recordings", "--record-quota", "0"], "is no size"),
    ],
)
@pytest.mark.usefixtures("here")
def test_a_quota_that_means_nothing_is_refused(options, said, model, capsys):
    status, line = fails(capsys, "serve", "--model", model, "--port", "0", *options)
    assert status == 2 and said in line


@pytest.mark.parametrize(
    ("text", "size"),
    [("500", 500), ("500B", 500), ("1.5kB", 1_500), ("500MB", 5 * 10**8), ("2GB", 2 * 10**9), ("1GiB", 2**30), ("2T", 2 * 10**12)],
)
def test_a_size_is_read_with_its_unit(text, size):
    assert size_of_bytes(text) == size
