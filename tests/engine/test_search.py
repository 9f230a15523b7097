"""The codebook searches give the codes of the quantizer, and its beam search is compared with a search of all paths."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcodec.config import CodecConfig
from streamcodec.engine.search import CodebookSearch
from streamcodec.engine.search_codebooks import SearchedCodebooks
from streamcodec.engine.torch import TorchEngine
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.hub import load_model
from streamcodec.model.near_ties import resolutions
from streamcodec.model.quantizer import ResidualVQ, search
from streamcodec.types import Codes, Samples

# Only the search is of interest here.
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
        "compiled": CodebookSearch(model.quantizer),
        "compiled, on two threads": CodebookSearch(model.quantizer, threads=2, workers=2),
    }


@pytest.mark.parametrize("name", ["torch, on a device", "compiled", "compiled, on two threads"])
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


@pytest.mark.parametrize("name", ["torch, on a device", "compiled", "compiled, on two threads"])
def test_a_search_does_not_change_its_latents(name, searches):
    latents = np.random.default_rng(1).standard_normal((1, 8, 1)).astype(np.float32)
    before = latents.copy()
    searches[name](latents, [10])
    np.testing.assert_array_equal(latents, before)


def quantizer_of(embed: torch.Tensor, beam: int, stops: Sequence[int] = ()) -> ResidualVQ:
    """A quantizer with these codebooks [levels, size, dim]."""
    quantizer = ResidualVQ(*embed.shape, beam, stops)
    quantizer.embed.copy_(embed)
    return quantizer


def latents_of(batch: int, dim: int, frames: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).standard_normal((batch, dim, frames)).astype(np.float32)


@pytest.mark.parametrize(
    ("size", "dim", "beam"),
    [(1, 3, 4), (2, 3, 5), (15, 1, 2), (16, 7, 4), (33, 8, 1), (50, 5, 4), (100, 12, 7)],
    ids=lambda number: str(number),
)
def test_codebooks_of_any_size_are_searched_along_any_number_of_paths(size, dim, beam):
    embed = torch.randn(6, size, dim, generator=torch.Generator().manual_seed(size)) * 0.7 ** torch.arange(6)[:, None, None]
    quantizer = quantizer_of(embed, beam, [1, 4, 6])
    latents = latents_of(3, dim, 13)
    expected = quantizer.encode(torch.from_numpy(latents), 6).numpy()
    np.testing.assert_array_equal(CodebookSearch(quantizer)(latents, [6, 6, 6]), expected)


def distances(residuals: torch.Tensor, embed: torch.Tensor, paths: npt.NDArray[np.int32]) -> torch.Tensor:
    """The squared distances in float64 of residuals [N, dim] from the ends of paths [N, levels]."""
    ends = sum(entries[index] for entries, index in zip(embed.double(), torch.from_numpy(paths).long().T, strict=True))
    return (residuals.double() - ends).square().sum(1)


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize(
    ("spread", "norms"),
    [(1e-3, 1.0), (1e-4, 1.0), (1e-5, 1.0), (1.0, 1e4), (1.0, 1e-4)],
    ids=["near by 1e-3", "near by 1e-4", "near by 1e-5", "short residuals", "long residuals"],
)
def test_entries_that_integers_cannot_tell_apart_are_decided_by_float32(beam, spread, norms):
    generator = torch.Generator().manual_seed(14)
    centers = torch.randn(2, 8, 1, 128, generator=generator)
    embed = (norms * (centers + spread * torch.randn(2, 8, 32, 128, generator=generator))).flatten(1, 2)
    quantizer = quantizer_of(embed, beam)
    latents = latents_of(1, 128, 60, seed=15)
    residuals = torch.from_numpy(latents[0].T)
    found = distances(residuals, embed, CodebookSearch(quantizer)(latents, [2])[0].T)
    expected = distances(residuals, embed, quantizer.encode(torch.from_numpy(latents), 2)[0].T.numpy())
    # By as much as float32 may be off in such a distance, see `near_ties`.
    largest = residuals.norm(dim=1) + embed.norm(dim=2).amax(1).sum()
    blur = 4 * 128**0.5 * 2**-24 * largest.double().square()
    assert ((found - expected).abs() <= blur).all()
    if 1e-5 < spread < 1:
        others = distances(residuals, embed, CodebookSearch(quantizer)(latents, [2])[0].T ^ 1)
        assert ((others - found).abs() > blur).any(), "the wrong entry of the right center would be found"


@pytest.mark.parametrize("beam", [1, 4])
@pytest.mark.parametrize("frames", [1, 5, 6, 11, 12, 13, 49, 100])
def test_a_residual_s_codes_do_not_depend_on_what_is_searched_beside_it(beam, frames):
    embed = torch.randn(5, 40, 16, generator=torch.Generator().manual_seed(8)) * 0.8 ** torch.arange(5)[:, None, None]
    # Rounded to a few values, so that many entries are equally near: ties must fall the same way as well.
    quantizer = quantizer_of((2 * embed).round() / 2, beam, [2, 5])
    latents = (2 * latents_of(2, 16, frames)).round() / 2
    together = CodebookSearch(quantizer, threads=3)(latents, [5, 4])
    alone = CodebookSearch(quantizer)
    for row, n_q in enumerate([5, 4]):
        for frame in range(frames):
            expected = alone(latents[row : row + 1, :, frame : frame + 1], [n_q])
            np.testing.assert_array_equal(together[row, :n_q, frame], expected[0, :, 0])


@pytest.mark.parametrize("beam", [1, 4])
def test_equally_near_entries_are_decided_for_the_first_one(beam):
    embed = torch.randn(3, 1, 8, generator=torch.Generator().manual_seed(9)).repeat(1, 70, 1)
    embed[:, 35:] = torch.randn(3, 1, 8, generator=torch.Generator().manual_seed(10))
    codes = CodebookSearch(quantizer_of(embed, beam))(latents_of(1, 8, 50), [3])
    assert set(np.unique(codes)) == {0, 35}


@pytest.mark.parametrize(("batch", "frames"), [(0, 0), (0, 3), (2, 0)])
def test_a_search_of_nothing_finds_nothing(batch, frames):
    quantizer = quantizer_of(torch.randn(3, 20, 4), 4)
    assert CodebookSearch(quantizer, threads=2)(latents_of(batch, 4, frames), [3] * batch).shape == (batch, 3 if batch else 0, frames)


def test_numbers_that_are_none_give_codes_all_the_same():
    """A broken publisher's samples must not lead outside of the codebooks, or touch its neighbours."""
    quantizer = quantizer_of(torch.randn(4, 20, 8, generator=torch.Generator().manual_seed(11)), 4, [2, 4])
    codebook_search, latents = CodebookSearch(quantizer), latents_of(4, 8, 3)
    expected = codebook_search(latents, [4] * 4)
    latents[0], latents[1], latents[2] = np.nan, np.inf, 1e30
    codes = codebook_search(latents, [4] * 4)
    assert codes.min() >= 0 and codes.max() < 20
    np.testing.assert_array_equal(codes[3], expected[3])


