"""The nearest entries, level by level, whatever the rows want: held to the quantizer that defines them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcodec.config import CodecConfig
from streamcodec.engine.openvino_engine import OpenVinoEngine
from streamcodec.engine.search import CodebookSearch
from streamcodec.model.encodec import EncodecModel

# An engine converts all of a model, and only its search is of interest here.
NETWORK = {"num_filters": 2, "num_lstm_layers": 1, "upsampling_ratios": (20, 16)}
CONFIG = CodecConfig(hidden_size=8, codebook_dim=8, codebook_size=64, target_bandwidths=(0.9, 2.7, 4.5), **NETWORK)


@pytest.fixture(scope="module")
def model() -> EncodecModel:
    torch.manual_seed(0)
    model = EncodecModel(CONFIG).eval()
    model.quantizer.embed.copy_(torch.randn(model.quantizer.embed.shape) * 0.7 ** torch.arange(CONFIG.num_quantizers)[:, None, None])
    return model


@pytest.fixture(scope="module")
def searches(model: EncodecModel) -> dict[str, CodebookSearch]:
    return {
        "torch": CodebookSearch(model.quantizer.embed, CONFIG.n_q_choices),
        "openvino": OpenVinoEngine(model, "test-search", lanes=2, threads=2)._search,
    }


@pytest.mark.parametrize("name", ["torch", "openvino"])
@settings(max_examples=30, deadline=None)
@given(n_q=st.lists(st.integers(1, 10), min_size=1, max_size=6), frames=st.integers(1, 7), seed=st.integers(0, 99))
def test_each_row_gets_the_quantizer_s_codes_for_as_many_levels_as_it_uses(name, searches, model, n_q, frames, seed):
    assert CONFIG.n_q_choices == [2, 6, 10]
    latents = np.random.default_rng(seed).standard_normal((len(n_q), 8, frames)).astype(np.float32)
    codes = searches[name](latents, n_q)
    expected = model.quantizer.encode(torch.from_numpy(latents), 10).numpy()
    assert codes.shape == (len(n_q), max(n_q), frames)
    for row, levels in enumerate(n_q):
        np.testing.assert_array_equal(codes[row, :levels], expected[row, :levels])
        assert (codes[row, levels:] == CONFIG.codebook_size).all()


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_the_latents_are_left_as_they_were(name, searches):
    latents = np.random.default_rng(1).standard_normal((1, 8, 1)).astype(np.float32)
    before = latents.copy()
    searches[name](latents, [10])
    np.testing.assert_array_equal(latents, before)
