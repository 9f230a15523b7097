"""`streamcodec echo` against a server that asks for tokens and allows echo tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_rig import fails
from live_rig import a_server, command, run, voice
from made_up_models import small_model
from patience import patient_limits

from streamcodec.audio import read_audio, write_audio
from streamcodec.client import now_us, sources
from streamcodec.errors import Refused
from streamcodec.server import Server, Tokens


def guarded(tests: int) -> Server:
    tokens = Tokens(publish=("secret",), listen=("secret",))
    return a_server(tokens=tokens, echo=tests > 0, limits=patient_limits(max_echo_tests=tests or 16))


@pytest.fixture
def talk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file, which is published without waiting until its audio would be over."""

    async def until_over(*_: Any) -> int:
        return now_us()

    monkeypatch.setattr(sources.RealTime, "until_over", until_over)
    write_audio(tmp_path / "talk.wav", voice(0.5), 24_000)
    return tmp_path / "talk.wav"


@pytest.mark.parametrize("pcm", [False, True])
def test_what_is_said_comes_back_without_a_token(pcm: bool, talk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    back = talk.with_name("back.wav")
    decoding = ["--pcm"] if pcm else ["--model", small_model()]

    async def main() -> None:
        async with guarded(1) as server:
            assert await command("echo", "--server", server.url, "--input", talk, "--output", back, "--quiet", *decoding) == 0

    run(main())
    said = capsys.readouterr().out
    assert "7 packets came back, 0 lost, 0 underruns; back after p50" in said
    assert "7 packets were published; round trip" in said
    samples, rate = read_audio(back)
    assert (rate, samples.shape) == (24_000, (1, 12_160)) and np.abs(samples).max() > 0.01


def test_it_stops_after_so_many_seconds(talk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    back = talk.with_name("back.wav")

    async def main() -> None:
        async with a_server() as server:  # without tokens echo tests are streams like any other
            words = ["--seconds", "0.2", "--quiet", "--pcm"]
            assert await command("echo", "--server", server.url, "--input", talk, "--output", back, *words) == 0

    run(main())
    assert "3 packets came back" in capsys.readouterr().out


def test_a_server_that_allows_no_echo_tests_says_that_a_token_is_needed(talk: Path) -> None:
    async def main() -> None:
        async with guarded(0) as server:
            with pytest.raises(Refused, match="a token is needed to listen"):
                await command("echo", "--server", server.url, "--input", talk, "--output", talk.with_name("b.wav"), "--pcm")
        assert not talk.with_name("b.wav").exists()

    run(main())


def test_an_echo_test_has_no_pipes_and_never_writes_over_its_input(talk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no pipes" in fails(capsys, "echo", "--input", "-")[1]
    assert "is the same file as the input" in fails(capsys, "echo", "--input", talk, "--output", talk)[1]


def test_an_echo_test_that_cannot_be_published_ends_with_the_reason(talk: Path) -> None:
    """The listener alone would wait for ever."""

    async def main() -> None:
        async with a_server(limits=patient_limits(max_publishers=0)) as server:
            with pytest.raises(Refused, match="the server has its 0 publishers"):
                await command("echo", "--server", server.url, "--input", talk, "--output", talk.with_name("b.wav"), "--pcm", "--quiet")

    run(main())
