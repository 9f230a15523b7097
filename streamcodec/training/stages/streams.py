"""Rows of batches as streams: what layers remember of a crop is there when the next one is heard.

A crop that begins with empty states teaches a network how streams begin, and no more: one that had only heard the first 2.56 seconds of
them got worse from the third second on. So states are carried from step to step, though no gradient goes back through them (truncated
backpropagation through time).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from streamcodec.model.layers import StreamingLayer

__all__ = ["Streams"]


class Streams:
    """The states of every network's rows behind the last crop; where `carried` is false, every crop is a whole clip.

    A row that begins beside others that go on has zeros for a past, also where the model's padding reflects.
    """

    def __init__(self, *, carried: bool = True) -> None:
        self.carried = carried
        self.state: dict[str, list[Tensor]] = {}

    def restore(self, state: Mapping[str, Sequence[Tensor]], device: torch.device) -> None:
        """Go on from the `state` of a checkpoint."""
        self.state = {name: [part.to(device) for part in parts] for name, parts in state.items()}

    def part(self, rows: slice) -> Streams:
        """Some rows on their own."""
        part = Streams(carried=self.carried)
        part.state = {name: [tensor[rows] for tensor in tensors] for name, tensors in self.state.items()}
        return part

    def join(self, parts: Sequence[Streams]) -> None:
        """Take over what `parts`, of all rows in their order, remember."""
        names = parts[0].state.keys()
        self.state = {name: [torch.cat(rows) for rows in zip(*(part.state[name] for part in parts), strict=True)] for name in names}

    def through(self, network: StreamingLayer, name: str, x: Tensor, goes_on: Tensor) -> Tensor:
        """What `network` makes of crops `x` [B, C, T]; rows `goes_on` [B] follow those that came under this `name` before."""
        y: Tensor
        before = self.state.get(name)
        if not self.carried:
            y, _ = network(x, None, True)
            return y
        if before is None or not bool(goes_on.any()):
            y, after = network(x, None)
        else:
            keep = goes_on.to(x.device)
            y, after = network(x, tuple(torch.where(_aside(keep, part), part, torch.zeros_like(part)) for part in before))
        self.state[name] = [part.detach().clone() for part in after]  # not the whole inputs that they are slices of
        return y


def _aside(keep: Tensor, part: Tensor) -> Tensor:
    return keep.view(-1, *[1] * (part.ndim - 1))
