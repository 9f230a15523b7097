"""What the README and the pages of the documentation show runs as it stands there, and what they name exists."""

from __future__ import annotations

import asyncio
import contextlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from live_rig import a_server, run, tapped, tiny_codec, until, voice
from parity import assert_same_codes

import streamcodec
from streamcodec.audio import read_audio, write_audio
from streamcodec.cli import main
from streamcodec.client import PublishOptions, publish
from streamcodec.training.cli import main as train

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", *sorted((ROOT / "streamcodec" / "docs").glob("*.md"))]
PROGRAM = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
CLIENT, LIBRARY = PROGRAM.findall(PAGES[0].read_text(encoding="utf-8"))
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def test_the_client_records_what_is_published(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    codec, _, _ = tiny_codec("readme"), tiny_codec(), tiny_codec("test")
    monkeypatch.setattr(streamcodec, "load", lambda: codec, raising=False)
    programs: list[Any] = []

    async def everything() -> None:
        async with a_server() as server, tapped(server) as tap:
            with monkeypatch.context() as patch:
                patch.setattr(asyncio, "run", programs.append)
                exec(CLIENT.replace("ws://127.0.0.1:8765", server.url), {"__name__": "readme"})
            client = asyncio.ensure_future(programs.pop())
            await until(lambda: server.registry.num_listeners >= 2)
            async with publish(server.url, "live", PublishOptions(pace="fast")) as publisher:
                await publisher.send(voice(0.5))
            await until(lambda: Path("heard.wav").exists() and read_audio("heard.wav")[0].size >= 12_000)
            client.cancel()
            await asyncio.gather(client, return_exceptions=True)
        np.testing.assert_allclose(read_audio("heard.wav")[0][0], tap.audio(), atol=1.5 / 32_768)

    run(everything())


@pytest.mark.parametrize("page", [PAGES[0], ROOT / "streamcodec" / "docs" / "library.md"], ids=lambda page: page.name)
def test_the_library_is_used_as_shown(page, monkeypatch, here):
    write_audio(here / "talk.flac", voice(0.3, 44_100, channels=2), 44_100)
    codec = tiny_codec("readme")
    monkeypatch.setattr(streamcodec, "load", lambda _: codec, raising=False)
    names: dict[str, Any] = {"audio": voice(1.0, 44_100, channels=2), "microphone": [voice(0.3)] * 4, "clips": [voice(0.2), voice(0.1)]}
    programs = [LIBRARY] if page.name == "README.md" else PROGRAM.findall(page.read_text(encoding="utf-8"))
    for program in programs:
        exec(program, names)
    assert names["codes"].shape == (8, 75)
    assert names["again"].shape == names["worse"].shape == (24_000,)
    assert names["packet"].shape == (8, 6)
    assert names["samples"].shape == (1920,)
    if page.name == "library.md":
        np.testing.assert_array_equal(read_audio("copy.wav")[0], names["recording"])
        assert names["encoded"].audio_codes.shape == (1, 2, 8, 15)
        assert names["values"].shape == (2, 1, 4_800)


@pytest.mark.usefixtures("here")
def test_an_exported_model_is_run_as_shown(model):
    assert main(["export", model, "exported"]) == 0
    [program] = PROGRAM.findall((ROOT / "streamcodec" / "docs" / "export.md").read_text(encoding="utf-8"))
    names: dict[str, Any] = {"samples": voice(1.0)}
    exec(program, names)
    codec, codes = tiny_codec("readme"), np.concatenate(names["sent"], axis=1)
    expected = np.concatenate(codec.stream_encoder(6.0, start="primed").feed(names["samples"]), axis=1)
    assert_same_codes(codec, codes, expected, names["samples"], "primed")
    start = names["start"]("decoder", names["manifest"]["states"]["decoder"]["primed"]["8"])
    audio, _ = codec.engine.decode(codes[None], start)
    np.testing.assert_allclose(np.concatenate(names["heard"]), audio[0], atol=1e-5)
    assert np.abs(audio).max() > 0.01


@pytest.fixture(scope="module")
def help_texts() -> dict[str, str]:
    listening = ("serve", "mic", "play", "record", "replay", "echo", "demo")
    commands = (*listening, "encode", "decode", "tokenize", "convert", "export", "models", "devices", "doctor")
    texts = {}
    for command in commands:
        with contextlib.redirect_stdout(io.StringIO()) as told:
            assert main([command, "--help"]) == 0
        texts[command] = told.getvalue()
    with contextlib.redirect_stdout(io.StringIO()) as told:
        for command in ("new-key", "public-keys", "issue", "inspect"):
            assert main(["token", command, "--help"]) == 0
    texts["token"] = told.getvalue()
    with contextlib.redirect_stdout(io.StringIO()) as told:
        for command in ("list", "listeners", "end", "grant", "drain"):
            assert main(["admin", command, "--help"]) == 0
    texts["admin"] = told.getvalue()
    with contextlib.redirect_stdout(io.StringIO()) as told:
        for command in ("data", "run", "export", "language-model", "plot"):
            with pytest.raises(SystemExit, match=r"^0$"):
                train([command, "--help"])
    texts["train"] = told.getvalue()
    return texts


OF_OTHERS = (
    "--userns",
    "--build-arg",
    "--build",
    "--detach",
    "--tls",
    "--tlsverify",
    "--tlscert",
    "--tlskey",
    "--tlscacert",
)  # podman, nats-server


@every_page
def test_every_command_option_and_page_that_is_named_exists(page, help_texts):
    text = page.read_text(encoding="utf-8")
    sources = [file.read_text(encoding="utf-8") for file in PAGES[0].parent.joinpath("benchmarks").rglob("*.py")]
    of_benchmarks = re.findall(r'"(--[a-z-]+)"', "".join(sources))
    every = "\n".join([*help_texts.values(), *of_benchmarks])
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--help", *OF_OTHERS}:
        assert option in every, option
    for line in re.findall(r"^\.venv/bin/streamcodec (.*)$", text, re.M):
        command, _, rest = line.partition("#")[0].partition(" ")
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", rest):
            assert option in help_texts[command], line
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert page.parent.joinpath(path).is_file(), path


def test_the_readme_is_short_after_its_first_screen():
    text = PAGES[0].read_text(encoding="utf-8")
    assert len(text.partition("## In three terminals")[2].splitlines()) <= 120
