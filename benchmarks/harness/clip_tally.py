"""What was compared with a package, clip by clip, and what did not hold: one row of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.harness.clips import AUDIO_WITHIN, SCALES_WITHIN, ClipTruth, row_chunks, scales_apart
from benchmarks.harness.parity import counted
from benchmarks.harness.sections import Figures
from streamcodec.errors import CodesError
from streamcodec.model.near_ties import Comparison
from streamcodec.types import Chunk, Samples

__all__ = ["ClipTally"]


@dataclass
class ClipTally:
    """Counts and largest differences of one engine against one package; `labels` say which."""

    labels: Mapping[str, Any]
    clips: int = 0
    samples: int = 0
    comparisons: list[Comparison] = field(default_factory=list)
    scales: float | None = None
    audio: float = 0.0
    peak: float = 0.0
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def clip(self, name: str, samples: int) -> Iterator[None]:
        """Count a clip; what cannot be compared within is a failure of that name."""
        self.clips += 1
        self.samples += samples
        try:
            yield
        except CodesError as error:
            self.failures.append(f"{name}: {error}")

    def encoded(self, name: str, truth: ClipTruth, found: Sequence[Chunk], expected: Sequence[Chunk]) -> None:
        """Compare the codes and the scales of a clip. Raises `CodesError` where their shapes differ."""
        comparisons = truth.compare(found, expected)
        self.comparisons += comparisons
        self.failures += [f"{name}, chunk {i}: {compared}" for i, compared in enumerate(comparisons) if not compared]
        if expected[0].scale is not None or found[0].scale is not None:
            apart = scales_apart(found, expected)
            self.scales = max(self.scales or 0.0, apart)
            if not apart <= SCALES_WITHIN:
                self.failures.append(f"{name}: scales differ by {apart:.1e} of themselves, expected at most {SCALES_WITHIN:g}")

    def decoded(self, name: str, found: Samples, expected: Samples) -> None:
        """Compare the audio of the same codes."""
        if found.shape != expected.shape:
            self.failures.append(f"{name}: audio {list(found.shape)}, expected {list(expected.shape)}")
            return
        apart = float(np.abs(found - expected).max())
        self.audio, self.peak = max(self.audio, apart), max(self.peak, float(np.abs(expected).max()))
        if not apart <= AUDIO_WITHIN:
            self.failures.append(f"{name}: samples differ by {apart:.1e}, expected at most {AUDIO_WITHIN:g}")

    def batch(self, truths: Sequence[ClipTruth], lengths: Sequence[int], encoded: tuple[Any, Any], decoded: tuple[Any, Any]) -> None:
        """Compare a padded batch of clips of these lengths: what both `EncodecModel`s' `encode` gave, ours first, and their `decode`."""
        audio = [values.audio_values.numpy() for values in decoded]
        for row, (truth, length) in enumerate(zip(truths, lengths, strict=True)):
            name = f"clip {row} of the batch"
            with self.clip(name, length):
                self.encoded(name, truth, *(row_chunks(side, row) for side in encoded))
                self.decoded(name, *(side[row] for side in audio))

    def row(self) -> Figures:
        """The row's figures, and its failures."""
        told = ", ".join(f"{value}" for value in self.labels.values())
        return {
            **self.labels,
            "clips": self.clips,
            "samples": self.samples,
            **counted(self.comparisons),
            "scales": self.scales,
            "audio": self.audio,
            "peak": self.peak,
            "failures": [f"{told}, {failure}" for failure in self.failures],
        }
