"""What a listener hears when packets arrive late, in bursts, or from a clock that drifts, in simulated time."""

from __future__ import annotations

import numpy as np
import pytest
from playout_rig import DEVICE_RATE, LOW_RATES, PACKET_S, RATE, decoded, in_order, play, stalled

from streamcodec.audio import bundled_clip, resample
from streamcodec.audio.playout.adaptive import AdaptivePlayout, PlayoutPolicy
from streamcodec.errors import AudioError, InputError
from streamcodec.protocol import DtxFilter


@pytest.fixture(scope="module")
def minute():
    speech, _ = bundled_clip()
    return np.resize(speech, 60 * RATE)


@pytest.fixture(scope="module")
def low_minute():
    """For tests of clocks: a minute at the lower of `LOW_RATES`."""
    speech, rate = bundled_clip()
    return np.resize(resample(speech, rate, LOW_RATES[0]), 60 * LOW_RATES[0])


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
    # A while longer than jitter is remembered for, and than the stall is.
    sound = minute[: round((20.0 + seconds + 15.0) * RATE)]
    course = play(sound, lambda sent: stalled(sent, 20.0, seconds))
    before = course.delay_between(10, 20)
    recovered = 20.0 + seconds + 5.0
    assert course.delay_between(recovered, recovered + 2) == pytest.approx(before, abs=0.01)
    last = course.stats[-1]
    assert last.underruns == 1
    assert last.jumps <= 2
    # What was not played in time was dropped or played faster, and nothing else.
    assert last.dropped_s + last.shortened_s - last.lengthened_s == pytest.approx(seconds, abs=0.08)
    assert steepest(course.heard) <= 1.3 * steepest(resample(minute, RATE, DEVICE_RATE))


SMALL_S = 320 / RATE  # 13 ms: where decoding takes most of a packet's time


def uneven_decoding(seconds):
    """A slow machine: most small packets take 7 to 11 ms, one in twenty as long as the next packet takes to come."""
    chance = np.random.default_rng(4)
    return [0.013 if chance.random() < 0.05 else 0.007 + 0.004 * chance.random() for _ in range(round(seconds / SMALL_S))]


def test_what_decoding_takes_is_planned_for_and_raises_no_target(low_minute):
    sound = low_minute[: 20 * LOW_RATES[0]]
    course = play(sound, evenly, rates=LOW_RATES, packet_s=SMALL_S, decoding=uneven_decoding(20))
    last = course.stats[-1]
    assert (last.underruns, last.late_s) == (0, 0.0)
    assert last.target_s == pytest.approx(0.025)
    # The way, what is planned for decoding, the floor, the device's block, and the packet behind it in the buffer.
    assert course.delay_between(10, 20) == pytest.approx(0.0123 + 0.0115 + 0.025 + SMALL_S, abs=0.005)


def test_the_same_counted_as_lateness_would_be_held_back_beyond_the_floor(low_minute):
    sound = low_minute[: 20 * LOW_RATES[0]]
    course = play(sound, lambda sent: decoded(evenly(sent), uneven_decoding(20)), rates=LOW_RATES, packet_s=SMALL_S)
    assert course.stats[-1].target_s > 0.03


def test_a_machine_that_stalls_while_it_decodes_is_held_for_beyond_the_reserve(low_minute):
    seconds = [0.06 if i % 20 == 19 else 0.004 for i in range(round(30 / PACKET_S))]
    course = play(low_minute[: 30 * LOW_RATES[0]], evenly, rates=LOW_RATES, decoding=seconds)
    last = course.stats[-1]
    # 56 ms more than planned; the reserve, 20 ms, covers the rest.
    assert last.target_s == pytest.approx(0.06 - 0.004 + 0.005, abs=0.002)
    assert last.underruns <= 1, "nobody could know of the first one"


