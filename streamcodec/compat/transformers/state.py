"""The state dict of a model under the names of `transformers`, weight norm included: each side loads the other's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from streamcodec.errors import CheckpointError
from streamcodec.model.canonical import canonical_shapes
from streamcodec.model.checkpoint import layouts
from streamcodec.model.encodec import EncodecModel

__all__ = ["OWN_PREFIX", "from_reference_names", "to_reference_names"]

OWN_PREFIX = "network."
"""What the names of this package's own tensors begin with, within the module that these hooks are for."""


def to_reference_names(module: nn.Module, state_dict: dict[str, Any], prefix: str, _: Any) -> None:
    """A hook after `state_dict`: replace the tensors of the module's `network` by those of `transformers`."""
    for name in [name for name in state_dict if name.startswith(prefix + OWN_PREFIX)]:
        del state_dict[name]
    network = _network(module)
    named = layouts.to_canonical(network)
    if network.config.norm_type != "time_group_norm":
        named = layouts.unfold(named, layouts.WEIGHT_NORM[1])
    state_dict.update({prefix + name: tensor for name, tensor in layouts.with_training_buffers(named).items()})


def from_reference_names(
    module: nn.Module,
    state_dict: dict[str, Any],
    prefix: str,
    _: Any,
    __: bool,
    missing_keys: list[str],
    ___: list[str],
    error_msgs: list[str],
) -> None:
    """A hook before `load_state_dict`: replace tensors under the names of `transformers` by those of the module's `network`."""
    network = _network(module)
    given = {name.removeprefix(prefix): state_dict.pop(name) for name in list(state_dict) if name.startswith(prefix)}
    current, shapes = layouts.to_canonical(network), canonical_shapes(network.config)
    try:
        named = layouts.canonical(given, Path("state_dict"))
    except CheckpointError as exc:
        error_msgs.append(str(exc))
        named = current
    missing_keys += [prefix + name for name in current if name not in named]
    fitting: dict[str, Tensor] = {}
    for name, tensor in current.items():
        fitting[name] = named.pop(name, tensor)
        if tuple(fitting[name].shape) != shapes[name]:
            error_msgs.append(f"{prefix}{name} has shape {list(fitting[name].shape)}, this model's has {list(shapes[name])}")
            fitting[name] = tensor
    state_dict.update({prefix + OWN_PREFIX + name: tensor for name, tensor in layouts.from_canonical(network, fitting).items()})
    state_dict.update({prefix + name: tensor for name, tensor in named.items()})  # torch tells that they are unexpected


def _network(module: nn.Module) -> EncodecModel:
    network = module.network
    assert isinstance(network, EncodecModel)
    return network
