"""Makes the engine that runs a model."""

from __future__ import annotations

from typing import Literal

from streamcodec.engine.base import Engine, EngineName, PrecisionName
from streamcodec.engine.choice import choose_engine
from streamcodec.engine.switching import SwitchingEngine
from streamcodec.engine.torch import TorchEngine
from streamcodec.model.checkpoint.layouts import canonical_arrays
from streamcodec.model.encodec import EncodecModel

__all__ = ["make_engine"]


def make_engine(
    model: EncodecModel,
    fingerprint: str,
    engine: EngineName = "auto",
    precision: PrecisionName = "fp32",
    *,
    device: str = "cpu",
    threads: int = 1,
    workers: int = 1,
    wait_for_compile: bool = True,
) -> Engine:
    """Make the engine that runs `model`; `choose_engine` says which one that is.

    The precision "auto" is bf16 if OpenVINO runs the model and the processor multiplies bf16 natively, else fp32. Without
    `wait_for_compile`, torch runs the steps until the OpenVINO engine is compiled. Up to `workers` calls may run at the same time; they
    share the `threads`.

    Raises `InputError` for options that do not fit together, and `MissingDependencyError` if what `engine` needs is not installed.
    """
    chosen = choose_engine(engine, precision, device)
    if chosen == "torch":
        return TorchEngine(model, device, workers)
    if chosen == "onnx":
        from streamcodec.engine.onnx.engine import OnnxEngine

        return OnnxEngine(model.config, canonical_arrays(model), threads, workers)
    from streamcodec.engine.openvino.cache import is_converted
    from streamcodec.engine.openvino.engine import OpenVinoEngine, has_bf16, networks

    resolved: Literal["fp32", "bf16"] = precision if precision != "auto" else ("bf16" if has_bf16() else "fp32")
    if wait_for_compile or is_converted(fingerprint, networks(model, resolved)):
        return OpenVinoEngine(model, fingerprint, resolved, threads, workers)
    return SwitchingEngine(TorchEngine(model, workers=workers), lambda: OpenVinoEngine(model, fingerprint, resolved, threads, workers))
