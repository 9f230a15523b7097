"""The step of a language model of whole numbers by OpenVINO."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from streamcodec.engine.fixed_point import LevelStep
from streamcodec.engine.openvino.half import convert
from streamcodec.engine.openvino.network import core
from streamcodec.model.fixed_point import FixedPointModel
from streamcodec.types import Samples

__all__ = ["openvino_step"]


def openvino_step(model: FixedPointModel, threads: int = 1) -> LevelStep:
    """Compile the step for `threads` threads. Raises `MissingDependencyError` if OpenVINO is not installed."""
    example = (torch.zeros(1, model.num_codebooks, dtype=torch.int64), model.start())
    network = convert(model, example, [list(tensor.shape) for tensor in example])
    # In bfloat16 the sums would not be exact.
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = core().compile_model(network, "CPU", options).create_infer_request()

    def step(indices: npt.NDArray[np.int64], history: Samples) -> tuple[Samples, Samples]:
        results = request.infer([indices, history], share_inputs=True, share_outputs=True)
        # The next step overwrites the shared outputs.
        return np.array(results[0]), np.array(results[1])

    return step
