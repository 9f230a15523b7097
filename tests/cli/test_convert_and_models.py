"""`convert` keeps what a model is, and `models` says what it is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import streamcodec
from streamcodec.cli import main
from streamcodec.model.checkpoint import load_file, weights_fingerprint


@pytest.mark.parametrize("layout", ["hf", "streamcodec", "meta"])
def test_converting_between_layouts_keeps_the_fingerprint(tmp_path, model, codec, layout, capsys):
    first, second = tmp_path / "first", tmp_path / "second.safetensors"
    target = {"hf": first, "streamcodec": first.with_suffix(".safetensors"), "meta": first.with_suffix(".th")}[layout]
    assert main(["convert", model, str(target), "--layout", layout]) == 0
    told = capsys.readouterr().out
    weights = weights_fingerprint(load_file(Path(model)))
    same = f"fingerprint {codec.fingerprint} (from {codec.fingerprint}), weights {weights} (from {weights})"
    assert told == f"{target}: layout {layout}, {same}\n"
    assert main(["convert", str(target), str(second)]) == 0
    assert capsys.readouterr().out.count(codec.fingerprint) == 2


def test_half_the_size_is_another_model_and_says_so(tmp_path, model, codec, capsys):
    assert main(["convert", model, str(tmp_path / "half.safetensors"), "--half"]) == 0
    told = capsys.readouterr().out
    assert told.count(codec.fingerprint) == 1 and f"(from {codec.fingerprint})" in told


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
