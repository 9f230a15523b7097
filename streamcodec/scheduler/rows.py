"""The rows of the batches: each row turns one stream's input of any size into engine steps, and their results into whole packets.

`next_step` returns a `Step` when the row has enough input for it, and `complete` takes its result. A row has at most one step in progress.
This file runs no model and starts no thread.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np

from streamcodec.config import Start
from streamcodec.engine.base import MAX_LIVE_FRAMES, Engine
from streamcodec.errors import SnapshotError
from streamcodec.types import Codes, Samples, States

__all__ = ["DecoderRow", "DecoderRowState", "EncoderRow", "EncoderRowState", "Row", "Step", "join_codes", "run_due", "run_steps"]

T = TypeVar("T", Samples, Codes)


@dataclass(frozen=True)
class Step(Generic[T]):
    """One row's part of an engine call; `state` [S] is None if the step starts the stream.

    `data` is samples [T], or [C, T] of a model of several channels, or codes [n_q, F].
    """

    data: T
    state: States | None
    final: bool

    @property
    def key(self) -> Hashable:
        """The key of the step: only steps with equal keys can share one engine call."""
        return "encode" if self.encodes else "decode", self.data.shape[-1], self.state is None, self.final

    @property
    def encodes(self) -> bool:
        """Whether the data are samples."""
        return self.data.dtype == np.float32


@dataclass(frozen=True)
class EncoderRowState:
    """An encoder's row between two steps: the model's state [S] (None before the first step), samples [T] and codes [n_q, F] that wait."""

    state: States | None
    pending: Samples
    codes: Codes

    def check(self, engine: Engine, *, n_q: int, packet_frames: int) -> None:
        """Raise `SnapshotError` unless a row of `engine` with these numbers can go on from here."""
        _check_state("encoder", self.state, engine.traits.encoder_state_size)
        most = max(packet_frames, engine.traits.encoder_start_frames) * engine.config.hop_length
        if self.pending.ndim != 1 or self.pending.size >= most or not np.isfinite(self.pending).all():
            raise SnapshotError(
                f"the encoder's samples have shape {list(self.pending.shape)}, expected [T] with T below {most}, all finite"
            )
        _check_codes(self.codes, n_q, packet_frames - 1, engine.config.codebook_size)
        if self.codes.shape[0] != n_q:
            raise SnapshotError(f"the encoder's codes have {self.codes.shape[0]} codebooks, expected {n_q}")


@dataclass(frozen=True)
class DecoderRowState:
    """A decoder's row between two steps: the model's state [S] (None before the first step), and codes [n_q, F] that wait."""

    state: States | None
    pending: tuple[Codes, ...]

    def check(self, engine: Engine) -> None:
        """Raise `SnapshotError` unless a row of `engine` can go on from here."""
        _check_state("decoder", self.state, engine.traits.decoder_state_size)
        most = engine.traits.decoder_start_frames + engine.traits.decoder_hold_frames
        for codes in self.pending:
            _check_codes(codes, engine.config.num_quantizers, most, engine.config.codebook_size)
        if (frames := sum(codes.shape[1] for codes in self.pending)) > most:
            raise SnapshotError(f"{frames} frames wait for the decoder, expected at most {most}")


def _check_state(what: str, state: States | None, size: int) -> None:
    if state is not None and (state.shape != (size,) or not np.isfinite(state).all()):
        raise SnapshotError(f"the {what}'s state has shape {list(state.shape)}, expected [{size}], all finite")


def _check_codes(codes: Codes, n_q: int, frames: int, codebook_size: int) -> None:
    if codes.ndim != 2 or not (1 <= codes.shape[0] <= n_q and codes.shape[1] <= frames):
        raise SnapshotError(f"codes have shape {list(codes.shape)}, expected [1 to {n_q}, 0 to {frames}]")
    if codes.size and not 0 <= codes.min() <= codes.max() < codebook_size:
        raise SnapshotError(f"codes go from {codes.min()} to {codes.max()}, expected 0 to {codebook_size - 1}")


class Row(Protocol):
    """What every row does: `feed` takes samples or packets, `complete` and `remainder` return packets or samples."""

    def feed(self, item: Any, /) -> None:
        """Append input."""

    def finish(self) -> None:
        """Mark the end of the input."""

    def next_step(self) -> Step[Any] | None:
        """The step that is due now, or None."""

    def complete(self, result: Any, state: States, /) -> list[Any]:
        """Take the result of the last step; return the outputs that are complete now."""

    def remainder(self) -> list[Any]:
        """Return the outputs that only the end of the input completes; call it after the last step of a finished row."""

    def snapshot(self) -> Any:
        """The row as a value, when no step of it is due or in progress. Raises `UnsupportedModelError` where the model has none."""

    def restore(self, saved: Any, /) -> None:
        """Go on from a value of `snapshot`, which fits; call it before anything else."""


class EncoderRow:
    """Encodes a stream of samples to packets of codes [n_q, packet_frames]; only the last packet may be shorter.

    An exact stream of the published reflect-padded model takes its first step when its seventh frame exists, and its second step when the
    second packet is due. So only the first packet is late.
    """

    def __init__(self, engine: Engine, *, n_q: int, packet_frames: int, start: Start) -> None:
        self.n_q = n_q
        self.packet_frames = packet_frames
        self._hop = engine.config.hop_length
        self._state = engine.encoder_start(start)
        self._start_frames = 1 if self._state is not None else engine.traits.encoder_start_frames
        self._pending: list[Samples] = []
        self._pending_samples = 0
        self._frames_done = 0
        self._codes: list[Codes] = []
        self._finishing = False

    def feed(self, samples: Samples) -> None:
        """Append samples [T] of any length; the caller must not change the array afterwards."""
        if samples.size:
            self._pending.append(samples)
            self._pending_samples += samples.size

    def finish(self) -> None:
        """Mark the end of the samples: the rest becomes steps, the last of which is final."""
        self._finishing = True

    def next_step(self) -> Step[Samples] | None:
        """The step that is due now, or None."""
        if self._state is None:
            frames = max(self._start_frames, self.packet_frames)
        else:
            frames = self.packet_frames - self._frames_done % self.packet_frames
        size = frames * self._hop
        if self._pending_samples >= size:
            return Step(self._take(size), self._state, final=False)
        if self._finishing and self._pending_samples:
            return Step(self._take(self._pending_samples), self._state, final=True)
        return None

    def complete(self, codes: Codes, state: States) -> list[Codes]:
        """Take the result of the last step, codes [n_q or more, F] and state [S]; return the packets that are complete now."""
        self._state = _copy(state)
        self._frames_done += codes.shape[1]
        self._codes.append(codes[: self.n_q])
        ready = sum(c.shape[1] for c in self._codes)
        if ready < self.packet_frames:
            return []
        joined = np.concatenate(self._codes, axis=1)
        whole = ready - ready % self.packet_frames
        self._codes = [joined[:, whole:]] if whole < ready else []
        return [joined[:, at : at + self.packet_frames] for at in range(0, whole, self.packet_frames)]

    def remainder(self) -> list[Codes]:
        """Return the last, shorter packet, if frames remain; call it after the last step of a finished row."""
        remaining, self._codes = self._codes, []
        return [np.concatenate(remaining, axis=1)] if remaining else []

    def snapshot(self) -> EncoderRowState:
        """The row as a value, when no step of it is due or in progress."""
        assert not self._finishing
        pending = np.concatenate([np.empty(0, np.float32), *self._pending])
        return EncoderRowState(self._state, pending, np.concatenate([np.empty((self.n_q, 0), np.int32), *self._codes], axis=1))

    def restore(self, saved: EncoderRowState) -> None:
        """Go on from a value of `snapshot`, which fits; call it before anything else."""
        self._state = saved.state
        self.feed(saved.pending)
        self._frames_done = saved.codes.shape[1]  # beyond whole packets: nothing else counts
        self._codes = [saved.codes] if saved.codes.size else []

    def _take(self, size: int) -> Samples:
        joined = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending)
        self._pending = [joined[size:]] if joined.size > size else []
        self._pending_samples -= size
        return joined[:size]


class DecoderRow:
    """Decodes a stream of codes to samples; each step decodes all codes that were fed, up to a limit."""

    def __init__(self, engine: Engine, *, n_q: int, start: Start) -> None:
        self._state = engine.decoder_start(start, n_q)
        self._start_frames = engine.traits.decoder_start_frames
        self._hold = engine.traits.decoder_hold_frames
        self._unused_code = engine.config.codebook_size
        self._pending: list[Codes] = []
        self._pending_frames = 0
        self._finishing = False

    def feed(self, codes: Codes) -> None:
        """Append codes [n_q, F]; n_q may change from packet to packet. The caller must not change the array afterwards."""
        if codes.size:
            self._pending.append(codes)
            self._pending_frames += codes.shape[1]

    def finish(self) -> None:
        """Mark the end of the codes."""
        self._finishing = True

    def next_step(self) -> Step[Codes] | None:
        """The step that is due now, or None."""
        frames, max_frames = self._pending_frames, max(MAX_LIVE_FRAMES, self._start_frames)
        if self._finishing and 0 < frames <= max_frames and (self._state is None or self._hold):
            return Step(self._take(frames), self._state, final=True)
        available = frames - self._hold
        if available < (self._start_frames if self._state is None else 1):
            return None
        return Step(self._take(min(available, max_frames)), self._state, final=False)

    def complete(self, samples: Samples, state: States) -> list[Samples]:
        """Take the result of the last step, samples [T] and state [S]; return the samples that are final."""
        self._state = _copy(state)
        return [samples]

    def remainder(self) -> list[Samples]:
        """Nothing: the last step gives all samples."""
        return []

    def snapshot(self) -> DecoderRowState:
        """The row as a value, when no step of it is due or in progress."""
        assert not self._finishing
        return DecoderRowState(self._state, tuple(self._pending))

    def restore(self, saved: DecoderRowState) -> None:
        """Go on from a value of `snapshot`, which fits; call it before anything else."""
        self._state = saved.state
        for codes in saved.pending:
            self.feed(codes)

    def _take(self, frames: int) -> Codes:
        parts: list[Codes] = []
        missing = frames
        while missing:
            head = self._pending.pop(0)
            if head.shape[1] > missing:
                self._pending.insert(0, head[:, missing:])
                head = head[:, :missing]
            parts.append(head)
            missing -= head.shape[1]
        self._pending_frames -= frames
        return join_codes(parts, axis=1, unused=self._unused_code)


def _copy(state: States) -> States:
    """A copy of the state: a view into the batch would keep the states of the whole batch in memory while its stream is idle."""
    return state.copy()


def run_steps(engine: Engine, rows: Sequence[Row | None], steps: Sequence[Step[Any]]) -> tuple[Any, States]:
    """Run `steps` of equal key, one for each of `rows`, in one engine call; return codes or samples [B, ...] and new states [B, S]."""
    given = [step.state for step in steps if step.state is not None]
    states = np.stack(given) if given else None
    if steps[0].encodes:
        n_q = [cast(EncoderRow, row).n_q for row in rows]
        return engine.encode(np.stack([step.data for step in steps]), states, n_q, steps[0].final)
    parts: list[Codes] = [np.asarray(step.data, np.int32)[None] for step in steps]
    codes = join_codes(parts, axis=0, unused=engine.config.codebook_size)
    return engine.decode(codes, states, steps[0].final)


def run_due(engine: Engine, row: Row) -> list[Any]:
    """Run all steps of one row that are due; return their outputs: an encoder's packets or a decoder's samples."""
    outputs: list[Any] = []
    while (step := row.next_step()) is not None:
        results, states = run_steps(engine, [row], [step])
        outputs += row.complete(results[0], states[0])
    return outputs


def join_codes(parts: list[Codes], *, axis: int, unused: int) -> Codes:
    """Concatenate codes of different n_q in time ([n_q, F], axis 1) or as rows ([1, n_q, F], axis 0).

    Codebooks that a part does not have are filled with the code `unused`.
    """
    if len(parts) == 1:
        return parts[0]
    n_q = max(part.shape[-2] for part in parts)
    padded = [
        part
        if part.shape[-2] == n_q
        else np.pad(part, [(0, 0)] * (part.ndim - 2) + [(0, n_q - part.shape[-2]), (0, 0)], constant_values=unused)
        for part in parts
    ]
    return np.concatenate(padded, axis=axis)
