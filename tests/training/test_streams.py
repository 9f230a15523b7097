"""Crops carried along are one stream: a batch goes on where the one before ended, and so do the layers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_material import AUTOENCODER, CROPS, TINY, write_voices

from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel
from streamcodec.training.data.augment import Augmentation
from streamcodec.training.data.batches import Batches, Crops
from streamcodec.training.data.corpus import Corpus, Folder, build
from streamcodec.training.stages.autoencoder import AutoencoderLearner
from streamcodec.training.stages.streams import Streams

HOP = TINY.hop_length
CROP = CROPS.crop_frames * HOP
PLAIN = replace(CROPS, stream_seconds=1.28, augmentation=Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, (0.0, 0.0)))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("audio")
    return build(
        [Folder("voices", write_voices(root / "voices")), Folder("short", write_voices(root / "short", 1, 1, 0.5))], root / "corpus"
    )


def test_rows_go_on_and_begin_by_turns(corpus: Corpus) -> None:
    batches = Batches(corpus, PLAIN, HOP, 0)
    assert batches.turns.crops == 4
    on = torch.stack([batches.goes_on(step) for step in range(12)])
    assert not bool(on[0].all()) and on[:, 0].tolist() == [False, True, True, True] * 3
    assert on.sum(dim=1).tolist() == [3] * 12


def test_a_stream_is_the_corpus_without_gaps(corpus: Corpus) -> None:
    batches = Batches(corpus, replace(PLAIN, batch=6), HOP, 0)
    everything = np.concatenate([corpus.read(*span) for span in ((a, b - a) for a, b in corpus.spans("speech", held_out=False).values())])
    whole = torch.cat([batches(step)[0, 0] for step in range(4)]).numpy()
    lag = int(np.argmax(np.correlate(everything, whole / np.linalg.norm(whole), "valid")))
    np.testing.assert_allclose(whole, everything[lag : lag + len(whole)], atol=2e-5)


def test_any_step_can_be_the_first(corpus: Corpus) -> None:
    onward = Batches(corpus, CROPS, HOP, 0)
    heard = [onward(step) for step in range(9)]
    for step in (7, 3, 8):
        assert torch.equal(Batches(corpus, CROPS, HOP, 0)(step), heard[step])


def test_a_source_shorter_than_a_stream_is_repeated(tmp_path: Path) -> None:
    corpus = build([Folder("short", write_voices(tmp_path / "short", 1, 1, 0.5))], tmp_path / "corpus")
    batches = Batches(corpus, replace(PLAIN, batch=1), HOP, 0)
    whole = torch.cat([batches(step)[0, 0] for step in range(4)])
    (start, end), *_ = corpus.spans("speech", held_out=False).values()
    assert torch.equal(whole[: end - start], whole[end - start : 2 * (end - start)]) and bool(whole.any())


def test_crops_whose_state_is_carried_on_equal_the_whole_clip(corpus: Corpus) -> None:
    model = EncodecModel(TINY)
    x = Batches(corpus, replace(PLAIN, crop_frames=4 * CROPS.crop_frames, stream_seconds=0.0), HOP, 0)(0)
    streams, on = Streams(), torch.ones(len(x), dtype=torch.bool)
    with torch.no_grad():
        whole = model.encoder(x, None, True)[0]
        parts = [streams.through(model.encoder, "encoder", part, on) for part in x.split(CROP, dim=2)]
        torch.testing.assert_close(torch.cat(parts, dim=2), whole, rtol=0.0, atol=1e-5)
        # Another stream in the first row, and the others go on.
        mixed = streams.through(model.encoder, "encoder", x[..., :CROP], torch.tensor([False, True, True, True]))
    torch.testing.assert_close(mixed[:1], whole[:1, :, : CROPS.crop_frames], rtol=0.0, atol=1e-5)
    assert float((mixed[1:] - whole[1:, :, : CROPS.crop_frames]).abs().max()) > 1e-3


def test_a_row_of_a_reflecting_model_begins_behind_zeros() -> None:
    model = EncodecModel(replace(TINY, pad_mode="reflect"))
    x = torch.randn(2, 1, CROP, generator=torch.Generator().manual_seed(0))
    streams = Streams()
    with torch.no_grad():
        opened = streams.through(model.encoder, "encoder", x, torch.zeros(2, dtype=torch.bool))
        torch.testing.assert_close(opened, model.encoder(x, None)[0])
        mixed = streams.through(model.encoder, "encoder", x, torch.tensor([False, True]))
        nothing = tuple(torch.zeros_like(part) for part in streams.state["encoder"])
        torch.testing.assert_close(mixed[:1], model.encoder(x, nothing)[0][:1])
    assert float((mixed[1] - opened[1]).abs().max()) > 1e-3


def test_a_decoder_with_a_delay_is_trained_on_whole_clips(corpus: Corpus) -> None:
    learner = AutoencoderLearner(replace(TINY, trim_right_ratio=0.5), replace(AUTOENCODER, crops=PLAIN), corpus, None)
    assert learner.step(1, 0.0)["mel"] > 0.0
    assert learner.streams.state == {}


def test_a_learner_remembers_and_begins_where_it_is_told(corpus: Corpus) -> None:
    kept = {}
    for late in (0.0, 1.0):
        learner = AutoencoderLearner(TINY, replace(AUTOENCODER, crops=PLAIN, late_joins=late), corpus, None)
        kept[late] = [learner.step(step, 0.0)["mel"] for step in (1, 2)][1]
        assert set(learner.streams.state) == {"encoder", "body", "end"}
        parts = [part for parts in learner.streams.state.values() for part in parts]
        assert not any(part.requires_grad for part in parts)
        assert all(part.untyped_storage().nbytes() == part.numel() * part.element_size() for part in parts), "whole inputs are kept"
    assert kept[0.0] != kept[1.0]  # a decoder that joined late has forgotten


def test_invalid_crops_are_refused() -> None:
    with pytest.raises(InputError, match=r"stream_seconds is -1\.0, expected at least 0"):
        Crops(stream_seconds=-1.0)
    with pytest.raises(InputError, match="batch is 0 and crop_frames 48, expected at least 1"):
        Crops(batch=0)
