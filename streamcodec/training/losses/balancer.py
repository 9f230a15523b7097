"""How losses of unlike size share one gradient, so that no weight needs tuning when either loss changes (Défossez et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["Balancer", "scaled"]


_WEIGHED = "weighed"


class Balancer:
    """The gradient by a decoder's output of several losses, each of which gets its share of it, on average over steps."""

    def __init__(self, weights: Mapping[str, float], decay: float = 0.99) -> None:
        self.weights = {name: weight for name, weight in weights.items() if weight > 0.0}
        self.decay = decay
        self.norms: dict[str, list[float]] = {}  # of each loss: the decaying sum of its gradients' norms, and of ones

    def gradients(self, losses: Mapping[str, Tensor], y: Tensor, *, measure: bool = True) -> dict[str, Tensor]:
        """What `weighed` takes, of these rows: the gradients of `losses` by `y` [B, T].

        Where norms need not be measured anew, one pass back serves all losses, and gives one gradient that is weighed already.
        """
        if not measure and self.norms.keys() >= self.weights.keys():
            total = torch.stack([losses[name] * self._scale(name) for name in self.weights]).sum()
            return {_WEIGHED: torch.autograd.grad(total, y, retain_graph=True)[0]}
        return {name: torch.autograd.grad(losses[name], y, retain_graph=True)[0] for name in self.weights}

    def weighed(self, gradients: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of `gradients`, of all rows, each first divided by its average norm; its norm is about 1.

        What is not weighed yet is measured first.
        """
        if _WEIGHED in gradients:
            return gradients[_WEIGHED]
        for name, gradient in gradients.items():
            norms, ones = self.norms.get(name, [0.0, 0.0])
            self.norms[name] = [norms * self.decay + float(gradient.norm()), ones * self.decay + 1.0]
        return torch.stack([gradient * self._scale(name) for name, gradient in gradients.items()]).sum(dim=0)

    def _scale(self, name: str) -> float:
        norms, ones = self.norms[name]
        return self.weights[name] / sum(self.weights.values()) / (norms / ones + 1e-12)


def scaled(pull: Tensor, at_y: Tensor, share: float) -> Tensor:
    """Each row of a gradient `pull` [B, T], made as long as `share` of that row of `at_y`: the balance row by row."""
    scale: Tensor = share * at_y.norm(dim=1, keepdim=True) / (pull.norm(dim=1, keepdim=True) + 1e-8)
    return scale * pull
