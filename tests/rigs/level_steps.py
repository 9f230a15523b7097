"""Language models of whole numbers with random numbers, and their step by each thing that can run it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from streamcodec.engine.fixed_point import LevelStep, torch_step
from streamcodec.engine.openvino.fixed_point import openvino_step
from streamcodec.model.fixed_point import FixedPointModel
from streamcodec.types import Samples

__all__ = ["STEPS", "integer_step", "random_model"]


def random_model(
    n_q: int = 4, entries: int = 64, *, dim: int = 12, window: int = 3, hidden: int = 40, narrow: int = 24, behind: int = 1, seed: int = 0
) -> FixedPointModel:
    """A model whose sums come close to 2**24 at times: the largest that float32 adds exactly."""
    rng = np.random.default_rng(seed)

    def whole(most: int, *shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.integers(-most, most + 1, shape).astype(np.float32))

    large = whole(127, hidden, window * dim)
    # One row takes as much as a sum may be.
    large[0] = torch.full((window * dim,), float((2**24 - 1) // (255 * window * dim)))
    return FixedPointModel(
        {
            "embedding": whole(2_000, n_q - behind, entries + 1, dim),
            "mix": large,
            "mix_bias": torch.cat([torch.zeros(1), whole(20_000, hidden - 1)]),
            "hidden": whole(127, narrow, hidden),
            "hidden_bias": whole(200_000, narrow),
            "heads": whole(127, n_q - behind, entries, narrow),
            "heads_bias": whole(30_000, n_q, entries),
        },
        {"embedding": 4, "mix": 12, "hidden": 11, "heads": 11},
    )


def integer_step(model: FixedPointModel) -> LevelStep:
    """The step in integers of 64 bits, without any float."""
    numbers = {name: tensor.numpy().astype(np.int64) for name, tensor in model.named_buffers()}

    def narrow(x: npt.NDArray[np.int64], layer: str) -> npt.NDArray[np.int64]:
        return np.clip(x >> model.shifts[layer], 0, 255)

    def step(indices: npt.NDArray[np.int64], history: Samples) -> tuple[Samples, Samples]:
        context = indices[0, : model.context].tolist()
        frame = narrow(np.sum([numbers["embedding"][k, index] for k, index in enumerate(context)], axis=0), "embedding")
        window = np.concatenate([history[0].astype(np.int64), frame[None]])
        x = narrow(numbers["mix"] @ window.reshape(-1) + numbers["mix_bias"], "mix")
        x = narrow(numbers["hidden"] @ x + numbers["hidden_bias"], "hidden")
        levels = numbers["heads_bias"].copy()
        levels[: len(model.heads)] += numbers["heads"] @ x
        levels >>= model.shifts["heads"]
        return levels[None].astype(np.float32), window[None, 1:].astype(np.float32)

    return step


def onnx_step(model: FixedPointModel, threads: int) -> LevelStep:
    """The step by ONNX Runtime."""
    file = io.BytesIO()
    example = (torch.zeros(1, model.num_codebooks, dtype=torch.int64), model.start())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is deprecated
        torch.onnx.export(model, example, file, dynamo=False, input_names=["indices", "history"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])

    def step(indices: npt.NDArray[np.int64], history: Samples) -> tuple[Samples, Samples]:
        levels, after = session.run(None, {"indices": indices, "history": history})
        return levels, after

    return step


def threaded_torch_step(model: FixedPointModel, threads: int) -> LevelStep:
    """The step by torch on so many threads."""
    inner = torch_step(model)

    def step(indices: npt.NDArray[np.int64], history: Samples) -> tuple[Samples, Samples]:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return inner(indices, history)
        finally:
            torch.set_num_threads(before)

    return step


STEPS: dict[str, Callable[[FixedPointModel, int], LevelStep]] = {
    "torch": threaded_torch_step,
    "OpenVINO": openvino_step,
    "ONNX Runtime": onnx_step,
}
