"""A stream gives the same samples whatever its blocks, as many as a clip gives, within its stated delay."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamcodec.audio.dsp.resample import StreamResampler, check_rate, resample
from streamcodec.errors import AudioError

RATES = [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000]
PAIRS = [(r, 24_000) for r in RATES] + [(24_000, r) for r in RATES]


def tone(frequency, rate, seconds=0.5):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def stream(audio, rate_in, rate_out, blocks=()):
    resampler = StreamResampler(rate_in, rate_out)
    parts = [resampler.feed(block) for block in np.split(audio, np.cumsum(np.array(blocks, int)))]
    return np.concatenate([*parts, resampler.flush()])


def middle_db(samples, reference):
    """The RMS of the middle half against the reference's, in dB: no edges."""
    inner = slice(len(samples) // 4, 3 * len(samples) // 4)
    return 10 * math.log10(np.mean(samples[inner].astype(np.float64) ** 2) / np.mean(reference.astype(np.float64) ** 2))


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([*PAIRS, (24_000, 24_000), (44_100, 23_999), (1_000, 96_000)]), st.integers(0, 3_000), st.data())
def test_a_stream_is_the_same_whatever_its_blocks(pair, length, data):
    blocks = data.draw(st.lists(st.integers(0, 700), max_size=8))
    audio = np.random.default_rng(length).uniform(-1, 1, length).astype(np.float32)
    whole = stream(audio, *pair)
    np.testing.assert_allclose(stream(audio, *pair, blocks), whole, atol=2e-6)
    assert len(whole) == math.floor(length * pair[1] / pair[0] + 0.5)


@settings(deadline=None)
@given(st.sampled_from(PAIRS), st.integers(1, 3_000))
def test_a_stream_is_as_long_as_a_clip(pair, length):
    audio = np.zeros(length, np.float32)
    assert len(stream(audio, *pair)) == len(resample(audio, *pair))


@pytest.mark.parametrize("pair", PAIRS)
def test_a_stream_keeps_a_tone_in_level_and_within_a_tenth_of_a_millisecond_of_the_clip(pair):
    frequency = min(pair) / 16
    audio = tone(frequency, pair[0])
    live, clip = stream(audio, *pair), resample(audio, *pair)
    inner = slice(len(clip) // 4, 3 * len(clip) // 4)
    n = np.arange(len(clip)) / pair[1]
    basis = np.exp(-2j * np.pi * frequency * n)[inner]
    heard, expected = live[inner] @ basis, clip[inner] @ basis
    assert abs(20 * math.log10(abs(heard) / abs(expected))) < 0.02
    assert abs(np.angle(heard / expected)) / (2 * np.pi * frequency) < 1e-4 + 1 / min(pair)


@pytest.mark.parametrize("rate", [44_100, 48_000, 192_000])
def test_frequencies_above_the_lower_rate_s_band_are_80_db_down(rate):
    audio = tone(12_600, rate)
    assert middle_db(stream(audio, rate, 24_000), audio) < -78


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_images_are_80_db_down(rate):
    live = stream(tone(10_000, 24_000), 24_000, rate)
    n = np.arange(len(live)) / rate
    inner = slice(len(live) // 4, 3 * len(live) // 4)
    basis = np.stack([np.sin(2 * np.pi * 10_000 * n), np.cos(2 * np.pi * 10_000 * n)], 1)[inner]
    fit = basis @ np.linalg.lstsq(basis, live[inner], rcond=None)[0]
    assert middle_db(np.tile(live[inner] - fit, 2), live[inner]) < -75


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("block_ms", [10, 20])
def test_a_device_at_a_usual_rate_is_withheld_a_constant_few_milliseconds(rate, block_ms):
    resampler, block, given_out, withheld_ms = StreamResampler(rate, 24_000), rate * block_ms // 1000, 0, []
    for taken in range(1, 60):
        given_out += len(resampler.feed(np.zeros(block, np.float32)))
        withheld_ms.append(taken * block_ms - given_out / 24)
    assert max(withheld_ms[5:]) - min(withheld_ms[5:]) < 0.1
    assert max(withheld_ms[5:]) < 8


def test_a_resampler_starts_afresh_after_flush():
    audio = np.random.default_rng(1).uniform(-1, 1, 2_000).astype(np.float32)
    resampler = StreamResampler(44_100, 24_000)
    runs = [np.concatenate([resampler.feed(audio), resampler.flush()]) for _ in range(2)]
    np.testing.assert_array_equal(*runs)
    assert resampler.flush().shape == (0,)


def test_a_long_stream_does_not_drift():
    resampler = StreamResampler(44_100, 24_000)
    block = np.zeros(44_100, np.float32)
    total = sum(len(resampler.feed(block)) for _ in range(100)) + len(resampler.flush())
    assert total == 100 * 24_000


def test_equal_rates_copy_nothing():
    audio = np.zeros(10, np.float32)
    resampler = StreamResampler(24_000, 24_000.0)
    assert resampler.feed(audio) is audio
    assert resampler.flush().shape == (0,)
    assert resample(audio, 24_000, 24_000) is audio


def test_clips_keep_their_channels():
    audio = np.stack([tone(440, 48_000), np.zeros(24_000, np.float32)])
    out = resample(audio, 48_000, 24_000)
    assert out.shape == (2, 12_000)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    assert not out[1].any()


@pytest.mark.parametrize("rate", [0, -1, 999, 768_001, math.nan, math.inf, True, "24000", None])
def test_rates_out_of_range_are_refused(rate):
    with pytest.raises(AudioError, match="expected 1000 to 768000 Hz"):
        check_rate(rate)
    with pytest.raises(AudioError):
        StreamResampler(24_000, rate)
    with pytest.raises(AudioError):
        resample(np.zeros(4, np.float32), rate, 24_000)


def test_a_block_of_another_kind_is_refused():
    with pytest.raises(AudioError, match=r"expected float32 of shape \[T\]"):
        StreamResampler(48_000, 24_000).feed(np.zeros((1, 4), np.float32))


@pytest.mark.parametrize("rate", [44_100, 16_000, 24_000])
def test_each_channel_of_a_stream_is_resampled_as_if_it_were_alone(rate):
    audio = np.random.default_rng(1).uniform(-1, 1, (2, 5_000)).astype(np.float32)
    resampler = StreamResampler(rate, 24_000, channels=2)
    parts = [resampler.feed(block) for block in np.split(audio, [0, 7, 3_000], axis=1)]
    together = np.concatenate([*parts, resampler.flush()], axis=1)
    assert resampler.flush().shape == (2, 0)
    for channel, expected in zip(together, audio, strict=True):
        np.testing.assert_allclose(channel, stream(expected, rate, 24_000), atol=2e-6)
    with pytest.raises(AudioError, match=r"expected float32 of shape \[2, T\]"):
        resampler.feed(audio[0])
