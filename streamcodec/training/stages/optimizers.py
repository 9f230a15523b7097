"""How weights move: Muon for matrices, AdamW for the rest, and averages that are kept of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from streamcodec.training.side_by_side import side_by_side

__all__ = ["Muon", "Optimizers", "averaging", "follow", "half_cosine", "orthogonal", "warming"]


class Optimizers:
    """Both optimizers over some parameters, in groups of which each has its `share` of the learning rate.

    Speech has 30 dB less above 4 kHz than below 1 kHz, and each weight of a layer meets all bands at once: only directions across weights
    tell them apart. Muon makes equal steps in all of them (Jordan et al., 2024); Adam does not learn what is weak in time. It takes
    matrices: views of the convs' weights. Biases, and the first and the last layer, which are vectors, are Adam's.
    """

    def __init__(
        self, groups: Sequence[tuple[float, Sequence[Parameter]]], rate: float, small_rate: float, betas: tuple[float, float], clip: float
    ) -> None:
        self.parameters = [p for _, group in groups for p in group]
        self.rates = rate, small_rate
        self.clip = clip
        self._matrices = [p for p in self.parameters if p.ndim > 1 and 1 not in p.shape[:2]]
        self._views = [p.detach().flatten(1) for p in self._matrices]
        views = dict(zip(self._matrices, self._views, strict=True))
        made: list[list[dict[str, Any]]] = [[], []]
        for share, group in groups:
            for kind, chosen in zip(made, ([views[p] for p in group if p in views], [p for p in group if p not in views]), strict=True):
                if chosen:
                    kind.append({"params": chosen, "share": share})
        self.muon = Muon(made[0], rate)
        self.adam = torch.optim.AdamW(made[1], small_rate, betas, weight_decay=0.0)

    def step(self, factor: float, threads: int = 1) -> Tensor:
        """Move by the gradients at `factor` of the learning rates; returns their norm, and where that is no number, nothing moves.

        Up to `threads` matrices are computed at once.
        """
        for optimizer, most in zip((self.muon, self.adam), self.rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = most * factor * group["share"]
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.clip)
        if torch.isfinite(norm):
            for view, matrix in zip(self._views, self._matrices, strict=True):
                view.grad = None if matrix.grad is None else matrix.grad.flatten(1)
            self.muon.move(threads)
            self.adam.step()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Both optimizers' states."""
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


class Muon(torch.optim.Muon):
    """PyTorch's Muon, orthogonalised in the precision of the gradients: a processor that only emulates bfloat16 takes 25 times as long."""

    def __init__(self, params: Sequence[Any], rate: float) -> None:
        super().__init__(params, rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")

    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - torch's has one
        """Move every parameter that has a gradient."""
        self.move(1)

    def move(self, threads: int) -> None:
        """The same, up to `threads` of them at once."""
        moving = [(m, m.grad, group) for group in self.param_groups for m in group["params"] if m.grad is not None]
        moving.sort(key=lambda each: -each[0].numel() * min(each[0].shape))  # the longest ones first
        side_by_side([partial(self._move, *each) for each in moving], threads)

    @torch.no_grad()
    def _move(self, matrix: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        momentum = self.state[matrix].setdefault("momentum_buffer", torch.zeros_like(matrix))
        momentum.lerp_(gradient, 1.0 - group["momentum"])
        ahead = gradient.lerp(momentum, group["momentum"])
        update = orthogonal(ahead, group["ns_coefficients"], group["ns_steps"], group["eps"])
        matrix.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, least: float) -> Tensor:
    """`matrix` [M, N] with its singular values brought near 1 by `steps` Newton-Schulz iterations a x + b (x x') x + c (x x')^2 x."""
    a, b, c = coefficients
    x = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.t()
    x = x / x.norm().clamp(min=least)
    for _ in range(steps):
        gram = x @ x.t()
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if matrix.shape[0] <= matrix.shape[1] else x.t()


def warming(step: int, steps: int) -> float:
    """What a rate is multiplied by at `step`, where it goes up over the first `steps`."""
    return min(1.0, (step + 1) / steps)


def half_cosine(progress: float, begin: float) -> float:
    """1 until `begin` of a stage, then half a cosine down to 0 at its end."""
    rest = min(1.0, max(0.0, progress - begin) / max(1.0 - begin, 1e-9))
    return 0.5 * (1.0 + math.cos(math.pi * rest))


def averaging(decay: float, step: int) -> float:
    """The decay of averaged weights at `step`: short at first, so that they leave the start behind."""
    return min(decay, (1.0 + step) / (10.0 + step))


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the parameters of `average` towards those of `model`."""
    pairs = zip(average.parameters(), model.parameters(), strict=True)
    averages, currents = map(list, zip(*pairs, strict=True))
    torch._foreach_lerp_(averages, currents, 1.0 - decay)
