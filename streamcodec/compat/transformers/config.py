"""EnCodec's configuration with the names, defaults and derived values of `transformers.EncodecConfig`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar

from streamcodec.compat.transformers.folders import JsonStored, find, refuse_others, stored_config, take_hub_arguments, write_object
from streamcodec.config import CodecConfig
from streamcodec.errors import InputError, UnsupportedModelError

__all__ = ["EncodecConfig"]

_MAY_BE_NONE = ("chunk_length_s", "overlap", "codebook_dim")


class EncodecConfig(JsonStored):
    """The architecture of a model and how its calls answer; all arguments are keywords, and further ones become attributes.

    The defaults are the published 24 kHz model. Raises `InputError` for what no EnCodec model has, and for the few architectures that this
    package does not run. The fields may be changed later: `chunk_length_s`, `overlap`, `normalize`, `target_bandwidths` and `return_dict`
    count in the next call of a model.
    """

    model_type: ClassVar[str] = "encodec"

    target_bandwidths: Sequence[float] = (1.5, 3.0, 6.0, 12.0, 24.0)
    sampling_rate: int = 24_000
    audio_channels: int = 1
    normalize: bool = False
    chunk_length_s: float | None = None
    overlap: float | None = None
    hidden_size: int = 128
    num_filters: int = 32
    num_residual_layers: int = 1
    upsampling_ratios: Sequence[int] = (8, 5, 4, 2)
    norm_type: str = "weight_norm"
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_growth_rate: int = 2
    use_causal_conv: bool = True
    pad_mode: str = "reflect"
    compress: int = 2
    num_lstm_layers: int = 2
    trim_right_ratio: float = 1.0
    codebook_size: int = 1024
    codebook_dim: int | None = None
    use_conv_shortcut: bool = True
    return_dict: bool = True
    name_or_path: str = ""

    def __init__(self, **values: Any) -> None:
        for name in _FIELDS:
            value = values.pop(name, getattr(type(self), name))
            if value is None and name not in _MAY_BE_NONE:
                raise InputError(f"{name} is None, expected a value")
            # Each configuration has lists of its own.
            setattr(self, name, list(value) if isinstance(value, (list, tuple)) else value)
        if self.codebook_dim is None:
            self.codebook_dim = self.hidden_size
        for name, value in values.items():
            if name != "model_type" and not isinstance(getattr(type(self), name, None), property):
                setattr(self, name, value)
        self.codec_config()

    def codec_config(self) -> CodecConfig:
        """The same as this package's own configuration; raises `InputError` for values that it cannot have."""
        values = {name: getattr(self, name) for name in _FIELDS}
        if self.norm_type not in ("weight_norm", "time_group_norm"):
            raise InputError(f"norm_type is {self.norm_type!r}, expected 'weight_norm' or 'time_group_norm'")
        try:
            config = CodecConfig.from_dict(values | {"search_beam": getattr(self, "search_beam", 1)})
        except UnsupportedModelError as exc:
            raise InputError(str(exc)) from exc
        kbps = math.ceil(config.frame_rate) * config.bits_per_code / 1000
        if any(max(1, math.floor(each / kbps + 1e-9)) != config.bandwidth_to_n_q(each) for each in config.target_bandwidths):
            raise InputError(f"frame_rate is {config.frame_rate:g}: rounded up, it would give other numbers of codebooks")
        return config

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], *, return_unused_kwargs: bool = False, **values: Any) -> Any:
        """A configuration of a dictionary, in which `values` replace those of their names.

        With `return_unused_kwargs`, also those of `values` that are no fields.
        """
        used = {name: values.pop(name) for name in list(values) if name in config_dict or hasattr(cls, name)}
        config = cls(**{**config_dict, **used})
        return (config, values) if return_unused_kwargs else config

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **values: Any) -> Any:
        """The configuration of a saved model: its folder, its `config.json`, any checkpoint, a hub id or an embedded model's name.

        Of `values`, those that are fields replace the stored ones. Raises `PretrainedNotFoundError` (an `OSError`).
        """
        subfolder = take_hub_arguments(pretrained_model_name_or_path, values)
        stored = stored_config(find(pretrained_model_name_or_path, subfolder))
        return cls.from_dict({**stored, "name_or_path": str(pretrained_model_name_or_path)}, **values)

    def save_pretrained(self, save_directory: str | Path, **arguments: Any) -> None:
        """Write `config.json` into a folder, as `from_pretrained` and `transformers` read it."""
        refuse_others(arguments)
        write_object(save_directory, "config.json", self.to_json_string())

    def to_dict(self) -> dict[str, Any]:
        """All values but the name, ready for JSON."""
        values = {name: value for name, value in vars(self).items() if name != "name_or_path"}
        return {"return_dict": self.return_dict, **values, "model_type": self.model_type}

    def to_json_string(self) -> str:
        """The values as JSON, sorted by name."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True, default=str) + "\n"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EncodecConfig) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    @property
    def chunk_length(self) -> int | None:
        """The samples in a chunk, None if clips are coded as a whole."""
        return self.codec_config().chunk_length

    @property
    def chunk_stride(self) -> int | None:
        """The samples from the beginning of one chunk to that of the next."""
        return self.codec_config().chunk_stride

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.upsampling_ratios)

    @property
    def codebook_nbits(self) -> int:
        """Bits per code."""
        return math.ceil(math.log2(self.codebook_size))

    @property
    def frame_rate(self) -> int:
        """Frames per second, rounded up."""
        return math.ceil(self.sampling_rate / self.hop_length)

    @property
    def num_quantizers(self) -> int:
        """The number of codebooks in the model."""
        return self.codec_config().num_quantizers


_FIELDS = tuple(field.name for field in fields(CodecConfig) if field.name != "search_beam")
