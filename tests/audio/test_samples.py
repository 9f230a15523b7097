"""All supported audio is converted to float32 in [-1, 1]; otherwise the error says what was wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.audio.samples import as_clip, check_block, float_to_pcm, pcm_to_float, to_float
from streamcodec.errors import AudioError


@pytest.mark.parametrize(
    ("dtype", "low", "middle"),
    [
        ("int16", -(2**15), 0),
        ("int32", -(2**31), 0),
        ("uint8", 0, 128),
        (">i2", -(2**15), 0),
        ("float64", -1.0, 0.0),
        ("float32", -1.0, 0.0),
    ],
)
def test_every_supported_dtype_is_scaled_by_its_full_scale(dtype, low, middle):
    samples = to_float(np.array([low, middle], dtype))
    assert samples.dtype == np.float32
    assert samples.tolist() == [-1.0, 0.0]


def test_float32_is_not_copied():
    audio = np.zeros(4, np.float32)
    assert to_float(audio) is audio


@pytest.mark.parametrize("audio", [np.zeros(3, bool), np.zeros(3, np.int64), np.zeros(3, complex), "abc", None])
def test_other_dtypes_are_refused_by_name(audio):
    with pytest.raises(AudioError, match=r"dtype .*, expected float32, float64, int16, int32 or uint8"):
        to_float(audio)


def test_ragged_lists_are_refused():
    with pytest.raises(AudioError, match="not an array of numbers"):
        to_float([[1.0, 2.0], [1.0]])


@pytest.mark.parametrize(
    ("shape", "rows", "layout"),
    [
        ((5,), 1, "single"),
        ((1, 5), 1, "single"),
        ((2, 5), 1, "single"),
        ((3, 1, 5), 3, "batch"),
        ((3, 2, 5), 3, "batch"),
        ((1, 1, 1), 1, "batch"),
    ],
)
def test_clips_of_each_shape_become_mono_rows(shape, rows, layout):
    clip, found_layout = as_clip(np.full(shape, 0.5, np.float32))
    assert clip.shape == (rows, shape[-1])
    assert clip.flags.c_contiguous
    assert (clip == 0.5).all()
    assert found_layout == layout


def test_channels_are_mixed_down_by_their_mean():
    clip, _ = as_clip(np.array([[1.0, 0.0], [0.0, -1.0]]))
    assert clip.tolist() == [[0.5, -0.5]]


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        (np.float32(0.5), r"shape \[\], expected \[T\], \[C, T\] or \[B, C, T\]"),
        (np.zeros((1, 1, 1, 1)), r"shape \[1, 1, 1, 1\], expected"),
        (np.zeros(0), r"empty \(shape \[0\]\)"),
        (np.zeros((2, 0)), r"empty \(shape \[2, 0\]\)"),
        (np.zeros((100, 2)), r"looks like \[samples, channels\], transpose it"),
        (np.zeros((100, 200)), r"100 channels, expected at most 8"),
        (np.array([0, np.nan, np.nan]), r"nan at index 1, expected finite"),
        (np.array([[0, 0], [0, -np.inf]]), r"-inf at index \[1, 1\], expected finite"),
        (np.array([20.0, np.inf]), r"inf at index 1, expected finite"),
        (np.array([1.0, -300.0]), r"-300 at index 1: it looks like integers in a float array"),
        (np.array([0.0, 1e300]), r"inf at index 1"),
    ],
)
def test_unusable_clips_are_refused_by_what_is_wrong(audio, message):
    with pytest.raises(AudioError, match=message):
        as_clip(audio)


def test_blocks_are_mixed_down_and_may_be_empty():
    assert check_block(np.zeros(0, np.float32), 1).shape == (0,)
    assert check_block(np.zeros((1, 3), np.float32), 1).shape == (3,)
    assert check_block(np.array([[1.0, 0.0], [0.0, 0.0]]), 2).tolist() == [0.5, 0.0]


def test_channels_stay_where_as_many_are_asked_for_and_else_each_gets_the_mix():
    both = np.array([[1.0, 0.0], [0.0, 0.0]])
    assert check_block(both, 2, mixed_to=2).tolist() == both.tolist()
    assert check_block(np.array([0.25]), 1, mixed_to=2).tolist() == [[0.25], [0.25]]
    assert check_block(np.array([[0.3], [0.0], [0.0]]), 3, mixed_to=2).tolist() == pytest.approx(np.full((2, 1), 0.1))
    assert check_block(np.zeros((2, 0)), 2, mixed_to=2).shape == (2, 0)
    clips, layout = as_clip(both, 2)
    assert (clips.shape, layout) == ((1, 2, 2), "single")


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ((4,), 2, r"shape \[4\], expected \[2, T\] for 2 channel"),
        ((4, 2), 2, "transpose it"),
        ((2, 4), 1, r"expected \[T\] or \[1, T\]"),
        ((1, 1, 4), 1, r"shape \[1, 1, 4\]"),
        ((), 1, r"shape \[\]"),
    ],
)
def test_blocks_of_other_shapes_are_refused(shape, channels, message):
    with pytest.raises(AudioError, match=message):
        check_block(np.zeros(shape, np.float32), channels)


def test_a_block_with_nan_is_refused():
    with pytest.raises(AudioError, match=r"nan at index \[0, 2\]"):
        check_block(np.array([0, 0, np.nan], np.float32), 1)


@given(st.lists(st.integers(-(2**15), 2**15 - 1)))
def test_16_bit_pcm_survives_a_round_trip_unchanged(values):
    data = np.array(values, "<i2").tobytes()
    assert float_to_pcm(pcm_to_float(data, "pcm_s16le"), "pcm_s16le") == data


@given(st.lists(st.floats(-16, 16, width=32)))
def test_float_pcm_survives_a_round_trip_unchanged(values):
    data = np.array(values, "<f4").tobytes()
    assert float_to_pcm(pcm_to_float(data, "pcm_f32le"), "pcm_f32le") == data


def test_16_bit_pcm_saturates_and_rounds_to_nearest():
    data = float_to_pcm([2.0, 1.0, -1.0, -2.0, 0.6 / 32768, -0.6 / 32768], "pcm_s16le")
    assert np.frombuffer(data, "<i2").tolist() == [32767, 32767, -32768, -32768, 1, -1]


def test_interleaved_channels_are_mixed_down():
    assert pcm_to_float(np.array([16384, 0, -16384, -16384], "<i2").tobytes(), "pcm_s16le", 2).tolist() == [0.25, -0.5]


@pytest.mark.parametrize(
    ("data", "format", "channels", "message"),
    [
        (b"123", "pcm_s16le", 1, r"3 bytes of pcm_s16le are not whole sample frames, expected a multiple of 2 \(1 "),
        (b"123456", "pcm_s16le", 2, "a multiple of 4"),
        (b"", "pcm_u8", 1, "format is 'pcm_u8', expected 'pcm_s16le' or 'pcm_f32le'"),
        (b"", "pcm_s16le", 0, "channels is 0, expected an integer from 1 to 8"),
        (np.array([np.nan], "<f4").tobytes(), "pcm_f32le", 1, "nan at index"),
    ],
)
def test_unusable_pcm_is_refused(data, format, channels, message):
    with pytest.raises(AudioError, match=message):
        pcm_to_float(data, format, channels)
