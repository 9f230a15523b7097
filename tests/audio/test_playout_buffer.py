"""The device always gets its samples; underruns, jumps and dropped samples are counted."""

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.audio.playout.buffer import PlayoutBuffer
from streamcodec.errors import AudioError, InputError

FADE = 10


def ones(n, value=1.0):
    return np.full(n, value, np.float32)


def steepest(samples):
    return float(np.abs(np.diff(samples, prepend=0.0)).max())


@pytest.fixture
def buffer():
    return PlayoutBuffer(target=100, ceiling=300, fade=FADE)


def test_nothing_plays_until_the_target_is_buffered(buffer):
    buffer.push(ones(99))
    assert not buffer.pull(20).any()
    assert (buffer.buffered, buffer.played, buffer.underruns) == (99, 0, 0)
    buffer.push(ones(1))
    assert buffer.pull(20).all()
    assert (buffer.buffered, buffer.played) == (80, 20)


def test_playing_starts_with_a_fade_in_across_small_pulls(buffer):
    buffer.push(ones(100))
    played = np.concatenate([buffer.pull(n) for n in (3, 4, 20)])
    np.testing.assert_allclose(played[:FADE], np.arange(1, FADE + 1) / (FADE + 1), rtol=1e-6)
    assert (played[FADE:] == 1).all()


def test_samples_come_out_as_they_went_in_after_the_fade(buffer):
    stream = np.random.default_rng(0).uniform(-1, 1, 5_000).astype(np.float32)
    played = []
    for block in np.split(stream, 50):
        buffer.push(block)
        played.append(buffer.pull(100))
    np.testing.assert_array_equal(np.concatenate(played)[FADE:], stream[FADE:])
    assert (buffer.underruns, buffer.dropped_samples, buffer.played, buffer.buffered) == (0, 0, 5_000, 0)


def test_an_underrun_fades_out_is_counted_and_waits_for_the_target_again(buffer):
    buffer.push(ones(100))
    buffer.pull(60)
    played = buffer.pull(60)
    np.testing.assert_allclose(played[30:40], np.arange(FADE, 0, -1) / (FADE + 1), rtol=1e-6)
    assert (played[:30] == 1).all()
    assert not played[40:].any()
    assert (buffer.underruns, buffer.played) == (1, 100)
    buffer.push(ones(99))
    assert not buffer.pull(60).any()
    buffer.push(ones(1))
    assert buffer.pull(60)[0] == pytest.approx(1 / (FADE + 1))
    assert buffer.underruns == 1


@pytest.mark.parametrize("left", [0, 1, 5, FADE, 30])
@pytest.mark.parametrize("pull", [4, 20, 60])
def test_no_underrun_clicks_however_little_is_left(left, pull):
    buffer = PlayoutBuffer(100, 300, FADE)
    buffer.push(ones(100, 0.5))
    played = [buffer.pull(100 - left)] + [buffer.pull(pull) for _ in range(20)]
    assert steepest(np.concatenate(played)) <= 0.5 / (min(FADE, pull) + 1) * 2 + 1e-6
    assert buffer.underruns == 1
    assert buffer.played == 100


def test_above_the_ceiling_the_oldest_are_dropped_down_to_the_target_with_a_cross_fade(buffer):
    buffer.push(ones(100))
    buffer.pull(20)
    buffer.push(np.concatenate([ones(160, 1.0), ones(100, 0.0)]))
    assert buffer.buffered == 340
    played = buffer.pull(50)
    assert (buffer.dropped_samples, buffer.buffered) == (240, 50)
    np.testing.assert_allclose(played[:FADE], np.arange(FADE, 0, -1) / (FADE + 1), rtol=1e-5)
    assert not played[FADE:].any()
    assert buffer.played == 70


def test_at_the_ceiling_nothing_is_dropped(buffer):
    buffer.push(ones(300))
    buffer.pull(0)
    buffer.pull(10)
    assert buffer.dropped_samples == 0


def test_a_cross_fade_may_overlap_itself_and_be_longer_than_the_target():
    buffer = PlayoutBuffer(target=5, ceiling=6, fade=FADE)
    for _ in range(20):
        buffer.push(ones(4, 0.5))
        assert buffer.pull(2).max() <= 0.5 + 1e-6
    assert buffer.dropped_samples > 0
    assert steepest(buffer.pull(2)) <= 0.5


