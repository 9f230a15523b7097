"""The reference packages' models as tests compare with them: clips of one channel, coded as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from streamcodec.types import Chunk, Codes, Samples

# Torch takes seconds to import, and the process that only shares tests out has no use for it.
if TYPE_CHECKING:
    from benchmarks.peers.references import Reference as PackageModel

__all__ = ["Reference", "encodec_reference", "transformers_reference"]


class Reference:
    """A reference package's model of one channel that codes clips as a whole: clips [B, T] in and out."""

    def __init__(self, package: PackageModel) -> None:
        self.model, self.save = package.model, package.save
        self._package = package
        self._codes: dict[tuple[bytes, tuple[int, ...], float], Codes] = {}

    def encode(self, clips: Samples, bandwidth: float) -> Codes:
        """Clips [B, T] -> codes [B, n_q, F]; the same clips are encoded once, since each engine is compared with them."""
        key = (clips.tobytes(), clips.shape, bandwidth)
        if key not in self._codes:
            [chunk] = self._package.encode(clips[:, None], bandwidth)
            self._codes[key] = chunk.codes
        return self._codes[key].copy()

    def decode(self, codes: npt.NDArray[Any]) -> Samples:
        """Codes [B, n_q, F] -> samples [B, F * hop]."""
        return self._package.decode([Chunk(codes)])[:, 0]


def transformers_reference(seed: int = 0, **overrides: Any) -> Reference:
    """`transformers.EncodecModel` with random weights; the full-size 24 kHz model unless `overrides` say otherwise."""
    from benchmarks.peers.random_models import transformers_model
    from benchmarks.peers.references import TransformersReference

    return Reference(TransformersReference(transformers_model(seed, **overrides)))


def encodec_reference(seed: int = 0) -> Reference:
    """The package `encodec`, full-size 24 kHz model with random weights."""
    from benchmarks.peers.references import reference_of

    return Reference(reference_of("encodec", "encodec_24khz", seed))
