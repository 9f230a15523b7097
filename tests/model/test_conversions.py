"""Each published architecture survives every way through the layouts, and the packages read what is written and give the same codes."""

from __future__ import annotations

import itertools
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import reference_models
import torch
import yaml
from parity import assert_same_codes

from benchmarks.harness.imports import without_torchaudio
from benchmarks.peers.random_models import fill_codebooks
from streamcodec.config import CodecConfig
from streamcodec.model.checkpoint import LAYOUTS, Layout, load_file, save, weights_fingerprint
from streamcodec.model.encodec import EncodecModel

# The published architectures with few channels.
FEW: dict[str, Any] = {"num_filters": 2, "hidden_size": 4, "codebook_dim": 4}
PUBLISHED: dict[str, dict[str, Any]] = {"24 kHz": FEW, **{kind: {**values, **FEW} for kind, values in reference_models.PUBLISHED.items()}}


@pytest.fixture(scope="module", params=PUBLISHED)
def made(request: pytest.FixtureRequest) -> EncodecModel:
    torch.manual_seed(4)
    model = EncodecModel(CodecConfig.from_dict(PUBLISHED[request.param])).eval().requires_grad_(False)
    latents, _ = model.encoder(0.1 * torch.randn(1, model.config.audio_channels, 9_600), None, True)
    fill_codebooks(model.quantizer.embed, float(latents.std()))
    return model


def target(folder: Path, layout: Layout) -> Path:
    folder.mkdir(exist_ok=True)
    return folder / f"{layout}-model"


def same_bits(one: EncodecModel, other: EncodecModel) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(LAYOUTS, 2)))
def test_a_model_goes_from_every_layout_to_every_other_bit_for_bit(
    first: Layout, second: Layout, made: EncodecModel, tmp_path: Path
) -> None:
    save(made, target(tmp_path, first), layout=first)
    save(load_file(target(tmp_path, first)), target(tmp_path, second), layout=second)
    found = load_file(target(tmp_path, second))
    assert found.config == made.config
    assert same_bits(found, made) and weights_fingerprint(found) == weights_fingerprint(made)


def test_audiocraft_s_configuration_keeps_what_it_has_no_word_for(tmp_path: Path) -> None:
    config = CodecConfig.from_dict(
        {**PUBLISHED["48 kHz"], "search_beam": 5, "overlap": 0.25, "chunk_length_s": 0.5, "target_bandwidths": [4.5]}
    )
    save(EncodecModel(config), tmp_path / "m.th", layout="audiocraft")
    assert load_file(tmp_path / "m.th").config == config


def test_an_export_has_the_layout_that_audiocraft_reads(made: EncodecModel, tmp_path: Path) -> None:
    """As `audiocraft.models.loaders.load_compression_model` and `builders.get_compression_model` take it apart."""
    save(made, tmp_path / "m.th", layout="audiocraft")
    stored = torch.load(tmp_path / "m.th", weights_only=True)
    assert stored.keys() == {"best_state", "xp.cfg", "exported"}
    names = set(stored["best_state"])
    assert {"encoder.model.0.conv.conv.bias", "decoder.model.3.convtr.convtr.bias", "quantizer.vq.layers.0._codebook.inited"} <= names
    cfg, config = yaml.safe_load(stored["xp.cfg"]), made.config
    assert cfg["compression_model"] == "encodec"
    assert cfg["encodec"] == {
        "autoencoder": "seanet",
        "quantizer": "rvq",
        "sample_rate": config.sampling_rate,
        "channels": config.audio_channels,
        "causal": config.use_causal_conv,
        "renormalize": config.normalize,
    }
    assert cfg["rvq"] == {"bins": config.codebook_size, "n_q": config.num_quantizers}
    # The arguments of SEANetEncoder and SEANetDecoder, and those that only one of them takes.
    assert cfg["seanet"] == {
        "channels": config.audio_channels,
        "dimension": config.hidden_size,
        "n_filters": config.num_filters,
        "n_residual_layers": config.num_residual_layers,
        "ratios": list(config.upsampling_ratios),
        "activation": "ELU",
        "activation_params": {"alpha": 1.0},
        "norm": config.norm_type,
        "norm_params": {},
        "kernel_size": config.kernel_size,
        "last_kernel_size": config.last_kernel_size,
        "residual_kernel_size": config.residual_kernel_size,
        "dilation_base": config.dilation_growth_rate,
        "causal": config.use_causal_conv,
        "pad_mode": config.pad_mode,
        "true_skip": not config.use_conv_shortcut,
        "compress": config.compress,
        "lstm": config.num_lstm_layers,
        "encoder": {},
        "decoder": {"trim_right_ratio": config.trim_right_ratio, "final_activation": None},
    }


# The packages read what is written ---------------------------------------------------------------------------------------------------


