"""A case for each row of transformers.md: calls of both sides with several values of one argument."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compat_rig import AUDIO_WITHIN, KINDS, Pair, assert_same, assert_same_outcome, theirs
from reference_models import FEW

from benchmarks.harness.music import music
from benchmarks.peers.random_models import transformers_model
from streamcodec.compat import transformers as compat
from streamcodec.errors import CodesError, InputError, PretrainedNotFoundError, TensorError

__all__ = ["CASES", "DIFFERENCES", "REFUSED", "Context", "Refused"]

Case = Callable[["Context"], Any]
RATE = 24_000
CHUNKS = {"chunk_length_s": 0.002, "overlap": 0.25}  # of 48 samples, 36 apart


@dataclass
class Context:
    """Both sides' models by kind, and a place for files."""

    pairs: dict[str, Pair]
    made: pytest.TempPathFactory

    def folder(self, name: str) -> Path:
        return self.made.mktemp(name)

    @property
    def mono(self) -> Pair:
        return self.pairs["24 kHz"]


@dataclass(frozen=True)
class Refused:
    """A value that is refused, those that ask for nothing, and what is loaded, if that matters."""

    asked: Any
    harmless: tuple[Any, ...] = ()
    where: str | None = None


CASES: dict[tuple[str, str], Case] = {}
DIFFERENCES: dict[tuple[str, str], Case] = {}
REFUSED: dict[tuple[str, str], Refused] = {}


def case(call: str, *arguments: str) -> Callable[[Case], Case]:
    def added(of: Case) -> Case:
        for argument in arguments:
            assert (call, argument) not in CASES
            CASES[call, argument] = of
        return of

    return added


def difference(call: str, *arguments: str) -> Callable[[Case], Case]:
    def added(of: Case) -> Case:
        for argument in arguments:
            assert (call, argument) not in DIFFERENCES
            DIFFERENCES[call, argument] = of
        return of

    return added


# The feature extractor -----------------------------------------------------------------------------------------------------------------

EXTRACTOR = "EncodecFeatureExtractor"


def clips(*lengths: int, channels: int = 1) -> list[Any]:
    return [music(channels, length, seed=i)[0 if channels == 1 else slice(None)] for i, length in enumerate(lengths)]


def same_batch(made: dict[str, Any], raw_audio: Any, **asked: Any) -> Any:
    """Both sides' extractors, made of the same arguments, batch alike; return theirs."""
    asked = {"sampling_rate": made.get("sampling_rate", RATE), **asked}
    return assert_same_outcome(
        lambda: theirs().EncodecFeatureExtractor(**made)(raw_audio, **asked),
        lambda: compat.EncodecFeatureExtractor(**made)(raw_audio, **asked),
    )


@case(EXTRACTOR, "feature_size")
def _(_: Context) -> None:
    for size, channels in [(1, 1), (1, 2), (2, 2), (2, 1), (3, 3)]:
        same_batch({"feature_size": size}, clips(40, 30, channels=channels), return_tensors="pt")
    assert same_batch({"feature_size": 2}, clips(40, 30, channels=2), return_tensors="pt")["input_values"].shape == (2, 2, 40)


@case(EXTRACTOR, "sampling_rate")
def _(_: Context) -> None:
    for rate in (8_000, 48_000):
        assert len(same_batch({"sampling_rate": rate}, clips(40))["input_values"]) == 1
        assert isinstance(same_batch({"sampling_rate": rate}, clips(40), sampling_rate=RATE), ValueError)


@case(EXTRACTOR, "padding_value")
def _(_: Context) -> None:
    for value in (0.0, 0.5, -1):
        assert same_batch({"padding_value": value}, clips(40, 30))["input_values"][1][0, -1] == value
    assert isinstance(same_batch({"padding_value": None}, clips(40, 30)), ValueError)


@case(EXTRACTOR, "chunk_length_s")
def _(_: Context) -> None:
    for length in (None, 0.002, 0.0011, 1.0):
        same_batch({"overlap": 0.25, "chunk_length_s": length}, clips(100, 49))
    assert same_batch(CHUNKS, clips(100, 49))["padding_mask"].shape == (2, 120)


@case(EXTRACTOR, "overlap")
def _(_: Context) -> None:
    for overlap in (None, 0.0, 0.01, 0.5, 1.0):
        same_batch({"chunk_length_s": 0.002, "overlap": overlap}, clips(100, 49))


@case(EXTRACTOR, "kwargs")
def _(_: Context) -> None:
    made: dict[str, Any] = {"padding_side": "left", "return_attention_mask": False, "processor_class": "P", "mine": 3}
    assert (same_batch(made, clips(40, 30))["padding_mask"][1][:10] == 0).all()
    ours = compat.EncodecFeatureExtractor(**made)
    assert ours.to_dict() == theirs().EncodecFeatureExtractor(**made).to_dict()
    assert ours.mine == 3  # type: ignore[attr-defined]


CALL = f"{EXTRACTOR}.__call__"


