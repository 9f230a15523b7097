"""A model by name, file, folder or hub id, on the engine that fits."""

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

    `engine` is "torch", "openvino" (CPU only; a model's first start on a machine converts it, a few seconds), or "auto": OpenVINO where it
    is installed. `precision` is "fp32", "bf16" (OpenVINO: faster, other codes), or "auto": bf16 where the processor has
    it. `threads` is how many the model uses, 1 by default with OpenVINO, torch's own choice without; torch's are set for the whole process.
    `workers` is how many steps a server may run at a time, which share the threads: one thread for each does more than all for one.
    Without `wait_for_compile`, torch runs the model while it is converted. Raises a `ModelError` that names what is wrong with the
    model, and `InputError` for options that do not go together.
    """
    try:
        import safetensors  # noqa: F401
        import torch
    except ImportError as exc:
        raise MissingDependencyError(f"running a model needs {exc.name}: pip install 'streamcodec[codec]'") from exc
    from streamcodec.engine.factory import make_engine
    from streamcodec.model.checkpoint import fingerprint
    from streamcodec.model.hub import load_model

    if threads is not None:
        torch.set_num_threads(max(1, threads // workers))
    model = load_model(name_or_path)
    digest = fingerprint(model)
    runs = make_engine(
        model, digest, engine, precision, device=device, threads=threads or workers, workers=workers, wait_for_compile=wait_for_compile
    )
    return Codec(runs, name=str(name_or_path), fingerprint=digest)
