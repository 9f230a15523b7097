"""A batch by name, as `transformers.BatchFeature` is."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from streamcodec.errors import InputError

__all__ = ["BatchFeature", "one_of"]

_KINDS = ("pt", "np")


class BatchFeature(UserDict[str, Any]):
    """A batch by name: `batch["input_values"]` and `batch.input_values` are one, and `model(**batch)` works."""

    def __init__(self, data: Mapping[str, Any] | None = None, tensor_type: str | None = None) -> None:
        super().__init__(data)
        self.convert_to_tensors(tensor_type)

    def __getattr__(self, name: str) -> Any:
        # `data` itself is missing while a pickle is read.
        if name != "data" and name in self.data:
            return self.data[name]
        raise AttributeError(f"this batch has no {name!r}")

    def convert_to_tensors(self, tensor_type: str | None = None) -> BatchFeature:
        """Turn each list into one array ("np") or tensor ("pt"); None changes nothing.

        Raises `InputError` for another type, and for "pt" where lengths differ.
        """
        if tensor_type is None:
            return self
        kind = one_of("return_tensors", tensor_type, _KINDS)
        for name, value in self.data.items():
            try:
                self.data[name] = _stacked(value) if kind == "np" else _tensor(value)
            except (ValueError, TypeError) as exc:
                raise InputError(f"{name} has clips of different lengths: set padding, or no return_tensors") from exc
        return self

    def to(self, *args: Any, **kwargs: Any) -> BatchFeature:
        """Move all tensors as `torch.Tensor.to` does; only floating-point ones change their dtype."""
        device = kwargs.get("device", next((arg for arg in args if not isinstance(arg, torch.dtype)), None))

        def moved(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return type(value)(moved(each) for each in value)
            if not isinstance(value, torch.Tensor):
                return value
            return value.to(*args, **kwargs) if value.is_floating_point() else value if device is None else value.to(device)

        self.data = {name: moved(value) for name, value in self.data.items()}
        return self


def one_of(name: str, value: Any, choices: Sequence[str]) -> str:
    """The choice that `value` is; raises `InputError` if it is none."""
    for choice in choices:
        if value == choice:  # also where it is an enumeration's member that is text
            return choice
    raise InputError(f"{name} is {value!r}, expected one of {', '.join(choices)}")


def _stacked(value: Any) -> Any:
    """A list as one array; one of objects if its rows have different lengths."""
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, torch.Tensor):
        return value.numpy()
    if len({len(row) for row in value if np.ndim(row)}) <= 1:
        return np.asarray(value)
    ragged = np.empty(len(value), object)
    for i, row in enumerate(value):
        ragged[i] = np.asarray(row)
    return ragged


def _tensor(value: Any) -> Any:
    return value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))
