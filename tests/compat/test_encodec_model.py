"""Batches of clips of different lengths are coded as `transformers` codes them, and what it refuses is refused."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from compat_rig import KINDS, Pair, assert_same, theirs
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_models import PUBLISHED
from torch import Tensor

from benchmarks.harness.music import music
from benchmarks.peers.random_models import transformers_model
from streamcodec.compat.transformers import EncodecConfig, EncodecModel, EncodecOutput
from streamcodec.errors import AudioError, CodesError, InputError, StreamCodecError, TensorError

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def pair_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    made: dict[Any, Pair] = {}

    def pair(kind: str, engine: Any = "torch") -> Pair:
        if (kind, engine) not in made:
            made[kind, engine] = Pair.made(kind, tmp_path_factory.mktemp("pair"), engine)
        return made[kind, engine]

    return pair


def batch_of(pair: Pair, lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Clips of these lengths as their feature extractor batches them: values [B, channels, T] and mask [B, T]."""
    clips = [music(pair.channels, length, seed + i) for i, length in enumerate(lengths)]
    rate = pair.theirs.config.sampling_rate
    batch = pair.their_extractor([clip[0] if pair.channels == 1 else clip for clip in clips], sampling_rate=rate, return_tensors="pt")
    return batch["input_values"], batch["padding_mask"]


# OpenVINO compiles for every length anew, and only the last of these is as long as a step of a clip.
@pytest.mark.parametrize(
    ("engine", "batches"),
    [
        ("torch", [[1], [39, 1, 40], [1_079, 1_080, 1_081], [2_280, 3, 1_200, 2_281], [13_000, 4_321]]),
        ("openvino", [[1_079, 1, 1_200], [13_000, 4_321]]),
    ],
)
@every_kind
def test_each_clip_of_a_padded_batch_equals_transformers_at_every_bandwidth(
    pair_of: Callable[..., Pair], kind: str, engine: str, batches: list[list[int]]
) -> None:
    pair = pair_of(kind, engine)
    for lengths in batches:
        values, mask = batch_of(pair, lengths)
        # What is under the mask must not matter.
        values = values + torch.randn(values.shape, generator=torch.Generator().manual_seed(1)) * (1 - mask[:, None])
        for bandwidth in [None, *pair.theirs.config.target_bandwidths]:
            expected = pair.assert_same_encoding(values, mask, bandwidth)
        unused = expected.last_frame_pad_length
        whole = pair.assert_same_decoding(expected.audio_codes, expected.audio_scales, mask, unused)
        assert whole.audio_values.shape == values.shape


@settings(max_examples=25)
@given(data=st.data())
@every_kind
def test_any_mask_and_length_encode_and_decode_alike(pair_of: Callable[..., Pair], kind: str, data: st.DataObject) -> None:
    pair = pair_of(kind)
    rows, length = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3_500))
    values = torch.from_numpy(np.stack([music(pair.channels, length, seed) for seed in range(rows)]))
    shape = data.draw(st.sampled_from([None, (rows, length), (rows, 1, length), (rows, pair.channels, length), (1, length)]))
    dtype = data.draw(st.sampled_from([torch.bool, torch.int32, torch.int64, torch.float32]))
    seed = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    mask = None if shape is None else (torch.rand(shape, generator=seed) < data.draw(st.floats(0, 1))).to(dtype)
    bandwidth = data.draw(st.sampled_from(pair.theirs.config.target_bandwidths))
    # Clips that end shortly after a chunk begins have two short chunks at their end, which one tensor cannot hold.
    if isinstance(pair.same_kind("encode", values, mask, bandwidth), RuntimeError):
        assert length % 1_080 in range(1, 81) and length > 1_200
        return
    expected = pair.assert_same_encoding(values, mask, bandwidth)
    codes, n_q = expected.audio_codes, data.draw(st.integers(1, expected.audio_codes.shape[2]))
    unused = data.draw(st.sampled_from([expected.last_frame_pad_length, 0, -1]))
    cut = data.draw(st.sampled_from([None, torch.ones(rows, data.draw(st.integers(0, 4_000)))]))
    pair.assert_same_decoding(codes[:, :, :n_q], expected.audio_scales, cut, unused)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_published_model_codes_a_batch_as_transformers_does(kind: str, tmp_path: Any) -> None:
    model = transformers_model(**PUBLISHED[kind])
    model.save_pretrained(tmp_path)
    ours = EncodecModel.from_pretrained(tmp_path, engine="torch")
    values = torch.from_numpy(np.stack([music(model.config.audio_channels, 52_001, seed) for seed in range(2)]))
    mask = torch.ones(2, 52_001)
    mask[1, 20_000:] = 0
    pair = Pair(model, ours, None, None, tmp_path)  # type: ignore[arg-type]
    expected = pair.assert_same_encoding(values, mask)
    pair.assert_same_decoding(expected.audio_codes, expected.audio_scales, mask, expected.last_frame_pad_length)


