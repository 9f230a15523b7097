"""Layers as ONNX graphs give what the torch layers give: every kind, in steps that start a stream, end it, do both or neither."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamcodec.config import CodecConfig
from streamcodec.engine.graph import StateLayout
from streamcodec.engine.onnx.codebooks import CodebookWriter
from streamcodec.engine.onnx.graph import Graph
from streamcodec.engine.onnx.layers import LayerWriter, state_size
from streamcodec.model.architecture import ConvSpec, ConvTransposeSpec, LayerSpec, LstmSpec, ResidualSpec
from streamcodec.model.canonical import Tensors, embed_name
from streamcodec.model.layers import ConvTranspose1d, Sequence1d
from streamcodec.model.quantizer import search
from streamcodec.model.seanet import modules_of

PAD_MODES = st.sampled_from(["reflect", "constant"])
WITHIN = {"rtol": 1e-4, "atol": 1e-5}


@st.composite
def convolutions(draw: st.DrawFn) -> ConvSpec:
    stride = draw(st.integers(1, 4))
    dilation = draw(st.integers(1, 3)) if stride == 1 else 1
    kernel = draw(st.integers(1, 7)) if stride == 1 else draw(st.integers(2 * stride - 1, 2 * stride + 3))
    return ConvSpec(2, draw(st.integers(1, 3)), kernel, stride, dilation, draw(PAD_MODES))


KINDS: dict[str, st.SearchStrategy[LayerSpec]] = {
    "convolution": convolutions(),
    "transposed convolution": st.builds(
        ConvTransposeSpec, st.just(2), st.integers(1, 3), st.integers(1, 6), st.sampled_from([1.0, 0.5, 0.0])
    ),
    "LSTM": st.builds(LstmSpec, st.just(2), st.integers(1, 3)),
    "residual unit": st.builds(
        ResidualSpec.of,
        st.just(2),
        st.integers(1, 5),
        st.integers(1, 3),
        compress=st.just(1),
        pad_mode=PAD_MODES,
        conv_shortcut=st.booleans(),
    ),
}


@dataclass(frozen=True)
class Both:
    """One layer with random weights as a torch module, and as graphs."""

    spec: LayerSpec
    module: Sequence1d
    tensors: Tensors

    @classmethod
    def of(cls, spec: LayerSpec) -> Both:
        module = modules_of([spec])
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        tensors = {}
        for name, tensor in module.state_dict().items():
            if isinstance(spec, ConvTransposeSpec) and name.endswith("conv.weight"):
                tensor = ConvTranspose1d.to_transposed(tensor, spec.stride)
            tensors[f"half.{name}"] = tensor.numpy()
        return cls(spec, module, tensors)

    def run(self, x: Tensor, states: Tensor | None, final: bool) -> tuple[Tensor, Tensor]:
        """A step by ONNX Runtime."""
        graph = Graph("layer")
        given_x = graph.input("x", "float32", ["streams", "channels", "length"])
        given_states = None if states is None else graph.input("states", "float32", ["streams", "size"])
        y, new_states = LayerWriter(graph, self.tensors, states is None, final).write([self.spec], "half", given_x, given_states)
        graph.output(y, "y", "float32", ["streams", "out_channels", "out_length"])
        graph.output(new_states, "new_states", "float32", ["streams", "size"])
        session = onnxruntime.InferenceSession(graph.serialize(), providers=["CPUExecutionProvider"])
        inputs = {"x": x.numpy()} if states is None else {"x": x.numpy(), "states": states.numpy()}
        y_now, states_now = session.run(None, inputs)
        return torch.from_numpy(y_now), torch.from_numpy(states_now)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=30)
@given(data=st.data())
def test_a_step_of_any_kind_is_the_torch_layer_s(kind: str, data: st.DataObject) -> None:
    torch.manual_seed(data.draw(st.integers(0, 99)))
    both = Both.of(data.draw(KINDS[kind]))
    start, final = data.draw(st.booleans(), label="start"), data.draw(st.booleans(), label="final")
    stride = getattr(both.spec, "stride", 1) if isinstance(both.spec, ConvSpec) else 1
    fewest = 1
    while start and not final and both.spec.out_length(fewest * stride) <= 0:
        fewest += 1
    length = data.draw(st.integers(fewest, fewest + 5)) * stride
    if final and isinstance(both.spec, ConvSpec):
        length = max(1, length - data.draw(st.integers(0, stride - 1), label="cut"))
    streams = data.draw(st.integers(1, 3))
    x = torch.randn(streams, 2, length)
    assume(both.spec.state_shapes)  # layers without a state are tried as parts of others
    layout = StateLayout([tuple(shape) for shape in both.spec.state_shapes])
    assert layout.size == state_size([both.spec])
    states = None if start else torch.randn(streams, layout.size)
    with torch.no_grad():
        expected, state = both.module(x, None if states is None else layout.unpack(states), final)
    y, new_states = both.run(x, states, final)
    torch.testing.assert_close(y, expected, **WITHIN)
    torch.testing.assert_close(new_states, layout.pack(state), **WITHIN)


@settings(max_examples=30)
@given(levels=st.integers(1, 4), beam=st.integers(1, 5), rows=st.integers(1, 7), seed=st.integers(0, 99))
def test_a_search_takes_the_paths_of_the_model_s(levels: int, beam: int, rows: int, seed: int) -> None:
    # Whole numbers have no rounding errors, and random ones no ties.
    rng = np.random.default_rng(seed)
    embed = rng.integers(-900, 900, (levels, 8, 3)).astype(np.float32)
    residuals = rng.integers(-900, 900, (rows, 3)).astype(np.float32)
    config = CodecConfig(codebook_size=8, codebook_dim=3, hidden_size=3, search_beam=beam)
    graph = Graph("search")
    writer = CodebookWriter(graph, config, {embed_name(level): entries for level, entries in enumerate(embed)})
    entries, remaining = writer.search(graph.input("residuals", "float32", ["rows", 3]), 0, levels)
    graph.output(graph.cast(entries, "int32"), "entries", "int32", ["rows", levels])
    graph.output(remaining, "remaining", "float32", ["rows", 3])
    session = onnxruntime.InferenceSession(graph.serialize(), providers=["CPUExecutionProvider"])
    found, left = session.run(None, {"residuals": residuals})
    paths, expected = search(torch.from_numpy(residuals), torch.from_numpy(embed), beam)
    np.testing.assert_array_equal(found, paths)
    np.testing.assert_array_equal(left, expected)
