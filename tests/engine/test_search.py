"""The codebook searches give the codes of the quantizer, and its beam search is compared with a search of all paths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcodec.config import CodecConfig
from streamcodec.engine.openvino.engine import OpenVinoEngine
from streamcodec.engine.search import CodebookSearch
from streamcodec.engine.torch import TorchEngine
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.quantizer import search
from streamcodec.types import Codes, Samples

# An engine converts all of a model, and only its search is of interest here.
NETWORK = {"num_filters": 2, "num_lstm_layers": 1, "upsampling_ratios": (20, 16)}
CONFIG = CodecConfig(hidden_size=8, codebook_dim=8, codebook_size=64, target_bandwidths=(0.9, 2.7, 4.5), **NETWORK)


@pytest.fixture(scope="module", params=[1, 3])
def model(request: pytest.FixtureRequest) -> EncodecModel:
    torch.manual_seed(0)
    model = EncodecModel(replace(CONFIG, search_beam=request.param)).eval()
    model.quantizer.embed.copy_(torch.randn(model.quantizer.embed.shape) * 0.7 ** torch.arange(CONFIG.num_quantizers)[:, None, None])
    return model


@pytest.fixture(scope="module")
def searches(model: EncodecModel) -> dict[str, Callable[[Samples, Sequence[int]], Codes]]:
    on_torch = TorchEngine(model)
    return {
        "torch, on a device": lambda latents, n_q: on_torch._search_on_device(torch.from_numpy(latents), n_q),
        "torch": CodebookSearch(model.quantizer),
        "openvino": OpenVinoEngine(model, f"test-search-{model.quantizer.beam}", workers=2, threads=2)._search,
    }


@pytest.mark.parametrize("name", ["torch", "torch, on a device", "openvino"])
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
def test_a_search_does_not_change_its_latents(name, searches):
    latents = np.random.default_rng(1).standard_normal((1, 8, 1)).astype(np.float32)
    before = latents.copy()
    searches[name](latents, [10])
    np.testing.assert_array_equal(latents, before)


def test_the_codes_of_fewer_codebooks_are_the_first_codes_of_more(model):
    latents = torch.randn(2, 8, 20, generator=torch.Generator().manual_seed(2))
    all_of_them = model.quantizer.encode(latents, 10)
    for n_q in range(1, 10):
        assert torch.equal(model.quantizer.encode(latents, n_q), all_of_them[:, :n_q])


def test_a_beam_of_one_takes_the_nearest_entry_of_each_level():
    generator = torch.Generator().manual_seed(3)
    residual, embed = torch.randn(50, 4, generator=generator), torch.randn(3, 16, 4, generator=generator)
    expected = []
    left = residual
    for entries in embed:
        expected.append(torch.cdist(left, entries).argmin(dim=1))
        left = left - entries[expected[-1]]
    assert torch.equal(search(residual, embed, 1)[0], torch.stack(expected, dim=1))


def test_a_beam_as_wide_as_the_number_of_paths_finds_the_best_one():
    generator = torch.Generator().manual_seed(4)
    residual, embed = torch.randn(50, 4, generator=generator), torch.randn(3, 8, 4, generator=generator)
    a, b, c = embed
    sums = (a[:, None, None] + b[:, None] + c).reshape(-1, 4)
    best = torch.cdist(residual, sums).argmin(dim=1)
    found, left = search(residual, embed, 64)
    assert torch.equal(found[:, 0] * 64 + found[:, 1] * 8 + found[:, 2], best)
    assert (left - (residual - sums[best])).abs().max() < 1e-5


def test_wider_beams_have_smaller_errors():
    generator = torch.Generator().manual_seed(5)
    residual, embed = torch.randn(400, 8, generator=generator), torch.randn(6, 64, 8, generator=generator)
    embed *= 0.7 ** torch.arange(6)[:, None, None]
    errors = [float(search(residual, embed, beam)[1].square().mean()) for beam in (1, 2, 4, 16)]
    assert errors == sorted(errors, reverse=True) and errors[2] < 0.85 * errors[0]
