"""A codes file gives back what was written, and anything else is refused by name."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamcodec
from streamcodec.bitstream.codes_file import CodesFile, read_codes, write_codes
from streamcodec.bitstream.files import check_target
from streamcodec.errors import CodesError


@pytest.fixture
def written(tmp_path, speech_codec: streamcodec.Codec):
    """A file of 100 frames of 8 codebooks, and its codes."""
    codes = np.random.default_rng(0).integers(0, 1024, (8, 100), np.int32)
    path = tmp_path / "clip.codes"
    write_codes(path, CodesFile(codes, speech_codec.name, speech_codec.fingerprint, 31_900), 10)
    return path, codes


@given(n_q=st.sampled_from([1, 2, 4, 8, 16, 32]), frames=st.integers(1, 60), seed=st.integers(0, 2**31))
def test_what_was_written_is_read(tmp_path, speech_codec, n_q, frames, seed):
    codes = np.random.default_rng(seed).integers(0, 1024, (n_q, frames), np.int32)
    path = tmp_path / "clip.codes"
    write_codes(path, CodesFile(codes, speech_codec.name, speech_codec.fingerprint, frames * 320 - 7), 10)
    file = read_codes(path)
    np.testing.assert_array_equal(file.codes, codes)
    assert file.codes.dtype == np.int32
    assert (file.model, file.fingerprint, file.samples) == ("speech-24k", speech_codec.fingerprint, frames * 320 - 7)


def test_the_scales_of_chunks_are_kept_as_they_are(tmp_path, speech_codec):
    scales = np.array([0.1, 1e-8, 3.0], np.float32)
    codes = np.zeros((2, 9), np.int32)
    write_codes(tmp_path / "x.codes", CodesFile(codes, speech_codec.name, speech_codec.fingerprint, 2_880, scales), 10)
    file = read_codes(tmp_path / "x.codes")
    assert file.scales is not None and file.scales.dtype == np.float32
    np.testing.assert_array_equal(file.scales, scales)


def test_a_file_is_little_more_than_its_codes(written):
    path, _ = written
    assert path.stat().st_size < 8 * 100 * 10 // 8 + 200


def test_every_truncation_is_refused(written):
    path, _ = written
    data = path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(CodesError, match=r"clip\.codes"):
            read_codes(path)


def test_a_file_that_is_too_long_is_refused(written):
    path, _ = written
    path.write_bytes(path.read_bytes() + bytes(20))
    with pytest.raises(CodesError, match="holds 102 frames, its header says 100"):
        read_codes(path)


@given(at=st.integers(0, 140), value=st.integers(0, 255))
def test_a_damaged_byte_is_refused_or_changes_what_is_told_but_never_breaks_the_reader(written, at, value):
    path, codes = written
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[at] = value
    path.write_bytes(damaged)
    try:
        file = read_codes(path)
        assert file.codes.shape[1] == codes.shape[1]
        assert file.samples >= 1
    except CodesError as exc:
        assert "clip.codes" in str(exc)
    finally:
        path.write_bytes(whole)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused(tmp_path, data):
    path = tmp_path / "any.codes"
    path.write_bytes(data)
    with pytest.raises(CodesError, match=r"any\.codes"):
        read_codes(path)


def with_header(path, **changes):
    data = path.read_bytes()
    unpacker = msgpack.Unpacker()
    unpacker.feed(data)
    header = {k: v for k, v in {**unpacker.unpack(), **changes}.items() if v is not None}
    path.write_bytes(msgpack.packb(header) + data[unpacker.tell() :])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "something else 1"}, "not a codes file"),
        ({"n_q": None}, "a field of its header is missing or invalid: 'n_q'"),
        ({"fingerprint": None}, "a field of its header is missing or invalid: 'fingerprint'"),
        ({"n_q": "many"}, "damaged"),
        ({"n_q": []}, "a field of its header is missing or invalid"),
        ({"n_q": 0}, "damaged: n_q is 0"),
        ({"n_q": -8}, "damaged: n_q is -8"),
        ({"bits": 99}, "damaged: a code has 99 bits"),
        ({"frames": 99}, "holds 100 frames, its header says 99"),
        ({"frames": float("inf")}, "a field of its header is missing or invalid"),
        ({"samples": 0}, "damaged: its header says 0 samples"),
        ({"samples": -1}, "damaged: its header says -1 samples"),
        ({"scales": "loud"}, "a field of its header is missing or invalid"),
        ({"scales": b"abc"}, "damaged"),
        ({"scales": b"\0\0\xc0\x7f"}, "damaged: a scale is no finite number of 0 or more"),
        ({"scales": b"\0\0\x80\xbf"}, "damaged: a scale is no finite number of 0 or more"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(written, changes, message):
    path, _ = written
    with_header(path, **changes)
    with pytest.raises(CodesError, match=message):
        read_codes(path)


@pytest.mark.parametrize("content", [b"", b"hello, this is text\n", b"RIFF\0\0\0\0WAVEfmt ", b"\x90", b"\x81\xa1a\x01"])
def test_another_kind_of_file_is_refused(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(CodesError, match=r"other: not a codes file \(streamcodec encode writes them\)"):
        read_codes(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(CodesError, match=r"none\.codes: No such file"):
        read_codes(tmp_path / "none.codes")
    with pytest.raises(CodesError, match="Is a directory"):
        read_codes(tmp_path)


def test_a_target_that_cannot_or_should_not_be_written_is_refused_before_the_work(tmp_path, speech_codec):
    assert check_target(tmp_path / "clip.codes") == tmp_path / "clip.codes"
    with pytest.raises(CodesError, match="is a folder"):
        check_target(tmp_path)
    with pytest.raises(CodesError, match="there is no folder"):
        check_target(tmp_path / "none" / "clip.codes")
    with pytest.raises(CodesError, match="named like audio"):
        check_target(tmp_path / "clip.WAV")
    with pytest.raises(CodesError, match="there is no folder"):
        write_codes(
            tmp_path / "none" / "clip.codes", CodesFile(np.zeros((2, 3), np.int32), speech_codec.name, speech_codec.fingerprint, 960), 10
        )
