"""Chooses what runs a model, from the caller's options and the installed packages; it imports none of them."""

from __future__ import annotations

import importlib.util
import os
from typing import Literal, cast, get_args

from streamcodec.engine.base import EngineName, PrecisionName
from streamcodec.errors import InputError

__all__ = ["ENGINES", "PRECISIONS", "Chosen", "choose_engine"]

ENGINES: tuple[EngineName, ...] = get_args(EngineName)
PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)

Chosen = Literal["torch", "openvino", "onnx"]


def choose_engine(engine: EngineName = "auto", precision: PrecisionName = "fp32", device: str = "cpu") -> Chosen:
    """The engine for these options.

    "auto" is the value of $STREAMCODEC_ENGINE if that is set. Else it is OpenVINO if that is installed and `device` is "cpu", else torch;
    where torch is not installed, it is ONNX Runtime. Raises `InputError` for options that do not fit together.
    """
    if engine == "auto":
        engine = cast(EngineName, os.environ.get("STREAMCODEC_ENGINE", "auto"))
    if engine not in ENGINES or precision not in PRECISIONS:
        raise InputError(f"engine is {engine!r} and precision {precision!r}, expected one of {ENGINES} and one of {PRECISIONS}")
    if engine == "auto":
        engine = _installed(device)
    elif engine != "torch" and device != "cpu":
        raise InputError(f"device is {device!r}: the engine {engine} runs on cpu")
    if engine != "openvino" and precision == "bf16":
        raise InputError(f"precision bf16 needs the OpenVINO engine; {engine} runs fp32")
    return engine


def _installed(device: str) -> Chosen:
    if device != "cpu":
        return "torch"
    if not _is_installed("torch") and _is_installed("onnxruntime"):
        return "onnx"
    return "openvino" if _is_installed("openvino") else "torch"


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
