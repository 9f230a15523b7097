"""We read what `encodec` and `transformers` write, they read what we write, and a damaged file is one error that names the culprit."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from package_codecs import Reference, encodec_reference, transformers_reference
from parity import assert_same_codes

from streamcodec.config import CodecConfig
from streamcodec.errors import CheckpointError, ModelError, ModelNotFoundError, UnsupportedModelError
from streamcodec.model.canonical import canonical_shapes
from streamcodec.model.checkpoint import LAYOUTS, Layout, codes_fingerprint, load_file, save, weights_fingerprint
from streamcodec.model.checkpoint.layouts import to_canonical
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.hub import embedded_models, load_model

Tensors = dict[str, torch.Tensor]

# Everything that a .th file cannot say is as in the published model; the rest is as small as it gets.
MINI = {"num_filters": 2, "hidden_size": 4, "codebook_dim": 4, "num_lstm_layers": 1, "target_bandwidths": [1.5, 3.0]}
MINI_N_Q = 4


@pytest.fixture(scope="module")
def hf_reference() -> Reference:
    return transformers_reference(seed=2, **MINI)


@pytest.fixture(scope="module")
def hf_folder(hf_reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`config.json` and `model.safetensors` as transformers writes them."""
    return hf_reference.save(tmp_path_factory.mktemp("transformers"))


@pytest.fixture(scope="module")
def meta_reference() -> Reference:
    return encodec_reference()


@pytest.fixture(scope="module")
def meta_mini(meta_reference: Reference) -> Tensors:
    """The state dict of a small model that is built from the modules of the package `encodec`."""
    modules, quantization = sys.modules["encodec.modules"], sys.modules["encodec.quantization"]
    with pytest.warns(FutureWarning, match="weight_norm"):
        torch.manual_seed(3)
        shape: dict[str, Any] = {"causal": True, "n_filters": 2, "dimension": 4, "lstm": 1}
        parts = {
            "encoder": modules.SEANetEncoder(**shape),
            "decoder": modules.SEANetDecoder(**shape),
            "quantizer": quantization.ResidualVectorQuantizer(dimension=4, n_q=MINI_N_Q, bins=1024),
        }
    assert type(meta_reference.model).__module__ == "encodec.model"
    named = {f"{part}.{name}": tensor.detach().clone() for part, module in parts.items() for name, tensor in module.state_dict().items()}
    return {n: torch.randn_like(t) if n.endswith("_codebook.embed") else t for n, t in named.items()}


@pytest.fixture(scope="module")
def mini(hf_folder: Path) -> EncodecModel:
    return load_file(hf_folder)


def copy_of(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "model"))


def rewrite_tensors(folder: Path, change: Callable[[Tensors], Tensors]) -> Path:
    path = folder / "model.safetensors"
    safetensors.torch.save_file(change(safetensors.torch.load_file(path)), path, {"format": "pt"})
    return folder