def test_a_stalled_device_bounds_the_buffer_and_the_rest_is_counted(buffer):
    for _ in range(10):
        buffer.push(ones(100))
    assert buffer.buffered == 600
    assert buffer.dropped_samples == 400
    buffer.pull(10)
    assert (buffer.buffered, buffer.dropped_samples) == (90, 900)


def test_samples_that_do_not_fit_cause_no_click():
    buffer = PlayoutBuffer(target=100, ceiling=300, fade=FADE, capacity=1_000)
    for _ in range(15):
        buffer.push(ones(100, 0.5))
    assert (buffer.buffered, buffer.dropped_samples) == (1_000, 500)
    buffer.ceiling = 10_000
    played = [buffer.pull(100) for _ in range(5)]
    buffer.push(ones(100, 0.5))
    buffer.finish()
    played += [buffer.pull(100) for _ in range(6)]
    played = np.concatenate(played)
    assert buffer.drained
    assert steepest(played[: 1_100 - 1]) <= 0.5 / (FADE + 1) + 1e-6
    assert played[995:1_005].max() < 0.3, "there is a hole between what came before and after, and it is faded"


def test_after_finish_the_rest_drains_below_the_target_without_an_underrun(buffer):
    buffer.push(ones(50))
    assert not buffer.drained
    buffer.finish()
    played = np.concatenate([buffer.pull(40), buffer.pull(40)])
    assert (played[FADE:50] == 1).all()
    assert not played[50:].any()
    assert buffer.drained
    assert not buffer.pull(40).any()
    assert (buffer.underruns, buffer.played) == (0, 50)


def test_after_finish_nothing_is_dropped_however_much_is_left(buffer):
    buffer.push(ones(500))
    buffer.finish()
    assert buffer.pull(500)[FADE:].all()
    assert buffer.dropped_samples == 0
    assert buffer.drained


def test_an_empty_finished_buffer_is_drained(buffer):
    buffer.finish()
    assert buffer.drained
    assert not buffer.pull(10).any()
    with pytest.raises(InputError, match="was finished"):
        buffer.push(ones(1))


def test_the_callers_array_is_filled_and_returned(buffer):
    buffer.push(ones(100))
    out = ones(20, 9.0)
    assert buffer.pull(20, out) is out
    assert out.max() == 1.0


@given(st.lists(st.tuples(st.integers(0, 250), st.integers(0, 250)), max_size=40), st.booleans())
def test_every_sample_is_played_dropped_or_still_buffered(steps, finishing):
    buffer = PlayoutBuffer(60, 200, FADE)
    pushed = 0
    for push, pull in steps:
        buffer.push(ones(push, 0.5))
        pushed += push
        out = buffer.pull(pull, ones(pull, 7.0))
        assert out.min(initial=0) >= 0
        assert out.max(initial=0) <= 0.5 + 1e-6
        assert buffer.played + buffer.dropped_samples + buffer.buffered == pushed
        assert 0 <= buffer.buffered <= 400
    if finishing:
        buffer.finish()
        underruns = buffer.underruns
        buffer.pull(401)
        assert buffer.drained
        assert buffer.underruns == underruns


def test_two_threads_lose_and_duplicate_nothing():
    buffer = PlayoutBuffer(500, 4_000, FADE)
    total, played = 200_000, []

    def push():
        for start in range(0, total, 500):
            buffer.push(np.arange(start + 1, start + 501, dtype=np.float32))
        buffer.finish()

    thread = threading.Thread(target=push)
    thread.start()
    while not buffer.drained:
        played.append(buffer.pull(97))
    thread.join()
    heard = np.concatenate(played)
    assert buffer.played + buffer.dropped_samples == total
    assert np.count_nonzero(heard) >= buffer.played
    if not buffer.underruns and not buffer.dropped_samples:
        first = np.flatnonzero(heard)[0]
        np.testing.assert_array_equal(heard[first + FADE : first + total], np.arange(FADE + 1, total + 1))


@pytest.mark.parametrize("options", [(0, 10), (10, 10), (10, 20, 0)])
def test_bounds_that_leave_no_room_are_refused(options):
    with pytest.raises(InputError, match="expected 1 <= target < ceiling and fade >= 1"):
        PlayoutBuffer(*options)


@pytest.mark.parametrize("block", [np.zeros(3), np.zeros((1, 3), np.float32)])
def test_samples_of_another_kind_are_refused(buffer, block):
    with pytest.raises(AudioError, match=r"expected float32 of shape \[T\]"):
        buffer.push(block)
    with pytest.raises(AudioError, match=r"expected float32 of shape \[9\]"):
        buffer.pull(9, block)


