"""Writes ONNX graphs: nodes of the standard operators, by name, with weights stored in half precision where that is exact.

A weight that float16 holds exactly is stored so and cast to float32 by the graph; a runtime does that once, when it loads the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

__all__ = ["IR_VERSION", "OPSET", "Graph", "Port", "WeightsFile"]

OPSET = 17
IR_VERSION = 8

_SMALL = 1024  # bytes: a tensor of less stays in the graph's own file
_ALIGNMENT = 64
_TYPES: dict[str, int] = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "int64": TensorProto.INT64}

Array = npt.NDArray[Any]


class Port(TypedDict):
    """An input or an output of a graph; a size that is a name may be any."""

    name: str
    type: str
    shape: list[int | str]


class WeightsFile:
    """The content of a file of weights that several graphs may share; `name` is the file's, beside theirs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._content = bytearray()
        self._offsets: dict[str, int] = {}

    @property
    def content(self) -> bytes:
        return bytes(self._content)

    def add(self, key: str, data: bytes) -> int:
        """The offset of `data`, which is stored once for each key."""
        if key not in self._offsets:
            self._content += b"\0" * (-len(self._content) % _ALIGNMENT)
            self._offsets[key] = len(self._content)
            self._content += data
        return self._offsets[key]


class Graph:
    """One graph as it is written. Values are known by their names, which the methods return.

    `place` says in which file of weights a weight of some name lies; without it, all weights lie in the graph itself.
    """

    def __init__(self, name: str, place: Callable[[str], WeightsFile] | None = None) -> None:
        self._name = name
        self._place = place
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self._casts: dict[str, str] = {}
        self.files: list[WeightsFile] = []

    def input(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """An input of the graph; a size that is a name may be any."""
        self.inputs.append({"name": name, "type": dtype, "shape": list(shape)})
        return name

    def output(self, value: str, name: str, dtype: str, shape: Sequence[int | str]) -> None:
        """Make `value` an output of the graph by the name `name`."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self.outputs.append({"name": name, "type": dtype, "shape": list(shape)})

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; return its only output."""
        [output] = self.add_several(operator, 1, *inputs, **attributes)
        return output

    def add_several(self, operator: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with `count` outputs; return them."""
        outputs = [f"v{len(self._nodes)}_{i}" for i in range(count)]
        self._nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return outputs

    def cast(self, value: str, dtype: str) -> str:
        """`value` as numbers of another kind."""
        return self.add("Cast", value, to=_TYPES[dtype])

    def ints(self, *values: int) -> str:
        """A constant [len(values)] of whole numbers."""
        name = "i_" + "_".join(str(value).replace("-", "m") for value in values)
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.array(values, np.int64), name)
        return name

    def number(self, value: float) -> str:
        """A constant of one float, which has no axes."""
        name = f"f_{value!r}".replace("-", "m")
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(np.array(value, np.float32), name)
        return name

    def weight(self, name: str, array: Array) -> str:
        """A weight; one that was added under this name already is the same."""
        if name in self._casts:
            return self._casts[name]
        array = np.ascontiguousarray(array, np.float32)
        with np.errstate(over="ignore"):
            half = array.astype("<f2")
        exact = bool(np.array_equal(half.astype(np.float32), array))
        self._initializers[name] = self._stored(name, half if exact else array.astype("<f4"))
        self._casts[name] = self.cast(name, "float32") if exact else name
        return self._casts[name]

    def _stored(self, name: str, array: Array) -> onnx.TensorProto:
        tensor = numpy_helper.from_array(array, name)
        if self._place is None or array.nbytes < _SMALL:
            return tensor
        file = self._place(name)
        if file not in self.files:
            self.files.append(file)
        offset = file.add(name, tensor.raw_data)
        set_external_data(tensor, file.name, offset, len(tensor.raw_data))
        tensor.ClearField("raw_data")
        return tensor

    def serialize(self) -> bytes:
        """The model in ONNX's own format; the weights of `files` are not in it."""
        inputs, outputs = ([_value_info(port) for port in ports] for ports in (self.inputs, self.outputs))
        graph = helper.make_graph(self._nodes, self._name, inputs, outputs, list(self._initializers.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, producer_name="streamcodec", opset_imports=opsets, ir_version=IR_VERSION)
        data: bytes = model.SerializeToString()
        return data


def _value_info(port: Port) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(port["name"], _TYPES[port["type"]], port["shape"])