def test_simultaneous_searches_each_take_no_more_threads_than_they_may():
    quantizer = quantizer_of(torch.randn(4, 64, 16, generator=torch.Generator().manual_seed(12)), 4)
    codebook_search, latents = CodebookSearch(quantizer, threads=2, workers=3), [latents_of(1, 16, 200, seed) for seed in range(12)]
    expected = [CodebookSearch(quantizer)(each, [4]) for each in latents]
    with ThreadPoolExecutor(3) as pool:
        for found, codes in zip(pool.map(lambda each: codebook_search(each, [4]), latents), expected, strict=True):
            np.testing.assert_array_equal(found, codes)
    assert len(codebook_search._helpers._threads) <= 3, "one beside each worker's own"


def test_a_search_is_copied_with_its_codebooks():
    quantizer = quantizer_of(torch.randn(4, 64, 16, generator=torch.Generator().manual_seed(13)), 4)
    codebook_search, latents = CodebookSearch(quantizer, threads=2), latents_of(2, 16, 9)
    for copied in (deepcopy(codebook_search), pickle.loads(pickle.dumps(codebook_search))):
        np.testing.assert_array_equal(copied(latents, [4, 4]), codebook_search(latents, [4, 4]))


def test_the_embedded_model_s_codes_are_float64_s_or_decided_by_near_ties(speech):
    model = load_model("speech-24k")
    with torch.inference_mode():
        latents = model.encoder(torch.from_numpy(speech[:24_000])[None, None], None, True)[0]
    levels = len(model.quantizer.embed)
    codes = CodebookSearch(model.quantizer)(latents.numpy(), [levels])[0]
    frames = range(0, codes.shape[1], 5)
    assert len(frames) >= 15
    for frame in frames:
        residual = latents[0, :, frame].double()
        for first, stop in model.quantizer.runs:
            embed, path = model.quantizer.embed[first:stop].double(), tuple(codes[first:stop, frame].tolist())
            assert path in resolutions(residual, embed, model.quantizer.beam, 1e-6 * float(residual.norm())), (frame, first)
            residual = residual - embed[range(len(path)), list(path)].sum(0)


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


