"""No command costs a file that was there: an input is never an output, and a file is replaced only by one that is complete."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from cli_rig import contents, fails
from live_rig import free_port

from streamcodec.cli import main


@pytest.fixture
def talk(here: Path) -> Path:
    sf.write(here / "talk.wav", np.sin(np.arange(9_600, dtype=np.float32) / 20) / 2, 24_000)
    return here / "talk.wav"


def test_a_file_is_not_encoded_or_decoded_onto_itself(here, talk, model, capsys):
    talk.rename("audio.codes")
    (here / "link.codes").symlink_to("audio.codes")
    before = contents(here)
    for words in (["audio.codes"], ["audio.codes", "link.codes"], ["link.codes", "audio.codes"]):
        status, line = fails(capsys, "encode", *words, "--model", model)
        assert status == 2 and "is the same file as the input" in line
    assert contents(here) == before

    assert main(["encode", "audio.codes", "real.wave", "--model", model]) == 0
    Path("real.wave").rename("real.wav")
    before = contents(here)
    capsys.readouterr()
    assert "is the same file as the input" in fails(capsys, "decode", "real.wav", "real.wav", "--model", model)[1]
    assert contents(here) == before


@pytest.mark.parametrize("name", ["talk.wav", "link.wav", "talk.flac", "twin.wav"])
def test_what_is_published_is_not_kept_in_its_own_file(here, talk, name, capsys):
    sf.write(here / "talk.flac", np.zeros(4_800), 24_000)
    (here / "link.wav").symlink_to("talk.wav")
    (here / "twin.wav").hardlink_to(talk)
    before = contents(here)
    source = "talk.flac" if name == "talk.flac" else "talk.wav"
    for option in ("--keep", "--ledger"):
        status, line = fails(capsys, "mic", "--input", source, option, name, "--no-retry")
        assert status == 2 and f"{name} is the same file as the input {source}" in line
    assert contents(here) == before


def test_the_demo_does_not_write_what_it_reads(here, talk, capsys):
    (here / "out").mkdir()
    talk.rename(here / "out" / "spoken.wav")
    before = contents(here)
    status, line = fails(capsys, "demo", "--input", "out/spoken.wav", "--silent", "--output", "out")
    assert status == 2 and "is the same file as the input" in line
    assert contents(here) == before


def test_one_file_for_two_outputs_is_refused(talk, capsys):
    assert "is the same file as the output" in fails(capsys, "mic", "--input", talk, "--keep", "a.wav", "--ledger", "a.wav")[1]
    assert "is the same file as the output" in fails(capsys, "play", "--pcm", "--output", "a.wav", "--ledger", "a.wav")[1]


def test_a_recording_that_never_begins_leaves_what_was_there(here, talk, capsys):
    for name in ("old.wav", "old.flac", "old.jsonl"):
        (here / name).write_text("precious")
    before = contents(here)
    nowhere = ["--server", f"ws://127.0.0.1:{free_port()}", "--no-retry", "--ledger", "old.jsonl"]
    for name in ("old.wav", "old.flac"):
        fails(capsys, "mic", "--input", talk, "--keep", name, *nowhere)
        fails(capsys, "play", "--pcm", "--output", name, *nowhere)
    fails(capsys, "play", "--pcm", "--output", "new.wav", *nowhere)
    assert contents(here) == before


def test_a_checkpoint_is_not_converted_onto_itself(here, model, capsys):
    assert main(["convert", model, "m.safetensors"]) == 0
    assert main(["convert", "m.safetensors", "folder", "--layout", "hf"]) == 0
    Path("link.safetensors").symlink_to("m.safetensors")
    before = contents(here)
    capsys.readouterr()
    for source, target, *more in (
        ("m.safetensors", "m.safetensors"),
        ("m.safetensors", "link.safetensors"),
        ("folder", "folder", "--layout", "hf"),
        ("folder", "folder/model.safetensors"),
    ):
        status, line = fails(capsys, "convert", source, target, "--half", *more)
        assert status == 2 and "is there already: give --overwrite to replace it" in line
        status, line = fails(capsys, "convert", source, target, "--half", "--overwrite", *more)
        assert status == 2 and "is the same file as the input" in line
    assert contents(here) == before


@pytest.mark.usefixtures("talk")
def test_a_full_disk_leaves_what_was_there(here, model, capsys, full_disk):
    assert main(["encode", "talk.wav", "a.codes", "--model", model]) == 0
    for words in (["decode", "a.codes", "old.wav"], ["decode", "a.codes", "old.flac"]):
        assert main([*words, "--model", model]) == 0
    for layout, name in (("streamcodec", "old.safetensors"), ("hf", "old")):
        assert main(["convert", model, name, "--layout", layout]) == 0
    before = contents(here)
    assert {"old.safetensors", "old/config.json", "old/model.safetensors"} <= before.keys()
    capsys.readouterr()
    for size, *words in (
        (20, "encode", "talk.wav", "a.codes", "--model", model),
        (900, "decode", "a.codes", "old.wav", "--model", model),
        (900, "decode", "a.codes", "old.flac", "--model", model),
        (900, "decode", "a.codes", "new.wav", "--model", model),
        (900, "convert", model, "old.safetensors", "--overwrite"),
        (900, "convert", model, "old", "--layout", "hf", "--overwrite"),
    ):
        with full_disk(size):
            _, line = fails(capsys, *words)
        assert "cannot be written: File too large" in line, words
        assert contents(here) == before, words
