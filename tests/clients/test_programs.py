"""The two programs that are there to be copied do what they say, against a real server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_rig import a_server, run, started, tapped, tiny_codec, until, voice

from clients import mic, playback
from streamcodec.audio import read_audio, write_audio
from streamcodec.client import PublishOptions, publish, reconnect

# One step of 16 bits, and what sums in another order may add.
STEP = 1.5 / 32_768


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(reconnect, "backoff", lambda *_: iter(lambda: 0.01, None))
    codecs = {program: tiny_codec(program.__name__) for program in (mic, playback)}
    tiny_codec(), tiny_codec("test")
    for program, codec in codecs.items():
        monkeypatch.setattr(program, "load", lambda codec=codec: codec)


@pytest.mark.parametrize("pcm", [False, True], ids=["codes", "pcm"])
@pytest.mark.parametrize("encode", [False, True], ids=["pcm", "codes"])
def test_what_one_program_publishes_the_other_records(tmp_path, capsys, encode, pcm):
    x = voice(0.5)
    write_audio(tmp_path / "talk.wav", x, 24_000)
    heard = tmp_path / "heard.wav"

    async def main() -> Any:
        async with (
            a_server() as server,
            tapped(server) as tap,
            started(playback.run(server.url, "live", str(heard), pcm)) as playing,
        ):
            await until(lambda: server.registry.num_listeners >= 2)
            await mic.run(server.url, "live", str(tmp_path / "talk.wav"), encode)
            await playing
        return tap

    tap = run(main())
    np.testing.assert_allclose(read_audio(heard)[0][0], tap.audio(), atol=STEP)
    said = capsys.readouterr().out
    assert "published 7 packets" in said
    assert re.search(r"^packet 0: \d+ ms behind the microphone, 0 lost$", said, re.M)


def test_a_program_connects_again_when_the_server_comes_late(tmp_path, capsys, monkeypatch):
    tries: list[str] = []
    heard = tmp_path / "heard.wav"

    async def main() -> None:
        async with a_server() as server:
            real = playback.listen

            def listen(url: str, *more: Any, **options: Any) -> Any:
                tries.append(url)
                return real("ws://127.0.0.1:1" if len(tries) < 3 else url, *more, **options)

            monkeypatch.setattr(playback, "listen", listen)
            async with started(playback.run(server.url, "live", str(heard), False)) as playing:
                await until(lambda: server.registry.num_listeners)
                async with publish(server.url, "live", PublishOptions(pace="fast")) as publisher:
                    await publisher.send(voice(0.4))
                await playing

    run(main())
    assert len(tries) == 3
    assert capsys.readouterr().out.count("trying again in") == 2


@pytest.mark.parametrize("program", [mic, playback], ids=lambda program: program.__name__)
def test_a_program_is_a_page_long_reads_its_command_line_and_ends_quietly(program, monkeypatch, capsys):
    assert len(Path(program.__file__).read_text(encoding="utf-8").splitlines()) <= 80
    with pytest.raises(SystemExit) as stop:
        program.main(["--help"])
    assert stop.value.code == 0
    assert program.__doc__.splitlines()[0] in capsys.readouterr().out
    given = []

    async def interrupted(*arguments: Any) -> None:
        given.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(program, "run", interrupted)
    program.main(["--server", "ws://a", "--stream", "b"])
    assert given == [("ws://a", "b", None, False)]
