"""For every kind of layer, any chunking of a stream gives the output of the whole clip, and layers store nothing between calls."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from streamcodec.config import CodecConfig
from streamcodec.model.architecture import ConvSpec, ConvTransposeSpec, ResidualSpec
from streamcodec.model.layers import LSTM, Conv1d, ConvTranspose1d, Elu, ResidualBlock, Sequence1d, State, StreamingLayer
from streamcodec.model.seanet import build_decoder, build_encoder

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
PAD_MODES = st.sampled_from(["reflect", "constant"])


@dataclass(frozen=True)
class Case:
    """A layer with random weights, the channels it takes, and the steps that a piece of a stream must be a multiple of."""

    layer: StreamingLayer
    channels: int
    stride: int = 1


@st.composite
def convolutions(draw: st.DrawFn) -> Case:
    stride = draw(st.integers(1, 5))
    dilation = draw(st.integers(1, 3)) if stride == 1 else 1
    # Reflecting the last partial stride looks back over stride - 1 inputs, so a stream's history must hold as many.
    # EnCodec has k = 2 stride.
    kernel = draw(st.integers(1, 7)) if stride == 1 else draw(st.integers(2 * stride - 1, 2 * stride + 3))
    channels = draw(st.integers(1, 3))
    layer = Conv1d(ConvSpec(channels, draw(st.integers(1, 3)), kernel, stride=stride, dilation=dilation, pad_mode=draw(PAD_MODES)))
    return Case(layer, channels, stride)


@st.composite
def transposed_convolutions(draw: st.DrawFn) -> Case:
    channels, outputs, stride = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 6))
    layer = ConvTranspose1d(ConvTransposeSpec(channels, outputs, stride, trim_right_ratio=draw(st.sampled_from([1.0, 0.7, 0.5, 0.0]))))
    torch.nn.init.normal_(layer.conv.bias)
    return Case(layer, channels)


@st.composite
def residual_blocks(draw: st.DrawFn) -> Case:
    channels = 2 * draw(st.integers(1, 3))
    unit = ResidualSpec.of(
        channels,
        draw(st.integers(1, 5)),
        draw(st.integers(1, 3)),
        compress=draw(st.sampled_from([1, 2])),
        pad_mode=draw(PAD_MODES),
        conv_shortcut=draw(st.booleans()),
    )
    return Case(ResidualBlock(unit), channels)


@st.composite
def whole_networks(draw: st.DrawFn) -> Case:
    config = CodecConfig(
        num_filters=2,
        hidden_size=4,
        codebook_dim=4,
        codebook_size=16,
        upsampling_ratios=draw(st.sampled_from([(3, 2), (2,), (1, 2), (4, 1, 2)])),
        num_lstm_layers=draw(st.integers(0, 2)),
        num_residual_layers=draw(st.integers(0, 2)),
        kernel_size=draw(st.sampled_from([1, 3, 7])),
        last_kernel_size=draw(st.sampled_from([1, 5])),
        pad_mode=draw(PAD_MODES),
        use_conv_shortcut=draw(st.booleans()),
        trim_right_ratio=draw(st.sampled_from([1.0, 0.5])),
        target_bandwidths=(1000.0,),
    )
    if draw(st.booleans()):
        return Case(build_encoder(config), 1, config.hop_length)
    return Case(build_decoder(config), config.hidden_size)


@st.composite
def lstms(draw: st.DrawFn) -> Case:
    channels = draw(st.integers(1, 4))
    return Case(LSTM(channels, draw(st.integers(1, 3))), channels)


KINDS: dict[str, st.SearchStrategy[Case]] = {
    "Elu": st.builds(lambda channels: Case(Elu(), channels), st.integers(1, 3)),
    "Conv1d": convolutions(),
    "ConvTranspose1d": transposed_convolutions(),
    "LSTM": lstms(),
    "ResidualBlock": residual_blocks(),
    "Sequence1d": whole_networks(),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def _without_gradients() -> object:
    with torch.inference_mode():
        yield


def steps_to_open(case: Case) -> int:
    """The fewest steps that open a stream exactly."""
    steps = case.stride
    while case.layer.out_length(steps) <= 0:
        steps += case.stride
    return steps


def draw_case(data: st.DataObject, kind: str) -> Case:
    torch.manual_seed(data.draw(st.integers(0, 9), label="weights"))
    return data.draw(KINDS[kind], label=kind)


def draw_input(data: st.DataObject, case: Case, length: int, *, batch: int | None = None) -> Tensor:
    rows = batch or data.draw(st.integers(1, 3), label="batch")
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 9), label="input"))
    return torch.randn(rows, case.channels, length, generator=generator)


def draw_pieces(data: st.DataObject, case: Case) -> list[int]:
    """Lengths of a stream's pieces: whole strides, the first long enough to open it, the last of any length."""
    first = steps_to_open(case) + case.stride * data.draw(st.integers(0, 4), label="more in the first piece")
    middle = data.draw(st.lists(st.integers(1, 5), max_size=4), label="strides of the middle pieces")
    last = data.draw(st.integers(1, 3 * case.stride), label="last piece")
    return [first, *(case.stride * strides for strides in middle), last]


