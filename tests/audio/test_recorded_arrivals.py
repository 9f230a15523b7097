"""Playout of recorded arrivals: from an overloaded machine, and from a server that stalled now and then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from playout_rig import BLOCK_S, DEVICE_RATE, LOW_RATES, PACKET_S, RATE, Course, play

from streamcodec.audio import bundled_clip, resample
from streamcodec.audio.playout.adaptive import PlayoutPolicy
from streamcodec.audio.playout.tempo import TempoAdjuster

TRACES = Path(__file__).parent / "traces"
SECONDS = 60
FIXED = PlayoutPolicy(floor_s=0.02, ceiling_s=0.02)


class Trace:
    """When packets arrived and when they were captured (s), and when each stall began and its first packet came: more than 0.1 s late."""

    def __init__(self, name: str) -> None:
        self.arrived, self.captured = np.loadtxt(TRACES / f"{name}.txt", dtype=np.int64).T / 1e6
        late = self.arrived - self.captured > 0.1
        first = np.flatnonzero(late & ~np.roll(late, 1))
        self.stalls = [(float(self.captured[i]), float(self.arrived[i])) for i in first]

    def play(self, sound: np.ndarray, policy: PlayoutPolicy | None = None, rates: tuple[int, int] = (RATE, DEVICE_RATE)) -> Course:
        return play(sound, lambda _: self.arrived.tolist(), captured=self.captured.tolist(), policy=policy, rates=rates)


@pytest.fixture(scope="module")
def minute():
    speech, _ = bundled_clip()
    return np.resize(speech, SECONDS * RATE)


@pytest.fixture(scope="module")
def low_minute():
    """For tests of clocks: a minute at the lower of `LOW_RATES`."""
    speech, rate = bundled_clip()
    return np.resize(resample(speech, rate, LOW_RATES[0]), SECONDS * LOW_RATES[0])


@pytest.fixture(scope="module", params=["loaded", "stopped"])
def trace(request):
    return Trace(request.param)


@pytest.fixture(scope="module")
def course(trace, minute):
    """Speech that arrived as the trace says."""
    return trace.play(minute)


def check_misses(trace: Trace, course: Course) -> None:
    """Hardly anything is missed but what stalls cost: the policy's target keeps 98% of the packets."""
    last, policy = course.stats[-1], PlayoutPolicy()
    assert last.underruns <= len(trace.stalls) + (1 - policy.share) * len(trace.arrived) / 2
    assert last.jumps <= len(trace.stalls)
    # What was not heard is what a stall held up, no more.
    assert last.dropped_s + last.shortened_s - last.lengthened_s <= sum(came - begun for begun, came in trace.stalls) + 0.1


def check_delay(trace: Trace, course: Course) -> None:
    """The delay is never above its bound, and it equals the target five seconds after a stall."""
    policy = PlayoutPolicy()
    assert max(course.held) <= policy.ceiling_s + policy.headroom_s + PACKET_S + BLOCK_S
    assert max(stats.target_s for stats in course.stats) <= policy.ceiling_s
    begins = [begun for begun, _ in trace.stalls[1:]] + [float(SECONDS)]
    for (_, came), end in zip(trace.stalls, begins, strict=True):
        excess = [s.margin_s - s.target_s for t, s in zip(course.captured, course.stats, strict=True) if came + 5.0 <= t < end]
        assert len(excess) > 20
        assert max(map(abs, excess)) <= policy.tolerance_s + 0.008


def test_the_traces_are_what_they_say():
    loaded, stopped = Trace("loaded"), Trace("stopped")
    for trace in (loaded, stopped):
        assert len(trace.arrived) == 750
        assert (np.diff(trace.arrived) > 0).all()
        np.testing.assert_allclose(np.diff(trace.captured), PACKET_S, atol=0.01)
    assert len(loaded.stalls) == 2
    assert [round(came - begun, 1) for begun, came in stopped.stalls] == [0.4, 0.8, 0.6, 0.7, 0.4]


def test_hardly_anything_is_missed_and_the_delay_comes_back_after_each_stall(trace, course):
    check_misses(trace, course)
    check_delay(trace, course)


def test_nothing_clicks(course, minute):
    assert np.abs(np.diff(course.heard)).max() <= 1.3 * np.abs(np.diff(resample(minute, RATE, DEVICE_RATE))).max()


def test_what_is_heard_breaks_off_as_often_and_is_as_long_as_the_figures_say(trace):
    # In a sound that never ends each break is a hole, and there is no other.
    rate, device_rate = LOW_RATES
    course = trace.play(np.full(SECONDS * rate, 0.5, np.float32), rates=LOW_RATES)
    last = course.stats[-1]
    on = course.heard > 0.25
    heard = on[np.flatnonzero(on)[0] : np.flatnonzero(on)[-1] + 1]
    assert np.count_nonzero(np.diff(heard.astype(int)) == -1) == last.underruns
    expected_s = SECONDS - last.dropped_s - last.shortened_s + last.lengthened_s
    assert np.count_nonzero(heard) / device_rate == pytest.approx(expected_s, abs=0.01 * (1 + last.underruns)), "fades aside"


def test_a_buffer_that_does_not_follow_lateness_would_not_pass(low_minute):
    trace = Trace("loaded")
    with pytest.raises(AssertionError):
        check_misses(trace, trace.play(low_minute, FIXED, LOW_RATES))


def test_a_buffer_that_gives_nothing_back_would_not_pass(low_minute, monkeypatch):
    monkeypatch.setattr(TempoAdjuster, "adjust", lambda _, samples, excess_s: samples)  # noqa: ARG005
    trace = Trace("stopped")
    with pytest.raises(AssertionError):
        check_delay(trace, trace.play(low_minute, rates=LOW_RATES))


def test_a_buffer_without_a_bound_would_not_pass(low_minute):
    trace = Trace("stopped")
    with pytest.raises(AssertionError):
        check_delay(trace, trace.play(low_minute, PlayoutPolicy(headroom_s=5.0, fastest=0.001), LOW_RATES))


def test_the_buffer_itself_passes_at_the_rates_at_which_those_would_not(low_minute):
    for name in ("loaded", "stopped"):
        trace = Trace(name)
        course = trace.play(low_minute, rates=LOW_RATES)
        check_misses(trace, course)
        check_delay(trace, course)