# Pauses ----------------------------------------------------------------------------------------------------------------------------------


def noise(n, value=0.01):
    return ones(n, value)


@pytest.mark.parametrize("left", [0, 1, 5, FADE, 30])
@pytest.mark.parametrize("pull", [4, 20, 60])
def test_after_quiet_samples_comfort_noise_follows_without_a_click_or_an_underrun(left, pull):
    buffer = PlayoutBuffer(100, 300, FADE)
    buffer.push(ones(100, 0.01), noise(1_000))
    played = [buffer.pull(100 - left)] + [buffer.pull(pull) for _ in range(10)]
    played = np.concatenate(played)
    assert steepest(played) <= 0.01 / (min(FADE, pull) + 1) * 2
    # Blocks shorter than a fade fade out sooner than noise fades in.
    assert pull < FADE or played[FADE:] == pytest.approx(0.01)
    assert (buffer.underruns, buffer.pauses, buffer.played) == (0, 1, 100)
    assert buffer.comforted == pytest.approx(10 * pull - left, abs=FADE)


def test_comfort_noise_is_played_until_the_target_is_buffered_again(buffer):
    buffer.push(ones(100, 0.01), noise(1_000))
    buffer.pull(120)
    buffer.push(ones(60, 0.5))
    assert buffer.pull(20) == pytest.approx(0.01)
    buffer.push(ones(60, 0.5))
    played = buffer.pull(60)
    np.testing.assert_allclose(played[:FADE], 0.01 + 0.49 * np.arange(1, FADE + 1) / (FADE + 1), rtol=1e-5)
    assert (played[FADE:] == 0.5).all()
    assert (buffer.underruns, buffer.pauses, buffer.dropped_samples) == (0, 1, 0)


def test_an_underrun_after_speech_is_counted_although_a_pause_came_before(buffer):
    buffer.push(ones(100, 0.01), noise(1_000))
    buffer.pull(120)
    buffer.push(ones(100, 0.5))
    played = buffer.pull(150)
    assert not played[100:].any()
    assert (buffer.underruns, buffer.pauses) == (1, 1)


def test_if_nothing_more_is_pushed_silence_follows_the_end_of_the_comfort_noise(buffer):
    buffer.push(ones(100, 0.01), noise(50))
    played = np.concatenate([buffer.pull(100), buffer.pull(30), buffer.pull(200)])
    assert not played[160:].any()
    assert (buffer.underruns, buffer.pauses) == (0, 1)
    assert buffer.comforted == 50


def test_comfort_noise_fades_when_the_stream_is_finished(buffer):
    buffer.push(ones(100, 0.01), noise(1_000))
    buffer.pull(150)
    buffer.finish()
    assert buffer.drained
    played = np.concatenate([buffer.pull(4), buffer.pull(46)])
    np.testing.assert_allclose(played[:FADE], 0.01 * np.arange(FADE, 0, -1) / (FADE + 1), rtol=1e-5)
    assert not played[FADE:].any()


@given(st.lists(st.tuples(st.integers(0, 250), st.integers(0, 250), st.booleans()), max_size=40))
def test_with_pauses_too_every_sample_is_played_dropped_or_still_buffered(steps):
    buffer = PlayoutBuffer(60, 200, FADE)
    pushed = 0
    for push, pull, quiet in steps:
        buffer.push(ones(push, 0.5), noise(90, 0.5) if quiet else None)
        pushed += push
        out = buffer.pull(pull, ones(pull, 7.0))
        assert out.min(initial=0) >= 0
        assert out.max(initial=0) <= 1 + 1e-6
        assert buffer.played + buffer.dropped_samples + buffer.buffered == pushed


def test_with_pauses_two_threads_lose_nothing_and_count_no_underrun():
    buffer = PlayoutBuffer(500, 4_000, FADE)
    total, played = 200_000, 0

    def push():
        for _ in range(total // 500):
            buffer.push(ones(500, 0.5), noise(1_000, 0.5))
        buffer.finish()

    thread = threading.Thread(target=push)
    thread.start()
    while not buffer.drained:
        played += np.count_nonzero(buffer.pull(97))
    thread.join()
    assert buffer.played + buffer.dropped_samples == total
    assert buffer.underruns == 0