def run_pieces(case: Case, pieces: tuple[Tensor, ...]) -> Tensor:
    state: State | None = None
    outputs = []
    for i, piece in enumerate(pieces):
        y, state = case.layer(piece, state, i == len(pieces) - 1)
        outputs.append(y)
    return torch.cat(outputs, dim=-1)


@every_kind
@settings(max_examples=40)
@given(data=st.data())
def test_a_stream_in_pieces_equals_the_clip_in_one(kind: str, data: st.DataObject) -> None:
    case = draw_case(data, kind)
    lengths = draw_pieces(data, case)
    x = draw_input(data, case, sum(lengths))
    whole, _ = case.layer(x, None, True)
    torch.testing.assert_close(run_pieces(case, x.split(lengths, dim=-1)), whole, **TOLERANCE)


@every_kind
@settings(max_examples=20)
@given(data=st.data())
def test_a_state_is_a_value_that_steps_neither_change_nor_remember(kind: str, data: st.DataObject) -> None:
    case = draw_case(data, kind)
    opening = draw_input(data, case, steps_to_open(case) + 2 * case.stride, batch=2)
    _, state = case.layer(opening, None)
    assert len(state) == case.layer.num_states
    assert all(tensor.shape[0] == 2 for tensor in state)
    kept = tuple(tensor.clone() for tensor in state)
    one, other = draw_input(data, case, 3 * case.stride, batch=2), draw_input(data, case, case.stride, batch=2)
    x_kept = one.clone()
    y, after = case.layer(one, state)
    case.layer(other, state, True)
    case.layer(opening, None, True)
    again, after_again = case.layer(one, kept)
    assert all(torch.equal(a, b) for a, b in zip(state, kept, strict=True))
    assert torch.equal(one, x_kept)
    assert torch.equal(y, again)
    assert all(torch.equal(a, b) for a, b in zip(after, after_again, strict=True))


@every_kind
@settings(max_examples=20)
@given(data=st.data())
def test_rows_of_a_batch_are_independent(kind: str, data: st.DataObject) -> None:
    case = draw_case(data, kind)
    opening = draw_input(data, case, steps_to_open(case) + case.stride, batch=4)
    following = draw_input(data, case, 2 * case.stride, batch=4)
    order = torch.tensor(data.draw(st.permutations(range(4)), label="order"))
    _, state = case.layer(opening, None)
    y, after = case.layer(following, state)
    _, state_permuted = case.layer(opening[order], None)
    y_permuted, after_permuted = case.layer(following[order], state_permuted)
    torch.testing.assert_close(y_permuted, y[order], **TOLERANCE)
    for permuted, straight in zip(after_permuted, after, strict=True):
        torch.testing.assert_close(permuted, straight[order], **TOLERANCE)
    gathered = tuple(tensor[1:2] for tensor in state)
    torch.testing.assert_close(case.layer(following[1:2], gathered)[0], y[1:2], **TOLERANCE)


