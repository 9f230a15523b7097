"""What a listener hears when packets come late, in bursts, or from a clock that is off: all in made-up time."""

from __future__ import annotations

import numpy as np
import pytest
from playout_rig import DEVICE_RATE, PACKET_S, RATE, in_order, play, stalled

from streamcodec.audio import bundled_clip, resample
from streamcodec.audio.adaptive import AdaptivePlayout, PlayoutPolicy
from streamcodec.errors import InputError


@pytest.fixture(scope="module")
def minute():
    speech, _ = bundled_clip()
    return np.resize(speech, 60 * RATE)


def evenly(sent):
    return [t + 0.0123 for t in sent]


def steepest(x):
    return float(np.abs(np.diff(x)).max())


def test_a_good_network_is_played_as_it_is_at_the_floor(minute):
    sound = minute[: 10 * RATE]
    course = play(sound, evenly)
    last = course.stats[-1]
    assert (last.underruns, last.jumps, last.shortened_s) == (0, 0, 0)
    # The packet itself, its way, the floor, the device's block, and the resampler.
    assert course.delay_between(2, 10) == pytest.approx(PACKET_S + 0.0123 + 0.02 + 0.005, abs=0.01)
    expected = resample(sound, RATE, DEVICE_RATE)
    heard = course.heard[np.flatnonzero(np.abs(course.heard) > 1e-4)[0] - 48 :]
    first = np.flatnonzero(np.abs(expected) > 1e-4)[0] - 48
    window = slice(0, DEVICE_RATE // 2)
    lag = np.correlate(heard[: DEVICE_RATE // 2 + 960], expected[first:][window], "valid").argmax()
    error = heard[lag:][window] - expected[first:][window]
    assert 10 * np.log10(np.mean(expected[first:][window] ** 2) / np.mean(error**2)) > 20


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 5.0])
def test_after_a_stall_the_delay_is_back_within_five_seconds_and_nothing_clicks(minute, seconds):
    course = play(minute, lambda sent: stalled(sent, 30.0, seconds))
    before = course.delay_between(20, 30)
    recovered = 30.0 + seconds + 5.0
    assert course.delay_between(recovered, recovered + 2) == pytest.approx(before, abs=0.01)
    last = course.stats[-1]
    assert last.underruns == 1
    assert last.jumps <= 2
    # What was not played in time was dropped or played faster, and nothing else.
    assert last.dropped_s + last.shortened_s - last.lengthened_s == pytest.approx(seconds, abs=0.08)
    assert steepest(course.heard) <= 1.3 * steepest(resample(minute, RATE, DEVICE_RATE))


@pytest.mark.parametrize("jitter_s", [0.05, 0.2])
def test_the_target_follows_jitter_and_hardly_anything_is_missed(minute, jitter_s):
    chance = np.random.default_rng(0)
    course = play(minute, lambda sent: in_order(sent, 0.01 + jitter_s * chance.random(len(sent))))
    last = course.stats[-1]
    assert jitter_s * 0.8 < last.target_s < jitter_s + 0.03
    assert last.underruns <= 3, "of 750 packets"
    assert last.jumps == 0


def test_a_quiet_network_after_jitter_gives_the_delay_back(minute):
    chance = np.random.default_rng(1)
    course = play(minute, lambda sent: in_order(sent, [0.01 + (0.15 * chance.random() if t < 20 else 0.0) for t in sent]))
    assert course.delay_between(15, 20) > course.delay_between(45, 60) + 0.08
    assert course.delay_between(45, 60) == pytest.approx(PACKET_S + 0.01 + 0.025, abs=0.015)
    assert course.stats[-1].jumps == 0


@pytest.mark.parametrize("ppm", [-200.0, 200.0])
def test_drifting_clocks_are_followed_without_an_underrun(ppm):
    chance = np.random.default_rng(2)
    # Silence is quick to play: what matters here are clocks.
    course = play(np.zeros(600 * RATE, np.float32), lambda sent: [t + 0.01 + 0.002 * chance.random() for t in sent], device_ppm=ppm)
    assert course.delay_between(540, 600) == pytest.approx(course.delay_between(60, 120), abs=0.005)
    last = course.stats[-1]
    assert (last.underruns, last.jumps, last.dropped_s) == (0, 0, 0)
    assert np.mean([s.steering for s in course.stats[-3_000:]]) == pytest.approx(-ppm * 1e-6, abs=50e-6)


def test_small_packets_are_held_to_the_same_rules(minute):
    course = play(minute, lambda sent: stalled(sent, 30.0, 0.5), packet=320)
    assert course.delay_between(36, 40) == pytest.approx(course.delay_between(20, 30), abs=0.01)
    assert course.stats[-1].underruns == 1


def test_samples_without_times_are_played_behind_the_others():
    playout = AdaptivePlayout(RATE, RATE)
    x = np.full(960, 0.5, np.float32)
    playout.push(x)
    playout.push(x, 1.0, 1.0)
    playout.push(x)
    playout.finish()
    heard = np.concatenate([playout.pull(120) for _ in range(60)])
    assert playout.drained
    assert np.count_nonzero(heard > 0.45) == pytest.approx(3 * 960, abs=240)
    assert playout.stats.underruns == 0


def test_a_policy_that_contradicts_itself_is_refused():
    with pytest.raises(InputError, match=r"floor_s is 0\.3, ceiling_s 0\.2"):
        PlayoutPolicy(floor_s=0.3, ceiling_s=0.2)