@case(CALL, "raw_audio")
def _(_: Context) -> None:
    one, other = clips(40, 30)
    stereo = clips(40, 30, channels=2)
    for audio in (
        one,
        one.astype(np.float64),
        one.tolist(),
        [one],
        [one, other.tolist()],
        (one, other),
        (1e4 * one).astype(np.int16),
        [[0.5]],
    ):
        before = np.array(one)
        same_batch({}, audio, return_tensors="np")
        assert (one == before).all()
    for audio in (stereo[0], stereo, [clip.tolist() for clip in stereo]):
        same_batch({"feature_size": 2}, audio, return_tensors="np")
    for bad in ([], [[]], "clip", None, [["a"]], np.zeros((2, 3, 4)), np.zeros((2, 40)), np.float32(1), [one, None]):
        same_batch({}, bad)
    assert isinstance(same_batch({}, np.zeros((2, 40))), ValueError)


@case(CALL, "padding")
def _(_: Context) -> None:
    strategies = theirs().PaddingStrategy
    for made in ({}, CHUNKS):
        for padding in (None, True, False, *("longest", "max_length", "do_not_pad", "other", 2), *strategies):
            for max_length in (None, 60):
                same_batch(made, clips(100, 49), padding=padding, max_length=max_length)


@case(CALL, "truncation")
def _(_: Context) -> None:
    for made in ({}, CHUNKS):
        for truncation in (None, True, False):
            for padding in (None, True, False):
                for max_length in (None, 60):
                    same_batch(made, clips(100, 49), truncation=truncation, padding=padding, max_length=max_length)


@case(CALL, "max_length")
def _(_: Context) -> None:
    for made in ({}, CHUNKS):
        for how in (
            {"padding": "max_length"},
            {"padding": True},
            {"truncation": True},
            {"padding": False},
            {"padding": False, "truncation": True},
        ):
            for max_length in (1, 48, 60, 100, 200):
                same_batch(made, clips(100, 49), max_length=max_length, **how)


@case(CALL, "return_tensors")
def _(_: Context) -> None:
    kinds = theirs().TensorType
    for kind in (None, "np", "pt", "tf", "jax", kinds.NUMPY, kinds.PYTORCH):
        same_batch({}, clips(40, 30), return_tensors=kind)
        same_batch({}, clips(40, 30), return_tensors=kind, padding=False)
    batch = compat.EncodecFeatureExtractor()(clips(40, 30), return_tensors="pt", sampling_rate=RATE)
    expected = theirs().EncodecFeatureExtractor()(clips(40, 30), return_tensors="pt", sampling_rate=RATE)
    assert_same(batch.to(torch.float64), expected.to(torch.float64))
    assert_same(batch.to("cpu", torch.float32), expected.to("cpu", torch.float32))


@difference(CALL, "return_tensors")
@difference(f"{EXTRACTOR}.pad", "return_tensors")
def _(_: Context) -> None:
    assert theirs().TensorType("mlx") == "mlx"
    for call in (
        lambda: compat.EncodecFeatureExtractor()(clips(40), return_tensors="mlx", sampling_rate=RATE),
        lambda: compat.EncodecFeatureExtractor().pad({"input_values": clips(40)}, return_tensors="mlx"),
    ):
        with pytest.raises(InputError, match="return_tensors is 'mlx', expected one of pt, np"):
            call()


@case(CALL, "sampling_rate")
def _(_: Context) -> None:
    for rate in (RATE, 44_100, "24000", 24_000.0):
        same_batch({}, clips(40), sampling_rate=rate)
    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("streamcodec.compat.transformers.features")
    log.addHandler(handler)
    try:
        compat.EncodecFeatureExtractor()(clips(40))
    finally:
        log.removeHandler(handler)
    assert len(heard) == 1 and "no sampling_rate was given" in heard[0]


PAD = f"{EXTRACTOR}.pad"


def same_pad(features: Callable[[Any], Any], made: dict[str, Any] | None = None, **asked: Any) -> Any:
    """Both sides pad alike what `features` makes of their class of batches."""
    made = made or {}
    return assert_same_outcome(
        lambda: theirs().EncodecFeatureExtractor(**made).pad(features(theirs().BatchFeature), **asked),
        lambda: compat.EncodecFeatureExtractor(**made).pad(features(compat.BatchFeature), **asked),
    )


def two(batch: Any) -> Any:
    return batch({"input_values": clips(40, 30)})


@case(PAD, "processed_features")
def _(_: Context) -> None:
    masked = {"attention_mask": [np.ones(40, np.int32), np.ones(30, np.int32)]}
    for features in (
        two,
        lambda _: {"input_values": clips(40, 30)},
        lambda _: [{"input_values": clip} for clip in clips(40, 30)],
        lambda batch: [batch({"input_values": clip}) for clip in clips(40, 30)],
        lambda batch: batch({"input_values": clips(40, 30), **masked}),
        lambda _: {"input_values": [clip.tolist() for clip in clips(40, 30)]},
        lambda _: {"input_values": [torch.from_numpy(clip) for clip in clips(40, 30)]},
        lambda _: {"input_values": [clip.astype(np.float64) for clip in clips(40, 30)], "mine": [np.arange(3), np.arange(3)]},
        lambda batch: batch({"input_values": []}),
        lambda _: {"other": clips(40)},
        lambda _: {"input_values": clips(40, 30), "attention_mask": [np.ones(40, np.int32)]},
    ):
        same_pad(features)
    same_pad(lambda _: {"input_values": [clip.T for clip in clips(40, 30, channels=2)]}, {"feature_size": 2})


