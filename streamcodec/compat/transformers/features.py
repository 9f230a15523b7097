"""Clips of any kind and of different lengths as one padded batch with a mask, as `transformers.EncodecFeatureExtractor` makes it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from streamcodec.compat.transformers.batch import BatchFeature, one_of
from streamcodec.compat.transformers.config import EncodecConfig
from streamcodec.compat.transformers.folders import (
    JsonStored,
    find,
    read_object,
    refuse_others,
    stored_config,
    take_hub_arguments,
    write_object,
)
from streamcodec.config import chunk_length, chunk_stride
from streamcodec.errors import AudioError, InputError
from streamcodec.model.checkpoint import PREPROCESSOR_FILE, preprocessor_config

__all__ = ["EncodecFeatureExtractor"]

log = logging.getLogger(__name__)

_STRATEGIES = ("longest", "max_length", "do_not_pad")

Array = npt.NDArray[Any]


class EncodecFeatureExtractor(JsonStored):
    """Pads or cuts clips to one length and says in a mask what is padding.

    `feature_size` is the number of channels. With `chunk_length_s` and `overlap`, the length is that of whole chunks. `padding_side` is
    "right" or "left"; further arguments become attributes.
    """

    model_input_names: ClassVar[list[str]] = ["input_values", "padding_mask"]

    def __init__(
        self,
        feature_size: int = 1,
        sampling_rate: int = 24_000,
        padding_value: float = 0.0,
        chunk_length_s: float | None = None,
        overlap: float | None = None,
        *,
        padding_side: str = "right",
        return_attention_mask: bool = True,
        **attributes: Any,
    ) -> None:
        self.feature_size = feature_size
        self.sampling_rate = sampling_rate
        self.padding_value = padding_value
        self.padding_side = padding_side
        self.return_attention_mask = return_attention_mask
        self.chunk_length_s = chunk_length_s
        self.overlap = overlap
        attributes.pop("processor_class", None)
        for name, value in attributes.items():
            setattr(self, name, value)

    @property
    def chunk_length(self) -> int | None:
        """The samples in a chunk, None if clips are coded as a whole."""
        return chunk_length(self.chunk_length_s, self.sampling_rate)

    @property
    def chunk_stride(self) -> int | None:
        """The samples from the beginning of one chunk to that of the next."""
        return chunk_stride(self.chunk_length, self.overlap)

    def __call__(
        self,
        raw_audio: Any,
        padding: bool | str | None = None,
        truncation: bool | None = False,
        max_length: int | None = None,
        return_tensors: str | None = None,
        sampling_rate: int | None = None,
    ) -> BatchFeature:
        """Make a batch of one or several clips: `input_values` [B, channels, T] and int32 `padding_mask` [B, T], 1 where a clip is.

        `raw_audio` is a clip, or a list of them, each [T] or stereo [2, T], as an array or as numbers. They are padded to the longest one
        or as `padding` says: "longest", "max_length" or "do_not_pad", which True and False stand for as well. With `truncation` (and no
        `padding`) they are cut to `max_length`, or to whole chunks of the shortest one. Without `return_tensors` ("pt" or "np"),
        `input_values` is a list of arrays. float32 comes out, but for a single array of another dtype than float64.

        Raises `InputError` for another `sampling_rate` than the model's, and for clips of another shape.
        """
        self._check_rate(sampling_rate)
        if padding and truncation:
            raise InputError("padding and truncation are both set, expected one of them")
        clips = [self._checked(clip) for clip in _clips(raw_audio)]
        padding = True if padding is None else padding
        batch = BatchFeature({"input_values": clips})
        unpadded = False
        if self.chunk_stride is not None and self.chunk_length is not None and max_length is None:
            lengths = [len(clip) for clip in clips]
            if truncation:
                max_length = (min(lengths) // self.chunk_stride - 1) * self.chunk_stride + self.chunk_length
            elif padding:
                max_length = (-(-max(lengths) // self.chunk_stride) - 1) * self.chunk_stride + self.chunk_length
                padding = "max_length"
            else:
                unpadded = True
        if not unpadded:
            batch = self.pad(batch, padding, max_length, bool(truncation), return_attention_mask=bool(padding))
            if padding:
                batch["padding_mask"] = batch.pop("attention_mask")
        # [T] or [T, C] -> [C, T]
        batch["input_values"] = [(clip[:, None] if self.feature_size == 1 else clip).T for clip in batch.pop("input_values")]
        return batch.convert_to_tensors(return_tensors)

    def pad(
        self,
        processed_features: Any,
        padding: bool | str = True,
        max_length: int | None = None,
        truncation: bool = False,
        pad_to_multiple_of: int | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = None,
    ) -> BatchFeature:
        """Cut and pad the `input_values` of a batch, clips [T] or [T, C], and its `attention_mask`, which is made if it is missing.

        The batch is a mapping of lists or a list of mappings. The arguments are as in a call; lengths are rounded up to
        `pad_to_multiple_of`. Raises `InputError`.
        """
        features = _by_name(processed_features)
        if "input_values" not in features:
            raise InputError(f"the features have {sorted(features)}, expected input_values")
        masked = self.return_attention_mask if return_attention_mask is None else return_attention_mask
        strategy = self._strategy(padding, max_length)
        if len(features["input_values"]) == 0:
            return BatchFeature(features | ({"attention_mask": []} if masked else {}))
        if truncation and max_length is None:
            raise InputError("truncation is set and max_length is not")
        torch_given = isinstance(features["input_values"][0], torch.Tensor)
        rows = {name: [_array(value) for value in values] for name, values in features.items()}
        if any(len(values) != len(rows["input_values"]) for values in rows.values()):
            raise InputError("the features have different numbers of clips")
        limit = None if max_length is None else _rounded_up(max_length, pad_to_multiple_of)
        if truncation:
            for name in ("input_values", "attention_mask"):
                rows |= {name: [row[:limit] for row in rows[name]]} if name in rows else {}
        clips = rows["input_values"]
        if masked and "attention_mask" not in rows:
            rows["attention_mask"] = [np.ones(len(clip), np.int32) for clip in clips]
        if strategy != "do_not_pad":
            length = _rounded_up(max(map(len, clips)), pad_to_multiple_of) if strategy == "longest" else limit
            rows["input_values"] = [self._padded(clip, length, self.padding_value) for clip in clips]
            if masked:
                rows["attention_mask"] = [self._padded(mask, length, 0) for mask in rows["attention_mask"]]
        made = {name: [row.astype(np.float32) if row.dtype == np.float64 else row for row in each] for name, each in rows.items()}
        return BatchFeature(made, return_tensors or ("pt" if torch_given else "np"))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **values: Any) -> Any:
        """Read a saved feature extractor: a folder or its `preprocessor_config.json`; of a model without one, what fits its config.

        `values` replace the stored ones of their names; with `return_unused_kwargs`, the others are returned as well. Raises
        `PretrainedNotFoundError` (an `OSError`).
        """
        subfolder = take_hub_arguments(pretrained_model_name_or_path, values)
        return cls.from_dict(_stored(find(pretrained_model_name_or_path, subfolder)), **values)

    @classmethod
    def from_dict(cls, feature_extractor_dict: Mapping[str, Any], *, return_unused_kwargs: bool = False, **values: Any) -> Any:
        """A feature extractor of what `to_dict` gave; `values` and `return_unused_kwargs` as in `from_pretrained`."""
        used = {name: values.pop(name) for name in list(values) if name in feature_extractor_dict}
        made = cls(**{**feature_extractor_dict, **used})
        return (made, values) if return_unused_kwargs else made

    def save_pretrained(self, save_directory: str | Path, **arguments: Any) -> list[str]:
        """Write `preprocessor_config.json` into a folder, as `transformers` writes it; return its path in a list."""
        refuse_others(arguments)
        return [str(write_object(save_directory, PREPROCESSOR_FILE, self.to_json_string()))]

    def to_dict(self) -> dict[str, Any]:
        """All attributes, and the name of the class."""
        return {**vars(self), "feature_extractor_type": type(self).__name__}

    def to_json_string(self) -> str:
        """The attributes as JSON, sorted by name."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def _check_rate(self, sampling_rate: int | None) -> None:
        if sampling_rate is None:
            log.warning("no sampling_rate was given: audio of another rate than %d Hz would be taken as it is", self.sampling_rate)
        elif sampling_rate != self.sampling_rate:
            raise InputError(f"sampling_rate is {sampling_rate!r}, the model's is {self.sampling_rate}: resample the audio first")

    def _checked(self, clip: Array) -> Array:
        """A clip [T] or [T, C], if it has the channels that the model has."""
        if clip.ndim not in (1, 2):
            raise AudioError(f"a clip has shape {list(clip.shape[::-1])}, expected [T] or [channels, T]")
        if self.feature_size == 1 and clip.ndim != 1:
            raise AudioError(f"a clip has {clip.shape[1]} channels, expected a mono one, [T]")
        if self.feature_size == 2 and (clip.ndim != 2 or clip.shape[1] != 2):
            raise AudioError(f"a clip has shape {list(clip.shape[::-1])}, expected a stereo one, [2, T]")
        return clip

    def _strategy(self, padding: Any, max_length: int | None) -> str:
        if padding is True or padding is False:
            strategy = "longest" if padding else "do_not_pad"
        else:
            strategy = one_of("padding", padding, _STRATEGIES)
        if strategy == "max_length" and max_length is None:
            raise InputError("padding is 'max_length' and max_length is not set")
        if strategy != "do_not_pad" and self.padding_value is None:
            raise InputError("padding_value is None, expected a number to pad with")
        return strategy

    def _padded(self, row: Array, length: int | None, value: float) -> Array:
        missing = 0 if length is None else length - len(row)
        if missing <= 0:
            return row
        if self.padding_side not in ("right", "left"):
            raise InputError(f"padding_side is {self.padding_side!r}, expected 'right' or 'left'")
        sides = (0, missing) if self.padding_side == "right" else (missing, 0)
        return np.pad(row, [sides] + [(0, 0)] * (row.ndim - 1), constant_values=value)