def test_packets_that_wait_for_each_others_decoding_behind_a_stall_do_not_count_as_late(low_minute):
    # After a second's stall the decoder has 75 packets to catch up with, and goes only a third faster than they were spoken.
    seconds = [0.010] * round(60 / SMALL_S)
    course = play(low_minute, lambda sent: stalled(sent, 30.0, 1.0), rates=LOW_RATES, packet_s=SMALL_S, decoding=seconds)
    behind = [s.target_s for t, s in zip(course.captured, course.stats, strict=True) if t > 31.0]
    assert max(behind) == pytest.approx(0.025)
    assert course.delay_between(50, 60) == pytest.approx(course.delay_between(20, 30), abs=0.01)


@pytest.mark.parametrize(("jitter_s", "target_s"), [(0.0, 0.045), (0.015, 0.045), (0.08, 0.105)])
def test_a_longer_slack_is_enough_for_jitter_that_leaves_a_reserve_and_grows_with_more(low_minute, jitter_s, target_s):
    chance = np.random.default_rng(0)
    late = jitter_s * chance.random(round(30 / PACKET_S))
    policy = PlayoutPolicy(floor_s=0.04)
    course = play(low_minute[: 30 * LOW_RATES[0]], lambda sent: in_order(sent, 0.01 + late), rates=LOW_RATES, policy=policy)
    last = course.stats[-1]
    assert last.target_s == pytest.approx(target_s, abs=0.004)
    assert (last.underruns, last.jumps) == (0, 0)


@pytest.mark.parametrize("jitter_s", [0.05, 0.2])
def test_the_target_follows_jitter_and_hardly_anything_is_missed(low_minute, jitter_s):
    chance = np.random.default_rng(0)
    course = play(low_minute, lambda sent: in_order(sent, 0.01 + jitter_s * chance.random(len(sent))), rates=LOW_RATES)
    last = course.stats[-1]
    assert jitter_s * 0.8 < last.target_s < jitter_s + 0.03
    assert last.underruns <= 3, "of 750 packets"
    assert last.jumps == 0


def test_a_quiet_network_after_jitter_gives_the_delay_back(low_minute):
    chance = np.random.default_rng(1)
    late = [0.01 + (0.15 * chance.random() if i * PACKET_S < 20 else 0.0) for i in range(round(60 / PACKET_S))]
    course = play(low_minute, lambda sent: in_order(sent, late), rates=LOW_RATES)
    assert course.delay_between(15, 20) > course.delay_between(45, 60) + 0.08
    assert course.delay_between(45, 60) == pytest.approx(PACKET_S + 0.01 + 0.025, abs=0.015)
    assert course.stats[-1].jumps == 0


@pytest.mark.parametrize("ppm", [-200.0, 200.0])
def test_drifting_clocks_are_followed_without_an_underrun(ppm):
    chance = np.random.default_rng(2)
    # Silence is quick to play: what matters here are clocks.
    silence = np.zeros(180 * LOW_RATES[0], np.float32)
    course = play(silence, lambda sent: [t + 0.01 + 0.002 * chance.random() for t in sent], rates=LOW_RATES, device_ppm=ppm)
    assert course.delay_between(140, 180) == pytest.approx(course.delay_between(60, 100), abs=0.005)
    last = course.stats[-1]
    assert (last.underruns, last.jumps, last.dropped_s) == (0, 0, 0)
    assert np.mean([s.steering for s in course.stats[-750:]]) == pytest.approx(-ppm * 1e-6, abs=50e-6)


def test_small_packets_are_held_to_the_same_rules(low_minute):
    sound = low_minute[: 36 * LOW_RATES[0]]
    course = play(sound, lambda sent: stalled(sent, 20.0, 0.5), rates=LOW_RATES, packet_s=PACKET_S / 6)
    assert course.delay_between(26, 30) == pytest.approx(course.delay_between(10, 20), abs=0.01)
    assert course.stats[-1].underruns == 1


def test_samples_without_times_are_played_after_the_others():
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


def test_two_channels_are_played_as_one_would_be_whatever_happens_to_them(low_minute):
    sound = low_minute[: 30 * LOW_RATES[0]]

    def hurdles(sent):
        late = stalled(sent, 5.0, 0.3)
        return [t + 3.0 if begin > 15.0 else t for t, begin in zip(late, sent, strict=True)]  # an underrun, and more delay from then on

    mono = play(sound, hurdles, rates=LOW_RATES, device_ppm=200.0)
    both = play(np.stack([sound, sound]), hurdles, rates=LOW_RATES, device_ppm=200.0)
    assert mono.stats[-1].shortened_s > 0 and mono.stats[-1].underruns > 0
    assert both.stats == mono.stats
    for channel in both.heard:
        np.testing.assert_allclose(channel, mono.heard, atol=1e-6)