def rewrite_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def codes_of(model: EncodecModel, clip: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model.encode(clip, None, model.config.num_quantizers, True)[0]


def same_bits(one: EncodecModel, other: EncodecModel) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


CLIP = torch.randn(1, 1, 4_000, generator=torch.Generator().manual_seed(1)) * 0.1


# What the packages write -------------------------------------------------------------------------------------------------------------


def test_a_folder_that_transformers_wrote_codes_as_transformers_does(hf_reference: Reference, mini: EncodecModel) -> None:
    expected = hf_reference.encode(CLIP[:, 0].numpy(), 3.0)
    assert_same_codes(mini, codes_of(mini, CLIP)[0].numpy(), expected[0], CLIP[0, 0].numpy())
    with torch.inference_mode():
        samples = mini.decode(torch.from_numpy(expected), None, True)[0][:, 0]
    assert np.abs(samples.numpy() - hf_reference.decode(expected)).max() <= 1e-4


SPELLINGS = {
    "weight_g and weight_v": ("weight_g", "weight_v"),
    "parametrizations": ("parametrizations.weight.original0", "parametrizations.weight.original1"),
}


def respell(tensors: Tensors, spelling: tuple[str, str]) -> Tensors:
    pattern = re.compile(r"(weight_g|parametrizations\.weight\.original0)$|(weight_v|parametrizations\.weight\.original1)$")
    return {pattern.sub(lambda m: spelling[0] if m[1] else spelling[1], name): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_both_spellings_of_weight_norm_in_safetensors_are_the_same_model(
    spelling: str, hf_folder: Path, mini: EncodecModel, tmp_path: Path
) -> None:
    folder = rewrite_tensors(copy_of(hf_folder, tmp_path), lambda tensors: respell(tensors, SPELLINGS[spelling]))
    written = safetensors.torch.load_file(folder / "model.safetensors")
    assert sum(name.endswith(SPELLINGS[spelling][0]) for name in written) > 20
    assert same_bits(load_file(folder), mini)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_both_spellings_of_weight_norm_in_a_th_file_are_the_same_model(spelling: str, meta_mini: Tensors, tmp_path: Path) -> None:
    torch.save(meta_mini, tmp_path / "as-written.th")
    torch.save(respell(meta_mini, SPELLINGS[spelling]), tmp_path / "respelled.th")
    assert same_bits(load_file(tmp_path / "respelled.th"), load_file(tmp_path / "as-written.th"))


def test_plain_weights_without_weight_norm_are_read(hf_reference: Reference, hf_folder: Path, mini: EncodecModel, tmp_path: Path) -> None:
    plain = transformers_reference(seed=2, **MINI).model
    plain.load_state_dict(hf_reference.model.state_dict())
    for module in list(plain.modules()):
        if torch.nn.utils.parametrize.is_parametrized(module):
            torch.nn.utils.parametrize.remove_parametrizations(module, "weight")
    tensors = {name: tensor.contiguous() for name, tensor in plain.state_dict().items()}
    assert not any("parametrizations" in name or name.endswith("_g") for name in tensors)
    folder = rewrite_tensors(copy_of(hf_folder, tmp_path), lambda _: tensors)
    loaded = load_file(rewrite_config(folder, norm_type="none"))
    for name, tensor in loaded.state_dict().items():
        torch.testing.assert_close(tensor, mini.state_dict()[name], rtol=1e-5, atol=1e-7)
    assert loaded.config.norm_type == "none"


def test_a_state_dict_under_best_state_is_read_as_one_without(meta_mini: Tensors, tmp_path: Path) -> None:
    torch.save(meta_mini, tmp_path / "plain.th")
    torch.save({"best_state": meta_mini}, tmp_path / "wrapped.th")
    assert same_bits(load_file(tmp_path / "wrapped.th"), load_file(tmp_path / "plain.th"))


def test_the_config_of_a_th_file_is_read_from_its_shapes(meta_mini: Tensors, tmp_path: Path) -> None:
    torch.save(meta_mini, tmp_path / "plain.th")
    config = load_file(tmp_path / "plain.th").config
    expected = {**MINI, "target_bandwidths": (1.5, 3.0)}
    assert config == CodecConfig(**expected)  # type: ignore[arg-type]


def test_the_hash_in_the_name_of_a_th_file_is_checked(meta_mini: Tensors, tmp_path: Path) -> None:
    path = tmp_path / "plain.th"
    torch.save(meta_mini, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    right = Path(shutil.copy(path, tmp_path / f"encodec_24khz-{digest[:8]}.th"))
    assert same_bits(load_file(right), load_file(path))
    wrong = Path(shutil.copy(path, tmp_path / "encodec_24khz-d7cc33bc.th"))
    with pytest.raises(CheckpointError, match=f"encodec_24khz-d7cc33bc.th: its sha256 starts with {digest[:8]}, its name says d7cc33bc"):
        load_file(wrong)


# There and back ----------------------------------------------------------------------------------------------------------------------


def written(model: EncodecModel, folder: Path, layout: Layout) -> Path:
    path = folder / {"streamcodec": "out/m.safetensors", "hf": "out-hf", "meta": "out/m.th", "audiocraft": "out/a.th"}[layout]
    save(model, path, layout=layout)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_survives_every_layout_bit_for_bit(layout: Layout, mini: EncodecModel, tmp_path: Path) -> None:
    loaded = load_file(written(mini, tmp_path, layout))
    assert same_bits(loaded, mini)
    assert weights_fingerprint(loaded) == weights_fingerprint(mini)
    assert loaded.config == mini.config


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_saved_model_has_the_permissions_of_any_new_file(layout: Layout, mini: EncodecModel, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"")
    saved = written(mini, tmp_path, layout)
    assert (saved / "model.safetensors" if layout == "hf" else saved).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_model_survives_a_chain_of_all_layouts(mini: EncodecModel, tmp_path: Path) -> None:
    model = mini
    for i, layout in enumerate((*LAYOUTS, *LAYOUTS[::-1])):
        model = load_file(written(model, tmp_path / str(i), layout))
    assert weights_fingerprint(model) == weights_fingerprint(mini)


@pytest.mark.parametrize("layout", ["streamcodec", "hf", "audiocraft"])
def test_the_embedded_model_survives_the_layouts_that_can_hold_it(layout: Layout, tmp_path: Path) -> None:
    model = load_file(embedded_models()["speech-24k"])
    loaded = load_file(written(model, tmp_path, layout))
    assert weights_fingerprint(loaded) == weights_fingerprint(model)
    assert loaded.config == model.config


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_saved_in_half_precision_loads_as_what_was_saved(dtype: torch.dtype, mini: EncodecModel, tmp_path: Path) -> None:
    path = tmp_path / "half.safetensors"
    save(mini, path, dtype=dtype)
    loaded = load_file(path)
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, mini.state_dict()[name].to(dtype).float())


def test_transformers_loads_our_folder_with_nothing_missing_or_unexpected(
    hf_reference: Reference, mini: EncodecModel, tmp_path: Path
) -> None:
    from transformers import EncodecModel as HfModel

    folder = written(mini, tmp_path, "hf")
    theirs, info = HfModel.from_pretrained(folder, output_loading_info=True)
    assert not {name: found for name, found in info.items() if found}
    with torch.inference_mode():
        codes = theirs.eval().encode(CLIP, bandwidth=3.0).audio_codes[0].numpy()
    assert_same_codes(mini, codes[0], hf_reference.encode(CLIP[:, 0].numpy(), 3.0)[0], CLIP[0, 0].numpy())


def test_the_package_encodec_loads_our_th_file_and_we_load_its_own(meta_reference: Reference, tmp_path: Path) -> None:
    model = load_file(meta_reference.save(tmp_path))
    assert model.config == CodecConfig()
    path = written(model, tmp_path, "meta")
    state = torch.load(path, weights_only=True)
    before = {name: tensor.clone() for name, tensor in meta_reference.model.state_dict().items()}
    clip = CLIP[:, 0].numpy()
    expected = meta_reference.encode(clip, 24)
    try:
        meta_reference.model.load_state_dict(state, strict=True)
        assert_same_codes(model, meta_reference.encode(clip, 24)[0], expected[0], clip[0])
    finally:
        meta_reference.model.load_state_dict(before)
    assert_same_codes(model, codes_of(model, CLIP)[0].numpy(), expected[0], clip[0])


LOST = {
    "pad_mode": "constant",
    "sampling_rate": 16_000,
    "trim_right_ratio": 0.5,
    "dilation_growth_rate": 3,
    "target_bandwidths": [3.0],
}


@pytest.mark.parametrize("field", LOST)
def test_what_a_th_file_would_lose_is_refused_by_name(field: str, tmp_path: Path) -> None:
    config = CodecConfig.from_dict({**MINI, "target_bandwidths": [3.0, 1.5], field: LOST[field]})
    with pytest.raises(UnsupportedModelError, match=f"would lose.* {field} .*use layout audiocraft, hf or streamcodec"):
        save(EncodecModel(config), tmp_path / "m.th", layout="meta")
    assert not (tmp_path / "m.th").exists()


def test_an_unknown_layout_is_refused_by_name(mini: EncodecModel, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="layout is 'onnx', expected one of streamcodec, hf, meta, audiocraft"):
        save(mini, tmp_path / "m", layout="onnx")  # type: ignore[arg-type]


# Fingerprints ------------------------------------------------------------------------------------------------------------------------


def test_a_fingerprint_tells_weights_and_configs_apart_but_not_how_numbers_are_spelled(mini: EncodecModel) -> None:
    def with_config(**changes: Any) -> EncodecModel:
        model = EncodecModel(CodecConfig.from_dict({**mini.config.to_dict(), **changes}))
        model.load_state_dict(mini.state_dict())
        return model

    original = weights_fingerprint(mini)
    assert re.fullmatch("[0-9a-f]{32}", original)
    assert weights_fingerprint(with_config()) == original
    assert weights_fingerprint(with_config(norm_type="none")) == original
    assert weights_fingerprint(with_config(pad_mode="constant")) != original
    changed = with_config()
    with torch.no_grad():
        changed.quantizer.embed[-1, -1, -1] += 1e-3
    assert weights_fingerprint(changed) != original
    assert codes_fingerprint(changed) != codes_fingerprint(mini)
    assert weights_fingerprint(with_config(target_bandwidths=[3.0], trim_right_ratio=1.0)) == weights_fingerprint(
        with_config(target_bandwidths=[3], trim_right_ratio=1)
    )


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_codes_mean_the_same_where_only_an_encoder_or_a_decoder_changed(mini: EncodecModel, part: str) -> None:
    changed = deepcopy(mini)
    with torch.no_grad():
        next(getattr(changed, part).parameters()).mul_(1.01)
    assert weights_fingerprint(changed) != weights_fingerprint(mini)
    assert codes_fingerprint(changed) == codes_fingerprint(mini)
    assert re.fullmatch("[0-9a-f]{32}", codes_fingerprint(mini)) and codes_fingerprint(mini) != weights_fingerprint(mini)


def test_the_same_codebooks_at_another_frame_rate_mean_something_else(mini: EncodecModel) -> None:
    ratios = [2 * mini.config.upsampling_ratios[0], *mini.config.upsampling_ratios[1:]]
    halves = [kbps / 2 for kbps in mini.config.target_bandwidths]
    slower = EncodecModel(CodecConfig.from_dict({**mini.config.to_dict(), "upsampling_ratios": ratios, "target_bandwidths": halves}))
    slower.quantizer.embed.copy_(mini.quantizer.embed)
    assert codes_fingerprint(slower) != codes_fingerprint(mini)


# Damaged and foreign files -----------------------------------------------------------------------------------------------------------


def without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {n: t for n, t in tensors.items() if n != name}


def with_tensor(name: str, tensor: torch.Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: tensor}


def with_nan(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, name: torch.full_like(tensors[name], float("nan"))}


CONV = "encoder.layers.0.conv."
G, V = CONV + "parametrizations.weight.original0", CONV + "parametrizations.weight.original1"
WRONG_TENSORS = {
    "a missing bias": (without(CONV + "bias"), "lacks encoder.layers.0.conv.bias"),
    "a missing codebook": (without("quantizer.layers.3.codebook.embed"), "lacks quantizer.layers.3.codebook.embed"),
    "a missing LSTM weight": (without("decoder.layers.1.lstm.weight_hh_l0"), "lacks decoder.layers.1.lstm.weight_hh_l0"),
    "a direction without its scale": (without(G), rf"lacks encoder.layers.0.conv.weight and has unexpected {re.escape(V)}"),
    "a scale without its direction": (without(V), rf"has {re.escape(G)} but not {re.escape(V)}"),
    "an extra tensor": (with_tensor("encoder.layers.99.conv.bias", torch.zeros(1)), "has unexpected encoder.layers.99.conv.bias"),
    "an extra codebook": (
        with_tensor("quantizer.layers.4.codebook.embed", torch.zeros(1024, 4)),
        "has unexpected quantizer.layers.4.codebook.embed",
    ),
    "a bias of a wrong shape": (with_tensor(CONV + "bias", torch.zeros(3)), r"0.conv.bias has shape \[3\], its config asks for \[2\]"),
    "a kernel of a wrong shape": (with_tensor(V, torch.ones(2, 1, 5)), r"0.conv.weight has shape \[2, 1, 5\].* asks for \[2, 1, 7\]"),
    "a scale of a wrong shape": (with_tensor(G, torch.ones(2)), rf"{re.escape(G)} has shape \[2\], expected \[2, 1, 1\]"),
    "a scalar for a kernel": (with_tensor(V, torch.tensor(1.0)), rf"{re.escape(V)} has shape \[\]"),
    "NaN in a bias": (with_nan(CONV + "bias"), "encoder.layers.0.conv.bias holds NaN"),
    "NaN in a scale": (with_nan(G), "encoder.layers.0.conv.weight holds NaN"),
    "NaN in a codebook": (with_nan("quantizer.layers.1.codebook.embed"), "quantizer.layers.1.codebook.embed holds NaN"),
    "a kernel of zeros": (with_tensor(V, torch.zeros(2, 1, 7)), "encoder.layers.0.conv.weight holds NaN"),
    "the same bias twice, as each package names it": (
        with_tensor("encoder.model.0.conv.conv.bias", torch.zeros(2)),
        "encoder.model.0.conv.conv.bias",
    ),
    "a weight both plain and weight-normed": (with_tensor(CONV + "weight", torch.zeros(2, 1, 7)), f"{CONV}weight"),
    "no tensors at all": (lambda _: {}, "lacks .* more"),
}


@pytest.mark.parametrize("damage", WRONG_TENSORS)
def test_tensors_that_do_not_fit_the_config_are_one_error_that_names_the_tensor(damage: str, hf_folder: Path, tmp_path: Path) -> None:
    change, culprit = WRONG_TENSORS[damage]
    folder = rewrite_tensors(copy_of(hf_folder, tmp_path), change)
    with pytest.raises(CheckpointError, match=culprit) as error:
        load_file(folder)
    assert str(folder) in str(error.value)


WRONG_CONFIGS = {
    "more channels than two": ({"audio_channels": 3}, "audio_channels is 3, expected an integer from 1 to 2"),
    "chunks of which nobody says how they overlap": ({"chunk_length_s": 1.0}, "overlap is None, expected a share"),
    "chunks without a sample": ({"chunk_length_s": 1e-9, "overlap": 0.0}, "chunk_length_s is 1e-09"),
    "a norm over time in a causal model": ({"norm_type": "time_group_norm"}, "norm_type is 'time_group_norm' and use_causal_conv true"),
    "a trim that only causal layers have": ({"use_causal_conv": False, "trim_right_ratio": 0.5}, "trim_right_ratio is 0.5, expected 1.0"),
    "a norm of another kind": ({"norm_type": "layer_norm"}, "norm_type is 'layer_norm'"),
    "a word for a truth": ({"normalize": "yes"}, "normalize is 'yes', expected true or false"),
    "another family's config": ({"model_type": "mimi"}, "model_type is 'mimi', expected 'encodec'"),
    "projected codebooks": ({"codebook_dim": 8}, "codebook_dim is 8 and hidden_size 4"),
    "odd padding": ({"pad_mode": "replicate"}, "pad_mode is 'replicate'"),
    "a word for a number": ({"num_filters": "two"}, "num_filters is 'two'"),
    "more layers than any model has": ({"upsampling_ratios": [1] * 70}, "upsampling_ratios is"),
}


@pytest.mark.parametrize("damage", WRONG_CONFIGS)
def test_a_config_that_cannot_run_is_one_error_that_names_the_field(damage: str, hf_folder: Path, tmp_path: Path) -> None:
    changes, culprit = WRONG_CONFIGS[damage]
    with pytest.raises(UnsupportedModelError, match=re.escape(culprit)):
        load_file(rewrite_config(copy_of(hf_folder, tmp_path), **changes))


def test_a_config_of_another_size_than_the_weights_names_the_first_tensor_that_differs(hf_folder: Path, tmp_path: Path) -> None:
    folder = rewrite_config(copy_of(hf_folder, tmp_path), num_filters=4)
    with pytest.raises(CheckpointError, match=r"encoder.layers.0.conv.weight has shape \[2, 1, 7\], its config asks for \[4, 1, 7\]"):
        load_file(folder)


def test_a_config_that_asks_for_terabytes_is_refused_without_allocating_them(hf_folder: Path, tmp_path: Path) -> None:
    folder = rewrite_config(copy_of(hf_folder, tmp_path), num_filters=1024, upsampling_ratios=[2] * 10)
    with pytest.raises(ModelError, match="does not fit its config"):
        load_file(folder)


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("", "the config is not JSON"),
        ("model: encodec", "the config is not JSON"),
        ("[1, 2]", "the config is a list, expected an object"),
        ("{" * 100_000, "the config is not JSON"),
        ("[" * 100_000, "the config is not JSON"),
    ],
)
def test_a_config_that_is_no_json_object_says_so(text: str, culprit: str, hf_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(hf_folder, tmp_path)
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=culprit) as error:
        load_file(folder)
    assert str(folder / "config.json") in str(error.value)


