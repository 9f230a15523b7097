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

__all__ = ["KBPS", "through_lyra", "why_not"]

KBPS = (3.2, 6.0, 9.2)

_FILES = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")
_RATE, _FRAME, _BITS_PER_INDEX, _MOST_INDICES = 16_000, 320, 4, 46


def why_not(folder: Path | None) -> str | None:
    """Why Lyra cannot be measured with the files in `folder`; None where it can."""
    if folder is None:
        return "no folder with its files was given"
    if absent := [name for name in _FILES if not (folder / name).is_file()]:
        return f"{', '.join(absent)} not in {folder.name}"
    return None if find_spec("ai_edge_litert") else "ai-edge-litert not installed"


def through_lyra(clip: Samples, rate: int, kbps: float, folder: Path) -> Samples:
    """Encode and decode at one of its three bitrates, 20 ms at a time; what comes out is in step with `clip` and as long."""
    encoder, quantizer, decoder = (_interpreter(folder / name) for name in _FILES)
    encode, decode = quantizer.get_signature_runner("encode"), quantizer.get_signature_runner("decode")
    count = np.int32(round(kbps * 1000 * _FRAME / _RATE / _BITS_PER_INDEX))
    wide = resample(clip, rate, _RATE)
    padded = np.pad(wide, (0, -len(wide) % _FRAME + _FRAME)).astype(np.float32)
    heard = []
    for frame in padded.reshape(-1, _FRAME):
        indices = encode(num_quantizers=count, input_frames=_run(encoder, frame).reshape(1, 1, -1))["output_0"]
        kept = np.full((_MOST_INDICES, 1, 1), -1, np.int32)
        kept[:count] = indices.reshape(-1, 1, 1)[:count]
        heard.append(_run(decoder, next(iter(decode(encoding_indices=kept).values()))).reshape(-1))
    return align(resample(np.concatenate(heard), _RATE, rate), clip, 0.05)[0]


def _interpreter(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    found = Interpreter(model_path=str(path), num_threads=1)
    found.allocate_tensors()
    return found


def _run(interpreter: Any, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """One step of a model whose state is inside it."""
    there = interpreter.get_input_details()[0]
    interpreter.set_tensor(there["index"], values.reshape(there["shape"]).astype(np.float32))
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
