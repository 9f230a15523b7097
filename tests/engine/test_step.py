"""The compiled program of a step gives what the layers give, whatever the architecture, the packet and the batch."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from streamcodec.config import CodecConfig
from streamcodec.engine.graph import FlatLayers, StateLayout
from streamcodec.engine.step import CompiledStep
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.layers import Conv1d, Sequence1d, StreamingLayer

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "published": {},
    "no LSTM": {"num_lstm_layers": 0},
    "one LSTM layer, no shortcut conv": {"num_lstm_layers": 1, "use_conv_shortcut": False},
    "dilated": {"num_residual_layers": 3, "dilation_growth_rate": 3, "residual_kernel_size": 5},
    "kernels of one step": {"kernel_size": 1, "last_kernel_size": 1, "residual_kernel_size": 1},
    "stride 1, odd strides, one latent": {"upsampling_ratios": (3, 1, 5), "hidden_size": 1, "codebook_dim": 1},
    "trimmed on the left": {"trim_right_ratio": 0.4},
    "rows in pairs": {"num_filters": 16, "upsampling_ratios": (4, 4)},
    "more channels than a vector": {"num_filters": 20, "hidden_size": 36, "codebook_dim": 36},
}

Floats = npt.NDArray[np.float32]


def made_up(name: str, *, halves: bool = False) -> EncodecModel:
    torch.manual_seed(0)
    shape = {"num_filters": 4, "hidden_size": 8, "codebook_dim": 8, "codebook_size": 4, "upsampling_ratios": (4, 2), **ARCHITECTURES[name]}
    model = EncodecModel(CodecConfig(pad_mode="constant", target_bandwidths=(24.0,), **shape)).eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5 / parameter[0].numel() ** 0.5)
        if halves:
            parameter.copy_(parameter.half().float())
    return model


def sides(model: EncodecModel, batch: int, frames: int) -> list[tuple[Sequence1d, StateLayout, Floats, bool]]:
    """The encoder and the decoder, with the layout of the state, an input, and whether it is the encoder."""
    samples = torch.randn(batch, frames * model.config.hop_length)
    latents = torch.randn(batch, model.config.hidden_size, frames)
    with torch.no_grad():
        encoder, decoder = (StateLayout.of(s) for s in (model.encoder(samples[:, None], None)[1], model.decoder(latents, None)[1]))
    return [(model.encoder, encoder, samples.numpy(), True), (model.decoder, decoder, latents.numpy(), False)]


def step_of(layers: Sequence1d, layout: StateLayout, x: Floats, threads: int = 1) -> CompiledStep:
    """The step for inputs such as x: [B, T] or [B, C, F]."""
    frame = (math.prod(each.stride for each in layers.layers if isinstance(each, Conv1d)),) if x.ndim == 2 else (x.shape[1], 1)
    return CompiledStep(layers, frame, layout.size, threads)


def by_layers(layers: Sequence1d, layout: StateLayout, is_encoder: bool, x: Floats, states: Floats) -> list[Floats]:
    with torch.no_grad():
        flat = FlatLayers(layers, layout, audio_in=is_encoder, audio_out=not is_encoder)
        return [each.numpy() for each in flat(torch.from_numpy(x), torch.from_numpy(states))]


@pytest.mark.parametrize("halves", [False, True], ids=["float32", "half precision"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_step_gives_the_outputs_and_states_of_the_layers(name: str, halves: bool) -> None:
    model = made_up(name, halves=halves)
    for (batch, frames), threads in (((1, 1), 1), ((1, 7), 1), ((5, 1), 1), ((3, 4), 2)):
        for layers, layout, x, is_encoder in sides(model, batch, frames):
            step = step_of(layers, layout, x, threads)
            states = np.random.default_rng(1).normal(size=(batch, layout.size)).astype(np.float32)
            for _ in range(2):  # the second call finds used memory
                for ours, theirs in zip(step(x, states), by_layers(layers, layout, is_encoder, x, states), strict=True):
                    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_two_rows_of_a_conv_share_products_where_a_frame_has_pairs_of_rows() -> None:
    for name, shares in (("rows in pairs", True), ("published", False)):
        for layers, layout, x, _ in sides(made_up(name), 1, 1):
            assert bool(step_of(layers, layout, x)._weights.wide.size) is shares


def test_a_stream_gets_the_same_whatever_is_batched_with_it() -> None:
    for layers, layout, x, _ in sides(made_up("published"), 4, 3):
        step = step_of(layers, layout, x)
        states = np.random.default_rng(1).normal(size=(4, layout.size)).astype(np.float32)
        for together, alone in zip(step(x, states), step(x[2:3], states[2:3]), strict=True):
            np.testing.assert_allclose(together[2], alone[0], rtol=1e-5, atol=1e-6)


def test_loud_and_silent_inputs_overflow_nowhere() -> None:
    for layers, layout, x, is_encoder in sides(made_up("published"), 1, 2):
        step = step_of(layers, layout, x)
        for level in (0.0, 1e-30, 1e4):
            states = np.zeros((1, layout.size), np.float32)
            got = step(x * np.float32(level), states)
            for ours, theirs in zip(got, by_layers(layers, layout, is_encoder, x * np.float32(level), states), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * max(1.0, float(np.abs(theirs).max())))


def test_threads_may_run_steps_of_several_sizes_at_the_same_time() -> None:
    (layers, layout, x, _), _ = sides(made_up("published"), 1, 1)
    step = step_of(layers, layout, x)
    rng = np.random.default_rng(0)
    calls = [(rng.normal(size=(batch, 8 * frames)).astype(np.float32), np.zeros((batch, layout.size), np.float32)) for batch, frames in
             ((1, 1), (2, 3), (1, 6), (3, 1))]  # fmt: skip
    expected = [step_of(layers, layout, x)(*call) for call in calls]
    failed: list[BaseException] = []

    def run() -> None:
        try:
            for _ in range(50):
                for call, (y, new) in zip(calls, expected, strict=True):
                    got = step(*call)
                    np.testing.assert_array_equal(got[0], y)
                    np.testing.assert_array_equal(got[1], new)
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


def test_a_layer_that_no_program_knows_is_named() -> None:
    class Echo(StreamingLayer):
        pass

    with pytest.raises(TypeError, match="the layer is a Echo"):
        CompiledStep(Sequence1d([Echo()]), (8, 1), 0)
