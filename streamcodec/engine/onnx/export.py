"""Writes a model as files that ONNX runtimes of any language run: the steps of live streams, their weights, and a manifest.

`manifest.json` says all that a program needs besides: what the files are, what streams start from, and what packets hold. The guide
describes it (`docs/export.md`). All steps have free sizes: any number of streams, and packets of any length.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from streamcodec.capabilities import Capabilities
from streamcodec.config import DEFAULT_PACKET_FRAMES, CodecConfig, Start
from streamcodec.engine.onnx.engine import OnnxEngine
from streamcodec.engine.onnx.graph import OPSET, Graph, WeightsFile
from streamcodec.errors import UnsupportedModelError
from streamcodec.output_file import replacing
from streamcodec.types import States

__all__ = ["FORMAT", "MANIFEST", "VERSION", "check_exportable", "export"]

FORMAT, VERSION = "streamcodec-onnx", 1
MANIFEST = "manifest.json"
_STATES = "states.f32"


def check_exportable(config: CodecConfig) -> None:
    """Raise `UnsupportedModelError` for a model whose steps have no state that goes on."""
    if config.why_not_frames is not None:
        raise UnsupportedModelError(f"only a model that codes frame by frame can be exported: this model {config.why_not_frames}")


def export(engine: OnnxEngine, folder: Path, *, name: str, fingerprint: str, weights: str) -> list[Path]:
    """Write the model that `engine` runs to `folder`; return the files.

    `fingerprint` is that of the model's codes, `weights` that of its weights. No file takes its place before all are written. Raises
    `UnsupportedModelError` for a model that does not code frame by frame, and `OSError`.
    """
    check_exportable(engine.config)
    contents = _Contents(engine)
    contents.write_steps()
    contents.write_states()
    manifest = contents.manifest(name, fingerprint, weights)
    folder.mkdir(parents=True, exist_ok=True)
    contents.files[MANIFEST] = (json.dumps(manifest, indent=2) + "\n").encode()
    with contextlib.ExitStack() as stack:
        # What is entered first is left last: the manifest takes its place after the files that it names.
        for file, data in reversed(contents.files.items()):
            stack.enter_context(replacing(folder / file)).write(data)
    return [folder / file for file in contents.files]


class _Contents:
    """The contents of the files, by name, and what the manifest says about them."""

    def __init__(self, engine: OnnxEngine) -> None:
        self._engine = engine
        self._config = engine.config
        self.files: dict[str, bytes] = {}
        self._steps: dict[str, dict[str, Any]] = {}
        self._starts: dict[str, Any] = {}

    def write_steps(self) -> None:
        """The steps of encoder and decoder: one for each run of codebooks, which share their weights."""
        steps = self._engine.steps
        halves = {half: WeightsFile(f"{half}.weights") for half in ("encoder", "decoder")}
        runs = [(stop, WeightsFile(f"codebooks-{first + 1}-{stop}.weights")) for first, stop in steps.runs]

        def place(weight: str) -> WeightsFile:
            half, _, rest = weight.partition(".layers.")
            if half in halves:
                return halves[half]
            return next(file for stop, file in runs if int(rest.partition(".")[0]) < stop)

        for half, write in (("encoder", steps.encode), ("decoder", steps.decode)):
            for stop, _ in runs:
                file = f"{half}-{stop}.onnx"
                graph = write(Graph(f"{half}-{stop}", place), stop)
                self.files[file] = graph.serialize()
                self._steps[file] = {
                    "codebooks": stop,
                    "weights": [weights.name for weights in graph.files],
                    "inputs": graph.inputs,
                    "outputs": graph.outputs,
                }
        self.files.update({file.name: file.content for file in (*halves.values(), *(file for _, file in runs))})

    def write_states(self) -> None:
        """The states that streams start from, one after another in one file; the manifest says where each begins."""
        engine, rows = self._engine, list[States]()

        def place(state: States | None) -> int | None:
            if state is None:
                return None
            rows.append(state.astype("<f4"))
            return sum(row.nbytes for row in rows[:-1])

        kinds: tuple[Start, Start] = ("exact", "primed")
        self._starts["encoder"] = {kind: place(engine.encoder_start(kind)) for kind in kinds}
        exact = place(engine.decoder_start("exact", 1))
        primed = {str(n_q): place(engine.decoder_start("primed", n_q)) for n_q in self._config.n_q_choices}
        self._starts["decoder"] = {"exact": exact, "primed": primed}
        self.files[_STATES] = np.concatenate(rows).tobytes()

    def manifest(self, name: str, fingerprint: str, weights: str) -> dict[str, Any]:
        config, traits = self._config, self._engine.traits
        fewest, most = Capabilities.of(config).packet_frames or (1, 1)
        stops = [stop for _, stop in self._engine.steps.runs]
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": name,
            "fingerprint": fingerprint,
            "weights_fingerprint": weights,
            "opset": OPSET,
            "sampling_rate": config.sampling_rate,
            "hop_length": config.hop_length,
            "frame_rate": config.frame_rate,
            "codebook_size": config.codebook_size,
            "bits_per_code": config.bits_per_code,
            "min_n_q": config.min_n_q,
            "packet_frames": {"default": DEFAULT_PACKET_FRAMES, "min": fewest, "max": most},
            "bandwidths": [
                {
                    "kbps": config.bandwidth_of(n_q),
                    "n_q": n_q,
                    "encoder": f"encoder-{_next(stops, n_q)}.onnx",
                    "decoder": f"decoder-{_next(stops, n_q)}.onnx",
                }
                for n_q in config.n_q_choices
            ],
            "default_bandwidth": config.bandwidth_of(config.n_q_for()),
            "start": traits.default_live_start,
            "states": {
                "file": _STATES,
                "encoder": {"size": traits.encoder_state_size, **self._starts["encoder"]},
                "decoder": {"size": traits.decoder_state_size, **self._starts["decoder"]},
            },
            "steps": self._steps,
            "files": {file: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for file, data in self.files.items()},
        }


def _next(stops: Iterable[int], n_q: int) -> int:
    return next(stop for stop in stops if stop >= n_q)