def clip_of(config: CodecConfig) -> npt.NDArray[np.float32]:
    """A quarter of a second of noise [C, T], which is one chunk, and no whole number of frames."""
    noise = np.random.default_rng(7).standard_normal((config.audio_channels, config.sampling_rate // 4 + 77)).astype(np.float32)
    return 0.1 * noise


def assert_codes(model: EncodecModel, codes: torch.Tensor, scale: torch.Tensor | None) -> None:
    """Codes [n_q, F] and the scale that a package gives of the clip are those of `model`."""
    clip = clip_of(model.config)
    if model.config.normalize:
        assert scale is not None
        mono = clip.mean(axis=0)
        assert float(scale) == pytest.approx(float(np.sqrt(np.square(mono).mean())), rel=1e-4)
        clip = clip / np.float32(float(scale))
    expected = model.encode(torch.from_numpy(clip)[None], None, model.config.num_quantizers, True)[0]
    samples = clip if model.config.audio_channels > 1 else clip[0]
    assert_same_codes(model, codes.numpy(), expected[0].numpy(), samples)


@pytest.mark.parametrize("through", [layout for layout in LAYOUTS if layout != "hf"])
def test_transformers_reads_what_came_from_any_layout_and_gives_the_same_codes(through: Layout, made: EncodecModel, tmp_path: Path) -> None:
    from transformers import EncodecModel as HfModel

    save(made, target(tmp_path, through), layout=through)
    save(load_file(target(tmp_path, through)), tmp_path / "hf", layout="hf")
    theirs, info = HfModel.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not {name: found for name, found in info.items() if found}
    with torch.inference_mode():
        clip = torch.from_numpy(clip_of(made.config))[None]
        encoded = theirs.eval().encode(clip, bandwidth=max(made.config.target_bandwidths))
    unused = encoded.last_frame_pad_length or 0
    codes = encoded.audio_codes[0, 0]
    assert_codes(made, codes[:, : codes.shape[1] - unused], encoded.audio_scales[0])


def test_transformers_makes_its_feature_extractor_of_the_folder(made: EncodecModel, tmp_path: Path) -> None:
    with without_torchaudio():
        from transformers.models.encodec.feature_extraction_encodec import EncodecFeatureExtractor
    save(made, tmp_path / "hf", layout="hf")
    extractor, config = EncodecFeatureExtractor.from_pretrained(tmp_path / "hf"), made.config
    assert (extractor.feature_size, extractor.sampling_rate) == (config.audio_channels, config.sampling_rate)
    assert (extractor.chunk_length, extractor.chunk_stride) == (config.chunk_length, config.chunk_stride)
    extractor.save_pretrained(tmp_path / "theirs")
    theirs, ours = (json.loads((tmp_path / name / "preprocessor_config.json").read_text()) for name in ("theirs", "hf"))
    assert theirs == ours


@pytest.mark.parametrize("through", [layout for layout in LAYOUTS if layout != "meta"])
def test_the_package_encodec_reads_what_came_from_any_layout_and_gives_the_same_codes(
    through: Layout, made: EncodecModel, tmp_path: Path
) -> None:
    save(made, target(tmp_path, through), layout=through)
    save(load_file(target(tmp_path, through)), tmp_path / "m.th", layout="meta")
    theirs = encodec_model(made.config)
    theirs.load_state_dict(torch.load(tmp_path / "m.th", weights_only=True), strict=True)
    theirs.set_target_bandwidth(max(made.config.target_bandwidths))
    with torch.inference_mode():
        [(codes, scale)] = theirs.encode(torch.from_numpy(clip_of(made.config))[None])
    assert_codes(made, codes[0], scale)


def encodec_model(config: CodecConfig) -> Any:
    """A model of the package `encodec`, made of its modules."""
    with without_torchaudio(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's deprecation of the weight norm that the package uses
        import encodec

        modules, quantization = sys.modules["encodec.modules"], sys.modules["encodec.quantization"]
        shape: dict[str, Any] = {
            "channels": config.audio_channels,
            "norm": config.norm_type,
            "causal": config.use_causal_conv,
            "n_filters": config.num_filters,
            "dimension": config.hidden_size,
            "ratios": list(config.upsampling_ratios),
            "true_skip": not config.use_conv_shortcut,
        }
        quantizer = quantization.ResidualVectorQuantizer(dimension=config.hidden_size, n_q=config.num_quantizers, bins=config.codebook_size)
        return encodec.EncodecModel(
            modules.SEANetEncoder(**shape),
            modules.SEANetDecoder(**shape),
            quantizer,
            list(config.target_bandwidths),
            config.sampling_rate,
            config.audio_channels,
            normalize=config.normalize,
            segment=config.chunk_length_s,
            overlap=config.overlap or 0.01,
        ).eval()
