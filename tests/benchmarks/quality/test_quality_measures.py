"""Every quality measure has the properties that its source claims, and says so where it has no score."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality import measures
from benchmarks.quality.measures import MEASURES, RATE, Scores, align, differences, mean, measure, missing
from streamcodec.audio import bundled_clip, resample
from streamcodec.errors import InputError
from streamcodec.types import Samples

NAMES = [name for name in MEASURES if name not in missing(MEASURES)]
EXTRA = {"distillmos"}  # of the extra `quality`, which brings heavy packages


@pytest.fixture(scope="module")
def speech() -> Samples:
    return bundled_clip()[0]


def noisy(clip: Samples, snr_db: float) -> Samples:
    noise = np.random.default_rng(0).standard_normal(len(clip))
    return (clip + noise * np.sqrt(np.mean(np.square(clip, dtype=np.float64))) * 10 ** (-snr_db / 20)).astype(np.float32)


@pytest.fixture(scope="module")
def scored(speech: Samples) -> list[Scores]:
    """Speech as it is, with a little noise, and with more. Four times, 2.4 s fill one window of DNSMOS's and no second one."""
    clip = speech[RATE : round(3.4 * RATE)]
    return [measure(NAMES, clip, output) for output in (clip, noisy(clip, 45), noisy(clip, 25))]


def test_the_development_environment_measures_everything() -> None:
    assert set(MEASURES) - set(NAMES) <= EXTRA


@pytest.mark.parametrize("name", NAMES)
def test_more_noise_scores_worse(scored: list[Scores], name: str) -> None:
    assert not any(scores.undefined for scores in scored)
    values = [scores.values[name] for scores in scored]
    if name == "distillmos":  # which does not hear what is 45 dB below speech
        values = values[::2]
    assert values == sorted(values, reverse=MEASURES[name].higher_is_better)
    assert values[0] != values[-1]


def test_identical_clips_score_what_each_range_ends_with(scored: list[Scores]) -> None:
    identical = scored[0].values
    assert identical["mel"] == 0
    assert identical["sisdr"] > 80
    assert identical["stoi"] == pytest.approx(1, abs=1e-6)
    assert identical["pesq"] == pytest.approx(4.64, abs=0.01)
    assert 4.3 < identical["visqol"] <= 5
    assert all(1 < identical[name] < 5 for name in ("dnsmos", "plcmos", "distillmos") if name in NAMES)


def test_sisdr_is_the_ratio_to_the_noise_whatever_the_level(speech: Samples) -> None:
    output = noisy(speech, 20)
    found = [measure(["sisdr"], speech, level * output).values["sisdr"] for level in (0.1, 1.0, 1.7)]
    assert found == pytest.approx([20, 20, 20], abs=0.2)
    assert found == pytest.approx([found[0]] * 3, abs=1e-3)


def test_dnsmos_hears_whole_windows_of_nine_seconds(speech: Samples) -> None:
    # 10.1 s hold one window only, as the package counts them.
    assert 10 < len(speech) / RATE < 11
    whole, first = (measure(["dnsmos"], clip, clip).values["dnsmos"] for clip in (speech, speech[: round(9.02 * RATE)]))
    assert whole == pytest.approx(first, abs=1e-3)


@pytest.mark.parametrize(
    ("original", "output", "why"),
    [
        (np.zeros(RATE), np.ones(RATE), "original is silent"),
        (np.ones(RATE), np.zeros(RATE), "output is silent"),
        (np.ones(RATE), np.full(RATE, np.nan), "output is not finite"),
        (np.ones(100), np.ones(RATE), "shorter than 0.25 s"),
    ],
)
def test_a_pair_without_a_score_says_why(original: Samples, output: Samples, why: str) -> None:
    scores = measure(NAMES, original.astype(np.float32), output.astype(np.float32))
    assert scores.values == {}
    assert scores.undefined == dict.fromkeys(NAMES, why)


def test_what_training_learns_by_is_marked() -> None:
    assert {name for name in MEASURES if not MEASURES[name].learnt_by} == {"dnsmos", "plcmos", "distillmos"}
    assert MEASURES["pesq"].heading == "PESQ-WB ‡" and MEASURES["dnsmos"].heading == "DNSMOS overall"


def test_plcmos_is_what_the_package_says_for_the_same_raters(speech: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    plcmos = pytest.importorskip("speechmos.plcmos")
    raters = iter(np.random.default_rng(0).standard_normal((15, 1, 64)))
    monkeypatch.setattr(plcmos.np.random, "normal", lambda size: next(raters).reshape(size))
    clip = speech[RATE : 3 * RATE]
    heard = np.clip(resample(clip, RATE, 16_000), -1.0, 1.0).astype(np.float64)
    assert measure(["plcmos"], clip, clip).values["plcmos"] == pytest.approx(plcmos.PLCMOS().get_mos(heard), abs=1e-3)


def test_one_measure_without_a_score_leaves_the_others() -> None:
    ticks = np.zeros(2 * RATE, np.float32)
    ticks[::4000] = 0.05
    scores = measure(["mel", "stoi"], ticks, ticks)
    assert scores.undefined == {"stoi": "too little speech for STOI"}
    assert scores.values["mel"] == 0


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, speech: Samples) -> None:
    monkeypatch.setattr(measures, "_version", lambda package: None if package == "pesq" else "1")
    assert missing(MEASURES) == {"pesq": "pesq not installed"}
    scores = measure(["pesq", "sisdr"], speech, speech)
    assert scores.undefined == {"pesq": "pesq not installed"}
    assert list(scores.values) == ["sisdr"]


def test_a_model_at_another_rate_is_refused() -> None:
    measures.check_rate(24_000)
    with pytest.raises(InputError, match="at 48000 Hz"):
        measures.check_rate(48_000)


def test_means_come_with_an_interval_that_is_always_the_same() -> None:
    values = np.random.default_rng(1).normal(3, 1, 400).tolist()
    found = mean(values)
    assert found is not None
    assert found == mean(values)
    assert found.mean - found.low == pytest.approx(1.96 / 20, rel=0.2)
    assert found.high - found.mean == pytest.approx(1.96 / 20, rel=0.2)
    assert (found.count, abs(found.most)) == (400, max(map(abs, values)))
    assert mean([]) is None


def test_differences_are_of_clips_that_have_both_scores() -> None:
    some, others = [Scores({"pesq": 2.0}, {}), Scores({}, {"pesq": "silent"})], [Scores({"pesq": 1.5}, {}), Scores({"pesq": 1.0}, {})]
    assert differences("pesq", some, others) == [0.5]


@pytest.mark.parametrize("lag", [-300, -1, 0, 7, 480])
def test_an_output_that_comes_late_or_early_is_brought_into_step(speech: Samples, lag: int) -> None:
    shifted = np.roll(np.pad(speech, 1000), lag)[1000:]
    aligned, found = align(shifted, speech)
    assert found == lag
    assert np.array_equal(aligned[500:-500], speech[500:-500])
    assert len(aligned) == len(speech)
