"""`.ecdc` files are those of the package `encodec`, byte for byte; what is damaged is refused, as far as the format can tell."""

from __future__ import annotations

import json
import math
import struct
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from encodec_files import package_file, package_reads
from hypothesis import given
from hypothesis import strategies as st
from random_chunks import random_chunks

from streamcodec.bitstream.ecdc import PACKAGE_MODELS, EcdcHeader, PlainCoding, chunk_frames, ecdc_bytes, is_ecdc, model_name, parse_ecdc
from streamcodec.config import CodecConfig
from streamcodec.errors import CodesError
from streamcodec.published import PUBLISHED

MODELS = PACKAGE_MODELS
LENGTHS = {
    "encodec_24khz": (1, 319, 320, 321, 6_399, 6_400, 6_401, 9_000),
    "encodec_48khz": (1, 321, 47_519, 47_520, 47_521, 48_000, 48_001, 95_041),
}


def chunks_for(name: str, n_q: int, samples: int) -> list[tuple[npt.NDArray[np.int32], float | None]]:
    return random_chunks(PUBLISHED[name], n_q, chunk_frames(PUBLISHED[name], samples), seed=samples)


def written(name: str, n_q: int, samples: int) -> bytes:
    config = PUBLISHED[name]
    return ecdc_bytes(config, EcdcHeader(name, samples, n_q), chunks_for(name, n_q, samples), PlainCoding(config.bits_per_code, n_q))


def read(name: str, data: bytes) -> list[tuple[npt.NDArray[np.int32], float | None]]:
    file = parse_ecdc(data)
    return file.chunks(PUBLISHED[name], PlainCoding(PUBLISHED[name].bits_per_code, file.header.n_q))


def assert_same_chunks(found: Any, expected: Any) -> None:
    assert len(found) == len(expected)
    for (codes, scale), (expected_codes, expected_scale) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(codes, expected_codes)
        assert scale == expected_scale


@pytest.mark.parametrize("name", MODELS)
def test_files_equal_the_packages_and_each_reads_the_others(name: str) -> None:
    for n_q in PUBLISHED[name].n_q_choices:
        for samples in LENGTHS[name]:
            chunks = chunks_for(name, n_q, samples)
            data = written(name, n_q, samples)
            assert data == package_file(name, chunks, samples)
            assert_same_chunks(package_reads(name, data), chunks)
            assert_same_chunks(read(name, data), chunks)
            header = parse_ecdc(data).header
            assert (header.model, header.samples, header.n_q, header.lm) == (name, samples, n_q, False)


def test_a_length_at_which_the_package_cannot_read_its_own_file_is_read_here() -> None:
    """The package computes the frames of 6,720 samples in floating point, and finds one more than it wrote."""
    assert math.ceil(6_720 / 24_000 * 75) == 22
    chunks = chunks_for("encodec_24khz", 8, 6_720)
    data = package_file("encodec_24khz", chunks, 6_720)
    with pytest.raises(EOFError):
        package_reads("encodec_24khz", data)
    assert data == written("encodec_24khz", 8, 6_720)
    assert_same_chunks(read("encodec_24khz", data), chunks)


