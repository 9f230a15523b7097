"""What a model's products cost, and how fast this machine multiplies at best: the two ends of "how close to the peak".

One MAC is a multiplication and an addition. A model's are counted from its layers as they define them, whatever an engine makes of them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.harness.timing import Candidate
from streamcodec.config import CodecConfig
from streamcodec.model.layers import LSTM, Conv1d, ConvTranspose1d, ResidualBlock, StreamingLayer
from streamcodec.model.seanet import build_decoder, build_encoder

__all__ = ["Macs", "gemm_candidates", "macs"]

_SIZES = (512, 1024)
_CHAIN = 4


# What a model costs ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Macs:
    """MACs per second of one stream's audio: of a network's convolutions, of its LSTM, and of the search through `n_q` codebooks."""

    convolutions: float
    lstm: float
    search: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.convolutions + self.lstm + self.search


def macs(config: CodecConfig, n_q: int) -> dict[str, Macs]:
    """The MACs per second of audio of the model's `encode` and `decode`; looking codes up takes none."""
    with torch.device("meta"):
        encoder, decoder = build_encoder(config), build_decoder(config)
    search = config.frame_rate * n_q * config.codebook_size * config.codebook_dim
    return {
        "encode": Macs(*_count(encoder.layers, config.sampling_rate), search),  # type: ignore[arg-type]
        "decode": Macs(*_count(decoder.layers, config.frame_rate)),  # type: ignore[arg-type]
    }


def _count(layers: Iterable[StreamingLayer], rate: float) -> tuple[float, float]:
    """MACs per second of the convolutions and of the LSTM in `layers`, whose first gets `rate` steps per second."""
    convolutions = lstm = 0.0
    for layer in layers:
        if isinstance(layer, Conv1d):
            rate /= layer.stride
            convolutions += rate * layer.conv.weight.numel()
        elif isinstance(layer, ConvTranspose1d):
            convolutions += rate * layer.conv.weight.numel()
            rate *= layer.stride
        elif isinstance(layer, ResidualBlock):
            inner = [part for part in (*layer.block, layer.shortcut) if isinstance(part, Conv1d)]
            convolutions += _count(inner, rate)[0]
        elif isinstance(layer, LSTM):
            lstm += rate * sum(weight.numel() for name, weight in layer.lstm.named_parameters() if name.startswith("weight"))
    return convolutions, lstm


# What the machine can do -------------------------------------------------------------------------------------------------------------


def gemm_candidates(precisions: Iterable[str], threads: int, *, burst: int, every: int) -> list[Candidate]:
    """Big products of square matrices, in torch and, where it is installed, in OpenVINO; their labels hold what they multiply.

    OpenVINO runs a chain of products, as a network's layers are, so that turning its input and output into another precision hardly counts.
    """
    found = []
    for precision in precisions:
        for size in _SIZES:
            calls = {"torch": (_torch_product(size, precision), 1)}
            if importlib.util.find_spec("openvino"):
                calls["openvino"] = (_openvino_chain(size, precision, threads), _CHAIN)
            for engine, (call, products) in calls.items():
                labels = {"engine": engine, "precision": precision, "size": size, "macs": float(products * size**3)}
                found.append(Candidate(call, 0.0, labels, burst, every))
    return found


def _torch_product(size: int, precision: str) -> Callable[[], object]:
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size).to(kind) for _ in range(2))
    out = torch.empty(size, size, dtype=kind)
    return lambda: torch.mm(a, b, out=out)


def _openvino_chain(size: int, precision: str, threads: int) -> Callable[[], object]:
    from streamcodec.engine.openvino.network import core, openvino

    ops = openvino().opset13

    random = np.random.default_rng(0)
    start = y = ops.parameter([size, size], np.float32)
    for _ in range(_CHAIN):
        weight = random.standard_normal((size, size)).astype(np.float32) / np.float32(size**0.5)
        y = ops.matmul(y, ops.constant(weight), False, True)
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    request: Any = core().compile_model(openvino().Model([y], [start]), "CPU", options).create_infer_request()
    x = random.standard_normal((size, size)).astype(np.float32)
    return lambda: request.infer([x], share_inputs=True, share_outputs=True)