@every_kind
def test_a_call_encodes_and_decodes_or_decodes_alone(pair_of: Callable[..., Pair], kind: str) -> None:
    pair = pair_of(kind)
    values, mask = batch_of(pair, [2_500, 1_900])
    with torch.inference_mode():
        expected = pair.theirs(values, mask)
        encoded = pair.theirs.encode(values, mask)
    found = pair.ours(values, mask)
    assert isinstance(found, EncodecOutput)
    decoded = pair.ours.decode(
        found.audio_codes, pair.ours.encode(values, mask).audio_scales, mask, last_frame_pad_length=encoded.last_frame_pad_length
    )
    assert_same(found.audio_values, decoded.audio_values)
    assert found.audio_values is not None and found.audio_values.shape == expected.audio_values.shape
    codes = {"audio_codes": encoded.audio_codes, "audio_scales": encoded.audio_scales}
    for inputs in ((values, mask), (values,), (None, mask)):
        for more in ({}, {"last_frame_pad_length": encoded.last_frame_pad_length}, {"return_dict": False}):
            assert not isinstance(pair.same("__call__", *inputs, **codes, **more), Exception)


@every_kind
def test_tuples_are_returned_where_they_are_asked_for(pair_of: Callable[..., Pair], kind: str) -> None:
    pair = pair_of(kind)
    values, _ = batch_of(pair, [1_500])
    encoded = pair.theirs.encode(values)
    for configured in (True, False):
        with pair.configured(return_dict=configured):
            for asked in (None, True, False):
                expected = asked if asked is not None else configured
                for found in (
                    pair.same_kind("encode", values, return_dict=asked),
                    pair.same("decode", encoded.audio_codes, encoded.audio_scales, return_dict=asked),
                    pair.same_kind("__call__", values, return_dict=asked),
                    pair.same("__call__", values, None, None, encoded.audio_codes, encoded.audio_scales, asked),
                ):
                    kind = found[0] if isinstance(found, list) else type(found).__name__
                    assert (kind == "tuple") is not expected


def masks(rows: int, length: int) -> dict[str, Any]:
    return {
        "longer": torch.ones(rows, length + 1),
        "shorter": torch.ones(rows, length - 1),
        "without rows": torch.ones(length),
        "other rows": torch.ones(rows + 1, length),
        "other channels": torch.ones(rows, 3, length),
        "four axes": torch.ones(rows, 1, 1, length),
        "turned": torch.ones(length, rows).t(),
        "no rows": torch.ones(0, length),
        "shares": torch.full((rows, length), 0.3),
        "list": [[1] * length] * rows,
        "numpy": np.ones((rows, length)),
    }


@every_kind
def test_inputs_that_transformers_refuses_are_refused_alike(pair_of: Callable[..., Pair], kind: str) -> None:
    pair = pair_of(kind)
    values, _ = batch_of(pair, [1_500, 1_300])
    one = values[:, :1]
    inputs: dict[str, tuple[Any, ...]] = {
        "one axis": (values[0, 0],),
        "two axes": (values[0],),
        "four axes": (values[None],),
        "numpy": (values.numpy(),),
        "list": (values.tolist(),),
        "None": (None,),
        "no samples": (values[..., :0],),
        "no channels": (values[:, :0],),
        "three channels": (one.repeat(1, 3, 1),),
        "mono": (one,),
        "stereo": (one.repeat(1, 2, 1),),
        **{str(dtype): ((values * 99).to(dtype),) for dtype in (torch.float64, torch.float16, torch.int16, torch.complex64)},
        **{name: (values, mask) for name, mask in masks(len(values), values.shape[-1]).items()},
        **{
            f"bandwidth {value!r}": (values, None, value)
            for value in (14, "14.4", 0, -1, float("nan"), [14.4], True, 14.400001, torch.tensor(14.4), np.float32(14.4))
        },
    }
    seen = set()
    for name, arguments in inputs.items():
        for method in ("encode", "__call__"):
            before = copy.deepcopy(arguments)
            try:
                seen.add(type(pair.same_kind(method, *arguments)))
            except AssertionError as exc:
                raise AssertionError(name) from exc
            assert_same(before[0], arguments[0])
    assert {ValueError, RuntimeError, TypeError} <= seen


