"""A language model of whole numbers learns what codes follow each other, and the coder spends what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from training_material import voice, write_voices

import streamcodec
from streamcodec.bitstream.checked_coding import CheckedCoding
from streamcodec.codec import compress, decompress, load_fixed_point
from streamcodec.engine.fixed_point import FixedPointEngine
from streamcodec.errors import InputError
from streamcodec.training.cli import main
from streamcodec.training.data.corpus import Folder, build
from streamcodec.training.language_model import LanguageModelSettings, bits_per_code, codes_of, train_language_model
from streamcodec.types import Codes

SETTINGS = LanguageModelSettings(predicted=2, window=3, dim=16, hidden=32, narrow=32, steps=400, batch=64, warmup_steps=10)
ENTRIES = 16


def patterned(clips: int, frames: int, seed: int) -> Codes:
    """Codes [clips, 3, frames]: the first counts up from anywhere, the second is what the first was two frames ago, the third is 0 or 1."""
    chance = np.random.default_rng(seed)
    first = (chance.integers(ENTRIES, size=(clips, 1)) + np.arange(frames)) % ENTRIES
    return np.stack([first, np.roll(first, 2, axis=1), chance.integers(2, size=(clips, frames))], axis=1).astype(np.int32)


def test_what_follows_from_the_past_costs_little_and_what_does_not_costs_its_entropy() -> None:
    losses: list[float] = []
    model = train_language_model(patterned(8, 100, 0), ENTRIES, SETTINGS, lambda _, loss: losses.append(loss))
    assert len(losses) == SETTINGS.steps and losses[-1] < losses[0]
    bits = bits_per_code(model, patterned(4, 200, 1), 3)
    # Four bits a code is what they take without a model; the first frames of a clip have no past.
    assert bits[0] < 0.5 and bits[1] < 0.5
    assert bits[2] == pytest.approx(1.0, abs=0.1)
    assert model.num_codebooks == 3 and model.context == 2


def test_streams_of_fewer_codebooks_are_predicted_better_by_a_model_that_heard_some() -> None:
    spent = {}
    for dropped in (0.0, 0.5):
        model = train_language_model(patterned(8, 100, 0), ENTRIES, replace(SETTINGS, dropped=dropped))
        spent[dropped] = bits_per_code(model, patterned(4, 200, 1), 1)[0]
    assert spent[0.5] < 0.7 * spent[0.0]


def test_the_coder_spends_the_bits_that_are_told() -> None:
    codes = patterned(1, 300, 2)
    model = train_language_model(patterned(4, 60, 0), ENTRIES, replace(SETTINGS, steps=40))
    engine = FixedPointEngine(model)
    encoder = CheckedCoding(lambda frame, state: engine.predict(frame, state, 3), 3, 255).encoder()
    spent = 8 * len(encoder.push(codes[0]) + encoder.tail())
    told = bits_per_code(model, codes, 3).sum() * 300
    assert told <= spent <= 1.02 * told + 2 * 8 * (7 + 4), "two blocks have heads and ends"


def test_codes_are_those_of_the_codec_on_the_corpus(tmp_path: Path, codec: streamcodec.Codec) -> None:
    corpus = build([Folder("voices", write_voices(tmp_path / "voices"))], tmp_path / "corpus")
    codes = codes_of(codec, corpus, 2, 1.0)
    assert codes.shape == (2, 32, 75)
    with pytest.raises(InputError, match="the corpus holds no speech of 1000 s in one source"):
        codes_of(codec, corpus, 2, 1000.0)
    np.testing.assert_array_equal(codes[1], codec.encode(corpus.clips(1.0, 2, held_out=False)[1], bandwidth=24))


def test_the_command_trains_on_a_corpus_and_writes_a_model_that_codes_files(tmp_path: Path, model: str, codec: streamcodec.Codec) -> None:
    for name in ("voices", "others"):
        write_voices(tmp_path / name, speakers=1, files=1, seconds=21.0)
    build([Folder("voices", tmp_path / "voices"), Folder("others", tmp_path / "others", held_out=True)], tmp_path / "corpus")
    target = tmp_path / "lm.safetensors"
    words = ["language-model", str(target), "--model", model, "--corpus", str(tmp_path / "corpus"), "--minutes", "0.1", "--steps", "2"]
    assert main(words) == 0
    trained = load_fixed_point(target, codec)
    data = compress(codec, voice(1.0, 24_000, 1), bandwidth=6, language_model=trained)
    assert len(decompress(codec, data, language_model=load_fixed_point(target, codec, "openvino"))) == 24_000