@every_kind
@settings(max_examples=25)
@given(data=st.data())
def test_out_length_is_how_many_steps_the_first_piece_becomes(kind: str, data: st.DataObject) -> None:
    case = draw_case(data, kind)
    length = steps_to_open(case) + case.stride * data.draw(st.integers(0, 5), label="more")
    y, _ = case.layer(draw_input(data, case, length), None)
    assert y.shape[-1] == case.layer.out_length(length)


@settings(max_examples=25)
@given(data=st.data())
def test_a_reflecting_convolution_says_that_a_first_piece_is_too_short(data: st.DataObject) -> None:
    kernel, dilation = data.draw(st.integers(2, 7), label="kernel"), data.draw(st.integers(1, 3), label="dilation")
    layer = Conv1d(ConvSpec(1, 1, kernel, dilation=dilation))
    needed = (kernel - 1) * dilation + 1
    length = data.draw(st.integers(1, needed - 1), label="length")
    assert layer.out_length(length) == 0
    assert layer.out_length(needed) == needed
    with pytest.raises(ValueError, match=f"{length} steps cannot open a stream exactly: .* needs {needed}"):
        layer(torch.zeros(1, 1, length), None)
    assert layer(torch.zeros(1, 1, length), None, True)[0].shape[-1] == length


def test_a_kernel_that_would_skip_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel 3 with dilation 1 is shorter than stride 4"):
        Conv1d(ConvSpec(1, 1, 3, stride=4))


@settings(max_examples=40)
@given(data=st.data())
def test_the_polyphase_convolution_equals_a_transposed_one_with_its_bias_added_once(data: st.DataObject) -> None:
    channels, outputs, stride = (data.draw(st.integers(1, 5)) for _ in range(3))
    ratio = data.draw(st.sampled_from([1.0, 0.5, 0.3, 0.0]), label="trim_right_ratio")
    torch.manual_seed(data.draw(st.integers(0, 9)))
    weight, bias = torch.randn(channels, outputs, 2 * stride), torch.randn(outputs)
    layer = ConvTranspose1d(ConvTransposeSpec(channels, outputs, stride, trim_right_ratio=ratio))
    layer.conv.weight.copy_(ConvTranspose1d.from_transposed(weight))
    layer.conv.bias.copy_(bias)
    x = torch.randn(2, channels, data.draw(st.integers(1, 9), label="steps"))
    full = F.conv_transpose1d(x, weight, bias, stride=stride)  # stride outputs more than the causal layer keeps
    right = -int(-stride * ratio // 1)
    expected = full[..., stride - right : full.shape[-1] - right]
    torch.testing.assert_close(layer(x, None, True)[0], expected, **TOLERANCE)


@given(channels=st.integers(1, 5), outputs=st.integers(1, 5), stride=st.integers(1, 6))
def test_the_polyphase_weight_layout_is_reversible(channels: int, outputs: int, stride: int) -> None:
    weight = torch.randn(channels, outputs, 2 * stride)
    polyphase = ConvTranspose1d.from_transposed(weight)
    assert polyphase.shape == (outputs * stride, channels, 2)
    assert torch.equal(ConvTranspose1d.to_transposed(polyphase, stride), weight)
    assert torch.equal(ConvTranspose1d.from_transposed(ConvTranspose1d.to_transposed(polyphase, stride)), polyphase)


def test_an_empty_sequence_is_the_identity_without_state() -> None:
    x = torch.randn(1, 2, 3)
    y, state = Sequence1d([])(x, None, True)
    assert torch.equal(y, x)
    assert state == ()
