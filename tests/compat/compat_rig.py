"""`transformers`' EnCodec and ours with the same weights, and how their answers to a call are compared."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from parity import assert_same_chunks
from reference_models import FEW, SMALL

from benchmarks.harness.clips import AUDIO_WITHIN, row_chunks
from benchmarks.harness.imports import without_torchaudio
from benchmarks.peers.random_models import transformers_model
from streamcodec.compat import transformers as compat
from streamcodec.config import CodecConfig
from streamcodec.engine.base import EngineName
from streamcodec.errors import StreamCodecError

__all__ = ["KINDS", "Pair", "assert_same", "assert_same_outcome", "outcome", "theirs"]

# A hop of 40 samples each; the causal one has 600 frames per second of 6 bits.
KINDS: dict[str, dict[str, Any]] = {
    "24 kHz": {**FEW, "codebook_size": 64, "target_bandwidths": [7.2, 14.4, 28.8]},
    "32 kHz": SMALL["32 kHz"],
    "48 kHz": SMALL["48 kHz"],
}


@cache
def theirs() -> SimpleNamespace:
    """The names of `transformers`, which takes many seconds to import."""
    import transformers

    with without_torchaudio():
        from transformers import BatchFeature, EncodecConfig, EncodecFeatureExtractor, EncodecModel
        from transformers.utils import PaddingStrategy, TensorType
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return SimpleNamespace(
        version=transformers.__version__,
        BatchFeature=BatchFeature,
        EncodecConfig=EncodecConfig,
        EncodecFeatureExtractor=EncodecFeatureExtractor,
        EncodecModel=EncodecModel,
        PaddingStrategy=PaddingStrategy,
        TensorType=TensorType,
    )


@dataclass(frozen=True)
class Pair:
    """Two models with the same weights, which saved their files to `folder`, and two feature extractors."""

    theirs: Any
    ours: compat.EncodecModel
    their_extractor: Any
    our_extractor: compat.EncodecFeatureExtractor
    folder: Path

    @classmethod
    def made(cls, kind: str, folder: Path, engine: EngineName = "torch") -> Pair:
        """Both sides' models of one of `KINDS`: ours is loaded from what theirs saved."""
        names = theirs()
        model = transformers_model(**KINDS[kind])
        config = model.config
        extractor = names.EncodecFeatureExtractor(
            config.audio_channels, config.sampling_rate, chunk_length_s=config.chunk_length_s, overlap=config.overlap
        )
        model.save_pretrained(folder)
        extractor.save_pretrained(folder)
        ours = compat.EncodecModel.from_pretrained(folder, engine=engine)
        return cls(model, ours, extractor, compat.EncodecFeatureExtractor.from_pretrained(folder), folder)

    @property
    def channels(self) -> int:
        channels: int = self.theirs.config.audio_channels
        return channels

    @contextmanager
    def configured(self, **values: Any) -> Iterator[None]:
        """Both configurations with other values for a while."""
        before = {name: getattr(self.theirs.config, name) for name in values}
        for config in (self.theirs.config, self.ours.config):
            for name, value in values.items():
                setattr(config, name, value)
        try:
            yield
        finally:
            for config in (self.theirs.config, self.ours.config):
                for name, value in before.items():
                    setattr(config, name, value)

    def same(self, method: str, *arguments: Any, **more: Any) -> Any:
        """Both sides' method returns the same, but for roundings, or both raise; return what theirs does."""
        return assert_same_outcome(
            lambda: getattr(self.theirs, method)(*arguments, **more),
            lambda: getattr(self.ours, method)(*arguments, **more),
            within=AUDIO_WITHIN,
        )

    def same_kind(self, method: str, *arguments: Any, **more: Any) -> Any:
        """As `same`, but of results only kinds, dtypes and shapes are compared: near-ties may decide codes."""
        return assert_same_outcome(
            lambda: _kinds(getattr(self.theirs, method)(*arguments, **more)),
            lambda: _kinds(getattr(self.ours, method)(*arguments, **more)),
        )

    def assert_same_encoding(self, values: torch.Tensor, mask: torch.Tensor | None = None, bandwidth: float | None = None) -> Any:
        """Both encode a batch alike, row by row and chunk by chunk, but for near-ties; return their encoding."""
        with torch.inference_mode():
            expected = self.theirs.encode(values, mask, bandwidth)
        found = self.ours.encode(values, mask, bandwidth)
        assert list(found) == list(expected)
        assert found.last_frame_pad_length == expected.last_frame_pad_length
        assert found.audio_codes.dtype == expected.audio_codes.dtype
        assert found.audio_codes.shape == expected.audio_codes.shape
        assert_same(found.audio_scales, expected.audio_scales, within=1e-5)
        config = CodecConfig.from_dict(self.theirs.config.to_dict())
        heard = values if mask is None else values * mask.view(mask.shape[0], -1, mask.shape[-1])[..., : values.shape[-1]].bool()
        assert (found.audio_codes[-1][..., found.audio_codes.shape[-1] - found.last_frame_pad_length :] == 0).all()
        for row, clip in enumerate(heard.float()):
            assert_same_chunks(self.ours.network, row_chunks(found, row), row_chunks(expected, row), clip.numpy(), config)
        return expected

    def assert_same_decoding(self, codes: Any, scales: Any, mask: torch.Tensor | None = None, unused: int = 0) -> Any:
        """Both decode alike; return ours."""
        with torch.inference_mode():
            expected = self.theirs.decode(codes, scales, mask, last_frame_pad_length=unused)
        found = self.ours.decode(codes, scales, mask, last_frame_pad_length=unused)
        assert_same(found, expected, within=AUDIO_WITHIN)
        return found


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns, or the exception that it raises."""
    try:
        with torch.inference_mode():
            return call()
    except Exception as exc:
        return exc


def assert_same_outcome(their_call: Callable[[], Any], our_call: Callable[[], Any], *, within: float = 0.0) -> Any:
    """Both calls return the same, or both raise: ours an error of this package that `except` catches as theirs. Return theirs."""
    expected, found = outcome(their_call), outcome(our_call)
    if not isinstance(expected, Exception):
        if isinstance(found, Exception):
            raise AssertionError(f"theirs returns {expected!r}") from found
        assert_same(found, expected, within=within)
        return expected
    assert isinstance(found, StreamCodecError), f"theirs raises {expected!r}, ours gives {found!r}"
    assert isinstance(found, ValueError | OSError), "a program can catch it without this package's names"
    for kind in (ValueError, RuntimeError, OSError):
        assert not isinstance(expected, kind) or isinstance(found, kind), f"theirs is {expected!r}, ours {found!r}"
    assert len(str(found)) > 10
    return expected


def assert_same(found: Any, expected: Any, *, within: float = 0.0) -> None:
    """Equal in kind, dtype, shape and values, which may differ by `within`."""
    if isinstance(expected, torch.Tensor):
        assert isinstance(found, torch.Tensor)
        assert found.dtype == expected.dtype and found.device == expected.device
        found, expected = found.numpy(), expected.detach().numpy()
    if isinstance(expected, np.ndarray):
        assert isinstance(found, np.ndarray)
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        if expected.dtype == object:
            assert_same(list(found), list(expected), within=within)
        elif within:
            np.testing.assert_allclose(found, expected, rtol=within, atol=within)
        else:
            np.testing.assert_array_equal(found, expected)
    elif hasattr(expected, "keys"):
        assert type(found).__name__ == type(expected).__name__
        ordered = sorted if type(expected) is dict else list
        assert ordered(found.keys()) == ordered(expected.keys())
        for name in expected:
            assert_same(found[name], expected[name], within=within)
            assert type(expected) is dict or found[name] is getattr(found, name)
    elif isinstance(expected, (list, tuple)):
        assert type(found) is type(expected) and len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other, within=within)
    else:
        assert found == expected and type(found) is type(expected)


def _kinds(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return str(value.dtype), str(value.device), tuple(value.shape)
    if hasattr(value, "items"):
        return [type(value).__name__, *((name, _kinds(each)) for name, each in value.items())]
    return [type(value).__name__, *map(_kinds, value)] if isinstance(value, (list, tuple)) else value
