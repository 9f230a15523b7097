"""Which engine runs a model: chosen from what was asked for, what is installed and what the processor can do."""

from __future__ import annotations

import importlib.util
import logging
import os
from typing import Literal, cast, get_args

from streamcodec.engine.base import Engine, EngineName, PrecisionName
from streamcodec.engine.stand_in import StandIn
from streamcodec.engine.torch import TorchEngine
from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel

__all__ = ["ENGINES", "PRECISIONS", "make_engine"]

ENGINES: tuple[EngineName, ...] = get_args(EngineName)
log = logging.getLogger("streamcodec.engine")
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

    "auto" is what $STREAMCODEC_ENGINE says, else OpenVINO on CPUs where it is installed, else torch; the precision "auto" is bf16 where
    OpenVINO runs and the processor multiplies it natively, else fp32. Without `wait_for_compile`, torch runs an engine's steps until the
    engine is compiled. `workers` calls may come at a time; they share the `threads`.

    Raises `InputError` for what does not go together, `MissingDependencyError` where OpenVINO was asked for and is not there.
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
    from streamcodec.engine.openvino.engine import NETWORKS, OpenVinoEngine, has_bf16

    chosen: Literal["fp32", "bf16"] = precision if precision != "auto" else ("bf16" if has_bf16() else "fp32")
    prepared = is_converted(fingerprint, NETWORKS[chosen])
    if not prepared:
        log.info("converting the model for this processor, once: it is kept for the next start")
    if wait_for_compile or prepared:
        return OpenVinoEngine(model, fingerprint, chosen, threads, workers)
    return StandIn(TorchEngine(model, workers=workers), lambda: OpenVinoEngine(model, fingerprint, chosen, threads, workers))
