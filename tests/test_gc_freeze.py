"""The garbage collector leaves alone what a program has loaded, and nothing else."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamcodec import gc_freeze
from streamcodec.cli import main
from streamcodec.codec import Codec
from streamcodec.gc_freeze import freeze_gc


@pytest.fixture(autouse=True)
def _collecting() -> Iterator[None]:
    """What these tests take out of collections comes back with the end of each."""
    threshold = gc.get_threshold()
    yield
    gc.set_threshold(*threshold)
    gc.unfreeze()
    gc.collect()
    gc.freeze()


class _Knot:
    def __init__(self) -> None:
        self.itself = self


def test_what_is_loaded_is_left_out_of_later_collections() -> None:
    gc.unfreeze()
    gc.collect()  # the garbage that other tests have left is not frozen
    before = len(gc.get_objects())
    freeze_gc()
    assert gc.get_freeze_count() >= before // 2
    assert len(gc.get_objects()) < before // 2


def test_garbage_goes_as_ever() -> None:
    earlier = weakref.ref(_Knot())
    freeze_gc()
    assert earlier() is None
    later = weakref.ref(_Knot())
    gc.collect()
    assert later() is None


def test_a_server_freezes_when_its_model_is_loaded(model: str, tmp_path: Path) -> None:
    program = f"""
import gc, sys
from streamcodec import gc_freeze
freeze_gc = gc_freeze.freeze_gc
def told():
    freeze_gc()
    print("frozen", gc.get_freeze_count(), flush=True)
gc_freeze.freeze_gc = told
from streamcodec import cli
sys.exit(cli.main({["serve", "--port", "0", "--capacity", "off", "--model", model]!r}))
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, text=True, **pipes) as process:
        assert process.stdout is not None
        try:
            told = next((line for line in process.stdout if "frozen" in line), "")
        finally:
            process.terminate()
            process.stdout.read()
    assert told.split()[-2:-1] == ["frozen"] and int(told.split()[-1]) > 50_000


class _Frozen(Exception):
    """Ends a command where it would leave what is loaded out of collections."""


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("command", ["serve", "mic", "play", "demo"])
def test_each_command_that_must_keep_time_freezes_when_its_model_is_loaded(
    command: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, make = [], Codec.__init__

    def made(codec: Codec, *arguments: Any, **named: Any) -> None:
        make(codec, *arguments, **named)
        loaded.append(named["name"])

    def freeze() -> None:
        assert loaded
        raise _Frozen

    monkeypatch.setattr(Codec, "__init__", made)
    monkeypatch.setattr(gc_freeze, "freeze_gc", freeze)
    with pytest.raises(_Frozen):
        main([*_ARGUMENTS[command], "--model", model])


_NOBODY = ["--server", "ws://127.0.0.1:9"]
_ARGUMENTS = {
    "serve": ["serve", "--port", "0", "--capacity", "off"],
    "mic": ["mic", *_NOBODY, "--encode", "--input", "-"],
    "play": ["play", *_NOBODY, "--output", "-"],
    "demo": ["demo", "--clip", "--silent", "--seconds", "1", "--output", "demo-out"],
}