def test_channels_that_differ_stay_apart_and_in_step(low_minute):
    sound = low_minute[: 12 * LOW_RATES[0]]
    course = play(np.stack([sound, -0.5 * sound]), lambda sent: stalled(sent, 5.0, 0.3), rates=LOW_RATES)
    assert course.stats[-1].shortened_s > 0
    np.testing.assert_allclose(course.heard[1], -0.5 * course.heard[0], atol=1e-6)
    assert np.abs(course.heard[0]).max() > 0.1


def test_a_block_of_other_channels_is_refused():
    playout = AdaptivePlayout(RATE, RATE, channels=2)
    with pytest.raises(AudioError, match=r"expected float32 of shape \[2, T\]"):
        playout.push(np.zeros(960, np.float32))
    with pytest.raises(AudioError, match=r"expected float32 of shape \[2, 120\]"):
        playout.pull(120, np.zeros(120, np.float32))


def test_a_policy_that_contradicts_itself_is_refused():
    with pytest.raises(InputError, match=r"floor_s is 0\.3, ceiling_s 0\.2"):
        PlayoutPolicy(floor_s=0.3, ceiling_s=0.2)


# Pauses ----------------------------------------------------------------------------------------------------------------------------------

PAUSES = ((6.0, 10.1), (15.0, 16.0), (22.0, 30.0), (38.0, 38.6), (45.0, 52.3))


def in_a_pause(t):
    return any(begin <= t < end for begin, end in PAUSES)


def talk(seed=0, quiet_db=-55.0, rate=RATE):
    """A minute of distinguishable tones with five pauses of room noise: the sound at `rate`, and which packets are quiet."""
    rng = np.random.default_rng(seed)
    t = np.arange(60 * rate) / rate
    sound = (10 ** (quiet_db / 20) * rng.standard_normal(t.size)).astype(np.float32)
    quiet = [in_a_pause(i * PACKET_S) and in_a_pause((i + 1) * PACKET_S) for i in range(int(60 / PACKET_S))]
    speech = ~np.repeat(quiet, round(PACKET_S * rate))
    sound[speech] += (0.3 * np.sin(2 * np.pi * (200 + 400 * t / 60) * t) * np.abs(np.sin(3 * t))).astype(np.float32)[speech]
    return sound, quiet


def thinned(quiet):
    thinner = DtxFilter()
    return [thinner.leaves_out(one, PACKET_S) for one in quiet]


@pytest.mark.parametrize("jitter_s", [0.0, 0.05, 0.15])
@pytest.mark.parametrize("ppm", [0.0, 100.0])
def test_a_talk_whose_pauses_are_not_sent_is_played_without_an_underrun(jitter_s, ppm):
    sound, quiet = talk(rate=LOW_RATES[0])
    left_out, chance = thinned(quiet), np.random.default_rng(3)
    late = jitter_s * chance.random(len(quiet))
    # How late they can be is known before the first pause; nobody could say so of the first packets.
    late[:5] = jitter_s
    course = play(
        sound,
        lambda sent: in_order(sent, 0.0123 + late),
        rates=LOW_RATES,
        device_ppm=ppm,
        quiet=quiet.__getitem__,
        left_out=left_out.__getitem__,
    )
    last = course.stats[-1]
    max_underruns = 0 if not jitter_s else 2
    assert last.underruns <= max_underruns
    assert (last.jumps, last.dropped_s) == (0, 0)
    assert last.comfort_s == pytest.approx(PACKET_S * sum(left_out), abs=0.3)
    # Behind each pause it is where it was, and the margin what the target asks for.
    for _, end in PAUSES:
        behind = next(i for i, t in enumerate(course.captured) if t > end + 0.5)
        assert course.stats[behind].margin_s == pytest.approx(course.stats[behind].target_s, abs=0.02)
    if not jitter_s:
        assert course.delay_between(56, 60) == pytest.approx(course.delay_between(2, 6), abs=0.005)
        assert course.stats[-1].target_s < 0.03