@every_kind
def test_codes_and_scales_that_transformers_refuses_are_refused_alike(pair_of: Callable[..., Pair], kind: str) -> None:
    pair = pair_of(kind)
    values, mask = batch_of(pair, [1_500, 1_300])
    with torch.inference_mode():
        codes, scales, _ = pair.theirs.encode(values, mask, return_dict=False)
    n = len(codes)
    calls: dict[str, tuple[Any, ...]] = {
        "two clips": ("decode", torch.cat([codes, codes]), [*scales, *scales], {}),
        "a list": ("decode", list(codes), scales, {}),
        "numpy": ("decode", codes.numpy(), scales, {}),
        "no codes": ("decode", None, scales, {}),
        "three axes": ("decode", codes[0], scales, {}),
        "two axes": ("decode", codes[0, 0], scales, {}),
        **{
            str(dtype): ("decode", codes.to(dtype), scales, {})
            for dtype in (torch.int32, torch.int16, torch.uint8, torch.float32, torch.bool)
        },
        "too high": ("decode", torch.full_like(codes, 64), scales, {}),
        "too low": ("decode", torch.full_like(codes, -1), scales, {}),
        "too many codebooks": ("decode", codes.repeat(1, 1, 40, 1), scales, {}),
        "no codebooks": ("decode", codes[:, :, :0], scales, {}),
        "no frames": ("decode", codes[..., :0], scales, {}),
        "no chunks": ("decode", codes[:0], scales, {}),
        "scales None": ("decode", codes, None, {}),
        "each None": ("decode", codes, [None] * n, {}),
        "a tensor of scales": ("decode", codes, torch.full((n, 2, 1), 2.0), {}),
        "no scales": ("decode", codes, [], {}),
        "scales of other rows": ("decode", codes, [torch.ones(3, 1)] * n, {}),
        "flat scales": ("decode", codes, [torch.tensor([2.0, 3.0])] * n, {}),
        "one scale": ("decode", codes, [torch.tensor([0.5])] * n, {}),
        "numbers": ("decode", codes, [2.0] * n, {}),
        "more scales": ("decode", codes, [torch.ones(2, 1)] * (n + 3), {}),
        "all padding": ("decode", codes, scales, {"last_frame_pad_length": codes.shape[-1]}),
        "more padding": ("decode", codes, scales, {"last_frame_pad_length": codes.shape[-1] + 1}),
        "a mask": ("decode", codes, scales, mask[:, :-7], {}),
        "a long mask": ("decode", codes, scales, torch.ones(2, 9_000), {}),
        "an empty mask": ("decode", codes, scales, torch.ones(2, 0), {}),
        "codes alone": ("__call__", values, {"audio_codes": codes}),
        "scales alone": ("__call__", values, {"audio_scales": scales}),
        "without inputs": ("__call__", None, {"audio_codes": codes, "audio_scales": scales}),
        "nothing": ("__call__", None, {}),
    }
    seen = set()
    for name, (method, *arguments, more) in calls.items():
        before = codes.clone(), copy.deepcopy(scales)
        try:
            seen.add(type(pair.same(method, *arguments, **more)))
        except AssertionError as exc:
            raise AssertionError(name) from exc
        assert_same([codes, scales], [before[0], before[1]])
    assert {ValueError, RuntimeError, IndexError, TypeError} <= seen


