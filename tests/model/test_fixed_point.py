"""A model of whole numbers is rounded from a trained one, kept in a file, and refused where its sums could be inexact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from level_steps import random_model
from torch import Tensor

from streamcodec.errors import CheckpointError
from streamcodec.model.fixed_point import FixedPointModel, fixed_point_from_floats, load_fixed_point, save_fixed_point

N_Q, ENTRIES, DIM, WINDOW = 3, 64, 16, 4
SHIFTS = {"embedding": 4, "mix": 12, "hidden": 11, "heads": 11}


def floats(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(scale: float, *shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * scale

    return {
        "embedding": normal(0.3, N_Q, ENTRIES + 1, DIM),
        "mix": normal(0.2, 32, WINDOW * DIM),
        "mix_bias": normal(0.1, 32),
        "hidden": normal(0.3, 24, 32),
        "hidden_bias": normal(0.1, 24),
        "heads": normal(0.5, N_Q - 1, ENTRIES, 24),
        "heads_bias": normal(1.0, N_Q, ENTRIES),
    }


def float_logits(model: dict[str, Tensor], frames: Tensor) -> Tensor:
    """Frames [WINDOW, n_q] of indices -> logarithms in nats [n_q, ENTRIES], by a model in floating point."""
    x = torch.stack([sum(model["embedding"][k, index] for k, index in enumerate(frame)).clamp(0, 1) for frame in frames.tolist()])  # type: ignore[union-attr]
    x = (model["mix"] @ x.flatten() + model["mix_bias"]).clamp(0, 1)
    x = (model["hidden"] @ x + model["hidden_bias"]).clamp(0, 1)
    logits = model["heads_bias"].clone()
    logits[: len(model["heads"])] += model["heads"] @ x
    return logits


def test_a_rounded_model_predicts_what_the_trained_one_does() -> None:
    trained = floats()
    model = fixed_point_from_floats(trained)
    indices = torch.randint(0, ENTRIES + 1, (WINDOW, N_Q), generator=torch.Generator().manual_seed(1))
    history = model.start()
    for frame in indices:
        levels, history = model(frame[None], history)
    expected = torch.log_softmax(float_logits(trained, indices), dim=1)
    found = torch.log_softmax(levels[0] * np.log(2) / 16, dim=1)
    lost = (expected.exp() * (expected - found)).sum(dim=1) / np.log(2)
    assert lost.max() < 0.02, "bits for each code"


def test_a_file_gives_back_the_model_in_little_space(tmp_path: Path) -> None:
    model = fixed_point_from_floats(floats())
    path = tmp_path / "lm.safetensors"
    save_fixed_point(model, path)
    again = load_fixed_point(path)
    assert again.fingerprint == model.fingerprint and again.shifts == model.shifts
    for name, tensor in model.named_buffers():
        assert torch.equal(getattr(again, name), tensor), name
    assert path.stat().st_size < 2.2 * sum(tensor.numel() for tensor in model.buffers())
    assert fixed_point_from_floats(floats(1)).fingerprint != model.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mix": None}, "it has no mix"),
        ({"mix": torch.full((40, 36), 0.5)}, "mix holds numbers that are not whole"),
        ({"mix": torch.full((40, 36), 1_830.0)}, r"sums of mix may reach 16\d+, expected less than 16777216"),
        ({"embedding": torch.full((3, 65, 12), 5_592_406.0)}, "sums of embedding may reach 16777218, expected less than 16777216"),
        ({"heads_bias": torch.full((4, 64), 2.0**24)}, r"sums of heads may reach 1\d+, expected less than 16777216"),
        ({"hidden": torch.zeros(24, 39)}, "the tensors of a model of whole numbers have shapes"),
        ({"embedding": torch.zeros(4, 65)}, "its tensors have shapes"),
        ({"mix": torch.full((40, 36), float("nan"))}, "mix holds numbers that are not whole"),
    ],
    ids=range(8),
)
def test_a_model_whose_sums_could_be_inexact_is_refused(change: dict[str, Tensor | None], message: str) -> None:
    model = random_model()
    tensors = {name: tensor for name, tensor in {**dict(model.named_buffers()), **change}.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message):
        FixedPointModel(tensors, model.shifts)


@pytest.mark.parametrize(
    "shifts", [{}, {"embedding": 4, "mix": 12, "hidden": 11, "heads": -1}, {"embedding": 4, "mix": 12, "hidden": 11.0, "heads": 1}]
)
def test_shifts_that_are_no_shifts_are_refused(shifts: dict[str, int]) -> None:
    with pytest.raises(CheckpointError, match="shift"):
        FixedPointModel(dict(random_model().named_buffers()), shifts)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lm.safetensors"
    save_fixed_point(random_model(), path)
    data = path.read_bytes()
    for damaged in (data[:-1], data[:-1] + bytes([data[-1] ^ 1]), b"", b"text", safetensors.torch.save({"a": torch.zeros(1)})):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"lm\.safetensors: "):
            load_fixed_point(path)
    with pytest.raises(CheckpointError, match=r"none\.safetensors: "):
        load_fixed_point(tmp_path / "none.safetensors")
