"""What the README shows runs as it stands there."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import numpy as np
from live_rig import run, tapped, tiny_codec, until, voice

import streamcodec
from streamcodec.audio import read_audio
from streamcodec.cli import main
from streamcodec.client import publish
from streamcodec.server import Server

README = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")
CLIENT, LIBRARY = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)


def test_the_client_records_what_is_published(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codec, _, _ = tiny_codec("readme"), tiny_codec(), tiny_codec("test")
    monkeypatch.setattr(streamcodec, "load", lambda: codec, raising=False)
    programs: list[Any] = []

    async def everything() -> None:
        async with Server(tiny_codec(), port=0) as server, tapped(server) as tap:
            with monkeypatch.context() as patch:
                patch.setattr(asyncio, "run", programs.append)
                exec(CLIENT.replace("ws://127.0.0.1:8765", server.url), {"__name__": "readme"})
            client = asyncio.ensure_future(programs.pop())
            await until(lambda: server.registry.num_listeners >= 2)
            async with publish(server.url, "live", pace="fast") as publisher:
                await publisher.send(voice(0.5))
            await until(lambda: read_audio("heard.wav")[0].size >= 12_000 if Path("heard.wav").stat().st_size > 44 else False)
            client.cancel()
            await asyncio.gather(client, return_exceptions=True)
        np.testing.assert_allclose(read_audio("heard.wav")[0][0], tap.audio(), atol=1.5 / 32_768)

    run(everything())


def test_the_library_is_used_as_shown(monkeypatch):
    codec = tiny_codec("readme")
    monkeypatch.setattr(streamcodec, "load", lambda _: codec, raising=False)
    names: dict[str, Any] = {"audio": voice(1.0, 44_100, channels=2), "microphone": [voice(0.3)] * 4}
    exec(LIBRARY, names)
    assert names["codes"].shape == (8, 75)
    assert names["again"].shape == names["worse"].shape == (24_000,)
    assert names["packet"].shape == (8, 6)
    assert names["samples"].shape == (1920,)


def test_every_command_and_option_that_is_named_exists(capsys):
    told = {}
    for command in ("serve", "mic", "play", "demo", "encode", "decode", "convert", "models", "devices", "doctor"):
        assert main([command, "--help"]) == 0
        told[command] = capsys.readouterr().out
    every = "\n".join(told.values())
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) - {"--help"}:
        assert option in every, option
    for line in re.findall(r"^\.venv/bin/streamcodec (.*)$", README, re.M):
        assert line.split()[0] in told
    for path in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert Path(__file__).parents[2].joinpath(path).is_file(), path
