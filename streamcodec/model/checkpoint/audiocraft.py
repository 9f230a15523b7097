"""The configuration that audiocraft stores with a model (`xp.cfg`), read into a `CodecConfig` and written from one.

Follows audiocraft's `config/model/encodec` and `audiocraft/models/builders.py`. It says more than the tensors' shapes do: padding,
causality, sampling rate. A value that cannot run here is refused by its name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamcodec.config import CodecConfig
from streamcodec.errors import CheckpointError, MissingDependencyError, UnsupportedModelError

__all__ = ["audiocraft_config", "xp_cfg"]

_REFERENCE = re.compile(r"^\$\{([\w.]+)\}$")
_DEEPEST = 8

# Names in xp.cfg, the fields that they are here, and their values where they are not told.
_FIELDS = {
    "seanet.n_filters": ("num_filters", 32),
    "seanet.ratios": ("upsampling_ratios", [8, 5, 4, 2]),
    "seanet.dimension": ("hidden_size", 128),
    "seanet.lstm": ("num_lstm_layers", 0),
    "seanet.n_residual_layers": ("num_residual_layers", 3),
    "seanet.kernel_size": ("kernel_size", 7),
    "seanet.last_kernel_size": ("last_kernel_size", 7),
    "seanet.residual_kernel_size": ("residual_kernel_size", 3),
    "seanet.dilation_base": ("dilation_growth_rate", 2),
    "seanet.compress": ("compress", 2),
    "seanet.pad_mode": ("pad_mode", "reflect"),
    "seanet.norm": ("norm_type", "none"),
    "seanet.decoder.trim_right_ratio": ("trim_right_ratio", 1.0),
    "rvq.bins": ("codebook_size", 1024),
}
# What has one value in every model that runs here.
_FIXED = {
    "compression_model": "encodec",
    "encodec.autoencoder": "seanet",
    "encodec.quantizer": "rvq",
    "seanet.activation": "ELU",
    "seanet.activation_params.alpha": 1.0,
    "seanet.decoder.final_activation": None,
}
_BANDWIDTHS = (1.5, 3.0, 6.0, 12.0, 24.0)
# What audiocraft's configuration has no word for stands in a section of its own, which audiocraft leaves alone.
_SECTION = "streamcodec"
_OURS = ("target_bandwidths", "search_beam", "chunk_length_s", "overlap")


def audiocraft_config(stored: Any, path: Path) -> CodecConfig:
    """Read `xp.cfg`: YAML text as an export has it, or a mapping.

    Raises `CheckpointError` if it is neither, `UnsupportedModelError` for a model of another kind.
    """
    cfg = _parse(stored, path)

    def told(name: str, default: Any) -> Any:
        value = _look_up(cfg, name)
        return default if value is _ABSENT else value

    for name, expected in _FIXED.items():
        value = told(name, expected)
        if value != expected:
            raise UnsupportedModelError(f"{path}: xp.cfg says {name} {value!r}, expected {expected!r}")
    values = {field: told(name, default) for name, (field, default) in _FIELDS.items()}
    values["use_causal_conv"] = told("seanet.causal", told("encodec.causal", False))
    values["normalize"] = told("encodec.renormalize", False)
    values["sampling_rate"] = told("encodec.sample_rate", told("sample_rate", None))
    values["audio_channels"] = told("encodec.channels", told("channels", 1))
    values["use_conv_shortcut"] = not told("seanet.true_skip", True)
    if values["sampling_rate"] is None:
        raise CheckpointError(f"{path}: xp.cfg has no sample_rate")
    n_q = told("rvq.n_q", 8)
    if isinstance(n_q, bool) or not isinstance(n_q, int) or n_q < 1:
        raise CheckpointError(f"{path}: xp.cfg says rvq.n_q {n_q!r}, expected a number of codebooks")
    # The bandwidth of all codebooks needs the fields that are checked here; one codebook is a bandwidth of any model.
    ratios, size, rate = values["upsampling_ratios"], values["codebook_size"], values["sampling_rate"]
    if not isinstance(ratios, list) or not all(type(number) is int and number > 0 for number in (*ratios, size, rate)):
        raise CheckpointError(
            f"{path}: xp.cfg says seanet.ratios {ratios!r}, rvq.bins {size!r} and sample_rate {rate!r}, expected integers above 0"
        )
    each = rate / math.prod(ratios) * (size.bit_length() - 1) / 1000
    usual = [kbps for kbps in _BANDWIDTHS if each <= kbps < n_q * each]
    values["target_bandwidths"] = [*usual, n_q * each]
    ours = {field: value for field in _OURS if (value := told(f"{_SECTION}.{field}", None)) is not None}
    return CodecConfig.from_dict({**values, **ours})


def xp_cfg(config: CodecConfig) -> str:
    """Write the configuration of a model as the YAML text of `xp.cfg`, from which `audiocraft_config` reads the same one.

    audiocraft itself codes a clip as a whole, whatever `chunk_length_s` is.
    """
    values = config.to_dict()
    cfg: dict[str, Any] = {"sample_rate": config.sampling_rate, "channels": config.audio_channels}
    told = {name: values[field] for name, (field, _) in _FIELDS.items()} | _FIXED
    told["encodec.sample_rate"], told["encodec.channels"] = config.sampling_rate, config.audio_channels
    told["encodec.causal"] = told["seanet.causal"] = config.use_causal_conv
    told["encodec.renormalize"] = config.normalize
    told["seanet.channels"] = config.audio_channels
    told["seanet.true_skip"] = not config.use_conv_shortcut
    told["rvq.n_q"] = config.num_quantizers
    told |= {"seanet.norm_params": {}, "seanet.encoder": {}}  # audiocraft asks for these, too
    told |= {f"{_SECTION}.{field}": values[field] for field in _OURS}
    for name, value in told.items():
        *sections, last = name.split(".")
        place = cfg
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    text: str = _yaml().safe_dump(cfg, sort_keys=False)
    return text


_ABSENT = object()


def _look_up(cfg: Mapping[str, Any], name: str, depth: int = 0) -> Any:
    """The value of a dotted name; `${other.name}` stands for another one's."""
    value: Any = cfg
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _ABSENT
        value = value[part]
    if isinstance(value, str) and (reference := _REFERENCE.match(value)):
        return _ABSENT if depth == _DEEPEST else _look_up(cfg, reference[1], depth + 1)
    return value


def _parse(stored: Any, path: Path) -> Mapping[str, Any]:
    if isinstance(stored, str):
        yaml = _yaml()
        try:
            stored = yaml.safe_load(stored)
        except (yaml.YAMLError, RecursionError, ValueError) as exc:
            raise CheckpointError(f"{path}: its xp.cfg is no YAML: {' '.join(str(exc).split())[:200]}") from exc
    if not isinstance(stored, Mapping):
        raise CheckpointError(f"{path}: its xp.cfg is a {type(stored).__name__}, expected a mapping")
    return stored


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as exc:
        raise MissingDependencyError("audiocraft's checkpoints need pyyaml: pip install 'streamcodec[codec]'") from exc
    return yaml
