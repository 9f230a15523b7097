"""With a language model `.ecdc` files are the package's as well, byte for byte; one that was cut off is refused."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from encodec_files import package_file, package_reads
from package_language_model import package_language_model, saved
from random_chunks import random_chunks

from streamcodec.bitstream.ecdc import PACKAGE_MODELS, chunk_frames, parse_ecdc
from streamcodec.codec import Chunk, Codec, LanguageEngine, load_language_model, open_ecdc
from streamcodec.codec.ecdc import ecdc_chunks, to_ecdc
from streamcodec.engine.base import Engine
from streamcodec.errors import CodesError
from streamcodec.published import PUBLISHED

Both = tuple[Any, Codec, LanguageEngine]


@pytest.fixture(scope="module", params=PACKAGE_MODELS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Both:
    """A small language model of the package, a codec of the published config without its networks, and our language model."""
    config = PUBLISHED[request.param]
    past_frames = int(3.5 * config.frame_rate)
    theirs = package_language_model(config.num_quantizers, past_frames=past_frames, dim=32, layers=2)
    codec = Codec(cast(Engine, types.SimpleNamespace(config=config)), name=request.param, fingerprint="f" * 32)
    return theirs, codec, load_language_model(saved(theirs, tmp_path_factory.mktemp("lm")), codec)


def clip(codec: Codec, n_q: int, samples: int) -> tuple[list[tuple[Any, float | None]], list[Chunk]]:
    chunks = random_chunks(codec.config, n_q, chunk_frames(codec.config, samples))
    return chunks, [Chunk(codes, scale) for codes, scale in chunks]


@pytest.mark.parametrize(("n_q", "samples"), [(2, 90_001), (8, 5_000), (16, 1)], ids=str)
def test_files_equal_the_packages_and_each_reads_the_others(both: Both, n_q: int, samples: int) -> None:
    theirs, codec, lm = both
    chunks, ours = clip(codec, n_q, samples)
    data = to_ecdc(codec, ours, samples, lm)
    assert data == package_file(codec.name, chunks, samples, theirs)
    found = ecdc_chunks(codec, parse_ecdc(data), lm)
    read = package_reads(codec.name, data, theirs)
    for chunk, (codes, scale), (expected, expected_scale) in zip(found, read, chunks, strict=True):
        np.testing.assert_array_equal(chunk.codes, expected)
        np.testing.assert_array_equal(codes, expected)
        assert chunk.scale == scale == expected_scale


def test_likely_codes_take_fewer_bits(both: Both) -> None:
    _, codec, lm = both
    frame, state, frames = None, None, []
    for _ in range(30):
        shares, state = lm.predict(frame, state, 4)
        frame = shares.argmax(axis=1).astype(np.int32)
        frames.append(frame)
    samples = 30 * 320
    chunk = Chunk(np.stack(frames, axis=1), 0.5 if codec.config.normalize else None)
    assert len(to_ecdc(codec, [chunk], samples, lm)) < 0.8 * len(to_ecdc(codec, [chunk], samples))


def test_every_truncation_is_refused_and_a_flipped_byte_ends_in_an_answer(both: Both) -> None:
    """There is no checksum: after a flipped byte the rest of its chunk may be other codes, of the same number and within their range."""
    _, codec, lm = both
    chunks, ours = clip(codec, 2, 4_000)
    data = to_ecdc(codec, ours, 4_000, lm)
    body = data.index(b"}") + 1
    for size in range(body, len(data)):
        with pytest.raises(CodesError):
            ecdc_chunks(codec, parse_ecdc(data[:size]), lm)
    with pytest.raises(CodesError, match="1 bytes follow the last chunk"):
        ecdc_chunks(codec, parse_ecdc(data + b"\0"), lm)
    answers = 0
    for at in range(body, len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x10
        try:
            found = ecdc_chunks(codec, parse_ecdc(bytes(damaged)), lm)
        except CodesError:
            continue
        answers += 1
        for chunk, (codes, _) in zip(found, chunks, strict=True):
            assert chunk.codes.shape == codes.shape
            assert chunk.codes.min() >= 0 and chunk.codes.max() < 1024
    assert answers


def test_the_language_model_is_asked_for(both: Both) -> None:
    _, codec, lm = both
    data = to_ecdc(codec, clip(codec, 2, 640)[1], 640, lm)
    with pytest.raises(CodesError, match="its codes are coded by EnCodec's language model, expected that model as well"):
        ecdc_chunks(codec, parse_ecdc(data))
    # One that is given for a file without is not used.
    plain = to_ecdc(codec, clip(codec, 2, 640)[1], 640)
    assert len(ecdc_chunks(codec, parse_ecdc(plain), lm)) == 1


def test_a_header_that_asks_for_more_than_bits_can_hold_is_refused_at_once(both: Both) -> None:
    _, codec, lm = both
    data = to_ecdc(codec, clip(codec, 2, 640)[1], 640, lm)
    text = data[9 : data.index(b"}") + 1].replace(b"640", str(2**62).encode())
    with pytest.raises(CodesError, match=f"its header says {2**62} samples of 2 codebooks"):
        ecdc_chunks(codec, parse_ecdc(b"ECDC\0" + len(text).to_bytes(4, "big") + text + data[data.index(b"}") + 1 :]), lm)


def test_a_stream_grows_with_a_language_model(both: Both, tmp_path: Path) -> None:
    theirs, codec, lm = both
    path, (chunks, _) = tmp_path / "live.ecdc", clip(codec, 2, 3_000)
    [(codes, scale)] = chunks
    with open_ecdc(codec, path, min(codec.config.target_bandwidths), language_model=lm) as writer:
        if codec.config.normalize:
            writer.write(codes, scale)
        else:
            for at in range(0, codes.shape[1], 4):
                writer.write(codes[:, at : at + 4])
                found = ecdc_chunks(codec, parse_ecdc(path.read_bytes()), lm)[0].codes
                np.testing.assert_array_equal(found, codes[:, : at + 4])
        writer.close(3_000)
    [(read, _)] = package_reads(codec.name, path.read_bytes(), theirs)
    np.testing.assert_array_equal(read, codes)
