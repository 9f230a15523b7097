"""A small language model that computes with whole numbers: the same levels on every machine, engine and number of threads.

It predicts a frame's codes from the last `window` frames. Its tensors hold whole numbers as float32, and no partial sum reaches 2**24. So
each sum is exact in every order, also where several threads or fused operations make it, and every engine that computes in float32 gives
the same. Between two layers, values are divided by a power of two, rounded down and clipped to 0..255, which is exact as well. The last
layer gives levels: logarithms of probabilities, in sixteenths of a bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamcodec.errors import CheckpointError
from streamcodec.model.modes import building
from streamcodec.output_file import write_bytes

__all__ = ["FixedPointModel", "fixed_point_from_floats", "load_fixed_point", "save_fixed_point"]

_EXACT = 1 << 24  # float32 holds every whole number up to this one
_MOST = 255  # the largest value between layers
_LEVELS_PER_NAT = 16 / np.log(2)
_TENSORS = ("embedding", "mix", "mix_bias", "hidden", "hidden_bias", "heads", "heads_bias")
_SHIFTS = ("embedding", "mix", "hidden", "heads")


class FixedPointModel(nn.Module):
    """Codes of the last frames to levels of the next frame's codes.

    - `embedding` [context, codebook_size + 1, dim]: the first codebooks' entries, each one's first for a code that is missing;
    - `mix` [hidden, window * dim] and `mix_bias` [hidden]: the frames of the window, the oldest first, to hidden values;
    - `hidden` [hidden_2, hidden] and `hidden_bias`: a second layer;
    - `heads` [predicted, codebook_size, hidden_2] and `heads_bias` [n_q, codebook_size]: hidden values to levels. Of the codebooks behind
      the predicted ones, which are nearly noise, the biases alone are the levels;
    - `shifts`: the bits by which the sums of each of the four are divided.

    Raises `CheckpointError` for tensors that do not fit together, hold other than whole numbers, or whose sums could be inexact.
    """

    def __init__(self, tensors: Mapping[str, Tensor], shifts: Mapping[str, int]) -> None:
        super().__init__()
        _check_shapes(tensors, shifts)
        for name in _TENSORS:
            self.register_buffer(name, tensors[name].to(torch.float32))
        self.embedding: Tensor
        self.mix: Tensor
        self.mix_bias: Tensor
        self.hidden: Tensor
        self.hidden_bias: Tensor
        self.heads: Tensor
        self.heads_bias: Tensor
        self.shifts = {name: int(shifts[name]) for name in _SHIFTS}
        self.context, entries, self.dim = self.embedding.shape
        self.num_codebooks, self.codebook_size = self.heads_bias.shape
        self.window = self.mix.shape[1] // self.dim
        # A code's row in the embeddings of all codebooks, one below the other.
        self.register_buffer("first_rows", torch.arange(self.context) * entries, persistent=False)
        self.first_rows: Tensor
        self._check_exact()

    def forward(self, indices: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """A frame's indices [B, n_q], its codes plus 1 or 0 where one is missing, and the frames before it [B, window - 1, dim].

        Returns levels [B, n_q, codebook_size], whole numbers, and the history [B, window - 1, dim] for the frame after it.
        """
        rows = self.embedding.reshape(-1, self.dim)
        frame = self._narrow(F.embedding(indices[:, : self.context] + self.first_rows, rows).sum(dim=1), "embedding")
        window = torch.cat([history, frame[:, None]], dim=1)
        x = self._narrow(F.linear(window.flatten(1), self.mix, self.mix_bias), "mix")
        x = self._narrow(F.linear(x, self.hidden, self.hidden_bias), "hidden")
        predicted = len(self.heads)
        levels = F.linear(x, self.heads.flatten(0, 1), self.heads_bias[:predicted].flatten()).reshape(-1, predicted, self.codebook_size)
        levels = torch.cat([levels, self.heads_bias[predicted:].expand(len(x), -1, -1)], dim=1)
        return torch.floor(levels * 2.0 ** -self.shifts["heads"]), window[:, 1:]

    def start(self, batch: int = 1) -> Tensor:
        """The history before the first frame [B, window - 1, dim]."""
        return torch.zeros(batch, self.window - 1, self.dim)

    def _narrow(self, x: Tensor, layer: str) -> Tensor:
        return torch.floor(x * 2.0 ** -self.shifts[layer]).clamp(0, _MOST)

    @property
    def fingerprint(self) -> str:
        """A name for the model that follows from its numbers alone."""
        digest = hashlib.sha256(json.dumps(self.shifts, sort_keys=True).encode())
        for name in _TENSORS:
            tensor: Tensor = getattr(self, name)
            digest.update(f"{name} {tuple(tensor.shape)}".encode() + tensor.to(torch.int32).numpy().astype("<i4").tobytes())
        return digest.hexdigest()[:32]

    def _check_exact(self) -> None:
        """Whole numbers only, and no partial sum beyond what float32 holds, whatever is given and in whatever order it is summed."""
        for name in _TENSORS:
            tensor: Tensor = getattr(self, name)
            if not torch.equal(tensor, tensor.round()):
                raise CheckpointError(f"{name} holds numbers that are not whole, in a model of whole numbers")
        largest = {
            "embedding": self.embedding.abs().double().amax(dim=1).sum(dim=0).max(),
            **{
                name: max((_MOST * weight.abs().double().sum(dim=-1) + bias[: len(weight)].abs().double()).max(), bias.abs().max().double())
                for name, weight, bias in (
                    ("mix", self.mix, self.mix_bias),
                    ("hidden", self.hidden, self.hidden_bias),
                    ("heads", self.heads, self.heads_bias),
                )
            },
        }
        for name, bound in largest.items():
            if not bound < _EXACT:
                raise CheckpointError(f"sums of {name} may reach {float(bound):.0f}, expected less than {_EXACT}: they would not be exact")


def _check_shapes(tensors: Mapping[str, Tensor], shifts: Mapping[str, int]) -> None:
    missing = [name for name in _TENSORS if name not in tensors] + [f"the shift of {name}" for name in _SHIFTS if name not in shifts]
    if missing:
        raise CheckpointError(f"not a model of whole numbers: it has no {', '.join(missing)}")
    if any(isinstance(shifts[name], bool) or not isinstance(shifts[name], int) or not 0 <= shifts[name] <= 24 for name in _SHIFTS):
        raise CheckpointError(f"shifts are {dict(shifts)}, expected whole numbers from 0 to 24")
    shapes = {name: tuple(tensors[name].shape) for name in _TENSORS}
    try:
        context, entries, dim = shapes["embedding"]
        (hidden, taken), (narrow, _) = shapes["mix"], shapes["hidden"]
        window = taken // dim
        (n_q, _), (predicted, _, _) = shapes["heads_bias"], shapes["heads"]
        expected = {
            "embedding": (context, entries, dim),
            "mix": (hidden, window * dim),
            "mix_bias": (hidden,),
            "hidden": (narrow, hidden),
            "hidden_bias": (narrow,),
            "heads": (predicted, entries - 1, narrow),
            "heads_bias": (n_q, entries - 1),
        }
    except (ValueError, ZeroDivisionError) as exc:
        raise CheckpointError(f"not a model of whole numbers: its tensors have shapes {shapes}") from exc
    if shapes != expected or any(0 in shape for shape in shapes.values()) or window < 1 or entries < 3 or max(context, predicted) > n_q:
        raise CheckpointError(f"the tensors of a model of whole numbers have shapes {shapes}, expected {expected}")


@building()
def fixed_point_from_floats(floats: Mapping[str, Tensor]) -> FixedPointModel:
    """Round a model that was trained in floating point.

    `floats` are the tensors of `FixedPointModel` for values 0..1 between layers instead of 0..255, and for logarithms in nats. Weights of
    the matrices get 8 bits or what keeps their sums exact, with one power of two for each matrix.
    """
    # Values between layers have 8 bits of fraction: 1 is 256, or 255 where it is clipped.
    embedding = floats["embedding"]
    bits = _bits_of_fraction(embedding, torch.zeros(1), (1 << 15) - 1, 1)
    tensors, shifts = {"embedding": (embedding * 2.0**bits).round()}, {"embedding": bits - 8}
    for name, factor in (("mix", 1.0), ("hidden", 1.0), ("heads", _LEVELS_PER_NAT)):
        weight, bias = floats[name] * factor, floats[f"{name}_bias"] * factor
        bits = _bits_of_fraction(weight, bias, 127, 256)
        tensors[name] = (weight * 2.0**bits).round()
        tensors[f"{name}_bias"] = (bias * 2.0 ** (bits + 8)).round()
        # The sums have bits + 8 bits of fraction; values between layers have 8, and levels have none.
        shifts[name] = bits + 8 if name == "heads" else bits
    return FixedPointModel(tensors, shifts)


def _bits_of_fraction(weight: Tensor, bias: Tensor, most: int, values: int) -> int:
    """As many bits as leave the rounded weights within `most`, and sums of them by up to `values`, with the bias, well within 2**24."""
    sums = values * float(weight.abs().sum(dim=-1).max()) + 256 * float(bias.abs().max())
    return int(np.floor(np.log2(min(most / float(weight.abs().max()), 0.9 * _EXACT / sums))))


def save_fixed_point(model: FixedPointModel, path: Path) -> None:
    """Write a model: its whole numbers in the smallest types that hold them, as safetensors. Raises `OSError`."""
    tensors = {name: _smallest(getattr(model, name)) for name in _TENSORS}
    metadata = {"format": "streamcodec fixed-point language model", "shifts": json.dumps(model.shifts), "fingerprint": model.fingerprint}
    write_bytes(path, safetensors.torch.save(tensors, metadata))


def _smallest(tensor: Tensor) -> Tensor:
    most = float(tensor.abs().max())
    return tensor.to(torch.int8 if most < 1 << 7 else torch.int16 if most < 1 << 15 else torch.int32).contiguous()


@building()
def load_fixed_point(path: Path) -> FixedPointModel:
    """Read a file that `save_fixed_point` wrote. Raises `CheckpointError` if there is none, if it is damaged or holds anything else."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
        shifts = json.loads(metadata.get("shifts", "{}"))
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError) as exc:
        raise CheckpointError(f"{path}: not a readable model of whole numbers ({exc})") from exc
    try:
        model = FixedPointModel(tensors, shifts if isinstance(shifts, dict) else {})
    except CheckpointError as exc:
        raise CheckpointError(f"{path}: {exc}") from exc
    if model.fingerprint != metadata.get("fingerprint"):
        raise CheckpointError(f"{path}: its numbers have fingerprint {model.fingerprint}, its header says {metadata.get('fingerprint')}")
    return model
