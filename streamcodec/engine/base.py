"""The interface of an engine: numpy arrays and states in, numpy arrays and new states out. An engine stores nothing about a stream.

A state is one float32 row [S] per stream. So streams are batched by stacking rows, and a state can be copied, saved or moved as bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from streamcodec.config import CodecConfig, Start
from streamcodec.model.architecture import decoder_layers, default_live_start, encoder_layers, start_frames
from streamcodec.types import Codes, Samples, States

__all__ = ["MAX_LIVE_FRAMES", "Engine", "EngineName", "LanguageEngine", "LevelEngine", "PrecisionName", "StreamTraits", "exact_start"]

EngineName = Literal["auto", "torch", "openvino", "onnx"]
PrecisionName = Literal["auto", "fp32", "bf16"]

MAX_LIVE_FRAMES = 75
"""The most frames in a step of a live stream: one that is late is decoded in steps of this length. Longer steps are those of clips."""


@dataclass(frozen=True)
class StreamTraits:
    """What the streams of a model are like, whichever engine runs them: sizes of states (floats), and frames that must come together."""

    encoder_state_size: int
    decoder_state_size: int
    encoder_start_frames: int
    """Frames that an encoder without a start state needs before its first step."""
    decoder_start_frames: int
    decoder_hold_frames: int
    """Frames that a decoder must hold back until the stream continues or ends: 0 unless `trim_right_ratio` is below 1."""
    default_live_start: Start

    @classmethod
    def of(cls, config: CodecConfig, encoder_state_size: int, decoder_state_size: int) -> StreamTraits:
        """The traits of a model with this configuration, whose states have these sizes."""
        return cls(
            encoder_state_size=encoder_state_size,
            decoder_state_size=decoder_state_size,
            encoder_start_frames=start_frames(encoder_layers(config), config.hop_length),
            decoder_start_frames=start_frames(decoder_layers(config), 1),
            decoder_hold_frames=0 if config.trim_right_ratio == 1.0 else 1,
            default_live_start=default_live_start(config),
        )


def exact_start(config: CodecConfig, state_size: int, hold_frames: int = 0) -> States | None:
    """The state [state_size] that an exact start of a stream begins from, or None if the first step creates it.

    With zero padding a start equals a state of zeros, unless `hold_frames` are removed there.
    """
    return np.zeros(state_size, np.float32) if config.pad_mode == "constant" and not hold_frames else None


class Engine(Protocol):
    """Runs the steps of a model. Any thread may call it; at most `workers` calls may run at the same time."""

    config: CodecConfig
    traits: StreamTraits
    workers: int

    @property
    def name(self) -> str:
        """The engine's name and settings, as text for users."""
        ...

    @property
    def best_batches(self) -> tuple[int, ...]:
        """The batch sizes that run most efficiently, ascending from 1; empty if all sizes are equally good."""
        ...

    def prepare(self, packet_frames: int) -> None:
        """Optimise for many encoders with packets of `packet_frames`, in the background. Returns at once."""
        ...

    def stop_preparing(self) -> None:
        """Cancel the preparations that have not begun, so that a program can end without waiting for them.

        `prepare` may be called again afterwards.
        """
        ...

    def encoder_start(self, start: Start) -> States | None:
        """The state [S] that a stream starts from, or None if the first step creates it (reflection needs the first frames)."""
        ...

    def decoder_start(self, start: Start, n_q: int) -> States | None:
        """The state [S] that a decoder of `n_q` codebooks starts from, or None as for `encoder_start`."""
        ...

    def encode(self, samples: Samples, states: States | None, n_q: Sequence[int], final: bool = False) -> tuple[Codes, States]:
        """Samples [B, T], states [B, S] -> codes [B, max(n_q), ceil(T / hop)], new states [B, S]; T is whole hops unless `final`.

        A model whose granularity is not "frames" takes whole chunks: no states, and `final`. With several channels, samples are [B, C, T].
        Row b uses its first `n_q[b]` codebooks; the codes of the others are `codebook_size`.
        """
        ...

    def decode(self, codes: Codes, states: States | None, final: bool = False) -> tuple[Samples, States]:
        """Codes [B, n_q, F] and states [B, S] -> samples [B, F * hop], or [B, C, F * hop] of several channels, and new states [B, S].

        A code equal to `codebook_size` means that the row does not use that codebook.
        """
        ...

    def embed(self, codes: Codes) -> Samples:
        """Codes [B, n_q, F] -> latents [B, hidden_size, F]."""
        ...

    def decode_latents(self, latents: Samples) -> Samples:
        """Latents [B, hidden_size, F] of a whole clip -> samples [B, F * hop]."""
        ...


class LanguageEngine(Protocol):
    """Runs EnCodec's language model. Its state is a value of the engine's own kind, and None before the first frame."""

    def predict(self, frame: Codes | None, state: Any, n_q: int) -> tuple[Samples, Any]:
        """The codes [n_q] of a frame, None before the first one, and the state -> probabilities [n_q, codebook_size], new state."""
        ...


class LevelEngine(Protocol):
    """Runs a language model of whole numbers, all engines with the same result. The state is an array, and None before the first frame."""

    @property
    def fingerprint(self) -> str:
        """The model's name, which follows from its numbers."""
        ...

    def predict(self, frame: Codes | None, state: Samples | None, n_q: int) -> tuple[npt.NDArray[np.int64], Samples]:
        """The codes [n_q] of a frame, None before the first one, and the state -> levels [n_q, codebook_size], new state."""
        ...
