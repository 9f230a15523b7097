"""An engine that multiplies nothing and whose output depends on all that came before, so that a stream's state can be followed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from streamcodec.codec import Codec
from streamcodec.config import CodecConfig, Start
from streamcodec.engine.base import StreamTraits
from streamcodec.types import Codes, Samples, States

__all__ = ["CountingEngine", "counted_audio", "counted_codes", "counting_codec"]

_CONFIG = CodecConfig()


class CountingEngine:
    """A code is the frame's first sample, the number of frames before it and its codebook, added up; a state counts frames."""

    name = "counting"
    traits = StreamTraits(1, 1, 1, 1, 0, "exact")
    workers = 1
    best_batches = ()
    config = _CONFIG

    def prepare(self, packet_frames: int) -> None:
        pass

    def stop_preparing(self) -> None:
        pass

    def encoder_start(self, start: Start) -> States:  # noqa: ARG002
        return np.zeros(1, np.float32)

    def decoder_start(self, start: Start, n_q: int) -> States:  # noqa: ARG002
        return np.zeros(1, np.float32)

    def encode(self, samples: Samples, states: States | None, n_q: Sequence[int], final: bool = False) -> tuple[Codes, States]:  # noqa: ARG002
        assert states is not None
        first = np.rint(samples[:, :: _CONFIG.hop_length] * 256).astype(np.int32)
        counted = first + states.astype(np.int32) + np.arange(first.shape[1], dtype=np.int32)
        codes = (counted[:, None] + np.arange(max(n_q), dtype=np.int32)[:, None]) % 1024
        return codes, (states + first.shape[1]) % 1024

    def decode(self, codes: Codes, states: States | None, final: bool = False) -> tuple[Samples, States]:  # noqa: ARG002
        assert states is not None
        frames = codes.shape[2]
        counted = (codes[:, 0] + states.astype(np.int32) + np.arange(frames, dtype=np.int32)) % 1024
        return np.repeat((counted / 2048).astype(np.float32), _CONFIG.hop_length, axis=1), (states + frames) % 1024

    def embed(self, codes: Codes) -> Samples:
        raise NotImplementedError

    def decode_latents(self, latents: Samples) -> Samples:
        raise NotImplementedError


def counting_codec() -> Codec:
    """What a server is given."""
    engine: Any = CountingEngine()
    return Codec(engine, name="counting", fingerprint="counting")


def counted_codes(samples: npt.NDArray[np.float32], n_q: int = 8) -> npt.NDArray[np.int32]:
    """The codes [n_q, F] of an unbroken stream of samples [T]."""
    return CountingEngine().encode(samples[None], np.zeros((1, 1), np.float32), [n_q], final=True)[0][0]


def counted_audio(codes: npt.NDArray[np.int32]) -> Samples:
    """The samples of an unbroken stream of codes [n_q, F]."""
    return CountingEngine().decode(codes[None], np.zeros((1, 1), np.float32), final=True)[0][0]
