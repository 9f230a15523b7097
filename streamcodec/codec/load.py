"""Loads a model by name, file, folder or hub id, with the engine that fits."""

from __future__ import annotations

from pathlib import Path

from streamcodec.codec.clip import Codec
from streamcodec.engine.base import EngineName, PrecisionName
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

    - `engine` is "torch", "openvino" or "auto", which is OpenVINO if it is installed. OpenVINO runs on CPUs only. It converts a model at
      its first start on a machine, which takes a few seconds.
    - `precision` is "fp32", "bf16" or "auto", which is bf16 if the processor supports it. bf16 needs OpenVINO; it is faster and may give
      other codes.
    - `threads` is the number of threads that run the model. The default is 1 with OpenVINO, and torch's own default without. For torch,
      the number is set for the whole process.
    - `workers` is the number of steps that a server may run at the same time. They share the threads. One thread per worker gives a higher
      throughput than all threads for one worker.
    - Without `wait_for_compile`, torch runs the model until the conversion is done.

    Raises a `ModelError` that says what is wrong with the model, and `InputError` for options that do not fit together.
    """
    try:
        import numba  # noqa: F401
        import safetensors  # noqa: F401
        import torch
    except ImportError as exc:
        raise MissingDependencyError(f"running a model needs {exc.name}: pip install 'streamcodec[codec]'") from exc
    from streamcodec.engine.factory import make_engine
    from streamcodec.model.checkpoint import codes_fingerprint, weights_fingerprint
    from streamcodec.model.hub import FORMER_FINGERPRINTS, load_model
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
    former = {weights, *FORMER_FINGERPRINTS.get(codes, ())}
    return Codec(runner, name=str(name_or_path), fingerprint=codes, former_fingerprints=former)
