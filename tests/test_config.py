"""The arithmetic of a codec, and the configs that it is read from."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from streamcodec.config import CodecConfig, check_packet_frames
from streamcodec.errors import CodesError, InputError, UnsupportedModelError
from streamcodec.protocol import pack_codes


@pytest.mark.parametrize(("bandwidth", "n_q"), [(1.5, 2), (3, 4), (6, 8), (12, 16), (24, 32)])
def test_the_five_bandwidths_of_the_published_model_are_2_to_32_codebooks(bandwidth: float, n_q: int) -> None:
    config = CodecConfig()
    assert config.bandwidth_to_n_q(bandwidth) == config.n_q_for(bandwidth) == n_q
    assert config.bandwidth_of(n_q) == bandwidth


def test_the_published_model_has_the_numbers_of_the_paper() -> None:
    config = CodecConfig()
    assert (config.hop_length, config.frame_rate, config.bits_per_code, config.kbps_per_codebook) == (320, 75.0, 10, 0.75)
    assert (config.num_quantizers, config.lstm_size, config.n_q_for()) == (32, 512, 8)


@pytest.mark.parametrize(("entries", "least"), [(1024, 1), (256, 1), (128, 2), (16, 2)])
def test_a_packet_is_sent_with_one_codebook_at_least_or_with_two_short_ones(entries: int, least: int) -> None:
    config = CodecConfig(codebook_size=entries)
    assert config.min_n_q == least
    codes = np.zeros((least, 6), np.int32)
    assert len(pack_codes(codes, config.bits_per_code)) == -(-least * 6 * config.bits_per_code // 8)
    with pytest.raises(CodesError):
        pack_codes(codes[: least - 1], config.bits_per_code)


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (319, 1), (320, 1), (321, 2), (1_920, 6), (24_000, 75)])
def test_a_partly_filled_frame_is_a_frame(samples: int, frames: int) -> None:
    assert CodecConfig().frames_for(samples) == frames


@given(entries=st.integers(1, 12), ratios=st.lists(st.integers(1, 8), min_size=1, max_size=4), n_q=st.integers(1, 256))
def test_the_bandwidth_of_n_q_codebooks_holds_n_q_codebooks(entries: int, ratios: list[int], n_q: int) -> None:
    shape: dict[str, Any] = {"codebook_size": 2**entries, "upsampling_ratios": tuple(ratios)}
    per_codebook = 24_000 / math.prod(ratios) * entries / 1000
    assume(per_codebook * n_q <= 1000)
    config = CodecConfig(**shape, target_bandwidths=(per_codebook * n_q,))
    assert config.num_quantizers == config.n_q_for() == n_q
    assert config.bandwidth_to_n_q(config.bandwidth_of(n_q)) == n_q


@pytest.mark.parametrize(("bandwidths", "n_q"), [((1.5, 3.0), 4), ((12.0, 24.0), 16), ((24.0, 6.0), 8), ((3.0, 1.5, 12.0), 4)])
def test_the_default_bandwidth_is_the_papers_6_kbps_or_the_nearest_below_it(bandwidths: tuple[float, ...], n_q: int) -> None:
    assert CodecConfig(target_bandwidths=bandwidths).n_q_for() == n_q


@pytest.mark.parametrize("bandwidth", [0, 2, 6.5, -6, 48, float("nan"), "6", [6]])
def test_a_bandwidth_that_the_model_lacks_is_refused_with_those_it_has(bandwidth: Any) -> None:
    with pytest.raises(CodesError, match=r"this model has 1\.5, 3, 6, 12, 24 kbps"):
        CodecConfig().n_q_for(bandwidth)


def test_the_config_of_transformers_itself_is_read_field_by_field() -> None:
    from transformers import EncodecConfig

    theirs = EncodecConfig()
    values = theirs.to_dict()
    config = CodecConfig.from_dict(values)
    assert config == CodecConfig()
    assert "search_beam" not in values  # that one is ours
    for field in fields(CodecConfig):
        if field.name == "search_beam":
            continue
        mine = getattr(config, field.name)
        assert (list(mine) if isinstance(mine, tuple) else mine) == values[field.name], field.name
    assert config.hop_length == theirs.hop_length
    assert config.frame_rate == theirs.frame_rate
    assert config.num_quantizers == theirs.num_quantizers


def test_a_config_of_transformers_with_other_numbers_keeps_them() -> None:
    from transformers import EncodecConfig

    changed: dict[str, Any] = {
        "sampling_rate": 16_000,
        "num_filters": 8,
        "upsampling_ratios": [5, 4, 2],
        "hidden_size": 32,
        "codebook_dim": 32,
        "num_lstm_layers": 1,
        "num_residual_layers": 2,
        "kernel_size": 5,
        "last_kernel_size": 3,
        "residual_kernel_size": 5,
        "dilation_growth_rate": 3,
        "compress": 4,
        "pad_mode": "constant",
        "use_conv_shortcut": False,
        "trim_right_ratio": 0.5,
        "codebook_size": 256,
        "target_bandwidths": [3.2, 6.4],
    }
    theirs = EncodecConfig(**changed)
    config = CodecConfig.from_dict(theirs.to_dict())
    assert {name: config.to_dict()[name] for name in changed} == changed
    assert (config.hop_length, config.num_quantizers) == (40, 2)
    assert config.num_quantizers == theirs.num_quantizers


def test_a_config_without_its_codebook_dim_takes_the_hidden_size_as_transformers_does() -> None:
    from transformers import EncodecConfig

    assert EncodecConfig(hidden_size=64).codebook_dim == 64
    assert CodecConfig.from_dict({"hidden_size": 64}).codebook_dim == 64
    assert CodecConfig.from_dict({"hidden_size": 64, "codebook_dim": None}).codebook_dim == 64


def test_a_config_survives_json() -> None:
    config = CodecConfig(num_filters=16, pad_mode="constant", target_bandwidths=(1.5, 24.0))
    assert CodecConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_whole_numbers_for_real_ones_are_the_same_config() -> None:
    config = CodecConfig.from_dict({"target_bandwidths": [3, 24], "trim_right_ratio": 1})
    assert json.dumps(config.to_dict()) == json.dumps(CodecConfig(target_bandwidths=(3.0, 24.0)).to_dict())


def test_a_config_is_a_value() -> None:
    assert hash(CodecConfig()) == hash(CodecConfig())
    with pytest.raises(FrozenInstanceError):
        CodecConfig().num_filters = 3  # type: ignore[misc]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"use_causal_conv": 0}, "use_causal_conv is 0, expected true or false"),
    ({"chunk_length_s": 1.0}, "overlap is None, expected a share"),
    ({"audio_channels": 3}, "audio_channels is 3"),
    ({"norm_type": "time_group_norm"}, "norm_type is 'time_group_norm'"),
    ({"norm_type": 5}, "norm_type is 5"),
    ({"pad_mode": "circular"}, "pad_mode is 'circular'"),
    ({"pad_mode": ["reflect"]}, "pad_mode is"),
    ({"num_filters": 0}, "num_filters is 0, expected an integer from 1 to 1024"),
    ({"num_filters": 32.0}, r"num_filters is 32\.0"),
    ({"num_filters": True}, "num_filters is True"),
    ({"kernel_size": "7"}, "kernel_size is '7'"),
    ({"num_lstm_layers": -1}, "num_lstm_layers is -1"),
    ({"upsampling_ratios": []}, r"upsampling_ratios is \(\)"),
    ({"upsampling_ratios": [8, 0]}, r"upsampling_ratios is \(8, 0\)"),
    ({"upsampling_ratios": [2] * 11}, "upsampling_ratios is .*1 to 10 integers"),
    ({"upsampling_ratios": 8}, "upsampling_ratios is 8, expected a list"),
    ({"upsampling_ratios": [True, 2]}, "upsampling_ratios is"),
    ({"codebook_size": 1000}, "codebook_size is 1000, expected a power of two"),
    ({"codebook_dim": 64}, "codebook_dim is 64 and hidden_size 128"),
    ({"num_filters": 2, "compress": 4}, "compress is 4"),
    ({"compress": 3}, "compress is 3, expected a divisor"),
    ({"trim_right_ratio": 1.1}, r"trim_right_ratio is 1\.1"),
    ({"trim_right_ratio": float("nan")}, "trim_right_ratio is nan"),
    ({"trim_right_ratio": "1"}, "trim_right_ratio is '1'"),
    ({"use_conv_shortcut": "no"}, "use_conv_shortcut is 'no'"),
    ({"target_bandwidths": []}, r"target_bandwidths is \(\)"),
    ({"target_bandwidths": [6.0, "12"]}, "target_bandwidths is"),
    ({"target_bandwidths": [6.0, -1]}, "target_bandwidths is"),
    ({"target_bandwidths": [0.5]}, r"target_bandwidths .*below one codebook \(0.75 kbps\)"),
    ({"target_bandwidths": [1000.0]}, "target_bandwidths .* needs 1333 codebooks, expected at most 256"),
    ({"target_bandwidths": 24.0}, r"target_bandwidths is 24\.0, expected a list"),
]


@pytest.mark.parametrize(("values", "culprit"), REFUSED)
def test_a_config_that_makes_no_sense_is_refused_by_its_field(values: dict[str, Any], culprit: str) -> None:
    with pytest.raises(UnsupportedModelError, match=culprit):
        CodecConfig.from_dict(values)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
field_names = st.sampled_from([*(f.name for f in fields(CodecConfig)), "use_causal_conv", "normalize", "chunk_length_s", "unknown"])


@given(values=st.dictionaries(field_names, json_values, max_size=4))
def test_whatever_json_a_config_holds_it_is_a_config_or_one_error(values: dict[str, Any]) -> None:
    try:
        config = CodecConfig.from_dict(values)
    except UnsupportedModelError as error:
        assert any(name in str(error) for name in values), "it names the field"
    else:
        assert 1 <= config.n_q_for() <= config.num_quantizers <= 256


def test_fields_that_matter_to_other_programs_are_ignored() -> None:
    assert CodecConfig.from_dict({"architectures": ["EncodecModel"], "dtype": "float32", "overlap": 0.5}) == CodecConfig()


@pytest.mark.parametrize("packet_frames", [1, 6, 25])
def test_a_packet_holds_1_to_25_frames(packet_frames: int) -> None:
    assert check_packet_frames(packet_frames) == packet_frames


@pytest.mark.parametrize("packet_frames", [0, 26, -6, 6.0, "6", True, None])
def test_another_number_of_frames_is_refused(packet_frames: Any) -> None:
    with pytest.raises(InputError, match=f"packet_frames is .*{packet_frames}.*, expected an integer from 1 to 25"):
        check_packet_frames(packet_frames)
