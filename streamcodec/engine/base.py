"""What an engine is: numpy in, numpy out, states in, states out; nothing of a stream stays inside.

A state is one float32 row [S] per stream, so streams are batched by stacking rows and a state is copied, saved or moved as bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from streamcodec.config import CodecConfig, Start
from streamcodec.types import Codes, Samples, States

__all__ = ["Engine", "EngineName", "PrecisionName"]

EngineName = Literal["auto", "torch", "openvino"]
PrecisionName = Literal["auto", "fp32", "bf16"]


class Engine(Protocol):
    """Runs a model's steps. Calls may come from any thread, as many at a time as there are `workers`."""

    config: CodecConfig
    workers: int
    encoder_state_size: int
    decoder_state_size: int
    encoder_start_frames: int
    """Frames that must exist before an encoder without a start state can open."""
    decoder_start_frames: int
    decoder_hold_frames: int
    """Frames that a decoder must keep back until the stream goes on or ends: 0 unless `trim_right_ratio` is below 1."""
    default_live_start: Start

    @property
    def name(self) -> str:
        """What runs the model, for people."""
        ...

    @property
    def best_batches(self) -> tuple[int, ...]:
        """The numbers of rows that it runs best, ascending from 1; none where all are alike."""
        ...

    def prepare(self, packet_frames: int) -> None:
        """Many encoders of packets of `packet_frames` are to come: what that is quicker with may be made ready aside, beginning now."""
        ...

    def stop_preparing(self) -> None:
        """Forget what is to be made ready aside and has not begun: a program that ends would wait for it. It may be asked for again."""
        ...

    def encoder_start(self, start: Start) -> States | None:
        """The state [S] that a stream starts from, or None where its first step opens it (reflection needs to see the first frames)."""
        ...

    def decoder_start(self, start: Start, n_q: int) -> States | None:
        """The state [S] that a decoder of `n_q` codebooks starts from, or None as for `encoder_start`."""
        ...

    def encode(self, samples: Samples, states: States | None, n_q: Sequence[int], final: bool = False) -> tuple[Codes, States]:
        """Samples [B, T] and states [B, S] -> codes [B, max(n_q), ceil(T / hop)] and new states [B, S]; T is whole hops unless `final`.

        Row b uses its first `n_q[b]` codebooks; the codes of the others are `codebook_size`.
        """
        ...

    def decode(self, codes: Codes, states: States | None, final: bool = False) -> tuple[Samples, States]:
        """Codes [B, n_q, F] and states [B, S] -> samples [B, F * hop] and new states [B, S].

        A code equal to `codebook_size` says that the row does not use that codebook.
        """
        ...

    def embed(self, codes: Codes) -> Samples:
        """Codes [B, n_q, F] -> latents [B, hidden_size, F]."""
        ...

    def decode_latents(self, latents: Samples) -> Samples:
        """Latents [B, hidden_size, F] of a whole clip -> samples [B, F * hop]."""
        ...
