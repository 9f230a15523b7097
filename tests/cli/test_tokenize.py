"""`tokenize` makes a folder of codes of a folder of audio, names what fails, and continues where it was stopped."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from cli_rig import Terminal, fails

from streamcodec.bitstream.codes_file import read_codes
from streamcodec.cli import batch, main, status
from streamcodec.tokenizer import TokenDataset, read_manifest


@pytest.fixture
def talks(here: Path) -> Path:
    (here / "talks" / "old").mkdir(parents=True)
    for i, name in enumerate(("a.wav", "b.flac", "old/c.wav")):
        sf.write(here / "talks" / name, np.sin(np.arange(4_800 * (i + 1), dtype=np.float32) / 20) / 2, 24_000)
    return here / "talks"


def test_a_folder_of_audio_becomes_a_folder_of_codes(talks, here, model, capsys):  # noqa: ARG001
    assert main(["tokenize", "talks", "codes", "--model", model]) == 0
    assert capsys.readouterr().out == "3 files done, 0 were done before, 0 failed\n"
    assert len(TokenDataset(here / "codes")) == 3
    assert main(["encode", "talks/old/c.wav", "alone.codes", "--model", model]) == 0
    np.testing.assert_array_equal(read_codes(here / "codes" / "old" / "c.codes").codes, read_codes(here / "alone.codes").codes)


def test_the_same_command_does_the_rest(talks, here, model, capsys):
    (talks / "a.wav").rename(here / "later.wav")
    (talks / "b.flac").write_text("no audio")
    assert main(["tokenize", "talks", "codes", "--model", model, "--threads", "1", "--batch", "1"]) == 1
    said = capsys.readouterr()
    assert said.out == "1 files done, 0 were done before, 1 failed\n"
    assert "b.flac is not audio that can be read" in said.err
    (here / "later.wav").rename(talks / "a.wav")
    assert main(["tokenize", "talks", "codes", "--model", model]) == 1
    assert capsys.readouterr().out == "1 files done, 1 were done before, 1 failed\n"
    assert {name: bool(entry.error) for name, entry in read_manifest(here / "codes")[1].items()} == {
        "a.wav": False,
        "b.flac": True,
        "old/c.wav": False,
    }


def test_codes_of_another_bandwidth_are_only_replaced_where_that_is_asked_for(talks, here, model, capsys):  # noqa: ARG001
    command = ["tokenize", "talks", "codes", "--model", model]
    assert main(command) == 0
    capsys.readouterr()
    status_, line = fails(capsys, *command, "--bandwidth", "1.5")
    assert status_ == 2 and "with 8 codebooks" in line and "expected another folder, or --again" in line
    assert main([*command, "--bandwidth", "1.5", "--again"]) == 0
    assert TokenDataset(here / "codes").n_q == 2


def test_all_files_share_one_bar(talks, model, monkeypatch):  # noqa: ARG001
    screen, seconds = Terminal(), itertools.count(0.0, 1.5)
    monkeypatch.setattr(batch, "progress", functools.partial(status.progress, stream=screen, clock=lambda: next(seconds)))
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["tokenize", "talks", "codes", "--model", model]) == 0
    assert "encoding 3 files" in screen.getvalue() and "100%" in screen.getvalue()


def test_what_is_no_folder_of_audio_is_refused(talks, here, model, capsys):
    assert "a.wav is no folder: streamcodec encode takes single files" in fails(capsys, "tokenize", talks / "a.wav", "x")[1]
    (here / "empty").mkdir()
    assert "empty holds no file that ends in" in fails(capsys, "tokenize", "empty", "x", "--model", model)[1]
    assert not (here / "x").exists()
