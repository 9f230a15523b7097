"""Files that a model of whole numbers codes: every engine writes the same bytes and reads the others', and damage is never decoded."""

from __future__ import annotations

import types
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pytest
from encodec_files import package_reads
from level_steps import STEPS, random_model
from package_language_model import package_language_model, saved
from random_chunks import random_chunks

from streamcodec.bitstream.ecdc import chunk_frames, parse_ecdc
from streamcodec.codec import Chunk, Codec, compress, decompress, load_fixed_point, load_language_model, open_ecdc
from streamcodec.codec.ecdc import ecdc_chunks, to_ecdc
from streamcodec.config import CodecConfig
from streamcodec.engine.base import Engine, EngineName
from streamcodec.engine.fixed_point import FixedPointEngine
from streamcodec.errors import CheckpointError, CodesError
from streamcodec.model.fixed_point import save_fixed_point
from streamcodec.published import PUBLISHED

MODEL = random_model(4, 1024)


def codec_of(config: CodecConfig) -> Codec:
    return Codec(cast(Engine, types.SimpleNamespace(config=config)), name="a codec", fingerprint="f" * 32)


CODEC = codec_of(PUBLISHED["encodec_24khz"])


def clip(samples: int, n_q: int = 4, config: CodecConfig = CODEC.config) -> list[Chunk]:
    return [Chunk(codes, scale) for codes, scale in random_chunks(config, n_q, chunk_frames(config, samples))]


def test_all_engines_write_the_same_bytes_on_one_thread_and_on_two() -> None:
    chunks = clip(60_000)
    files = {
        (name, threads): to_ecdc(CODEC, chunks, 60_000, FixedPointEngine(MODEL, make(MODEL, threads)))
        for name, make in STEPS.items()
        for threads in (1, 2)
    }
    assert len(set(files.values())) == 1
    for name, make in STEPS.items():
        found = ecdc_chunks(CODEC, parse_ecdc(files["torch", 1]), FixedPointEngine(MODEL, make(MODEL, 1)))
        np.testing.assert_array_equal(found[0].codes, chunks[0].codes, err_msg=name)


def test_a_stereo_models_chunks_are_coded_each_for_itself() -> None:
    config = PUBLISHED["encodec_48khz"]
    codec, engine = codec_of(config), FixedPointEngine(MODEL)
    chunks = clip(60_000, 2, config)
    for found, expected in zip(ecdc_chunks(codec, parse_ecdc(to_ecdc(codec, chunks, 60_000, engine)), engine), chunks, strict=True):
        np.testing.assert_array_equal(found.codes, expected.codes)
        assert found.scale == expected.scale


def test_the_package_refuses_such_a_file_and_other_language_models_are_refused_by_name(tmp_path: Path) -> None:
    engine = FixedPointEngine(MODEL)
    data = to_ecdc(CODEC, clip(3_000), 3_000, engine)
    with pytest.raises(ValueError, match="Version not supported"):
        package_reads("encodec_24khz", data)
    other = FixedPointEngine(random_model(4, 1024, seed=1))
    with pytest.raises(CodesError, match=f"by the language model '{MODEL.fingerprint}', and '{other.fingerprint}' is given"):
        ecdc_chunks(CODEC, parse_ecdc(data), other)
    with pytest.raises(CodesError, match="and 'none of this kind' is given"):
        ecdc_chunks(CODEC, parse_ecdc(data))
    floating = load_language_model(saved(package_language_model(dim=16, layers=1), tmp_path), CODEC)
    with pytest.raises(CodesError, match="by EnCodec's language model"):
        ecdc_chunks(CODEC, parse_ecdc(to_ecdc(CODEC, clip(3_000), 3_000, floating)), engine)
    with pytest.raises(CodesError, match="and 'none of this kind' is given"):
        ecdc_chunks(CODEC, parse_ecdc(data), floating)


def test_every_damage_after_the_header_is_refused_or_changes_nothing() -> None:
    engine, chunks = FixedPointEngine(MODEL), clip(3_000, 2)
    data = to_ecdc(CODEC, chunks, 3_000, engine)
    body = data.index(b"}") + 1
    for size in range(body, len(data)):
        with pytest.raises(CodesError):
            ecdc_chunks(CODEC, parse_ecdc(data[:size]), engine)
    refused = 0
    for at in range(body, len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 0x21
        try:
            found = ecdc_chunks(CODEC, parse_ecdc(bytes(damaged)), engine)
        except CodesError:
            refused += 1
        else:
            np.testing.assert_array_equal(found[0].codes, chunks[0].codes)
    assert refused >= len(data) - body - 2


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_the_embedded_voices_language_model_makes_files_of_speech_smaller_and_is_found_by_itself(
    engine: EngineName, speech_codec: Codec, speech: npt.NDArray[np.float32]
) -> None:
    language_model = load_fixed_point("speech-24k", speech_codec, engine)
    talk = speech[24_000:120_000]
    for kbps in (6.0, 24.0):
        plain = compress(speech_codec, talk, bandwidth=kbps)
        data = compress(speech_codec, talk, bandwidth=kbps, language_model=language_model)
        assert len(data) < len(plain)
        np.testing.assert_array_equal(decompress(speech_codec, data), decompress(speech_codec, plain))


def test_a_stream_grows_by_a_loaded_model_and_another_engine_reads_it(tmp_path: Path) -> None:
    save_fixed_point(MODEL, tmp_path / "lm.safetensors")
    writing, reading = (load_fixed_point(tmp_path / "lm.safetensors", CODEC, engine) for engine in ("torch", "openvino"))
    [chunk] = clip(60_000)
    with open_ecdc(CODEC, tmp_path / "live.ecdc", 3.0, language_model=writing) as writer:
        for at in range(0, chunk.codes.shape[1], 30):
            writer.write(chunk.codes[:, at : at + 30])
            found = ecdc_chunks(CODEC, parse_ecdc((tmp_path / "live.ecdc").read_bytes()), reading)[0].codes
            np.testing.assert_array_equal(found, chunk.codes[:, : at + 30])
    with pytest.raises(CheckpointError, match="is for codebooks of 1024, the codec has 2048"):
        load_fixed_point(tmp_path / "lm.safetensors", codec_of(PUBLISHED["encodec_32khz"]))
