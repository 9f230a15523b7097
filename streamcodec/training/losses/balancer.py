"""How losses of unlike size share one gradient, so that no weight needs tuning when either loss changes (Défossez et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["Balancer", "scaled"]


class Balancer:
    """The gradient by a decoder's output of several losses, each of which gets its share of it, on average over steps."""

    def __init__(self, weights: Mapping[str, float], decay: float = 0.99) -> None:
        self.weights = {name: weight for name, weight in weights.items() if weight > 0.0}
        self.decay = decay
        self.norms: dict[str, list[float]] = {}  # of each loss: the decaying sum of its gradients' norms, and of ones

    def __call__(self, losses: Mapping[str, Tensor], y: Tensor) -> Tensor:
        """The weighted sum of the gradients of `losses` by `y`, each first divided by its average norm; its norm is about 1."""
        total, whole = torch.zeros_like(y), sum(self.weights.values())
        for name, weight in self.weights.items():
            gradient = torch.autograd.grad(losses[name], y, retain_graph=True)[0]
            norms, ones = self.norms.get(name, [0.0, 0.0])
            norms, ones = norms * self.decay + float(gradient.norm()), ones * self.decay + 1.0
            self.norms[name] = [norms, ones]
            total += gradient * (weight / whole / (norms / ones + 1e-12))
        return total


def scaled(pull: Tensor, at_y: Tensor, share: float) -> Tensor:
    """Each row of a gradient `pull` [B, T], made as long as `share` of that row of `at_y`: the balance row by row."""
    scale: Tensor = share * at_y.norm(dim=1, keepdim=True) / (pull.norm(dim=1, keepdim=True) + 1e-8)
    return scale * pull
