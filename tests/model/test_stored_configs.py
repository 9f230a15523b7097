"""A model is what its checkpoint says: the config in it or beside it is read, and refused by name if it cannot run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from streamcodec.config import CodecConfig
from streamcodec.errors import CheckpointError, ModelNotFoundError, UnsupportedModelError
from streamcodec.model.checkpoint import load_file, save, weights_fingerprint
from streamcodec.model.checkpoint.layouts import WEIGHT_NORM, to_canonical, to_meta_name, unfold, with_training_buffers
from streamcodec.model.encodec import EncodecModel

# What shapes do not tell: padding, the search, the rate.
CONFIG = CodecConfig.from_dict(
    {
        "num_filters": 2,
        "hidden_size": 4,
        "sampling_rate": 16_000,
        "pad_mode": "constant",
        "search_beam": 4,
        "target_bandwidths": [1.5, 3.0],
    }
)


@pytest.fixture(scope="module")
def made() -> EncodecModel:
    torch.manual_seed(0)
    model = EncodecModel(CONFIG).eval()
    for buffer in model.buffers():
        buffer.normal_()
    return model


@pytest.fixture
def folder(made: EncodecModel, tmp_path: Path) -> Path:
    """`config.json` and `model.safetensors`."""
    save(made, tmp_path / "folder", layout="hf")
    return tmp_path / "folder"


def state_dict(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / "model.safetensors")


def is_whole(loaded: EncodecModel, made: EncodecModel) -> bool:
    return loaded.config == CONFIG and weights_fingerprint(loaded) == weights_fingerprint(made)


def test_a_pytorch_file_is_read_with_the_config_beside_it(made, folder):
    torch.save(state_dict(folder), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert is_whole(load_file(folder), made)
    assert is_whole(load_file(folder / "pytorch_model.bin"), made)
    (folder / "pytorch_model.bin").rename(folder / "mine.th")
    (folder / "config.json").write_text(json.dumps({**json.loads((folder / "config.json").read_text()), "model_type": "encodec"}))
    assert is_whole(load_file(folder / "mine.th"), made)


def test_the_config_of_another_model_beside_a_file_is_left_alone(folder):
    torch.save(state_dict(folder), folder / "mine.th")
    for text in ('{"model_type": "bert"}', "no JSON", "[]"):
        (folder / "config.json").write_text(text)
        assert load_file(folder / "mine.th").config.pad_mode == "reflect", "as in the published model"
    (folder / "config.json").write_text('{"model_type": "bert"}')
    torch.save(state_dict(folder), folder / "pytorch_model.bin")
    with pytest.raises(UnsupportedModelError, match="model_type is 'bert', expected 'encodec'"):
        load_file(folder / "pytorch_model.bin")


@pytest.mark.parametrize(("kind", "index"), [("safetensors", "model.safetensors.index.json"), ("bin", "pytorch_model.bin.index.json")])
def test_shards_are_put_together(made, folder, kind, index):
    tensors = list(state_dict(folder).items())
    stem = index.partition(".")[0]
    names = [f"{stem}-{i:05}-of-00003.{kind}" for i in (1, 2, 3)]
    for i, name in enumerate(names):
        part = dict(tensors[i::3])
        if kind == "bin":
            torch.save(part, folder / name)
        else:
            safetensors.torch.save_file(part, folder / name)
    (folder / index).write_text(json.dumps({"weight_map": {name: names[i % 3] for i, (name, _) in enumerate(tensors)}}))
    (folder / "model.safetensors").unlink()
    assert is_whole(load_file(folder), made)
    with pytest.raises(CheckpointError, match="is one of several files of a model: give their folder"):
        load_file(folder / names[1])
    (folder / names[1]).unlink()
    with pytest.raises(ModelNotFoundError, match=f"{names[1]}: no such file"):
        load_file(folder)
    for text in ("{}", "[]", '{"weight_map": 3}', "x", '{"weight_map": {"a": "../secret.bin"}}'):
        (folder / index).write_text(text)
        with pytest.raises(CheckpointError, match=r"not an index of shards|expected one beside it"):
            load_file(folder)


def test_a_folder_without_weights_says_what_could_be_given(folder):
    (folder / "model.safetensors").rename(folder / "mine.safetensors")
    with pytest.raises(ModelNotFoundError, match=r"but none of model\.safetensors, .*: give one of its files \(mine\.safetensors\)"):
        load_file(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelNotFoundError, match=r"has no config\.json, .*: give one of its files \(mine\.safetensors\)"):
        load_file(folder)


def test_a_byte_order_mark_is_no_part_of_a_config(made, folder):
    text = (folder / "config.json").read_bytes()
    (folder / "config.json").write_bytes(b"\xef\xbb\xbf" + text)
    assert is_whole(load_file(folder), made)


# audiocraft -----------------------------------------------------------------------------------------------------------------------------

# As OmegaConf writes it, references unresolved.
XP_CFG = """
channels: 1
sample_rate: 16000
compression_model: encodec
encodec:
  autoencoder: seanet
  quantizer: rvq
  sample_rate: ${sample_rate}
  channels: ${channels}
  causal: true
  renormalize: false
