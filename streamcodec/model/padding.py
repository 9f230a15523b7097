"""The padding of a convolution: the columns that stand before and after a step's input, as values or as numbers of columns.

At the start and at the end of a stream, padding depends on the input's length, and reflection on its content. `Padding.extend` pads a
tensor; that is the rule, and it exists once. `Padding.indices` gives the same padding as the numbers of the columns that are copied. With
these as one more input, `Padding.extend_by` pads by the same operations at the start of a stream, within it and at its end. So a network
that is converted once can run any step.

Follows facebookresearch/encodec (`encodec/modules/conv.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["Index", "Indices", "Padding"]

Index = npt.NDArray[np.int32]
"""Numbers of columns [N]."""

Indices = Iterator[Tensor]
"""The indices of a step, in the order of the layers that use them: each layer takes its own from the iterator."""


@dataclass(frozen=True)
class Padding:
    """The padding of a convolution that reads `history` columns before its input, in steps of `stride` columns.

        columns of earlier steps | x               | padding
              [ history ]          [ . . . . . . ]   [ fewer than stride, and lookahead ]
        padding if x is the start                     if x is the end

    `mode` is "reflect", or "constant" for zeros. A convolution that is not causal reads `lookahead` columns after its input as well, so x
    is always a whole clip.
    """

    history: int
    stride: int
    mode: str
    lookahead: int = 0

    @property
    def depends_on_edges(self) -> bool:
        """Whether a start or an end is padded otherwise than the middle of a stream that starts from a state of zeros."""
        return self._pads_end or self._reflects_start

    def extend(self, x: Tensor, history: tuple[Tensor, ...] | None, final: bool) -> Tensor:
        """x [B, C, T] -> [B, C, history + T + padding].

        `history` is one tensor [B, C, history], or nothing if there is no column of it; None if x is the start of the stream. Raises
        `ValueError` for an x that is too short to be a start, and, with a lookahead, for one that is no whole clip.
        """
        if self.lookahead and not (final and history is None):
            raise ValueError(f"a convolution that reads {self.lookahead} columns ahead needs a whole clip")
        padding = -x.shape[-1] % self.stride + self.lookahead if final else 0
        if history is None:
            return self._extend_start(x, padding, final)
        x = torch.cat([*history, x], dim=-1) if history else x
        return F.pad(x, (0, padding), mode=self.mode) if padding else x

    def _extend_start(self, x: Tensor, padding: int, final: bool) -> Tensor:
        if self.mode != "reflect":
            return F.pad(x, (self.history, padding))
        length, most = x.shape[-1], max(self.history, padding)
        if length > most:
            return F.pad(x, (self.history, padding), mode="reflect") if most else x
        if not final:
            raise ValueError(f"{length} steps cannot open a stream exactly: reflection over {self.history} needs {self.history + 1}")
        # The clip is not longer than its padding. The reference appends zeros, reflects the result and removes the zeros again.
        zeros = most - length + 1
        padded = F.pad(F.pad(x, (0, zeros)), (self.history, padding), mode="reflect")
        return padded[..., : padded.shape[-1] - zeros]

    def indices(self, length: int, start: bool, final: bool) -> list[Index]:
        """The padding of a step over `length` columns as the numbers of columns that it copies; `extend_by` says which these are.

        One index [history] if a start is padded by more than zeros, and one [padding] if an end may be padded.
        """
        # Padding does not depend on how many strides lie between the two ends.
        length -= max(0, length - 2 * (self.history + self._reach)) // self.stride * self.stride
        # Columns that hold their own numbers are padded by the rule itself. Zero stands for a column of zeros.
        numbers = torch.arange(1, 1 + self.history + length, dtype=torch.float64)[None, None]
        history, x = numbers[..., : self.history], numbers[..., self.history :]
        extended = self.extend(x, None if start else (history,), final)[0, 0].numpy().astype(np.int32)
        before, after = extended[: self.history], extended[self.history + length :]
        skipped = max(0, self.history + length - self._reach)
        return [*([before] if self._reflects_start else []), *([np.maximum(after - skipped, 0)] if self._pads_end else [])]

    def extend_by(self, indices: Indices, x: Tensor, history: tuple[Tensor, ...]) -> Tensor:
        """As `extend`, with the columns that `indices` name; at the start of a stream, `history` is zeros.

        zeros | history | first columns of x        what the first index selects from, for the columns before x
        zeros | last columns of history and x       what the second index selects from, for the columns after x
        """
        if self._reflects_start:
            first = torch.cat([*history, x[..., : self.history + 1]], dim=-1)
            history = (torch.index_select(F.pad(first, (1, 0)), -1, next(indices)),)
        x = torch.cat([*history, x], dim=-1) if history else x
        if self._pads_end:
            last = F.pad(x[..., -self._reach :], (1, 0))
            x = torch.cat([x, torch.index_select(last, -1, next(indices))], dim=-1)
        return x

    @property
    def _reflects_start(self) -> bool:
        return self.mode == "reflect" and self.history > 0

    @property
    def _pads_end(self) -> bool:
        return self._reach > 1

    @property
    def _reach(self) -> int:
        """As many of the last columns as an end's padding may repeat."""
        return self.stride + self.lookahead
