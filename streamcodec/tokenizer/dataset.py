"""A folder of codes as a dataset of torch's."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from streamcodec.bitstream.codes_file import read_codes
from streamcodec.errors import CodesError, InputError
from streamcodec.tokenizer.manifest import read_manifest

__all__ = ["TokenDataset"]


class TokenDataset(Dataset[Tensor]):
    """The codes of a folder that `streamcodec tokenize` wrote: each item is a clip's codes, int64 [n_q, frames], sorted by their names.

    With `n_q`, only the first codebooks: the clips at a lower bandwidth. With `frames`, an item is a stretch of exactly so many frames, so
    that items of one batch can be stacked; a clip has as many stretches as fit into it, one behind the other, and its rest is left out.

    `header` tells the model and the sizes, `entries` are the clips in order. Raises `CodesError` for a folder without a manifest and for a
    file of codes that is not the one in it, `InputError` for arguments that do not fit.
    """

    def __init__(self, folder: str | PathLike[str], *, n_q: int | None = None, frames: int | None = None) -> None:
        self.folder = Path(folder)
        self.header, entries = read_manifest(self.folder)
        self.n_q = self.header.n_q if n_q is None else n_q
        if not 1 <= self.n_q <= self.header.n_q:
            raise InputError(f"n_q is {n_q}, expected 1 to {self.header.n_q}: the codebooks of {self.folder}")
        if frames is not None and frames < 1:
            raise InputError(f"frames is {frames}, expected at least 1")
        self.frames = frames
        self.entries = [entries[source] for source in sorted(entries) if entries[source].error is None]
        # The number of the item after the last one of each clip.
        self._ends = list(accumulate(1 if frames is None else entry.frames // frames for entry in self.entries))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Tensor:
        if not -len(self) <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        index %= len(self)
        clip = bisect_right(self._ends, index)
        codes = self._read(clip)[: self.n_q]
        if self.frames is not None:
            begin = (index - (self._ends[clip - 1] if clip else 0)) * self.frames
            codes = codes[:, begin : begin + self.frames]
        return codes

    def _read(self, clip: int) -> Tensor:
        entry = self.entries[clip]
        path = self.folder / entry.codes
        file = read_codes(path)
        if (file.fingerprint, *file.codes.shape) != (self.header.fingerprint, self.header.n_q, entry.frames):
            raise CodesError(
                f"{path}: holds {list(file.codes.shape)} codes of {file.fingerprint}, "
                f"the manifest says {[self.header.n_q, entry.frames]} of {self.header.fingerprint}"
            )
        return torch.from_numpy(file.codes).long()