def _stored(path: Path) -> Mapping[str, Any]:
    if path.suffix == ".json":
        return read_object(path)
    if path.is_dir() and (path / "processor_config.json").exists():
        processor = read_object(path / "processor_config.json")
        nested = processor.get("feature_extractor", processor.get("audio_processor"))
        if isinstance(nested, dict):
            return nested
    if path.is_dir() and (path / PREPROCESSOR_FILE).exists():
        return read_object(path / PREPROCESSOR_FILE)
    return preprocessor_config(EncodecConfig.from_dict(stored_config(path)).codec_config())


def _clips(raw_audio: Any) -> list[Array]:
    """One clip or several as arrays [T] or [T, C]."""
    try:
        if isinstance(raw_audio, (list, tuple)):
            if not raw_audio:
                raise AudioError("raw_audio is empty, expected a clip or a list of clips")
            if isinstance(raw_audio[0], (np.ndarray, tuple, list)):
                return [np.asarray(clip, np.float32).T for clip in raw_audio]
        if not isinstance(raw_audio, np.ndarray) or raw_audio.dtype == np.float64:
            raw_audio = np.asarray(raw_audio, np.float32)
        return [raw_audio.T]
    except (ValueError, TypeError) as exc:
        raise AudioError(f"raw_audio is not an array of numbers: {exc}") from exc


def _by_name(features: Any) -> dict[str, Any]:
    if isinstance(features, Sequence) and features and isinstance(features[0], Mapping):
        return {name: [clip[name] for clip in features] for name in features[0]}
    if isinstance(features, Mapping):
        return dict(features)
    raise InputError(f"the features are a {type(features).__name__}, expected a mapping or a list of mappings")


def _array(value: Any) -> Array:
    array = value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.ndim == 0:
        raise InputError("a clip is a single number, expected a list of clips")
    return array


def _rounded_up(length: int, multiple: int | None) -> int:
    return length if multiple is None else -(-length // multiple) * multiple
