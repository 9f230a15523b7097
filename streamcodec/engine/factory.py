"""Chooses the engine that runs a model, from the caller's options, the installed packages and the processor's abilities."""

from __future__ import annotations

import importlib.util
import os
from typing import Literal, cast, get_args

from streamcodec.engine.base import Engine, EngineName, PrecisionName
from streamcodec.engine.switching import SwitchingEngine
from streamcodec.engine.torch import TorchEngine
from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel

__all__ = ["ENGINES", "PRECISIONS", "make_engine"]

ENGINES: tuple[EngineName, ...] = get_args(EngineName)
PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)


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
    """Make the engine that runs `model`.

    The engine "auto" is the value of $STREAMCODEC_ENGINE if that is set, else OpenVINO if it is installed and `device` is "cpu", else
    torch. The precision "auto" is bf16 if OpenVINO runs the model and the processor multiplies bf16 natively, else fp32. Without
    `wait_for_compile`, torch runs the steps until the OpenVINO engine is compiled. Up to `workers` calls may run at the same time; they
    share the `threads`.

    Raises `InputError` for options that do not fit together, and `MissingDependencyError` if `engine` is "openvino" and OpenVINO is not
    installed.
    """
    if engine == "auto":
        engine = cast(EngineName, os.environ.get("STREAMCODEC_ENGINE", "auto"))
    if engine not in ENGINES or precision not in PRECISIONS:
        raise InputError(f"engine is {engine!r} and precision {precision!r}, expected one of {ENGINES} and one of {PRECISIONS}")
    if engine == "openvino" and device != "cpu":
        raise InputError(f"device is {device!r}: the OpenVINO engine runs on cpu")
    if engine == "torch" or device != "cpu" or (engine == "auto" and importlib.util.find_spec("openvino") is None):
        if precision == "bf16":
            raise InputError("precision bf16 needs the OpenVINO engine; torch runs fp32")
        return TorchEngine(model, device, workers)
    from streamcodec.engine.openvino.cache import is_converted
    from streamcodec.engine.openvino.engine import OpenVinoEngine, has_bf16, networks

    resolved: Literal["fp32", "bf16"] = precision if precision != "auto" else ("bf16" if has_bf16() else "fp32")
    if wait_for_compile or is_converted(fingerprint, networks(model, resolved)):
        return OpenVinoEngine(model, fingerprint, resolved, threads, workers)
    return SwitchingEngine(TorchEngine(model, workers=workers), lambda: OpenVinoEngine(model, fingerprint, resolved, threads, workers))
