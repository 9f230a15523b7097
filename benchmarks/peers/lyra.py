"""Lyra V2 as a rival: a causal SoundStream for speech at 16 kHz, run frame by frame by the published TensorFlow Lite files.

The files (`soundstream_encoder.tflite`, `quantizer.tflite`, `lyragan.tflite`, from google/lyra, Apache-2.0) are the user's own.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.measures import align
from streamcodec.audio import resample
from streamcodec.types import Samples

__all__ = ["FRAME", "KBPS", "RATE", "Lyra", "through_lyra", "why_not"]

KBPS = (3.2, 6.0, 9.2)

_FILES = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")
RATE, FRAME = 16_000, 320
_BITS_PER_INDEX, _MOST_INDICES = 4, 46


def why_not(folder: Path | None) -> str | None:
    """Why Lyra cannot be measured with the files in `folder`; None where it can."""
    if folder is None:
        return "no folder with its files was given"
    if absent := [name for name in _FILES if not (folder / name).is_file()]:
        return f"{', '.join(absent)} not in {folder.name}"
    return None if find_spec("ai_edge_litert") else "ai-edge-litert not installed"


class Lyra:
    """One stream at one of its three bitrates, a frame of 20 ms at 16 kHz at a time; each of its models keeps its state."""

    def __init__(self, folder: Path, kbps: float) -> None:
        self._encoder, quantizer, self._decoder = (_interpreter(folder / name) for name in _FILES)
        self._quantize, self._look_up = quantizer.get_signature_runner("encode"), quantizer.get_signature_runner("decode")
        self._quantizer = quantizer  # its runners do not keep it
        self._count = round(kbps * 1000 * FRAME / RATE / _BITS_PER_INDEX)

    def encode(self, frame: Samples) -> npt.NDArray[np.int32]:
        """Samples [320] to indices [n]."""
        features = _run(self._encoder, frame).reshape(1, 1, -1)
        indices = self._quantize(num_quantizers=np.int32(self._count), input_frames=features)["output_0"]
        return np.asarray(indices, np.int32).reshape(-1)[: self._count]

    def decode(self, indices: npt.NDArray[np.int32]) -> Samples:
        """Indices [n] to samples [320]."""
        kept = np.full((_MOST_INDICES, 1, 1), -1, np.int32)
        kept[: len(indices), 0, 0] = indices
        return _run(self._decoder, next(iter(self._look_up(encoding_indices=kept).values()))).reshape(-1)


def through_lyra(clip: Samples, rate: int, kbps: float, folder: Path) -> Samples:
    """Encode and decode at one of its three bitrates, 20 ms at a time; what comes out is in step with `clip` and as long."""
    lyra = Lyra(folder, kbps)
    wide = resample(clip, rate, RATE)
    padded = np.pad(wide, (0, -len(wide) % FRAME + FRAME)).astype(np.float32)
    heard = [lyra.decode(lyra.encode(frame)) for frame in padded.reshape(-1, FRAME)]
    return align(resample(np.concatenate(heard), RATE, rate), clip, 0.05)[0]


def _interpreter(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    found = Interpreter(model_path=str(path), num_threads=1)
    found.allocate_tensors()
    return found


def _run(interpreter: Any, values: Samples) -> Samples:
    """One step of a model whose state is inside it."""
    there = interpreter.get_input_details()[0]
    interpreter.set_tensor(there["index"], values.reshape(there["shape"]).astype(np.float32))
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
