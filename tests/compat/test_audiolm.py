"""The codec that audiolm-pytorch asks for gives what its own wrapper gives, and is taken for one of its own."""

from __future__ import annotations

import sys
import types
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_up_models import save_made_up_model
from package_codecs import Reference, encodec_reference
from parity import assert_same_codes
from torch import nn

import streamcodec
from streamcodec.compat.audiolm import EncodecWrapper
from streamcodec.errors import CodesError, InputError, ModelNotFoundError, UnsupportedModelError

HOP = 320


@pytest.fixture(scope="module")
def reference() -> Reference:
    """What audiolm-pytorch wraps: the 24 kHz model of the package `encodec`."""
    return encodec_reference()


@pytest.fixture(scope="module")
def published(reference: Reference, tmp_path_factory: pytest.TempPathFactory) -> EncodecWrapper:
    return EncodecWrapper(model=reference.save(tmp_path_factory.mktemp("encodec")), engine="torch")


@pytest.fixture(scope="module")
def small(model: str) -> EncodecWrapper:
    return EncodecWrapper(model=model)


@pytest.fixture
def waves() -> torch.Tensor:
    return 0.1 * torch.randn(2, 12 * HOP, generator=torch.Generator().manual_seed(2))


def test_the_fields_that_its_transformers_read_are_those_of_its_own_wrapper(published: EncodecWrapper) -> None:
    assert (published.target_sample_hz, published.strides) == (24_000, (2, 4, 5, 8))
    assert published.seq_len_multiple_of == published.downsample_factor == HOP
    assert (published.num_quantizers, published.rq_groups, published.codebook_dim) == (8, 1, 128)


def test_codes_latents_and_audio_are_those_of_the_package(reference: Reference, published: EncodecWrapper, waves: torch.Tensor) -> None:
    latents, codes, loss = published(waves, return_encoded=True)
    assert latents is not None and loss is None
    assert codes.dtype == torch.int64 and codes.shape == (2, 12, 8)
    expected = reference.encode(waves.numpy(), 6.0)
    for row, wave in enumerate(waves.numpy()):
        assert_same_codes(published.codec, codes[row].T.numpy(), expected[row], wave)
    quantizer: Any = reference.model.quantizer
    with torch.inference_mode():
        their_latents = quantizer.decode(codes.permute(2, 0, 1)).transpose(1, 2)  # [b, n, q] -> [q, b, n] -> [b, c, n] -> [b, n, c]
    torch.testing.assert_close(latents, their_latents, rtol=0, atol=1e-5)
    torch.testing.assert_close(published.get_emb_from_indices(codes), latents)
    heard = reference.decode(codes.transpose(1, 2).numpy())[:, None]
    for found in (published.decode_from_codebook_indices(codes), published.decode(latents)):
        assert found.shape == (2, 1, 12 * HOP)
        np.testing.assert_allclose(found.numpy(), heard, atol=1e-4)


def test_the_coarse_codebooks_alone_are_decoded(reference: Reference, published: EncodecWrapper, waves: torch.Tensor) -> None:
    codes = published(waves)[1][..., :3]
    np.testing.assert_allclose(
        published.decode_from_codebook_indices(codes)[:, 0].numpy(), reference.decode(codes.transpose(1, 2).numpy()), atol=1e-4
    )


def test_another_rate_is_resampled_on_the_way_in(small: EncodecWrapper, waves: torch.Tensor) -> None:
    _, codes, _ = small(waves, input_sample_hz=16_000)
    assert codes.shape == (2, 18, 8)
    np.testing.assert_array_equal(codes.transpose(1, 2).numpy(), small.codec.encode(waves[:, None].numpy(), 16_000, 6.0))


@pytest.mark.parametrize("leading", [(), (1,), (2, 3)])
def test_audio_may_have_any_leading_axes(small: EncodecWrapper, leading: tuple[int, ...]) -> None:
    waves = 0.1 * torch.randn(*leading, 5 * HOP)
    latents, codes, _ = small(waves, return_encoded=True)
    assert latents is not None
    assert codes.shape == (*leading, 5, 8) and latents.shape == (*leading, 5, small.codebook_dim)
    assert small(waves)[0] is None
    flat = small(waves.reshape(-1, 5 * HOP))[1]
    assert torch.equal(codes.reshape(flat.shape), flat)


def test_the_bandwidth_decides_how_many_codebooks_there_are(model: str, waves: torch.Tensor) -> None:
    wrapper = EncodecWrapper(24_000, (20, 16)[::-1], 2, 1.5, model=model)
    assert wrapper.num_quantizers == 2 and wrapper(waves)[1].shape == (2, 12, 2)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"target_sample_hz": 16_000}, "target_sample_hz is 16000, expected 24000"),
        ({"strides": (2, 4, 5, 8)}, r"strides is \(2, 4, 5, 8\), expected \(16, 20\)"),
        ({"num_quantizers": 8, "bandwidth": 12.0}, "num_quantizers is 8, expected 16: those of .* at 12 kbps"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_by_name(model: str, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        EncodecWrapper(model=model, **arguments)


def test_a_model_whose_codes_need_scales_is_refused(tmp_path: Path) -> None:
    folder = save_made_up_model(tmp_path, num_filters=4, hidden_size=16, codebook_dim=16, chunk_length_s=0.5, overlap=0.1)
    with pytest.raises(UnsupportedModelError, match="expected a mono model whose codes are one array"):
        EncodecWrapper(model=folder)


def test_codes_that_are_none_of_the_model_s_are_refused(small: EncodecWrapper) -> None:
    with pytest.raises(CodesError, match="codes range from -1 to 0"):
        small.decode_from_codebook_indices(torch.tensor([[[0, -1]]]))


def test_by_default_the_model_is_that_of_its_own_wrapper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match="facebook/encodec_24khz: not in the hub's cache"):
        EncodecWrapper()


def test_it_is_a_frozen_module_of_another_one(small: EncodecWrapper, waves: torch.Tensor) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.codec, self.own = small, nn.Linear(2, 2)

    outer = Outer().train()
    assert [name for name, _ in outer.named_parameters()] == ["own.weight", "own.bias"]
    assert list(outer.state_dict()) == ["own.weight", "own.bias"]
    before = small(waves)[1]
    outer.eval()
    with torch.inference_mode():
        assert torch.equal(small(waves)[1], before)
    latents = small(waves, return_encoded=True)[0]
    assert latents is not None
    assert not small.decode(latents.requires_grad_()).requires_grad


class _Theirs(nn.Module):
    """Stands for audiolm-pytorch's own class, whose init downloads a model."""

    def __init__(self) -> None:
        raise AssertionError("it would download a model")

    @property
    def downsample_factor(self) -> int:
        raise AssertionError("its own methods are not called")


def test_where_its_package_is_imported_an_instance_is_one_of_its_own_class(
    model: str, waves: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = streamcodec.load(model)
    assert not isinstance(EncodecWrapper(model=codec), _Theirs)
    module = types.ModuleType("audiolm_pytorch.encodec")
    module.EncodecWrapper = _Theirs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "audiolm_pytorch.encodec", module)
    wrapper = EncodecWrapper(model=codec)
    assert isinstance(wrapper, _Theirs) and isinstance(wrapper, EncodecWrapper)
    assert type(EncodecWrapper(model=codec)) is type(wrapper)
    assert wrapper.downsample_factor == HOP
    assert torch.equal(wrapper(waves)[1], EncodecWrapper(model=codec)(waves)[1])
    assert torch.equal(deepcopy(wrapper)(waves)[1], wrapper(waves)[1])
