"""A file that grows can be read at any time, by the package `encodec` too, and ends as one of known length but for spaces."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from encodec_files import package_reads
from hypothesis import given
from hypothesis import strategies as st
from random_chunks import random_chunks

from streamcodec.bitstream.ecdc import EcdcHeader, PlainCoding, chunk_frames, ecdc_bytes, parse_ecdc
from streamcodec.bitstream.ecdc_writer import EcdcWriter
from streamcodec.errors import CodesError
from streamcodec.published import PUBLISHED

MONO, STEREO = PUBLISHED["encodec_24khz"], PUBLISHED["encodec_48khz"]


def mono_writer(path: Path, n_q: int = 2) -> EcdcWriter:
    return EcdcWriter(path, MONO, EcdcHeader("encodec_24khz", 0, n_q), PlainCoding(10, n_q))


def stereo_writer(path: Path, n_q: int = 4) -> EcdcWriter:
    return EcdcWriter(path, STEREO, EcdcHeader("encodec_48khz", 0, n_q), PlainCoding(10, n_q))


def codes_of(n_q: int, frames: int, seed: int = 0) -> npt.NDArray[np.int32]:
    return np.random.default_rng(seed).integers(0, 1024, (n_q, frames), np.int32)


@given(n_q=st.sampled_from([1, 2, 8]), cuts=st.lists(st.integers(1, 20), min_size=1, max_size=8), unused=st.integers(0, 319))
def test_a_stream_can_be_read_after_each_write_and_ends_as_a_file_of_known_length(
    tmp_path: Path, n_q: int, cuts: list[int], unused: int
) -> None:
    path, codes, at = tmp_path / "live.ecdc", codes_of(n_q, sum(cuts)), 0
    path.unlink(missing_ok=True)
    with mono_writer(path, n_q) as writer:
        assert not path.exists()
        for cut in cuts:
            writer.write(codes[:, at : at + cut])
            at += cut
            file = parse_ecdc(path.read_bytes())
            [(found, _)] = file.chunks(MONO, PlainCoding(10, n_q))
            np.testing.assert_array_equal(found, codes[:, :at])
            assert file.samples == 320 * at
        writer.close(320 * at - unused)
    data, samples = path.read_bytes(), 320 * at - unused
    known = ecdc_bytes(MONO, EcdcHeader("encodec_24khz", samples, n_q), [(codes, None)], PlainCoding(10, n_q))
    header = len(EcdcHeader("encodec_24khz", samples, n_q).serialize())
    assert data[9:header] == known[9:header]
    assert data[header:].lstrip(b" ") == known[header:].lstrip(b" ") and len(data) - len(known) == 15 - len(str(samples))


def test_the_package_reads_a_file_that_grew_and_one_that_still_grows(tmp_path: Path) -> None:
    path, codes = tmp_path / "live.ecdc", codes_of(2, 50)
    with mono_writer(path) as writer:
        for frames in (13, 37):
            writer.write(codes[:, :frames] if frames == 13 else codes[:, 13:])
            [(found, _)] = package_reads("encodec_24khz", path.read_bytes())
            np.testing.assert_array_equal(found, codes[:, : found.shape[1]])
        writer.close(320 * 49 + 7)
    [(found, _)] = package_reads("encodec_24khz", path.read_bytes())
    np.testing.assert_array_equal(found, codes)


def test_chunks_of_a_clip_can_be_read_after_each_write_by_both(tmp_path: Path) -> None:
    samples, path = 150_000, tmp_path / "live.ecdc"
    chunks = random_chunks(STEREO, 4, chunk_frames(STEREO, samples))
    assert [codes.shape[1] for codes, _ in chunks] == [150, 150, 150, 24]
    with stereo_writer(path) as writer:
        for i, (codes, scale) in enumerate(chunks):
            writer.write(codes, scale)
            data = path.read_bytes()
            found = parse_ecdc(data).chunks(STEREO, PlainCoding(10, 4))
            theirs = package_reads("encodec_48khz", data)
            assert len(found) == len(theirs) == i + 1
            for (have, has_scale), (their, their_scale), (expected, expected_scale) in zip(found, theirs, chunks, strict=False):
                # A full last chunk is read but for its last frame: the overlap belongs to the chunk that follows.
                assert have.shape == their.shape and expected.shape[1] - have.shape[1] == (have is found[-1][0] and i < 3)
                np.testing.assert_array_equal(have, expected[:, : have.shape[1]])
                np.testing.assert_array_equal(their, have)
                assert has_scale == their_scale == expected_scale
        writer.close(samples)
    file = parse_ecdc(path.read_bytes())
    assert file.samples == samples
    for (have, _), (expected, _) in zip(file.chunks(STEREO, PlainCoding(10, 4)), chunks, strict=True):
        np.testing.assert_array_equal(have, expected)


def test_a_program_that_ends_between_codes_and_header_leaves_what_was_there_before(tmp_path: Path) -> None:
    path, codes = tmp_path / "live.ecdc", codes_of(2, 20)
    with mono_writer(path) as writer:
        writer.write(codes[:, :7])
        before = path.read_bytes()
        writer.write(codes[:, 7:])
    [(found, _)] = parse_ecdc(before[:80] + path.read_bytes()[80:]).chunks(MONO, PlainCoding(10, 2))
    assert len(before) > 80
    np.testing.assert_array_equal(found, codes[:, :7])


def test_without_a_length_a_file_ends_with_its_last_frame_and_without_codes_there_is_none(tmp_path: Path) -> None:
    with mono_writer(tmp_path / "a.ecdc") as writer:
        writer.write(codes_of(2, 3))
    assert parse_ecdc((tmp_path / "a.ecdc").read_bytes()).samples == 960
    with pytest.raises(CodesError, match=r"a\.ecdc is closed"):
        writer.write(codes_of(2, 3))
    with mono_writer(tmp_path / "b.ecdc"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.ecdc"]


def test_what_does_not_fit_is_refused_and_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.ecdc"
    with mono_writer(path) as writer:
        writer.write(codes_of(2, 5))
        before = path.read_bytes()
        for codes, message in (
            (codes_of(3, 5), r"codes are int32 \[3, 5\], expected integers \[2, frames\]"),
            (codes_of(2, 0), r"codes are int32 \[2, 0\]"),
            (codes_of(2, 5) + 1024, "expected 0 to 1023"),
        ):
            with pytest.raises(CodesError, match=message):
                writer.write(codes)
        with pytest.raises(CodesError, match=r"scale is 0\.5, expected None"):
            writer.write(codes_of(2, 5), 0.5)
        assert path.read_bytes() == before
        with pytest.raises(CodesError, match=r"1601 samples are not the 5 frames in 1 chunk\(s\) of"):
            writer.close(1_601)
    with stereo_writer(tmp_path / "b.ecdc") as writer:
        with pytest.raises(CodesError, match="scale is None, expected a number"):
            writer.write(codes_of(4, 150))
        writer.write(codes_of(4, 149), 0.5)
        with pytest.raises(CodesError, match=r"chunks have \[149, 150\] frames, expected 150, and at most so many in the last one"):
            writer.write(codes_of(4, 150), 0.5)


def test_a_file_that_cannot_grow_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(CodesError, match=r"pipe is a pipe or a device: an \.ecdc file has its length in front"):
            mono_writer(tmp_path / "pipe")
    finally:
        os.close(reader)
    with pytest.raises(CodesError, match="there is no folder"):
        mono_writer(tmp_path / "none" / "x.ecdc")
    (tmp_path / "in.ecdc").write_bytes(b"x")
    with pytest.raises(CodesError, match="same file as the input"):
        EcdcWriter(tmp_path / "in.ecdc", MONO, EcdcHeader("m", 0, 2), PlainCoding(10, 2), inputs=[tmp_path / "in.ecdc"])


def test_a_full_disk_is_told_and_leaves_what_was_written(tmp_path: Path, full_disk) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "a.ecdc"
    writer = mono_writer(path)
    writer.write(codes_of(2, 100))
    with full_disk(400), pytest.raises(CodesError, match=r"a\.ecdc cannot be written: "):
        writer.write(codes_of(2, 100, 1))
    with pytest.raises(CodesError, match=r"a\.ecdc could not be written before, expected no more codes"):
        writer.write(codes_of(2, 100, 2))
    writer.close()
    [(found, _)] = parse_ecdc(path.read_bytes()).chunks(MONO, PlainCoding(10, 2))
    np.testing.assert_array_equal(found, codes_of(2, 100))