@case(PAD, "padding", "max_length", "truncation")
def _(_: Context) -> None:
    for padding in (True, False, "longest", "max_length", "do_not_pad", "other"):
        for max_length in (None, 20, 35, 50):
            for truncation in (True, False):
                same_pad(two, padding=padding, max_length=max_length, truncation=truncation)


@case(PAD, "pad_to_multiple_of")
def _(_: Context) -> None:
    for multiple in (None, 1, 7, 16):
        for how in ({}, {"padding": "max_length", "max_length": 50}, {"truncation": True, "max_length": 20}, {"padding": False}):
            same_pad(two, pad_to_multiple_of=multiple, **how)


@case(PAD, "return_attention_mask")
def _(_: Context) -> None:
    for asked in (None, True, False):
        for made in ({}, {"return_attention_mask": False}):
            same_pad(two, made, return_attention_mask=asked)


@case(PAD, "return_tensors")
def _(_: Context) -> None:
    for kind in (None, "pt", "np", "tf"):
        same_pad(two, return_tensors=kind)
        same_pad(two, padding=False, return_tensors=kind)


READ = f"{EXTRACTOR}.from_pretrained"


def same_extractor(where: Any, **asked: Any) -> Any:
    def told(of: Any) -> Any:
        made = of.from_pretrained(where, **asked)
        return (made[0].to_dict(), made[1]) if isinstance(made, tuple) else made.to_dict()

    return assert_same_outcome(lambda: told(theirs().EncodecFeatureExtractor), lambda: told(compat.EncodecFeatureExtractor))


@case(READ, "pretrained_model_name_or_path")
def _(context: Context) -> None:
    for pair in context.pairs.values():
        for where in (pair.folder, str(pair.folder), pair.folder / "preprocessor_config.json"):
            assert same_extractor(where)["sampling_rate"] == pair.theirs.config.sampling_rate
    nested = context.folder("nested")
    (nested / "processor_config.json").write_text(json.dumps({"feature_extractor": {"feature_size": 2, "sampling_rate": 8_000}}))
    assert same_extractor(nested)["sampling_rate"] == 8_000
    assert isinstance(same_extractor(str(nested / "nothing")), OSError)


@difference(READ, "pretrained_model_name_or_path")
def _(context: Context) -> None:
    for pair in context.pairs.values():
        bare = context.folder("bare")
        pair.ours.save_pretrained(bare)
        (bare / "preprocessor_config.json").unlink()
        with pytest.raises(OSError, match="preprocessor_config"):
            theirs().EncodecFeatureExtractor.from_pretrained(bare)
        assert compat.EncodecFeatureExtractor.from_pretrained(bare).to_dict() == pair.our_extractor.to_dict()


@case(READ, "return_unused_kwargs")
def _(context: Context) -> None:
    assert same_extractor(context.mono.folder, return_unused_kwargs=True, padding_value=2.0, mine=1)[1] == {"mine": 1}
    same_extractor(context.mono.folder, return_unused_kwargs=False, mine=1)


@case(READ, "kwargs")
def _(context: Context) -> None:
    found = same_extractor(context.mono.folder, padding_side="left", feature_size=2, mine=1)
    assert (found["padding_side"], found["feature_size"]) == ("left", 2)


@case(f"{EXTRACTOR}.save_pretrained", "save_directory")
def _(context: Context) -> None:
    for made in ({}, CHUNKS, {"feature_size": 2, "padding_side": "left", "mine": [1, 2]}):
        folder, other = context.folder("ours"), context.folder("theirs")
        written = compat.EncodecFeatureExtractor(**made).save_pretrained(folder / "new")
        expected = theirs().EncodecFeatureExtractor(**made).save_pretrained(other / "new")
        assert written == [str(folder / "new" / "preprocessor_config.json")] and len(expected) == 1
        assert Path(written[0]).read_bytes() == Path(expected[0]).read_bytes()


@difference(f"{EXTRACTOR}.save_pretrained", "save_directory")
def _(context: Context) -> None:
    file = context.folder("file") / "file"
    file.write_text("")
    with pytest.raises(AssertionError):
        theirs().EncodecFeatureExtractor().save_pretrained(file)
    with pytest.raises(InputError, match="is a file, expected a folder"):
        compat.EncodecFeatureExtractor().save_pretrained(file)


# The configuration ---------------------------------------------------------------------------------------------------------------------

CONFIG = "EncodecConfig"
DERIVED = ("chunk_length", "chunk_stride", "hop_length", "codebook_nbits", "frame_rate", "num_quantizers")
SMALL = {**FEW, "codebook_size": 64, "target_bandwidths": [7.2, 14.4]}
VALUES: dict[str, list[Any]] = {
    "target_bandwidths": [[3.6], [7.2, 14.4, 21.6]],
    "sampling_rate": [48_000],
    "audio_channels": [2],
    "normalize": [True],
    "chunk_length_s": [0.02, 1],
    "overlap": [0.0, 0.2],
    "hidden_size": [8],
    "num_filters": [2],
    "num_residual_layers": [2],
    "upsampling_ratios": [[4, 5, 2]],
    "norm_type": ["time_group_norm"],
    "kernel_size": [5],
    "last_kernel_size": [3],
    "residual_kernel_size": [5],
    "dilation_growth_rate": [3],
    "use_causal_conv": [False],
    "pad_mode": ["constant"],
    "compress": [4],
    "num_lstm_layers": [1],
    "trim_right_ratio": [0.5, 0.0],
    "codebook_size": [128],
    "codebook_dim": [16],
    "use_conv_shortcut": [False],
}
BESIDE: dict[str, dict[str, Any]] = {
    "chunk_length_s": {"overlap": 0.1},
    "overlap": {"chunk_length_s": 0.02},
    "hidden_size": {"codebook_dim": None},
    "norm_type": {"use_causal_conv": False},
    "dilation_growth_rate": {"num_residual_layers": 2},
    "codebook_size": {"target_bandwidths": [8.4]},
    "sampling_rate": {"target_bandwidths": [14.4]},
}


