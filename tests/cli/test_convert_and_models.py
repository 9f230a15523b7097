"""`convert` keeps what a model is, and `models` says what it is."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_rig import contents, fails

import streamcodec
from streamcodec.cli import main
from streamcodec.model import checkpoint
from streamcodec.model.checkpoint import LAYOUTS, load_file, weights_fingerprint
from streamcodec.model.encodec import EncodecModel


@pytest.mark.parametrize("layout", LAYOUTS)
def test_converting_between_layouts_keeps_the_fingerprint_and_says_what_was_compared(tmp_path, model, codec, layout, capsys):
    target, second = tmp_path / "first", tmp_path / "second.safetensors"
    assert main(["convert", model, str(target), "--layout", layout]) == 0
    told = capsys.readouterr().out
    weights = weights_fingerprint(load_file(Path(model)))
    same = f"fingerprint {codec.fingerprint} (from {codec.fingerprint}), weights {weights} (from {weights})"
    made_of_a_clip = f"2.1 s of speech at 24 kbps: {158 * 32} codes, all equal; decoded samples, equal to within 0"
    assert told == f"{target}: layout {layout}, {same}\ncompared, {model} and {target}: {made_of_a_clip}\n"
    assert main(["convert", str(target), str(second)]) == 0
    assert capsys.readouterr().out.count(codec.fingerprint) == 2


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_there_is_only_replaced_where_that_is_asked_for(here, model, layout, capsys):
    assert main(["convert", model, "target", "--layout", layout]) == 0
    before = contents(here)
    status, line = fails(capsys, "convert", "speech-24k", "target", "--layout", layout)
    assert status == 2 and line.endswith("is there already: give --overwrite to replace it")
    assert contents(here) == before
    assert main(["convert", model, "target", "--layout", layout, "--half", "--overwrite"]) == 0
    assert contents(here).keys() == before.keys() and contents(here) != before


def test_a_folder_without_a_model_in_it_may_take_one(here, model):
    (here / "mine").mkdir()
    (here / "mine" / "notes.txt").write_text("mine")
    assert main(["convert", model, "mine", "--layout", "hf"]) == 0
    assert contents(here)["mine/notes.txt"] == b"mine"


def test_half_the_size_is_another_model_and_says_so(tmp_path, model, codec, capsys):
    assert main(["convert", model, str(tmp_path / "half.safetensors"), "--half"]) == 0
    told = capsys.readouterr().out
    assert told.count(codec.fingerprint) == 1 and f"(from {codec.fingerprint})" in told
    assert re.search(r"codes, \d+ of them differ; decoded samples, equal to within \d", told)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_what_was_written_wrongly_is_noticed(tmp_path, model, part, monkeypatch, capsys):
    save = checkpoint.save

    def save_another(written: EncodecModel, *arguments: Any, **options: Any) -> None:
        other = deepcopy(written)
        with torch.no_grad():
            next(getattr(other, part).parameters()).mul_(1.1)
        save(other, *arguments, **options)

    monkeypatch.setattr(checkpoint, "save", save_another)
    _, line = fails(capsys, "convert", model, tmp_path / "x.safetensors")
    assert "x.safetensors was written, but it is not the model that was read: 2.1 s of speech" in line
    assert ("all equal" in line) == (part == "decoder")


def test_a_wider_search_is_written_with_the_model_and_leaves_its_fingerprint(tmp_path, model, codec, capsys):
    target = tmp_path / "wide"
    assert main(["convert", model, str(target), "--layout", "hf", "--search-beam", "3"]) == 0
    assert capsys.readouterr().out.count(codec.fingerprint) == 2
    wide = streamcodec.load(target)
    assert (wide.config.search_beam, codec.config.search_beam) == (3, 1)
    samples = np.random.default_rng(0).standard_normal(32_000).astype(np.float32) * 0.1
    narrow_codes, wide_codes = codec.encode(samples), wide.encode(samples)
    assert narrow_codes.shape == wide_codes.shape and not np.array_equal(narrow_codes, wide_codes)
    np.testing.assert_array_equal(codec.decode(wide_codes), wide.decode(wide_codes))
    assert main(["models", str(target)]) == 0
    assert re.search(r"MMAC per second to encode and decode, \d+ to search the codebooks at .* kbps \(beam 3\)", capsys.readouterr().out)


def test_a_search_along_no_path_is_refused(tmp_path, model, capsys):
    assert main(["convert", model, str(tmp_path / "none"), "--search-beam", "0"]) == 2
    assert "search_beam is 0, expected an integer from 1 to 64" in capsys.readouterr().err


def test_the_embedded_models_are_listed(speech_codec, capsys):
    assert main(["models"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("speech-24k\n")
    assert re.search(rf"fingerprint +{speech_codec.fingerprint}, of what its codes mean\n", told)
    assert "24000 Hz mono, 75 frames per second" in told
    assert "1.5, 3, 6, 12, 24 kbps" in told


def test_a_model_in_a_folder_is_described(model, codec, capsys):
    assert main(["models", model]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{model}\n") and codec.fingerprint in told and "reflect padding" in told