@every_kind
def test_what_transformers_codes_without_sense_is_refused(pair_of: Callable[..., Pair], kind: str) -> None:
    pair = pair_of(kind)
    values, _ = batch_of(pair, [1_500, 1_300])
    with torch.inference_mode():
        codes, scales, _ = pair.theirs.encode(values, return_dict=False)
    for bad in (float("nan"), float("inf"), -float("inf")):
        odd = values.clone()
        odd[1, 0, 700] = bad
        assert pair.theirs.encode(odd).audio_codes.shape == codes.shape
        with pytest.raises(AudioError, match=r"input_values holds -?(nan|inf) at \[1, 0, 700\], expected finite samples"):
            pair.ours.encode(odd)
    with pytest.raises(TensorError, match="at least one clip"):
        pair.ours.encode(values[:0])
    if len(codes) > 1:
        with torch.inference_mode():
            assert pair.theirs.decode(codes, scales[:1]).audio_values.shape[-1] == pair.theirs.config.chunk_length
        with pytest.raises(CodesError, match=rf"audio_scales has 1, expected a scale or None for each of {len(codes)} chunk"):
            pair.ours.decode(codes, scales[:1])


@every_kind
def test_loud_clips_are_coded_as_they_are(pair_of: Callable[..., Pair], kind: str) -> None:
    pair = pair_of(kind)
    values, mask = batch_of(pair, [1_500, 1_300])
    pair.assert_same_encoding(values * 32_768, mask)
    if pair.theirs.config.normalize:
        pair.assert_same_encoding((values * 32_768).to(torch.int16), mask)


def test_the_way_that_clips_are_cut_may_be_changed_between_calls(pair_of: Callable[..., Pair]) -> None:
    pair = pair_of("24 kHz")
    values, mask = batch_of(pair, [1_500, 1_300])
    before = pair.assert_same_encoding(values, mask)
    for changed in (
        {"chunk_length_s": 0.02, "overlap": 0.1},
        {"normalize": True},
        {"chunk_length_s": 0.03, "overlap": 0.2, "normalize": True},
    ):
        with pair.configured(**changed):
            expected = pair.assert_same_encoding(values, mask)
            assert expected.audio_codes.shape != before.audio_codes.shape or expected.audio_scales[0] is not None
            pair.assert_same_decoding(expected.audio_codes, expected.audio_scales, mask, expected.last_frame_pad_length)
    with pair.configured(chunk_length_s=0.03, overlap=0.5):  # two chunks at the end are shorter than the others
        assert isinstance(pair.same("encode", values), RuntimeError)
    pair.assert_same_encoding(values, mask)


def test_copies_and_pickles_code_alike(pair_of: Callable[..., Pair]) -> None:
    pair = pair_of("48 kHz")
    values, mask = batch_of(pair, [1_500, 1_300])
    expected = pair.ours(values, mask)
    for other in (copy.deepcopy(pair.ours), pickle.loads(pickle.dumps(pair.ours))):
        assert_same(other(values, mask), expected)
    assert_same(pickle.loads(pickle.dumps(expected)), expected)


@every_kind
def test_each_side_loads_the_state_dict_and_the_folder_of_the_other(pair_of: Callable[..., Pair], kind: str, tmp_path: Any) -> None:
    pair = pair_of(kind)
    values, mask = batch_of(pair, [1_500, 1_300])
    theirs_state, ours_state = pair.theirs.state_dict(), pair.ours.state_dict()
    assert ours_state.keys() == theirs_state.keys()
    assert {name: tensor.shape for name, tensor in ours_state.items()} == {name: tensor.shape for name, tensor in theirs_state.items()}

    empty = EncodecModel(EncodecConfig(**KINDS[kind]), engine="torch")
    empty.encode(values)
    assert str(empty.load_state_dict(theirs_state)) == "<All keys matched successfully>"
    Pair(pair.theirs, empty, None, None, tmp_path).assert_same_encoding(values, mask)  # type: ignore[arg-type]

    pair.ours.save_pretrained(tmp_path)
    again = theirs().EncodecModel.from_pretrained(tmp_path)
    with torch.inference_mode():
        expected, found = pair.theirs.encode(values, mask), again.encode(values, mask)
    assert_same(found.audio_scales, expected.audio_scales)
    assert (found.audio_codes == expected.audio_codes).float().mean() > 0.99  # folded weights are rounded once more
    again = theirs().EncodecModel(theirs().EncodecConfig(**KINDS[kind]))
    assert not again.load_state_dict(ours_state).missing_keys