def codes_alike(context: Context, **values: Any) -> None:
    """A model of such a configuration has the same derived values, and codes a batch alike."""
    values = {**SMALL, **values}
    model = transformers_model(**values)
    folder = context.folder("config")
    model.save_pretrained(folder)
    for config in (compat.EncodecConfig(**values), compat.EncodecConfig.from_pretrained(folder)):
        for name in (*DERIVED, *VALUES):
            expected, found = getattr(model.config, name), getattr(config, name)
            assert (list(found) if isinstance(found, list) else found) == (
                list(expected) if isinstance(expected, (list, tuple)) else expected
            ), name
    ours = compat.EncodecModel.from_pretrained(folder, engine="torch")
    pair = Pair(model, ours, None, None, folder)  # type: ignore[arg-type]
    batch = torch.from_numpy(np.stack([music(pair.channels, 1_111, seed) for seed in range(2)]))
    mask = torch.ones(2, 1_111)
    mask[1, 700:] = 0
    expected = pair.assert_same_encoding(batch, mask, values["target_bandwidths"][-1])
    pair.assert_same_decoding(expected.audio_codes, expected.audio_scales, mask, expected.last_frame_pad_length)


def config_case(name: str, context: Context) -> None:
    assert_same(list_or_value(getattr(compat.EncodecConfig(), name)), list_or_value(getattr(theirs().EncodecConfig(), name)))
    for value in VALUES[name]:
        assert value != getattr(theirs().EncodecConfig(**SMALL), name) or name == "codebook_dim"
        codes_alike(context, **{**BESIDE.get(name, {}), name: value})