def test_a_config_that_is_no_text_says_so(hf_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(hf_folder, tmp_path)
    (folder / "config.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(CheckpointError, match=r"config.json: cannot be read"):
        load_file(folder)


def test_what_is_absent_is_named(hf_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"nowhere.th: no such file or folder"):
        load_file(tmp_path / "nowhere.th")
    with pytest.raises(ModelNotFoundError, match=r"has no config.json"):
        load_file(tmp_path)
    folder = copy_of(hf_folder, tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"has a config.json, but none of model.safetensors"):
        load_file(folder)


def test_a_safetensors_file_without_any_config_says_so_and_one_beside_its_config_loads(
    hf_folder: Path, mini: EncodecModel, tmp_path: Path
) -> None:
    assert same_bits(load_file(hf_folder / "model.safetensors"), mini)
    alone = Path(shutil.copy(hf_folder / "model.safetensors", tmp_path / "alone.safetensors"))
    with pytest.raises(CheckpointError, match=r"alone.safetensors: no config in its header and no config.json beside it"):
        load_file(alone)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_safetensors_file_says_that_it_is_not_readable(kept: float, hf_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(hf_folder, tmp_path)
    path = folder / "model.safetensors"
    os.truncate(path, int(path.stat().st_size * kept))
    with pytest.raises(CheckpointError, match=r"model.safetensors: not a readable safetensors file"):
        load_file(folder)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_th_file_says_that_it_is_not_readable(kept: float, meta_mini: Tensors, tmp_path: Path) -> None:
    path = tmp_path / "cut.th"
    torch.save(meta_mini, path)
    os.truncate(path, int(path.stat().st_size * kept))
    with pytest.raises(CheckpointError, match=r"cut.th: not a readable PyTorch state dict"):
        load_file(path)


@pytest.mark.parametrize(
    "text", ["not a model\n", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "<!DOCTYPE html>", "(", "i\n"]
)
def test_a_text_file_with_a_models_name_says_that_it_is_not_readable(text: str, tmp_path: Path) -> None:
    (tmp_path / "text.th").write_text(text)
    with pytest.raises(CheckpointError, match=r"text.th: not a readable PyTorch state dict"):
        load_file(tmp_path / "text.th")
    (tmp_path / "text.safetensors").write_text(text)
    with pytest.raises(CheckpointError, match=r"text.safetensors: not a readable safetensors file"):
        load_file(tmp_path / "text.safetensors")


@settings(max_examples=300)
@given(content=st.binary(max_size=60), suffix=st.sampled_from([".th", ".safetensors"]), pickled=st.booleans())
def test_whatever_bytes_a_file_holds_the_answer_is_one_error_that_names_it(
    content: bytes, suffix: str, pickled: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"noise{suffix}"
    path.write_bytes(b"\x80\x02" + content + b"." if pickled else content)
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        load_file(path)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["voice", "voice.model", "voice-24k.v2", "speech-24k"])
def test_whatever_is_written_can_be_read_whatever_its_name(layout: Layout, name: str, mini: EncodecModel, tmp_path: Path) -> None:
    save(mini, tmp_path / "new" / name, layout=layout)
    assert same_bits(load_file(tmp_path / "new" / name), mini)
    assert same_bits(load_model(tmp_path / "new" / name), mini)


def test_a_file_with_an_embedded_model_s_name_is_that_file_where_it_is_asked_for_as_a_path(
    mini: EncodecModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(mini, Path("speech-24k"))
    assert same_bits(load_model(Path("speech-24k")), mini)


@pytest.mark.parametrize(
    ("layout", "name", "told"),
    [
        ("streamcodec", "voice.th", "the suffix of another layout, expected .safetensors"),
        ("streamcodec", "voice.pt", "the suffix of another layout, expected .safetensors"),
        ("meta", "voice.safetensors", "the suffix of another layout, expected .th"),
        ("meta", "voice-0123abcd.th", "names the start of a sha256"),
        ("streamcodec", "folder", "is a folder, expected a file for the layout streamcodec"),
        ("meta", "folder", "is a folder, expected a file for the layout meta"),
        ("hf", "file", "is a file, expected a folder for the layout hf"),
        ("streamcodec", "file/voice", "cannot be written"),
        ("meta", "file/voice", "cannot be written"),
        ("hf", "file/voice", "cannot be written"),
    ],
)
def test_a_target_that_would_not_be_read_again_is_refused_and_left_alone(
    layout: Layout, name: str, told: str, mini: EncodecModel, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CheckpointError, match=re.escape(told)) as caught:
        save(mini, tmp_path / name, layout=layout)
    assert str(tmp_path / name) in str(caught.value)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("content", [b"", b"not a model\n", b"RIFF....WAVEfmt "])
def test_a_file_that_is_not_a_checkpoint_gets_our_own_error_message(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "voice").write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_file(tmp_path / "voice")
    assert str(caught.value) == f"{tmp_path / 'voice'}: not a readable checkpoint, expected a safetensors file or a PyTorch state dict"


def test_a_file_that_torch_does_not_read_shows_none_of_torch_s_advice(tmp_path: Path) -> None:
    for name in ("voice", "voice.th"):
        (tmp_path / name).write_bytes(b"\x80\x02}q\x00.x" * 3)
        with pytest.raises(CheckpointError) as caught:
            load_file(tmp_path / name)
        assert "weights_only" not in str(caught.value).lower()


class _Bomb:
    """Pickles to a call that creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("container", ["zip", "bare pickle"])
def test_a_pickle_with_code_in_it_is_refused_and_nothing_of_it_runs(container: str, meta_mini: Tensors, tmp_path: Path) -> None:
    marker, path = tmp_path / "ran", tmp_path / "bomb.th"
    content = {**meta_mini, "payload": _Bomb(marker)}
    if container == "zip":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps({"payload": _Bomb(marker)}, protocol=2))
    with pytest.raises(CheckpointError, match=r"bomb.th: not a readable PyTorch state dict"):
        load_file(path)
    assert not marker.exists()
    # The bomb is live: the test would notice it going off.
    pickle.loads(pickle.dumps(_Bomb(marker)))
    assert marker.exists()


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        ([torch.zeros(1)], "holds list, expected a state dict"),
        ({}, "holds dict, expected a state dict"),
        ({"a": 1}, "holds dict, expected a state dict"),
        ({0: torch.zeros(1)}, "expected a state dict"),
        (torch.zeros(3), "holds Tensor, expected a state dict"),
        ({"a": torch.zeros(1)}, "not an EnCodec state dict: .*encoder.layers.0.conv.weight"),
        ({"best_state": {"a": torch.zeros(1)}}, "not an EnCodec state dict"),
    ],
)
def test_a_th_file_that_holds_something_else_says_what(content: object, culprit: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.th")
    with pytest.raises(CheckpointError, match=f"other.th: .*{culprit}"):
        load_file(tmp_path / "other.th")


META_CONV = "encoder.model.0.conv.conv."
WRONG_STATE_DICTS = {
    "a missing bias": (without(META_CONV + "bias"), "lacks encoder.layers.0.conv.bias"),
    "a missing first kernel": (
        lambda tensors: {n: t for n, t in tensors.items() if not n.startswith(META_CONV + "weight")},
        "encoder.layers.0.conv.weight",
    ),
    "no first codebook": (without("quantizer.vq.layers.0._codebook.embed"), "quantizer.layers.0.codebook.embed"),
    "an extra tensor": (with_tensor("decoder.model.99.conv.conv.bias", torch.zeros(1)), "has unexpected decoder.layers.99.conv.bias"),
    "a flat kernel": (
        lambda tensors: {**tensors, META_CONV + "weight_g": torch.ones(2, 1), META_CONV + "weight_v": torch.ones(2, 7)},
        "encoder.layers.0.conv.weight",
    ),
    "a flat codebook": (with_tensor("quantizer.vq.layers.0._codebook.embed", torch.zeros(7)), "quantizer.layers.0.codebook.embed"),
    "a codebook of a wrong shape": (
        with_tensor("quantizer.vq.layers.2._codebook.embed", torch.zeros(1024, 3)),
        r"quantizer.layers.2.codebook.embed has shape \[1024, 3\]",
    ),
    "NaN": (with_nan("decoder.model.0.conv.conv.bias"), "decoder.layers.0.conv.bias holds NaN"),
}


@pytest.mark.parametrize("damage", WRONG_STATE_DICTS)
def test_a_th_file_whose_tensors_do_not_fit_is_one_error_that_names_the_tensor(damage: str, meta_mini: Tensors, tmp_path: Path) -> None:
    change, culprit = WRONG_STATE_DICTS[damage]
    torch.save(change(meta_mini), tmp_path / "m.th")
    with pytest.raises(CheckpointError, match=f"m.th: .*{culprit}"):
        load_file(tmp_path / "m.th")


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_one_changed_bit_in_the_embedded_file_is_noticed_by_its_fingerprint(place: float, tmp_path: Path) -> None:
    path = Path(shutil.copy(embedded_models()["speech-24k"], tmp_path / "tampered.safetensors"))
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    at = header + int((len(content) - header) * place) // 4 * 4
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"tampered.safetensors: its tensors have fingerprint [0-9a-f]{32}, its header says [0-9a-f]{32}"
    ):
        load_file(path)


def test_a_model_loads_without_torch_s_compiler() -> None:
    script = "import sys, streamcodec; streamcodec.load(engine='torch'); sys.exit('torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the compiler takes seconds to load: {done.stderr}"


def test_the_shapes_of_canonical_tensors_are_known_without_tensors(hf_reference: Reference, tmp_path: Path) -> None:
    model = load_file(hf_reference.save(tmp_path))
    assert canonical_shapes(model.config) == {name: tuple(tensor.shape) for name, tensor in to_canonical(model).items()}