def test_a_state_dict_of_another_model_is_refused_and_changes_nothing(pair_of: Callable[..., Pair]) -> None:
    pair = pair_of("24 kHz")
    values, mask = batch_of(pair, [1_500, 1_300])
    expected = pair.ours.encode(values, mask)
    state = pair.theirs.state_dict()
    bias = "encoder.layers.0.conv.bias"
    for change, told in (
        ({bias: torch.zeros(3)}, r"encoder\.layers\.0\.conv\.bias has shape \[3\], this model's has \[4\]"),
        ({"unheard.of": torch.zeros(3)}, "Unexpected key.*unheard.of"),
        ({bias: None}, "Missing key.*encoder.layers.0.conv.bias"),
    ):
        odd = {name: tensor for name, tensor in {**state, **change}.items() if tensor is not None}
        with pytest.raises(RuntimeError, match=told):
            pair.ours.load_state_dict(odd)
    assert_same(pair.ours.encode(values, mask), expected)


def test_a_model_within_a_module_is_moved_saved_and_loaded_with_it(pair_of: Callable[..., Pair]) -> None:
    pair = pair_of("24 kHz")
    values, mask = batch_of(pair, [1_500, 1_300])
    program = torch.nn.ModuleDict({"codec": copy.deepcopy(pair.ours), "head": torch.nn.Linear(2, 2)})
    state = program.state_dict()
    assert "codec.encoder.layers.0.conv.bias" in state and not any("network" in name for name in state)
    other = torch.nn.ModuleDict({"codec": EncodecModel(EncodecConfig(**KINDS["24 kHz"]), engine="torch"), "head": torch.nn.Linear(2, 2)})
    other.load_state_dict(state)
    assert_same(other.to("cpu").eval()["codec"].encode(values, mask), pair.ours.encode(values, mask))
    with pytest.raises(InputError, match=r"dtype is torch\.float16, expected torch\.float32"):
        other.half()


def test_the_programs_own_modes_change_nothing(pair_of: Callable[..., Pair]) -> None:
    pair = pair_of("48 kHz")
    values, mask = batch_of(pair, [1_500, 1_300])
    expected = pair.ours(values, mask)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert_same(pair.ours(values, mask), expected)
    found = pair.ours(values.clone().requires_grad_(), mask)
    assert_same(found, expected)
    assert found.audio_values is not None and not found.audio_values.requires_grad
    assert_same(pair.ours.train()(values, mask), expected)
    pair.ours.eval()


@every_kind
def test_results_are_reached_by_name_by_position_and_as_attributes(pair_of: Callable[..., Pair], kind: str) -> None:
    pair = pair_of(kind)
    values, _ = batch_of(pair, [1_500])
    expected, found = pair.theirs.encode(values), pair.ours.encode(values)
    for of in (
        list,
        len,
        lambda out: type(out[0]),
        lambda out: [type(each) for each in out.to_tuple()],
        lambda out: [type(each) for each in out[1:]],
        lambda out: isinstance(out, dict),
        lambda out: repr(out).partition("(")[0],
        lambda out: "audio_codes" in out,
    ):
        assert of(found) == of(expected)
    for mistake in (lambda out: out["nothing"], lambda out: out[9]):
        with pytest.raises((KeyError, IndexError)) as told:
            mistake(expected)
        with pytest.raises(told.type):
            mistake(found)
    for change in ("pop", "update", "setdefault", "__delitem__"):
        with pytest.raises(StreamCodecError, match="keeps the fields"):
            getattr(found, change)("audio_codes")
    found.audio_codes = expected.audio_codes
    assert found["audio_codes"] is found[0] is found.audio_codes is expected.audio_codes


def test_masks_that_do_not_fit_say_both_shapes(pair_of: Callable[..., Pair]) -> None:
    pair = pair_of("48 kHz")
    values, _ = batch_of(pair, [1_500, 1_300])
    with pytest.raises(TensorError, match=r"padding_mask has shape \[2, 1, 7\] and input_values \[2, 2, 2280\]: expected one shape"):
        pair.ours.encode(values, torch.ones(2, 7))