def list_or_value(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


for _name in VALUES:
    CASES[CONFIG, _name] = partial(config_case, _name)


@case(CONFIG, "return_dict")
def _(_: Context) -> None:
    for values in ({}, {"return_dict": False}):
        assert compat.EncodecConfig(**values).return_dict is theirs().EncodecConfig(**values).return_dict


@case(CONFIG, "kwargs")
def _(_: Context) -> None:
    for side in (compat.EncodecConfig, theirs().EncodecConfig):
        config = side(mine=[1], architectures=["EncodecModel"])
        assert (config.mine, config.architectures) == ([1], ["EncodecModel"])
        with pytest.raises((TypeError, ValueError)):
            side([6.0])


@difference(CONFIG, "kwargs")
def _(_: Context) -> None:
    config = compat.EncodecConfig(output_hidden_states=True, **SMALL)
    assert config.output_hidden_states is True  # type: ignore[attr-defined]
    assert not hasattr(compat.EncodecConfig(), "output_hidden_states")


def config_refused(match: str, **values: Any) -> None:
    """`transformers` takes such a configuration, and here it is refused."""
    theirs().EncodecConfig(**values)
    with pytest.raises(InputError, match=match):
        compat.EncodecConfig(**values)


@difference(CONFIG, "overlap")
def _(_: Context) -> None:
    config_refused("overlap is None", **SMALL, chunk_length_s=0.02)
    with pytest.raises(TypeError):
        transformers_model(**SMALL, chunk_length_s=0.02).encode(torch.zeros(1, 1, 1_000))


@difference(CONFIG, "upsampling_ratios")
def _(_: Context) -> None:
    config_refused("rounded up", **{**SMALL, "sampling_rate": 1_050, "upsampling_ratios": [10, 10], "target_bandwidths": [0.126]})


@difference(CONFIG, "pad_mode")
def _(_: Context) -> None:
    config_refused("pad_mode is 'replicate'", **SMALL, pad_mode="replicate")


@difference(CONFIG, "codebook_size")
def _(_: Context) -> None:
    values = {**SMALL, "codebook_size": 60}
    config_refused("codebook_size is 60, expected a power of two", **values)
    with pytest.raises(ValueError, match="power of 2"):
        theirs().EncodecModel(theirs().EncodecConfig(**values))


@difference(CONFIG, "codebook_dim")
def _(_: Context) -> None:
    values = {**SMALL, "codebook_dim": 8}
    config_refused("codebook_dim is 8 and hidden_size 16", **values)
    with pytest.raises(RuntimeError):
        theirs().EncodecModel(theirs().EncodecConfig(**values)).encode(torch.zeros(1, 1, 1_000))


def fields_of(config: Any) -> dict[str, Any]:
    return {name: list_or_value(getattr(config, name)) for name in (*VALUES, "return_dict")}


def same_config(where: Any, **asked: Any) -> Any:
    def told(of: Any) -> Any:
        made = of.from_pretrained(where, **asked)
        return (fields_of(made[0]), made[1]) if isinstance(made, tuple) else fields_of(made)

    return assert_same_outcome(lambda: told(theirs().EncodecConfig), lambda: told(compat.EncodecConfig))


@case(f"{CONFIG}.from_pretrained", "pretrained_model_name_or_path")
def _(context: Context) -> None:
    for pair in context.pairs.values():
        for where in (pair.folder, str(pair.folder), pair.folder / "config.json"):
            assert same_config(where)["sampling_rate"] == pair.theirs.config.sampling_rate
    assert isinstance(same_config(str(context.folder("none") / "nothing")), OSError)


@difference(f"{CONFIG}.from_pretrained", "pretrained_model_name_or_path", "subfolder")
def _(context: Context) -> None:
    for where, more in ((context.folder("empty"), {}), (context.mono.folder, {"subfolder": "nothing"})):
        assert fields_of(theirs().EncodecConfig.from_pretrained(where, **more)) == fields_of(theirs().EncodecConfig())
        with pytest.raises(PretrainedNotFoundError, match=r"no config\.json|no such file"):
            compat.EncodecConfig.from_pretrained(where, **more)


@case(f"{CONFIG}.from_pretrained", "return_unused_kwargs")
def _(context: Context) -> None:
    assert same_config(context.mono.folder, return_unused_kwargs=True, return_dict=False, mine=1)[1] == {"mine": 1}
    same_config(context.mono.folder, return_unused_kwargs=False, mine=1)


@case(f"{CONFIG}.from_pretrained", "subfolder")
def _(context: Context) -> None:
    assert same_config(context.mono.folder.parent, subfolder=context.mono.folder.name)["sampling_rate"] == RATE


@case(f"{CONFIG}.from_pretrained", "kwargs")
def _(context: Context) -> None:
    assert same_config(context.mono.folder, chunk_length_s=0.5, overlap=0.1)["chunk_length_s"] == 0.5


@case(f"{CONFIG}.save_pretrained", "save_directory")
def _(context: Context) -> None:
    for pair in context.pairs.values():
        folder = context.folder("config") / "new"
        pair.ours.config.save_pretrained(folder)
        assert fields_of(theirs().EncodecConfig.from_pretrained(folder)) == fields_of(pair.theirs.config)
        assert fields_of(compat.EncodecConfig.from_pretrained(folder)) == fields_of(pair.theirs.config)


@difference(f"{CONFIG}.save_pretrained", "save_directory")
def _(context: Context) -> None:
    written = {}
    for side, config in (("ours", compat.EncodecConfig()), ("theirs", theirs().EncodecConfig())):
        folder = context.folder(side)
        config.save_pretrained(folder)
        written[side] = json.loads((folder / "config.json").read_text())
    assert {name: written["ours"][name] for name in written["theirs"] if name != "transformers_version"} == {
        name: value for name, value in written["theirs"].items() if name != "transformers_version"
    }
    assert "return_dict" in written["ours"] and "return_dict" not in written["theirs"]


# The model -----------------------------------------------------------------------------------------------------------------------------

MODEL = "EncodecModel"
ENCODE, DECODE, FORWARD, LOAD, SAVE = (
    f"{MODEL}.{method}" for method in ("encode", "decode", "forward", "from_pretrained", "save_pretrained")
)


def batch_of(pair: Pair, *lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    batch = pair.our_extractor(clips(*lengths, channels=pair.channels), sampling_rate=pair.theirs.config.sampling_rate, return_tensors="pt")
    return batch["input_values"], batch["padding_mask"]


def encoded(pair: Pair) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Any, int]:
    values, mask = batch_of(pair, 2_500, 1_900)
    with torch.no_grad():
        codes, scales, unused = pair.theirs.encode(values, mask, return_dict=False)
    return values, mask, codes, scales, unused


@case(MODEL, "config")
def _(context: Context) -> None:
    for pair in context.pairs.values():
        for config in (pair.ours.config, pair.theirs.config):
            model = compat.EncodecModel(config)
            assert {name: tensor.shape for name, tensor in model.state_dict().items()} == {
                name: tensor.shape for name, tensor in pair.theirs.state_dict().items()
            }
            values, mask = batch_of(pair, 800)
            assert model(values, mask).audio_values.shape == pair.theirs(values, mask).audio_values.shape
            assert (model.dtype, model.device, model.bits_per_codebook) == (
                pair.theirs.dtype,
                pair.theirs.device,
                pair.theirs.bits_per_codebook,
            )
        assert model.config is not pair.theirs.config
    assert compat.EncodecModel(context.mono.ours.config).config is context.mono.ours.config


@difference(MODEL, "config")
def _(context: Context) -> None:
    config = context.mono.theirs.config
    weights = [dict(model.named_parameters()) for model in (compat.EncodecModel(config), compat.EncodecModel(config))]
    assert any((tensor != weights[1][name]).any() for name, tensor in weights[0].items())
    with pytest.raises(InputError, match="config is a dict, expected an EncodecConfig"):
        compat.EncodecModel({})  # type: ignore[arg-type]


@case(ENCODE, "input_values", "padding_mask", "bandwidth")
def _(context: Context) -> None:
    for pair in context.pairs.values():
        values, mask = batch_of(pair, 2_500, 1_900, 1)
        for bandwidth in (None, *pair.theirs.config.target_bandwidths):
            pair.assert_same_encoding(values, mask, bandwidth)
            pair.assert_same_encoding(values, None, bandwidth)
        assert isinstance(pair.same("encode", values, mask, 5), ValueError)
        for other in (mask.bool(), mask[:, None], mask[:1], mask.float()):
            pair.assert_same_encoding(values, other)


@difference(ENCODE, "input_values")
@difference(FORWARD, "input_values")
def _(context: Context) -> None:
    pair = context.mono
    values, _ = batch_of(pair, 2_500, 1_900)
    odd = values.clone()
    odd[0, 0, 3] = torch.nan
    for ours, other, given, told in (
        (pair.ours, pair.theirs, odd, "expected finite samples"),
        (pair.ours.encode, pair.theirs.encode, odd, "expected finite samples"),
        (pair.ours.encode, pair.theirs.encode, values[:0], "at least one clip"),
    ):
        other(given)
        with pytest.raises(InputError, match=told):
            ours(given)


@difference(ENCODE, "padding_mask")
@difference(FORWARD, "padding_mask")
def _(context: Context) -> None:
    values, mask = batch_of(context.mono, 2_500, 1_900)
    for given, odd in ((values, mask[:, :1]), (values[:1], mask)):
        context.mono.theirs.encode(given, odd)
        for call in (context.mono.ours, context.mono.ours.encode):
            with pytest.raises(TensorError, match="expected one shape"):
                call(given, odd)


@case(ENCODE, "return_dict")
@case(DECODE, "return_dict")
@case(FORWARD, "return_dict")
def _(context: Context) -> None:
    for pair in context.pairs.values():
        values, mask, codes, scales, _ = encoded(pair)
        for configured in (True, False):
            with pair.configured(return_dict=configured):
                for asked in (None, True, False):
                    for method, arguments in (("encode", (values, mask)), ("decode", (codes, scales)), ("__call__", (values, mask))):
                        kind, *_ = pair.same_kind(method, *arguments, return_dict=asked)
                        assert (kind == "tuple") is not (configured if asked is None else asked)


@case(DECODE, "audio_codes")
def _(context: Context) -> None:
    for pair in context.pairs.values():
        _, _, codes, scales, unused = encoded(pair)
        for given in (codes, list(codes), codes[:, :, :1], codes.to(torch.int32)):
            pair.assert_same_decoding(given, scales, None, unused)
        for bad in (codes + 1_000, codes.float(), codes[0], codes[..., :0]):
            assert isinstance(pair.same("decode", bad, scales), Exception)


@case(DECODE, "audio_scales")
def _(context: Context) -> None:
    for pair in context.pairs.values():
        _, _, codes, scales, unused = encoded(pair)
        for given in (scales, [None] * len(codes), [torch.tensor([[0.5], [2.0]])] * len(codes), torch.full((len(codes), 2, 1), 0.25)):
            pair.assert_same_decoding(codes, given, None, unused)


@difference(DECODE, "audio_scales")
@difference(FORWARD, "audio_scales")
def _(context: Context) -> None:
    pair = context.pairs["48 kHz"]
    values, _, codes, scales, _ = encoded(pair)
    with torch.inference_mode():
        shorter = pair.theirs.decode(codes, scales[:-1]).audio_values
        assert shorter.shape[-1] < pair.theirs.decode(codes, scales).audio_values.shape[-1]
    for call in (pair.ours.decode, partial(pair.ours, values)):
        with pytest.raises(CodesError, match="audio_scales has"):
            call(audio_codes=codes, audio_scales=scales[:-1])


@case(DECODE, "padding_mask")
def _(context: Context) -> None:
    for pair in context.pairs.values():
        _, mask, codes, scales, unused = encoded(pair)
        for given in (mask, mask[:, :100], mask[:, None, :1_000], torch.ones(2, 9_000), mask[0, :77]):
            pair.assert_same_decoding(codes, scales, given, unused)


@case(DECODE, "last_frame_pad_length")
def _(context: Context) -> None:
    for pair in context.pairs.values():
        _, _, codes, scales, unused = encoded(pair)
        for given in (unused, 0, 1, 5, -2):
            pair.assert_same_decoding(codes, scales, None, given)
        for given in (codes.shape[-1], 10_000):
            assert isinstance(pair.same("decode", codes, scales, last_frame_pad_length=given), RuntimeError)


@difference(DECODE, "last_frame_pad_length")
@difference(FORWARD, "last_frame_pad_length")
def _(context: Context) -> None:
    pair = context.pairs["48 kHz"]
    values, _, codes, scales, _ = encoded(pair)
    for call in (
        lambda model, **more: model.decode(codes, scales, **more),
        lambda model, **more: model(values, None, None, codes, scales, **more),
    ):
        with pytest.raises(TypeError), torch.no_grad():
            call(pair.theirs, last_frame_pad_length=None)
        assert_same(call(pair.ours, last_frame_pad_length=None), call(pair.ours))


@case(FORWARD, "input_values", "padding_mask", "bandwidth")
def _(context: Context) -> None:
    for pair in context.pairs.values():
        values, mask = batch_of(pair, 2_500, 1_900)
        for more in ({}, {"padding_mask": mask}, {"padding_mask": mask[:, None]}):
            for bandwidth in (None, *pair.theirs.config.target_bandwidths):
                with torch.inference_mode():
                    expected = pair.theirs(values, bandwidth=bandwidth, **more)
                found = pair.ours(values, bandwidth=bandwidth, **more)
                assert found.audio_codes.shape == expected.audio_codes.shape
                assert found.audio_values.shape == expected.audio_values.shape
                # Near-ties may decide codes; where they are equal, so is the audio.
                if (found.audio_codes == expected.audio_codes).all():
                    assert_same(found.audio_values, expected.audio_values, within=AUDIO_WITHIN)
        assert isinstance(pair.same("__call__", values, bandwidth=1.0), ValueError)


@case(FORWARD, "audio_codes", "audio_scales", "last_frame_pad_length")
def _(context: Context) -> None:
    for pair in context.pairs.values():
        values, mask, codes, scales, unused = encoded(pair)
        for inputs in ((values,), (values, mask), (None, mask)):
            for padded in (0, unused, 3):
                more = {"audio_codes": codes, "audio_scales": scales, "last_frame_pad_length": padded}
                assert not isinstance(pair.same("__call__", *inputs, **more), Exception)
        for half in ({"audio_codes": codes}, {"audio_scales": scales}):
            assert isinstance(pair.same("__call__", values, **half), ValueError)


def loaded_alike(context: Context, where: Any, **asked: Any) -> compat.EncodecModel:
    """Both sides load a model of the same codes."""
    other = theirs().EncodecModel.from_pretrained(where, **asked)
    ours: compat.EncodecModel = compat.EncodecModel.from_pretrained(where, engine="torch", **asked)
    pair = Pair(other, ours, context.mono.their_extractor, context.mono.our_extractor, Path(where))
    values, mask = batch_of(pair, 900, 700)
    pair.assert_same_encoding(values, mask)
    assert ours.training is other.training is False
    return ours


@case(LOAD, "pretrained_model_name_or_path")
def _(context: Context) -> None:
    for pair in context.pairs.values():
        context = Context({**context.pairs, "24 kHz": pair}, context.made)
        loaded_alike(context, pair.folder)
        assert loaded_alike(context, str(pair.folder)).name_or_path == str(pair.folder)
    nothing = str(context.folder("none") / "nothing")
    for side in (theirs(), compat):
        with pytest.raises(OSError):
            side.EncodecModel.from_pretrained(nothing)
    with pytest.raises(PretrainedNotFoundError):
        compat.EncodecModel.from_pretrained(nothing)


@difference(LOAD, "pretrained_model_name_or_path")
def _(context: Context) -> None:
    model = compat.EncodecModel.from_pretrained("speech-24k", engine="torch")
    assert model.encode(torch.zeros(1, 1, 3_200), bandwidth=6.0).audio_codes.shape == (1, 1, 8, 10)
    file = context.mono.folder / "model.safetensors"
    assert compat.EncodecModel.from_pretrained(file).config.sampling_rate == RATE
    with pytest.raises(InputError):
        compat.EncodecModel.from_pretrained(None)  # type: ignore[arg-type]


@case(LOAD, "config")
def _(context: Context) -> None:
    asked = {**KINDS["24 kHz"], "chunk_length_s": 0.02, "overlap": 0.1}
    other = theirs().EncodecModel.from_pretrained(context.mono.folder, config=theirs().EncodecConfig(**asked))
    for config in (compat.EncodecConfig(**asked), theirs().EncodecConfig(**asked)):
        ours = compat.EncodecModel.from_pretrained(context.mono.folder, config=config, engine="torch")
        pair = Pair(other, ours, context.mono.their_extractor, context.mono.our_extractor, context.mono.folder)
        values, mask = batch_of(pair, 900, 700)
        assert len(pair.assert_same_encoding(values, mask).audio_codes) == 3
    assert loaded_alike(context, context.mono.folder, config=str(context.mono.folder)).config == context.mono.ours.config


@case(LOAD, "state_dict")
def _(context: Context) -> None:
    state = transformers_model(seed=9, **KINDS["24 kHz"]).state_dict()
    # `transformers` takes no path and a state dict at once; its configuration and the state dict are what it says.
    other = theirs().EncodecModel.from_pretrained(None, config=theirs().EncodecConfig(**KINDS["24 kHz"]), state_dict=state)
    ours = compat.EncodecModel.from_pretrained(context.mono.folder, state_dict=state, engine="torch")
    pair = Pair(other, ours, context.mono.their_extractor, context.mono.our_extractor, context.mono.folder)
    pair.assert_same_encoding(*batch_of(pair, 900, 700))


@case(LOAD, "device_map")
def _(context: Context) -> None:
    for device in ("cpu", torch.device("cpu"), {"": "cpu"}, None):
        model = compat.EncodecModel.from_pretrained(context.mono.folder, device_map=device)
        assert model.device == torch.device("cpu")
        assert model.encode(batch_of(context.mono, 900)[0]).audio_codes.device == model.device


@difference(LOAD, "device_map")
def _(context: Context) -> None:
    for device in ({"encoder": "cpu", "decoder": "cpu"}, "nowhere", 3.5):
        with pytest.raises(InputError, match="expected one device for the whole model"):
            compat.EncodecModel.from_pretrained(context.mono.folder, device_map=device)


@case(LOAD, "subfolder")
def _(context: Context) -> None:
    folder = context.mono.folder
    loaded_alike(context, folder.parent, subfolder=folder.name)


@case(LOAD, "disable_mmap")
def _(context: Context) -> None:
    for value in (None, True, False):
        loaded_alike(context, context.mono.folder, disable_mmap=value)


@case(LOAD, "kwargs")
def _(context: Context) -> None:
    assert loaded_alike(context, context.mono.folder, chunk_length_s=0.02, overlap=0.1).config.chunk_length == 480
    for side in (theirs(), compat):
        model = side.EncodecModel.from_pretrained(context.mono.folder, return_dict=False)
        assert isinstance(model.encode(batch_of(context.mono, 900)[0]), tuple)


@difference(LOAD, "kwargs")
def _(context: Context) -> None:
    with pytest.raises(TypeError):
        theirs().EncodecModel.from_pretrained(context.mono.folder, unheard_of=1)
    with pytest.raises(InputError, match="unheard_of"):
        compat.EncodecModel.from_pretrained(context.mono.folder, unheard_of=1)


@case(SAVE, "save_directory", "save_peft_format", "save_original_format")
def _(context: Context) -> None:
    for pair in context.pairs.values():
        for more in ({}, {"save_peft_format": False, "save_original_format": False}):
            folder, other = context.folder("ours") / "new", context.folder("theirs") / "new"
            pair.ours.save_pretrained(folder, **more)
            pair.theirs.save_pretrained(other, **more)
            assert {file.name for file in folder.iterdir()} - {"preprocessor_config.json"} == {file.name for file in other.iterdir()}
            again = theirs().EncodecModel.from_pretrained(folder)
            assert again.state_dict().keys() == pair.theirs.state_dict().keys()
            mixed = Pair(again, pair.ours, pair.their_extractor, pair.our_extractor, folder)
            mixed.assert_same_encoding(*batch_of(pair, 900, 700))


@difference(SAVE, "save_directory")
def _(context: Context) -> None:
    folder = context.folder("both")
    context.mono.ours.save_pretrained(folder)
    assert same_extractor(folder) == context.mono.our_extractor.to_dict()
    written = compat.EncodecFeatureExtractor(padding_side="left").save_pretrained(folder)
    before = Path(written[0]).read_bytes()
    context.mono.ours.save_pretrained(folder)
    assert Path(written[0]).read_bytes() == before


@case(SAVE, "is_main_process")
def _(context: Context) -> None:
    for main in (True, False):
        ours, other = context.folder("ours"), context.folder("theirs")
        context.mono.ours.save_pretrained(ours, is_main_process=main)
        context.mono.theirs.save_pretrained(other, is_main_process=main)
        assert (ours / "config.json").exists() is (other / "config.json").exists() is main


# What is refused -----------------------------------------------------------------------------------------------------------------------

HUB_ID = "some-one/some-model"
for _call in (READ, f"{CONFIG}.from_pretrained", LOAD):
    REFUSED[_call, "cache_dir"] = Refused("elsewhere", (None, "elsewhere"), HUB_ID)
    REFUSED[_call, "force_download"] = Refused(True, (False, True), HUB_ID)
    REFUSED[_call, "local_files_only"] = Refused(True, (False, True), HUB_ID)
    REFUSED[_call, "proxies"] = Refused({"http": "proxy"}, (None,), HUB_ID)
    REFUSED[_call, "token"] = Refused("secret", (None, "secret"), HUB_ID)
    REFUSED[_call, "revision"] = Refused("v2", ("main", "v2"), HUB_ID)
for _call in (f"{EXTRACTOR}.save_pretrained", f"{CONFIG}.save_pretrained", SAVE):
    REFUSED[_call, "push_to_hub"] = Refused(True, (False,))
    REFUSED[_call, "kwargs"] = Refused("some/where")
for _argument, _asked, *_harmless in (
    ("ignore_mismatched_sizes", True, False),
    ("output_loading_info", True, False),
    ("use_safetensors", False, None, True),
    ("weights_only", False, True),
    ("attn_implementation", "flash_attention_2", None, "eager"),
    ("experts_implementation", "grouped_mm", None, "eager"),
    ("dtype", torch.float16, None, "auto", torch.float32, "float32"),
    ("max_memory", {0: "1GB"}, None),
    ("distributed_config", object(), None),
    ("device_mesh", object(), None),
    ("offload_folder", "elsewhere", None),
    ("offload_buffers", True, False),
    ("quantization_config", {"bits": 8}, None),
    ("variant", "fp16", None),
    ("fusion_config", {"patch_embeddings": True}, None),
    ("key_mapping", {"a": "b"}, None),
):
    REFUSED[LOAD, _argument] = Refused(_asked, tuple(_harmless))
REFUSED[LOAD, "model_args"] = Refused(1)
for _argument, _asked, *_harmless in (
    ("state_dict", {}, None),
    ("max_shard_size", "5KB", "50GB"),
    ("variant", "fp16", None),
    ("token", "secret", None),
    ("distributed_checkpoint", True, False),
):
    REFUSED[SAVE, _argument] = Refused(_asked, tuple(_harmless))