@given(
    bits=st.integers(1, 16), n_q=st.integers(1, 9), cuts=st.lists(st.integers(1, 30), min_size=1, max_size=6), seed=st.integers(0, 2**31)
)
def test_codes_of_any_width_in_pieces_of_any_size_are_read_back(bits: int, n_q: int, cuts: list[int], seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 1 << bits, (n_q, sum(cuts)), np.int32)
    coding, data = PlainCoding(bits, n_q), b""
    encoder = coding.encoder()
    for end, cut in zip(np.cumsum(cuts), cuts, strict=True):
        data += encoder.push(codes[:, end - cut : end])
        so_far, size = coding.decode(memoryview(data + encoder.tail()), int(end))
        np.testing.assert_array_equal(so_far, codes[:, :end])
        assert size == len(data) + len(encoder.tail()) == coding.least_size(int(end))
    value = sum(int(code) << (place * bits) for place, code in enumerate(codes.T.reshape(-1)))
    assert data + encoder.tail() == value.to_bytes(-(-codes.size * bits // 8), "little")


@pytest.mark.parametrize("name", MODELS)
def test_every_truncation_is_refused(name: str) -> None:
    data = written(name, 4, 900 if name == "encodec_24khz" else 47_800)
    for size in range(len(data)):
        with pytest.raises(CodesError):
            read(name, data[:size])
    with pytest.raises(CodesError, match="1 bytes follow the last chunk"):
        read(name, data + b"\0")


@pytest.mark.parametrize("name", MODELS)
def test_every_flipped_byte_is_refused_or_changes_only_what_it_holds(name: str) -> None:
    """The format has no checksum. A flipped byte is refused (another model's name by the codec, see `test_ecdc_clips.py`), or leaves all
    as it was (a space of the JSON), or changes exactly the codes or the scale in whose bits it lies, or the length within the last frame
    (a digit of it)."""
    n_q, samples = (3, 700) if name == "encodec_24khz" else (1, 47_600)
    chunks, data = chunks_for(name, n_q, samples), written(name, n_q, samples)
    begin = len(EcdcHeader(name, samples, n_q).serialize())
    places = codes_and_scales_at(name, n_q, samples)
    outcomes = {"refused": 0, "model": 0, "whole": 0, "codes": 0, "scale": 0, "length": 0}
    for at in range(len(data)):
        for flip in range(1, 256) if at < begin else (1 << bit for bit in range(8)):
            damaged = bytearray(data)
            damaged[at] ^= flip
            try:
                found = read(name, bytes(damaged))
                header = parse_ecdc(bytes(damaged)).header
            except CodesError as error:
                assert "\n" not in str(error)
                outcomes["refused"] += 1
                continue
            if header.model != name:
                outcomes["model"] += 1
                continue
            length = header.samples
            changed = {(i, "scale") for i, ((_, scale), (_, before)) in enumerate(zip(found, chunks, strict=True)) if scale != before} | {
                (i, int(frame) * n_q + int(book))
                for i, ((codes, _), (before, _)) in enumerate(zip(found, chunks, strict=True))
                for book, frame in np.argwhere(codes != before)
            }
            if at < begin:
                assert not changed
                assert chunk_frames(PUBLISHED[name], length) == chunk_frames(PUBLISHED[name], samples)
                outcomes["whole" if length == samples else "length"] += 1
            else:
                assert length == samples
                assert changed and changed <= places[at - begin]
                outcomes["scale" if any(what == "scale" for _, what in changed) else "codes"] += 1
    assert outcomes["refused"] and outcomes["model"] and outcomes["whole"] and outcomes["codes"] and outcomes["length"]
    assert bool(outcomes["scale"]) == PUBLISHED[name].normalize


def codes_and_scales_at(name: str, n_q: int, samples: int) -> list[set[tuple[int, str | int]]]:
    """For each byte after the header, the chunk and the codes, or the scale, that have bits in it."""
    places: list[set[tuple[int, str | int]]] = []
    for i, frames in enumerate(chunk_frames(PUBLISHED[name], samples)):
        if PUBLISHED[name].normalize:
            places += [{(i, "scale")}] * 4
        codes = range(n_q * frames)
        places += [
            {(i, code) for code in codes if code * 10 < 8 * byte + 8 and code * 10 + 10 > 8 * byte}
            for byte in range(-(-10 * len(codes) // 8))
        ]
    return places


def with_json(name: str, **changes: object) -> bytes:
    """A small file whose JSON was changed, and its size with it."""
    data = written(name, 2, 640)
    size = struct.unpack_from("!I", data, 5)[0]
    fields = {**json.loads(data[9 : 9 + size]), **changes}
    text = json.dumps({k: v for k, v in fields.items() if v is not None}).encode()
    return b"ECDC\0" + struct.pack("!I", len(text)) + text + data[9 + size :]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "changes",
    [{"al": al} for al in (641, 10**6, 10**12, 2**62)] + [{"nc": nc} for nc in (3, 32, 33, 10**12)] + [{"al": 2**62, "nc": 10**18}],
    ids=str,
)
def test_a_header_that_asks_for_more_than_the_file_holds_is_refused_at_once(name: str, changes: dict[str, object]) -> None:
    data = with_json(name, **changes)
    tracemalloc.start()
    try:
        with pytest.raises(CodesError, match="its header says"):
            read(name, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin with 'ECDC'"),
        (b"RIFF\0\0\0\0WAVEfmt ", "does not begin with 'ECDC'"),
        (b"ECDC\0\0", "its header has 6 bytes, expected 9 and more"),
        (b"ECDC\2\0\0\0\2{}", "version 2 of the format, expected 0 or 1"),
        (b"ECDC\0\xff\xff\xff\xff{}", "says that it has 4294967295 bytes of JSON, expected at most 4096"),
        (b"ECDC\0\0\0\0\2", "its header has 0 bytes of JSON of 2: it was cut off"),
        (b"ECDC\0\0\0\0\2[]", "its header has other fields than"),
        (b"ECDC\0\0\0\0\2\xff\xff", "its header is no JSON"),
        (b"ECDC\0\0\0\x10\0" + b"[" * 4096, "its header is no JSON"),
        (b"ECDC\0\0\0\x10\0" + b"1" * 4096, "its header has other fields than|is no JSON"),
    ],
    ids=range(10),
)
def test_what_is_no_ecdc_file_is_refused_by_what_is_wrong(data: bytes, message: str) -> None:
    with pytest.raises(CodesError, match=message):
        parse_ecdc(data)
    assert is_ecdc(data) == data.startswith(b"ECDC")


def test_the_version_says_what_kind_of_model_predicts() -> None:
    named = EcdcHeader("encodec_24khz", 640, 2, "f" * 32).serialize()
    assert named[4] == 1 and EcdcHeader.parse(named)[0].lm == "f" * 32
    for data in (named[:4] + b"\0" + named[5:], b"ECDC\1" + EcdcHeader("encodec_24khz", 640, 2, True).serialize()[5:]):
        with pytest.raises(CodesError, match="a field of its header is invalid"):
            parse_ecdc(data)


@pytest.mark.parametrize(
    "changes",
    [
        {"al": 0},
        {"al": -1},
        {"al": 640.0},
        {"al": True},
        {"al": "640"},
        {"al": 2**63},
        {"nc": 0},
        {"nc": [2]},
        {"lm": 0},
        {"m": 1},
        {"x": 1},
    ]
    + [{field: None} for field in ("m", "al", "nc", "lm")],
    ids=str,
)
def test_a_field_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(CodesError, match=r"a field of its header is invalid|other fields than m, al, nc and lm"):
        parse_ecdc(with_json("encodec_24khz", **changes))


@pytest.mark.parametrize("scale", [0.0, -1.0, math.inf, math.nan])
def test_a_scale_that_no_audio_has_is_refused(scale: float) -> None:
    data = written("encodec_48khz", 2, 640)
    begin = len(EcdcHeader("encodec_48khz", 640, 2).serialize())
    with pytest.raises(CodesError, match="the scale of chunk 0 is"):
        read("encodec_48khz", data[:begin] + struct.pack("!f", scale) + data[begin + 4 :])


@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    for head in (b"", b"ECDC", b"ECDC\0\0\0\0"):
        with pytest.raises(CodesError):
            parse_ecdc(head + data)


def test_only_models_of_a_published_architecture_have_the_packages_names() -> None:
    assert {name: model_name(PUBLISHED[name], "f" * 32) for name in MODELS} == {name: name for name in MODELS}
    assert model_name(CodecConfig(target_bandwidths=(1.5, 6.0), search_beam=4), "f" * 32) == "encodec_24khz"
    for other in (
        PUBLISHED["encodec_32khz"],
        CodecConfig(pad_mode="constant"),
        CodecConfig(num_filters=16),
        CodecConfig(sampling_rate=16_000),
    ):
        assert model_name(other, "f" * 32) == "streamcodec " + "f" * 32


@pytest.mark.parametrize(
    ("samples", "change", "message"),
    [
        (641, lambda chunks: chunks, r"1 chunk\(s\) of codes \(\[2, 2\]\) are not 641 samples of 2 codebooks"),
        (640, lambda chunks: chunks * 2, r"2 chunk\(s\) of codes"),
        (640, lambda chunks: [(chunks[0][0][:1], None)], r"1 chunk\(s\) of codes \(\[1, 2\]\)"),
        (640, lambda chunks: [(chunks[0][0], 1.0)], "a chunk has the wrong kind of scale, expected None"),
    ],
)
def test_codes_that_do_not_fit_the_header_are_not_written(samples: int, change: Any, message: str) -> None:
    config = PUBLISHED["encodec_24khz"]
    with pytest.raises(CodesError, match=message):
        ecdc_bytes(config, EcdcHeader("encodec_24khz", samples, 2), change(chunks_for("encodec_24khz", 2, 640)), PlainCoding(10, 2))
