"""The arguments of `from_pretrained`: those that mean something here, and those that are refused unless they change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from streamcodec.compat.transformers.config import EncodecConfig
from streamcodec.compat.transformers.folders import refuse_others, take_hub_arguments
from streamcodec.errors import InputError

__all__ = ["LoadOptions", "check_saving"]

_FLOAT32 = (None, "auto", "float32", torch.float32)

# What is allowed because it changes nothing: a model without attention, on one device, that is checked as it is loaded; in one file.
_LOADING: Mapping[str, tuple[Any, ...]] = {
    "attn_implementation": (None, "eager"),
    "experts_implementation": (None, "eager"),
    "device_mesh": (None,),
    "disable_mmap": (None, False, True),
    "distributed_config": (None,),
    "fusion_config": (None,),
    "ignore_mismatched_sizes": (False,),
    "key_mapping": (None,),
    "low_cpu_mem_usage": (None, False, True),
    "max_memory": (None,),
    "offload_buffers": (False, None),
    "offload_folder": (None,),
    "output_loading_info": (False,),
    "quantization_config": (None,),
    "trust_remote_code": (None, False, True),
    "use_safetensors": (None, True),
    "variant": (None,),
    "weights_only": (True,),
}

_SAVING: Mapping[str, tuple[Any, ...]] = {
    "distributed_checkpoint": (False,),
    "max_shard_size": ("50GB",),
    "push_to_hub": (False,),
    "safe_serialization": (True,),
    "save_original_format": (True, False),
    "save_peft_format": (True, False),
    "state_dict": (None,),
    "token": (None,),
    "variant": (None,),
}


@dataclass(frozen=True)
class LoadOptions:
    """What `from_pretrained` is told besides the model's name and the engine."""

    config: EncodecConfig | None
    state_dict: Mapping[str, Any] | None
    device: torch.device
    subfolder: str

    @classmethod
    def take(cls, name_or_path: Any, arguments: dict[str, Any]) -> LoadOptions:
        """Remove from `arguments` all that is no field of the configuration; raises `InputError` for what cannot be done here."""
        subfolder = take_hub_arguments(name_or_path, arguments)
        _take_plain(arguments, _LOADING)
        for name in ("dtype", "torch_dtype"):
            if (dtype := arguments.pop(name, None)) not in _FLOAT32:
                raise InputError(f"{name} is {dtype!r}, expected torch.float32 or 'auto': the model runs in float32")
        config = arguments.pop("config", None)
        if config is not None and not isinstance(config, EncodecConfig):
            config = EncodecConfig.from_dict(config.to_dict()) if hasattr(config, "to_dict") else EncodecConfig.from_pretrained(config)
        return cls(config, arguments.pop("state_dict", None), _device(arguments.pop("device_map", None)), subfolder)


def check_saving(arguments: dict[str, Any]) -> bool:
    """Whether to write, which the main process does; raises `InputError` for arguments that ask for other files than one of weights."""
    main = bool(arguments.pop("is_main_process", True))
    _take_plain(arguments, _SAVING)
    refuse_others(arguments)
    return main


def _take_plain(arguments: dict[str, Any], plain: Mapping[str, tuple[Any, ...]]) -> None:
    for name, allowed in plain.items():
        value = arguments.pop(name, allowed[0])
        if not any(value is each or (isinstance(value, str) and value == each) for each in allowed):
            raise InputError(f"{name} is {value!r}, expected {' or '.join(map(repr, allowed))}: see the documentation's table")


def _device(device_map: Any) -> torch.device:
    """The one device that a map names."""
    if isinstance(device_map, Mapping) and set(device_map) == {""}:
        device_map = device_map[""]
    if device_map == "auto":
        device_map = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.device("cpu" if device_map is None else device_map)
    except (RuntimeError, TypeError) as exc:
        raise InputError(f"device_map is {device_map!r}, expected one device for the whole model") from exc
