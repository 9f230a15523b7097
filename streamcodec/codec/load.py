"""Loads a model by name, file, folder or hub id, with the engine that fits."""

from __future__ import annotations

from pathlib import Path

from streamcodec.codec.clip import Codec
from streamcodec.engine.base import Engine, EngineName, PrecisionName
from streamcodec.engine.choice import choose_engine
from streamcodec.errors import MissingDependencyError

__all__ = ["load"]


def load(
    name_or_path: str | Path = "speech-24k",
    *,
    device: str = "cpu",
    engine: EngineName = "auto",
    precision: PrecisionName = "fp32",
    threads: int | None = None,
    workers: int = 1,
    wait_for_compile: bool = True,
) -> Codec:
    """Load a model and return its `Codec`.

    `name_or_path` is an embedded name, a checkpoint file (`.safetensors`, `.th`), a model folder, or a hub id such as
    `facebook/encodec_24khz`.

    - `engine` is "torch", "openvino", "onnx" or "auto". "auto" is OpenVINO if that is installed, else torch, and ONNX Runtime where torch
      is not installed. OpenVINO and ONNX Runtime run on CPUs only. OpenVINO converts a model at its first start on a machine, which takes a
      few seconds.
    - `precision` is "fp32", "bf16" or "auto", which is bf16 if the processor supports it. bf16 needs OpenVINO; it is faster and may give
      other codes.
    - `threads` is the number of threads that run the model. The default is 1, and torch's own default with torch. For torch, the number is
      set for the whole process.
    - `workers` is the number of steps that a server may run at the same time. They share the threads. One thread per worker gives a higher
      throughput than all threads for one worker.
    - Without `wait_for_compile`, torch runs the model until OpenVINO's conversion is done.

    Raises a `ModelError` that says what is wrong with the model, and `InputError` for options that do not fit together.
    """
    if choose_engine(engine, precision, device) == "onnx":
        return _load_without_torch(name_or_path, threads or workers, workers)
    try:
        import numba  # noqa: F401
        import safetensors  # noqa: F401
        import torch
    except ImportError as exc:
        raise MissingDependencyError(
            f"running a model needs {exc.name}: pip install 'streamcodec[codec]', or 'streamcodec[play]' to run it without torch"
        ) from exc
    from streamcodec.engine.factory import make_engine
    from streamcodec.model.checkpoint import codes_fingerprint, weights_fingerprint
    from streamcodec.model.hub import load_model
    from streamcodec.model.modes import building

    if threads is not None:
        torch.set_num_threads(max(1, threads // workers))
    model = load_model(name_or_path)
    with building():
        weights, codes = weights_fingerprint(model), codes_fingerprint(model)
        runner = make_engine(
            model,
            weights,
            engine,
            precision,
            device=device,
            threads=threads or workers,
            workers=workers,
            wait_for_compile=wait_for_compile,
        )
    return _codec(runner, name_or_path, codes, weights)


def _load_without_torch(name_or_path: str | Path, threads: int, workers: int) -> Codec:
    try:
        from streamcodec.engine.onnx.engine import OnnxEngine
    except ImportError as exc:
        raise MissingDependencyError(f"the engine onnx needs {exc.name}: pip install 'streamcodec[play]'") from exc
    from streamcodec.model.stored_weights import load_weights

    weights = load_weights(name_or_path)
    engine = OnnxEngine(weights.config, weights.tensors, threads, workers)
    return _codec(engine, name_or_path, weights.codes_fingerprint, weights.weights_fingerprint)


def _codec(engine: Engine, name_or_path: str | Path, codes: str, weights: str) -> Codec:
    from streamcodec.model.hub import FORMER_FINGERPRINTS

    former = {weights, *FORMER_FINGERPRINTS.get(codes, ())}
    return Codec(engine, name=str(name_or_path), fingerprint=codes, former_fingerprints=former)