seanet:
  dimension: 4
  channels: ${channels}
  causal: ${encodec.causal}
  n_filters: 2
  n_residual_layers: 1
  ratios: [8, 5, 4, 2]
  activation: ELU
  activation_params:
    alpha: 1.0
  norm: weight_norm
  norm_params: {}
  kernel_size: 7
  residual_kernel_size: 3
  last_kernel_size: 7
  dilation_base: 2
  pad_mode: constant
  true_skip: false
  compress: 2
  lstm: 2
  disable_norm_outer_blocks: 0
  encoder: {}
  decoder:
    trim_right_ratio: 1.0
    final_activation: null
    final_activation_params: null
rvq:
  n_q: 6
  bins: 1024
"""


def audiocraft_tensors(made: EncodecModel) -> dict[str, torch.Tensor]:
    named = with_training_buffers(unfold({name: tensor.clone() for name, tensor in to_canonical(made).items()}, WEIGHT_NORM[0]))
    return {to_meta_name(name, made.config): tensor for name, tensor in named.items()}


def exported(path: Path, made: EncodecModel, cfg: Any = XP_CFG) -> Path:
    torch.save({"best_state": audiocraft_tensors(made), "xp.cfg": cfg, "version": "1.4.0", "exported": True}, path)
    return path


def test_an_export_of_audiocraft_is_what_its_config_says(made, tmp_path):
    loaded = load_file(exported(tmp_path / "x.th", made))
    assert loaded.config == CodecConfig.from_dict({**CONFIG.to_dict(), "search_beam": 1, "target_bandwidths": [1.5, 3.0]})
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(made.state_dict().values(), loaded.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("told", "instead", "field", "value"),
    [("causal: true", "causal: false", "use_causal_conv", False), ("renormalize: false", "renormalize: true", "normalize", True)],
)
def test_an_export_that_needs_whole_clips_is_loaded_as_one(made, tmp_path, told, instead, field, value):
    assert told in XP_CFG
    config = load_file(exported(tmp_path / "x.th", made, XP_CFG.replace(told, instead))).config
    assert getattr(config, field) is value
    assert config.granularity == "clips"


@pytest.mark.parametrize(
    ("told", "instead", "message"),
    [
        ("activation: ELU", "activation: Snake", r"seanet\.activation 'Snake', expected 'ELU'"),
        ("alpha: 1.0", "alpha: 0.5", r"seanet\.activation_params\.alpha 0\.5, expected 1\.0"),
        ("final_activation: null", "final_activation: Tanh", r"final_activation 'Tanh', expected None"),
        ("quantizer: rvq", "quantizer: no_quant", r"encodec\.quantizer 'no_quant', expected 'rvq'"),
        ("compression_model: encodec", "compression_model: dac", "compression_model 'dac', expected 'encodec'"),
        ("norm: weight_norm", "norm: time_group_norm", "norm_type is 'time_group_norm'"),
        ("channels: 1", "channels: 3", "audio_channels is 3, expected an integer from 1 to 2"),
        ("pad_mode: constant", "pad_mode: circular", "pad_mode is 'circular'"),
    ],
)
def test_an_export_that_cannot_run_here_is_refused_by_name(made, tmp_path, told, instead, message):
    assert told in XP_CFG
    with pytest.raises(UnsupportedModelError, match=message):
        load_file(exported(tmp_path / "x.th", made, XP_CFG.replace(told, instead)))


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ("a: [", "is no YAML"),
        ("just words", "xp.cfg is a str, expected a mapping"),
        (7, "xp.cfg is a int, expected a mapping"),
        (XP_CFG.replace("16000", "fast"), "sample_rate 'fast', expected integers above 0"),
        (XP_CFG.replace("[8, 5, 4, 2]", "[]"), "upsampling_ratios"),
        (XP_CFG.replace("n_q: 6", "n_q: many"), "rvq.n_q 'many'"),
        (XP_CFG.replace("sample_rate: 16000", "sample_rate: ${sample_rate}"), "no sample_rate"),
        (XP_CFG.replace("n_q: 6", "n_q: 5"), "has unexpected quantizer"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(made, tmp_path, cfg, message):
    with pytest.raises((CheckpointError, UnsupportedModelError), match=message):
        load_file(exported(tmp_path / "x.th", made, cfg))


@pytest.mark.parametrize(
    "wrapped", [lambda t: {"best_state": {"model": t}}, lambda t: {"model": t}, lambda t: {"state_dict": t, "epoch": 3}]
)
def test_a_training_checkpoint_gives_its_model(made, tmp_path, wrapped):
    torch.save({**wrapped(audiocraft_tensors(made)), "xp.cfg": XP_CFG}, tmp_path / "checkpoint.th")
    assert load_file(tmp_path / "checkpoint.th").config.pad_mode == "constant"


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"pretrained": "facebook/encodec_32khz", "exported": True}, "only names the pretrained model 'facebook/encodec_32khz'"),
        ({"learner": {}, "step": 3}, "is a checkpoint of a training run, expected a model: streamcodec train export"),
        ({"best_state": {"model": {"a": 1}}}, "holds dict, expected a state dict"),
    ],
)
def test_what_holds_no_model_says_so(tmp_path, stored, message):
    torch.save(stored, tmp_path / "x.th")
    with pytest.raises((CheckpointError, UnsupportedModelError), match=message):
        load_file(tmp_path / "x.th")


def test_a_file_without_its_config_is_refused(folder, tmp_path):
    shutil.copy(folder / "model.safetensors", tmp_path / "alone.safetensors")
    with pytest.raises(CheckpointError, match=r"no config in its header and no config\.json beside it"):
        load_file(tmp_path / "alone.safetensors")