def test_all_of_the_speech_after_a_pause_is_heard_and_the_pause_has_its_length_and_its_noise():
    rates = rate, device_rate = RATE // 2, DEVICE_RATE // 2
    sound, quiet = talk(rate=rate)
    left_out = thinned(quiet)
    course = play(sound, evenly, rates=rates, quiet=quiet.__getitem__, left_out=left_out.__getitem__)
    every = play(sound, evenly, rates=rates).heard
    packet = round(PACKET_S * device_rate)
    # Where all comes in time the two differ in the pauses alone.
    assert course.heard.size == every.size
    error, silent = course.heard - every, np.flatnonzero(np.repeat(quiet, packet))
    delay = round((course.delay_between(2, 6)) * device_rate)
    spoken = np.zeros(every.size, bool)
    spoken[2 * device_rate : 58 * device_rate] = True
    for shift in range(-240, 241, 120):
        spoken[silent + delay - packet + shift] = False
    assert np.sqrt(np.mean(error[spoken] ** 2)) < 0.01 * np.sqrt(np.mean(every[spoken] ** 2))
    for begin, end in PAUSES:
        pause = course.heard[round((begin + 0.2) * device_rate) : round((end - 0.05) * device_rate)]
        steps = pause[: pause.size // 1200 * 1200].reshape(-1, 1200)
        levels = 10 * np.log10(np.mean(np.square(steps, dtype=np.float64), axis=1))
        # White noise up to 6 kHz, resampled: it is as loud, at every moment.
        assert np.abs(levels - np.median(levels)).max() < 1.5
        assert np.median(levels) == pytest.approx(-55, abs=1.0)
    assert steepest(course.heard) <= 1.05 * steepest(every)


def test_a_word_soon_after_a_pause_waits_as_long_as_other_packets_are_late():
    # 0.3 s of a pause are left out while more than that is in hand: what comes behind is not played too early for the next late packet.
    sound, quiet = talk(rate=LOW_RATES[0])
    quiet = [24.0 <= i * PACKET_S < 24.4 for i in range(len(quiet))]
    left_out = thinned(quiet)
    chance = np.random.default_rng(5)
    late = 0.2 * (chance.random(len(quiet)) < 0.1)
    course = play(
        sound, lambda sent: in_order(sent, 0.0123 + late), rates=LOW_RATES, quiet=quiet.__getitem__, left_out=left_out.__getitem__
    )
    assert sum(left_out) == 4
    before = next(s.underruns for s, t in zip(course.stats, course.captured, strict=True) if t > 23)
    behind = next(i for i, t in enumerate(course.captured) if t > 24.7)
    assert course.stats[behind].margin_s > 0.9 * course.stats[behind].target_s > 0.15
    assert next(s.underruns for s, t in zip(course.stats, course.captured, strict=True) if t > 35) == before


def test_an_underrun_in_speech_is_counted_in_a_talk_with_pauses_too():
    sound, quiet = talk(rate=LOW_RATES[0])
    left_out = thinned(quiet)
    course = play(sound, lambda sent: stalled(sent, 33.0, 1.0), rates=LOW_RATES, quiet=quiet.__getitem__, left_out=left_out.__getitem__)
    assert course.stats[-1].underruns == 1
    assert course.delay_between(56, 60) == pytest.approx(course.delay_between(2, 6), abs=0.01)


def test_comfort_noise_ends_if_no_more_packets_of_a_pause_arrive():
    sound, quiet = talk()
    course = play(sound[: 10 * RATE], lambda sent: stalled(sent, 8.0, 9.0), quiet=quiet.__getitem__)
    silent = course.heard[round(10.5 * DEVICE_RATE) : round(16.5 * DEVICE_RATE)]
    assert not silent.any()
    assert course.stats[-1].underruns == 0
    assert course.heard[round(8.2 * DEVICE_RATE) : round(9.2 * DEVICE_RATE)].any()
