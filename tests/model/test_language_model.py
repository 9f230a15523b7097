"""The language model is EnCodec's: its probabilities are the package's, bit for bit, and its checkpoint loads or says why not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from package_language_model import package_language_model, saved

from streamcodec.config import CodecConfig
from streamcodec.errors import CheckpointError, ModelNotFoundError
from streamcodec.model.language_model import LanguageModelConfig, load_language_model
from streamcodec.published import PUBLISHED

SMALL = {"dim": 32, "layers": 2}


@pytest.mark.parametrize(
    ("n_q", "frames", "size"),
    [(8, 12, {}), (32, 3, {}), (2, 300, SMALL)],
    ids=["as published", "all codebooks", "longer than the past"],
)
def test_probabilities_are_the_packages_frame_by_frame(tmp_path: Path, n_q: int, frames: int, size: dict[str, int]) -> None:
    theirs = package_language_model(**size)
    ours = load_language_model(saved(theirs, tmp_path), CodecConfig())
    if not size:
        assert ours.config == LanguageModelConfig()
    generator = torch.Generator().manual_seed(1)
    indices, past, offset, state = torch.zeros(1, n_q, 1, dtype=torch.int64), None, 0, None
    with torch.inference_mode():
        for _ in range(frames):
            expected, past, offset = theirs(indices, past, offset)
            found, state = ours(indices, state)
            assert torch.equal(found, expected)
            indices = 1 + torch.randint(0, 1024, (1, n_q, 1), generator=generator)
    assert state is not None and state.frames == frames
    assert all(layer.shape[1] == min(1 + frames, 262) for layer in state.past)


def test_frames_together_are_frames_one_by_one(tmp_path: Path) -> None:
    model = load_language_model(saved(package_language_model(**SMALL), tmp_path), CodecConfig())
    indices = torch.randint(0, 1025, (2, 4, 20), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        together, last = model(indices)
        state, parts = None, []
        for at, end in ((0, 1), (1, 8), (8, 20)):
            part, state = model(indices[:, :, at:end], state)
            parts.append(part)
    torch.testing.assert_close(torch.cat(parts, dim=-1), together, atol=1e-6, rtol=1e-4)
    assert state is not None
    for past, expected in zip(state.past, last.past, strict=True):
        torch.testing.assert_close(past, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.sum(dim=1), torch.ones(2, 4, 20))


def test_a_state_is_a_value_that_can_be_used_twice(tmp_path: Path) -> None:
    model = load_language_model(saved(package_language_model(**SMALL), tmp_path), CodecConfig())
    indices = torch.randint(0, 1025, (1, 4, 5), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        _, state = model(indices)
        first, _ = model(indices[:, :, :1], state)
        model(indices[:, :, 3:], state)
        again, _ = model(indices[:, :, :1], state)
    assert torch.equal(first, again)


def test_the_48_khz_codecs_model_has_its_own_length_of_the_past(tmp_path: Path) -> None:
    path = saved(package_language_model(16, past_frames=525, **SMALL), tmp_path)
    assert load_language_model(path, PUBLISHED["encodec_48khz"]).config.past_frames == 525


def test_a_checkpoint_that_does_not_fit_is_refused_by_what_does_not(tmp_path: Path) -> None:
    model = package_language_model(4, **SMALL)
    path = saved(model, tmp_path)
    with pytest.raises(CheckpointError, match="is for 4 codebooks of 1024, the codec has 32 of 1024"):
        load_language_model(path, CodecConfig())
    few = CodecConfig(target_bandwidths=(1.5, 3.0))
    assert load_language_model(path, few).config.num_codebooks == 4
    tensors = model.state_dict()
    for name, tensor, message in (
        ("transformer.layers.1.linear2.weight", torch.zeros(3, 3), r"layers\.1\.contract\.weight has shape \(3, 3\), expected \(32, 128\)"),
        ("linears.2.bias", None, r"heads\.2\.bias has shape None, expected \(1024,\)"),
        ("emb.0.weight", torch.zeros(1025, 30), r"embeddings are 1025 x 30, expected a multiple of 8 heads"),
        ("emb.0.weight", None, "not a language model of EnCodec"),
        ("more", torch.zeros(1), r"more has shape \(1,\), expected None"),
    ):
        changed = {**tensors, name: tensor}
        torch.save({key: value for key, value in changed.items() if value is not None}, tmp_path / "bad.th")
        with pytest.raises(CheckpointError, match=message):
            load_language_model(tmp_path / "bad.th", few)
    with pytest.raises(ModelNotFoundError, match=r"none\.th: no such file"):
        load_language_model(tmp_path / "none.th", few)
    (tmp_path / "lm-00000000.th").write_bytes(path.read_bytes())
    with pytest.raises(CheckpointError, match="its name says 00000000"):
        load_language_model(tmp_path / "lm-00000000.th", few)