def adversarial_codebooks(kind: str) -> torch.Tensor:
    """Codebooks [6, 96, 24] that integers of 16 bits tell apart with difficulty."""
    generator = torch.Generator().manual_seed(20)
    random = torch.randn(6, 96, 24, generator=generator)
    falling = 0.7 ** torch.arange(6)[:, None, None]
    match kind:
        case "near entries":
            return ((random[:, :12, None] + 2e-4 * torch.randn(6, 12, 8, 24, generator=generator)) * falling[..., None]).flatten(1, 2)
        case "ties":
            return (2 * random * falling).round() / 2
        case "long entries":
            random[:, ::24] *= 300
            return random * falling
        case "one direction":
            return (random[:, :, :1] + 1e-3 * random) * falling
        case "long codebooks before short ones":
            return random * 20.0 ** -torch.arange(6)[:, None, None]
        case _:
            return random * 3.0 ** torch.arange(6)[:, None, None]


def bounds_of(codebook_search: CodebookSearch) -> list[npt.NDArray[np.float32]]:
    return [codebook_search._codebooks.arrays.errors, codebook_search._codebooks.arrays.slacks]


@pytest.mark.parametrize("stops", [[6], [2, 6], [1, 3, 6]], ids=str)
@pytest.mark.parametrize("norm", [1.0, 1e-3, 1e3, 1e-20])
@pytest.mark.parametrize(
    "kind",
    ["near entries", "ties", "long entries", "one direction", "long codebooks before short ones", "short codebooks before long ones"],
)
def test_what_the_bounds_rule_out_is_never_among_the_best_in_float32(kind, norm, stops):
    quantizer = quantizer_of(adversarial_codebooks(kind), 4, stops)
    bounded, exhaustive = CodebookSearch(quantizer), CodebookSearch(quantizer)
    latents = norm * latents_of(2, 24, 60, seed=21)
    if kind == "ties":
        latents = (2 * latents).round() / 2
    for each in (bounded, exhaustive):
        each(latents, [6, 6])
        each._codebooks.wait()
    for bounds in bounds_of(exhaustive):
        bounds[...] = 1e25  # everything is scored in float32
    np.testing.assert_array_equal(bounded(latents, [6, 6]), exhaustive(latents, [6, 6]))


