"""What one stream asks of an engine: input of any size in, steps out, results in, whole packets out. It runs no model and knows no thread.

A row hands out a `Step` when it has enough for one, and is told the result through `complete`. One step is under way at a time.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, overload

import numpy as np

from streamcodec.config import Start
from streamcodec.engine.base import Engine
from streamcodec.types import Codes, Samples, States

__all__ = ["DecoderRow", "EncoderRow", "Step", "join_codes", "run_due", "run_steps"]

T = TypeVar("T", Samples, Codes)

_MAX_DECODE_FRAMES = 75


@dataclass(frozen=True)
class Step(Generic[T]):
    """One engine call for one row: `data` is samples [T] or codes [n_q, F]; `state` [S] is None where this step opens the stream."""

    data: T
    state: States | None
    final: bool

    @property
    def key(self) -> Hashable:
        """What steps of one engine call have in common."""
        return "encode" if self.data.ndim == 1 else "decode", self.data.shape[-1], self.state is None, self.final


class EncoderRow:
    """A stream of samples that becomes packets of codes [n_q, packet_frames]; only the last packet may be shorter.

    An exact stream of a reflecting model takes its first step when its seventh frame exists, and the next one when the second packet is
    due, so that only the first packet is late.
    """

    def __init__(self, engine: Engine, *, n_q: int, packet_frames: int, start: Start) -> None:
        self.n_q = n_q
        self.packet_frames = packet_frames
        self._hop = engine.config.hop_length
        self._state = engine.encoder_start(start)
        self._start_frames = 1 if self._state is not None else engine.encoder_start_frames
        self._pending: list[Samples] = []
        self._pending_samples = 0
        self._frames_done = 0
        self._codes: list[Codes] = []
        self._finishing = False

    def feed(self, samples: Samples) -> None:
        """Append samples [any length]; the array must not be changed afterwards."""
        if samples.size:
            self._pending.append(samples)
            self._pending_samples += samples.size

    def finish(self) -> None:
        """Say that no more samples come: the rest becomes steps, the last of them final."""
        self._finishing = True

    def next_step(self) -> Step[Samples] | None:
        """The step that is due now, if there is one."""
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
        """Take the result of the last step, codes [n_q or more, F] and state [S]; return the packets that are whole now."""
        self._state = _own(state)
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
        """After the last step of a finished row: the last, shorter packet, if frames are left."""
        left, self._codes = self._codes, []
        return [np.concatenate(left, axis=1)] if left else []

    def _take(self, size: int) -> Samples:
        joined = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending)
        self._pending = [joined[size:]] if joined.size > size else []
        self._pending_samples -= size
        return joined[:size]


class DecoderRow:
    """A stream of codes that becomes samples: whatever was fed, decoded at once."""

    def __init__(self, engine: Engine, *, n_q: int, start: Start) -> None:
        self._state = engine.decoder_start(start, n_q)
        self._start_frames = engine.decoder_start_frames
        self._hold = engine.decoder_hold_frames
        self._unused_code = engine.config.codebook_size
        self._pending: list[Codes] = []
        self._pending_frames = 0
        self._finishing = False

    def feed(self, codes: Codes) -> None:
        """Append codes [n_q, F]; n_q may change from packet to packet. The array must not be changed afterwards."""
        if codes.size:
            self._pending.append(codes)
            self._pending_frames += codes.shape[1]

    def finish(self) -> None:
        """Say that no more codes come."""
        self._finishing = True

    def next_step(self) -> Step[Codes] | None:
        """The step that is due now, if there is one."""
        frames, most = self._pending_frames, max(_MAX_DECODE_FRAMES, self._start_frames)
        if self._finishing and 0 < frames <= most and (self._state is None or self._hold):
            return Step(self._take(frames), self._state, final=True)
        spare = frames - self._hold
        if spare < (self._start_frames if self._state is None else 1):
            return None
        return Step(self._take(min(spare, most)), self._state, final=False)

    def complete(self, samples: Samples, state: States) -> list[Samples]:
        """Take the result of the last step, samples [T] and state [S]; return the samples that are settled."""
        self._state = _own(state)
        return [samples]

    def _take(self, frames: int) -> Codes:
        taken: list[Codes] = []
        missing = frames
        while missing:
            head = self._pending.pop(0)
            if head.shape[1] > missing:
                self._pending.insert(0, head[:, missing:])
                head = head[:, :missing]
            taken.append(head)
            missing -= head.shape[1]
        self._pending_frames -= frames
        return join_codes(taken, axis=1, unused=self._unused_code)


def _own(state: States) -> States:
    """The state by itself: a row of a batch would keep all of the batch's states for as long as its stream is idle."""
    return state.copy()


def run_steps(engine: Engine, rows: Sequence[EncoderRow | DecoderRow | None], steps: Sequence[Step[Any]]) -> tuple[Any, States]:
    """Run `steps` of one key, one for each of `rows`, in one call: codes or samples [B, ...] and the new states [B, S]."""
    known = [step.state for step in steps if step.state is not None]
    states = np.stack(known) if known else None
    n_q = [row.n_q for row in rows if isinstance(row, EncoderRow)]
    if n_q:
        return engine.encode(np.stack([step.data for step in steps]), states, n_q, steps[0].final)
    parts: list[Codes] = [np.asarray(step.data, np.int32)[None] for step in steps]
    codes = join_codes(parts, axis=0, unused=engine.config.codebook_size)
    return engine.decode(codes, states, steps[0].final)


@overload
def run_due(engine: Engine, row: EncoderRow) -> list[Codes]: ...


@overload
def run_due(engine: Engine, row: DecoderRow) -> list[Samples]: ...


def run_due(engine: Engine, row: EncoderRow | DecoderRow) -> list[Codes] | list[Samples]:
    """Run every step of one row that is due; return what came out: an encoder's packets, or a decoder's samples."""
    outputs: list[Any] = []
    while (step := row.next_step()) is not None:
        results, states = run_steps(engine, [row], [step])
        outputs += row.complete(results[0], states[0])
    return outputs


def join_codes(parts: list[Codes], *, axis: int, unused: int) -> Codes:
    """Join codes of different n_q, in time ([n_q, F], axis 1) or as rows ([1, n_q, F], axis 0), marking absent codebooks with `unused`."""
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
