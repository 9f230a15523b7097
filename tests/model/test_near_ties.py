"""The rule of parity: a near-tie passes, whichever way it fell, and one wrong code in a long stream does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from streamcodec.config import CodecConfig
from streamcodec.errors import CodesError
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.near_ties import NearTies, StreamTruth, resolutions
from streamcodec.model.quantizer import search

CONFIG = CodecConfig(
    num_filters=4, hidden_size=16, codebook_dim=16, codebook_size=64, upsampling_ratios=(8, 3), target_bandwidths=(48.0,), num_lstm_layers=1
)
LEVELS = CONFIG.num_quantizers


def model_of(beam: int) -> EncodecModel:
    """A small model with random weights and codebooks on the scale of their residuals."""
    torch.manual_seed(3)
    model = EncodecModel(replace(CONFIG, search_beam=beam)).eval().requires_grad_(False)
    with torch.inference_mode():
        latents = model.encoder(0.1 * torch.randn(1, 1, 24_000), None, True)[0][0]
    for level, entries in enumerate(model.quantizer.embed):
        entries.copy_(torch.randn(entries.shape) * latents.std(dim=1) * 0.8**level)
    model.quantizer.embed[0] += latents.mean(dim=1)
    return model


class Long:
    """A stream of 10,000 entries and more, its codes, and what is true of it."""

    def __init__(self, beam: int) -> None:
        self.model = model_of(beam)
        self.samples = (0.1 * np.random.default_rng(0).standard_normal(24 * 1_500)).astype(np.float32)
        with torch.inference_mode():
            found = self.model.encode(torch.from_numpy(self.samples)[None, None], None, LEVELS, True)[0][0]
        self.codes: npt.NDArray[np.int64] = found.numpy()
        self.truth: StreamTruth = NearTies(self.model).stream(self.samples)


@pytest.fixture(scope="module", params=[1, 4], ids=["one path", "four paths"])
def long(request: pytest.FixtureRequest) -> Long:
    return Long(request.param)


@pytest.mark.parametrize("level", [0, LEVELS // 2, LEVELS - 1], ids=["the first level", "a middle level", "the last level"])
@pytest.mark.parametrize("frame", [0, 777, 1_499])
def test_a_single_wrong_code_in_ten_thousand_is_found_and_named(long: Long, level: int, frame: int) -> None:
    assert long.codes.size >= 10_000
    wrong = long.codes.copy()
    wrong[level, frame] = (wrong[level, frame] + 1) % CONFIG.codebook_size
    found = long.truth.compare(wrong, long.codes)
    assert not found and found.differing == 1 and not found.near_ties
    [only] = found.wrong
    assert (only.frame, only.level, only.entry) == (frame, level, wrong[level, frame])
    assert only.other == long.codes[level, frame]
    assert only.distance > only.other_distance + only.tolerance > only.other_distance
    for told in (f"frame {frame}", f"level {level}", f"{only.distance:.9g}", f"{only.other_distance:.9g}"):
        assert told in str(found)


def test_a_wrong_code_is_found_on_the_side_of_the_expected_ones_too(long: Long) -> None:
    wrong = long.codes.copy()
    wrong[0, 5] = (wrong[0, 5] + 1) % CONFIG.codebook_size
    assert [one.entry for one in long.truth.compare(long.codes, wrong).wrong] == [wrong[0, 5]]


def test_entries_right_by_themselves_are_wrong_behind_another_choice(long: Long) -> None:
    """Each level codes what the levels before it left: another entry at one level asks for others behind it."""
    second = long.codes[:, :30].copy()
    second[0] = np.roll(second[0], 1)
    assert len(long.truth.compare(second, long.codes[:, :30]).wrong) == int((second[0] != long.codes[0, :30]).sum()) > 15


def test_equal_codes_pass_without_a_run_of_the_model() -> None:
    class NoModel(NearTies):
        @property
        def model64(self) -> EncodecModel:  # type: ignore[override]
            raise AssertionError("float64 is for codes that differ")

    found = NoModel(model_of(1)).compare(np.ones((4, 10), int), np.ones((4, 10), int), np.zeros(240, np.float32))
    assert found and (found.entries, found.differing) == (40, 0)


def test_both_sides_of_float32_and_float64_rounding_pass(long: Long) -> None:
    """What the float32 module gives of samples moved by less than float32 tells apart is right; rounded to bf16, it is not."""
    moved = long.samples * np.float32(1 + 2.0**-22)
    coarse = torch.from_numpy(long.samples).bfloat16().float().numpy()
    with torch.inference_mode():
        near, far = (long.model.encode(torch.from_numpy(x)[None, None], None, LEVELS, True)[0][0].numpy() for x in (moved, coarse))
    assert long.truth.compare(near, long.codes)
    assert len(long.truth.compare(far, long.codes).wrong) > 10


def tied(gap: float, beam: int) -> tuple[StreamTruth, npt.NDArray[np.int64], npt.NDArray[np.int64], float]:
    """A stream whose first frame has two entries almost equally near at level 1, the second farther by `gap` tolerances.

    Returns what is true of it, the codes by the nearer one and by the other, each with the levels behind it as they follow.
    """
    model, samples = model_of(beam), (0.1 * np.random.default_rng(1).standard_normal(24 * 7)).astype(np.float32)
    rule = NearTies(model)
    truth = rule.stream(samples)
    embed = rule.model64.quantizer.embed
    latents, error = truth._latents_of(7)
    residual = latents[0]
    first = int((residual - embed[0]).square().sum(1).argmin())
    left = residual - embed[0, first]
    # Two entries on both sides of the residual, a little away from it, and all others far off.
    aside = torch.zeros_like(left)
    aside[0] = 0.1 * left.norm()
    embed[1:] *= 0.1
    embed[1] += 10 * left
    embed[1, 7], embed[1, 9] = left + aside, left - aside
    from streamcodec.model.near_ties import _blur

    tolerance = float(2 * error * 2 * aside.norm() + 2 * _blur(left, embed[1, 7]))
    embed[1, 9] -= aside / aside.norm() * (gap * tolerance) / (2 * aside.norm())
    paths = []
    for entry in (7, 9):
        behind = search((left - embed[1, entry])[None], embed[2:], 1)[0][0].tolist()
        paths.append([first, entry, *behind])
    codes = np.zeros((2, LEVELS, 7), np.int64)
    codes[:, :, 0] = paths
    return truth, codes[0], codes[1], tolerance


@pytest.mark.parametrize(("gap", "passes"), [(0.0, True), (0.5, True), (0.98, True), (1.02, False), (3.0, False)])
def test_a_gap_within_the_tolerance_passes_and_one_just_over_it_does_not(gap: float, passes: bool) -> None:
    truth, nearer, other, tolerance = tied(gap, 1)
    found = truth.compare(other, nearer)
    assert bool(found) == passes, str(found)
    [only] = found.near_ties if passes else found.wrong
    assert (only.frame, only.level, only.entry, only.other) == (0, 1, 9, 7)
    assert only.distance - only.other_distance == pytest.approx(gap * tolerance, rel=0.01, abs=1e-12)
    assert only.share == (pytest.approx(gap, rel=0.01, abs=1e-6) if passes else None)


def test_entries_behind_a_near_tie_are_judged_by_the_choice_that_was_made() -> None:
    truth, nearer, other, _ = tied(0.5, 1)
    assert truth.compare(other, nearer)
    other[-1, 0] = (other[-1, 0] + 1) % CONFIG.codebook_size
    assert [one.level for one in truth.compare(other, nearer).wrong] == [LEVELS - 1]


def test_resolutions_are_the_paths_that_small_changes_of_the_residual_bring() -> None:
    """Four paths through codebooks that are short of space, so that many are near: what noise of the size allowed finds, they hold."""
    generator = torch.Generator().manual_seed(4)
    embed = torch.randn(5, 16, 8, generator=generator, dtype=torch.float64) * (0.7 ** torch.arange(5, dtype=torch.float64))[:, None, None]
    several = 0
    for _ in range(40):
        residual = torch.randn(8, generator=generator, dtype=torch.float64)
        error = 0.01
        possible = resolutions(residual, embed, 4, error)
        noise = torch.randn(400, 8, generator=generator, dtype=torch.float64)
        moved = residual + error * noise / noise.norm(dim=1, keepdim=True)
        found = {tuple(path.tolist()) for path in search(torch.cat([residual[None], moved]), embed, 4)[0]}
        assert found <= possible.keys()
        own = tuple(search(residual[None], embed, 4)[0][0].tolist())
        assert possible[own] == 0.0 and max(possible.values()) <= 1.0
        assert {tuple(path.tolist()) for path in search(residual[None], embed, 4)[0]} == resolutions(residual, embed, 4, 0.0).keys()
        several += len(found) > 1
    assert several > 5


def test_too_many_equal_entries_are_an_error_and_no_proof() -> None:
    with pytest.raises(CodesError, match="equally near"):
        resolutions(torch.zeros(8, dtype=torch.float64), torch.zeros(3, 64, 8, dtype=torch.float64), 4, 1e-9)


@pytest.mark.parametrize(
    ("codes", "expected", "told"),
    [
        (np.zeros((2, 3), int), np.zeros((2, 4), int), "one shape"),
        (np.zeros((2, 30), int), np.zeros((2, 30), int), "10 frames"),
        (np.zeros((LEVELS + 1, 3), int), np.zeros((LEVELS + 1, 3), int), f"{LEVELS} codebooks"),
        (np.full((2, 3), 64), np.zeros((2, 3), int), "range from 64 to 64, expected 0 to 63"),
    ],
)
def test_codes_that_are_none_of_the_stream_are_refused(codes: npt.NDArray[np.int64], expected: npt.NDArray[np.int64], told: str) -> None:
    with pytest.raises(CodesError, match=told):
        NearTies(model_of(1)).compare(codes, expected, np.zeros(240, np.float32))
