"""Exports a model by name, file, folder or hub id: see `streamcodec.engine.onnx.export`."""

from __future__ import annotations

from pathlib import Path

from streamcodec.errors import MissingDependencyError
from streamcodec.model.stored_weights import load_weights

__all__ = ["export_model"]


def export_model(name_or_path: str | Path, folder: Path) -> list[Path]:
    """Write the live steps of a model to `folder` as ONNX; return the files, the manifest last.

    Raises `UnsupportedModelError` for a model that does not code frame by frame, `MissingDependencyError` if ONNX is not installed, and
    what `load_weights` raises.
    """
    try:
        from streamcodec.engine.onnx.engine import OnnxEngine
        from streamcodec.engine.onnx.export import check_exportable, export
    except ImportError as exc:
        raise MissingDependencyError(f"exporting a model needs {exc.name}: pip install 'streamcodec[play]'") from exc
    stored = load_weights(name_or_path)
    check_exportable(stored.config)
    engine = OnnxEngine(stored.config, stored.tensors)
    return export(engine, folder, name=str(name_or_path), fingerprint=stored.codes_fingerprint, weights=stored.weights_fingerprint)
