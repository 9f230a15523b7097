"""What the tests of the page in a browser share: a model, its codec, and one browser for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_rig import Browser
from made_up_models import FEW_LAYERS, save_made_up_model
from server_rig import voice

import streamcodec
from streamcodec.audio import write_audio
from streamcodec.codec import Codec


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_made_up_model(tmp_path_factory.mktemp("model"), **FEW_LAYERS)


@pytest.fixture
def codec(model: Path) -> Codec:
    return streamcodec.load(model)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser whose microphone hears a voice, over and over."""
    path = tmp_path_factory.mktemp("spoken") / "spoken.wav"
    write_audio(path, voice(1, 20.0, 48_000), 48_000)
    started = Browser(path)
    yield started
    started.close()