@pytest.mark.parametrize("what", ["no bounds", "no tables", "tables of another level"])
def test_wrong_bounds_or_tables_would_be_noticed(what):
    """This is what the test above would see."""
    codebook_search = CodebookSearch(quantizer_of(adversarial_codebooks("near entries"), 4))
    latents = latents_of(2, 24, 60, seed=21)
    expected = codebook_search(latents, [6, 6])
    tables = codebook_search._codebooks.arrays.tables
    match what:
        case "no bounds":
            for bounds in bounds_of(codebook_search):
                bounds[...] = 0
        case "no tables":
            tables[...] = 0
        case _:
            tables[...] = np.roll(tables, 1, axis=0)
    assert (codebook_search(latents, [6, 6]) != expected).any()


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 70),
    dim=st.integers(1, 9),
    beam=st.integers(2, 5),
    stops=st.sets(st.integers(1, 7), min_size=1),
    seed=st.integers(0, 99),
)
def test_searches_with_tables_and_without_find_what_the_quantizer_finds(size, dim, beam, stops, seed):
    levels = max(stops)
    embed = torch.randn(levels, size, dim, generator=torch.Generator().manual_seed(seed)) * 0.8 ** torch.arange(levels)[:, None, None]
    quantizer, latents = quantizer_of(embed, beam, sorted(stops)), latents_of(1, dim, 20, seed)
    codebook_search = CodebookSearch(quantizer)
    expected = quantizer.encode(torch.from_numpy(latents), levels).numpy()
    codebook_search(latents, [levels])
    codebook_search._codebooks.wait()
    with_tables = codebook_search(latents, [levels])
    reaches = codebook_search._codebooks.reaches
    assert all((reaches[run] > 0) == (stop > first + 1) for run, (first, stop) in enumerate(quantizer.runs))
    reaches[:] = 0
    np.testing.assert_array_equal(with_tables, expected)
    np.testing.assert_array_equal(codebook_search(latents, [levels]), expected)


def test_tables_are_made_once_for_all_simultaneous_searches_and_for_searched_runs_only(monkeypatch):
    made: list[int] = []
    tabulate = SearchedCodebooks._tabulate

    def noted(self: SearchedCodebooks, level: int, befores: Sequence[int]) -> None:
        made.append(level)
        tabulate(self, level, befores)

    monkeypatch.setattr(SearchedCodebooks, "_tabulate", noted)
    quantizer = quantizer_of(torch.randn(9, 40, 8, generator=torch.Generator().manual_seed(22)), 4, [3, 6, 9])
    codebook_search = CodebookSearch(quantizer, workers=4)
    assert made == [1, 2]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: codebook_search(latents_of(1, 8, 5), [6]), range(16)))
    codebook_search._codebooks.wait()
    assert made == [1, 2, 4, 5]


def test_a_search_whose_tables_fail_goes_on_without_them_and_says_so(monkeypatch, caplog):
    tabulate = SearchedCodebooks._tabulate

    def fails(self: SearchedCodebooks, level: int, befores: Sequence[int]) -> None:
        if level >= 3:
            raise MemoryError
        tabulate(self, level, befores)

    monkeypatch.setattr(SearchedCodebooks, "_tabulate", fails)
    quantizer, latents = quantizer_of(torch.randn(6, 40, 8, generator=torch.Generator().manual_seed(24)), 4, [3, 6]), latents_of(1, 8, 5)
    codebook_search = CodebookSearch(quantizer)
    codebook_search(latents, [6])
    codebook_search._codebooks.wait()
    assert "the search of codebooks 4 to 6 goes on without its tables, more slowly" in caplog.text
    assert [reach > 0 for reach in codebook_search._codebooks.reaches] == [True, False]
    np.testing.assert_array_equal(codebook_search(latents, [6]), quantizer.encode(torch.from_numpy(latents), 6).numpy())


def test_a_search_along_one_path_makes_no_tables():
    codebook_search = CodebookSearch(quantizer_of(torch.randn(5, 40, 8, generator=torch.Generator().manual_seed(23)), 1, [2, 5]))
    assert codebook_search._codebooks.arrays.tables.size == 0 and not codebook_search._codebooks._made
