"""Rows: for input of any size, steps are due in time and in order, and no frame is lost or duplicated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.config import CodecConfig, Start
from streamcodec.engine.base import Engine, StreamTraits
from streamcodec.scheduler.rows import DecoderRow, EncoderRow, Step, join_codes
from streamcodec.types import Codes, Samples, States

HOP = 4
UNUSED = 1024


@dataclass
class FakeEngine:
    """An engine whose codes are the numbers of the frames and whose samples are those codes again, so that order and loss can be seen.

    Its state counts the frames that went through it.
    """

    start_frames: int = 7
    hold_frames: int = 0
    opens_by_itself: bool = True
    """Whether an exact stream has no start state, as in a reflecting model."""
    steps: list[tuple[int, bool, bool]] = field(default_factory=list)
    """(frames, whether it started the stream, whether it was final) of each step."""

    config = CodecConfig(upsampling_ratios=(HOP,), target_bandwidths=(1000.0,))

    @property
    def traits(self) -> StreamTraits:
        return StreamTraits(1, 1, self.start_frames, self.start_frames, self.hold_frames, "exact")

    def encoder_start(self, start: Start) -> States | None:
        return None if start == "exact" and self.opens_by_itself else np.zeros(1, np.float32)

    def decoder_start(self, start: Start, n_q: int) -> States | None:
        assert n_q > 0
        return self.encoder_start(start)

    def _advance(self, frames: int, state: States | None, final: bool) -> States:
        self.steps.append((frames, state is None, final))
        return np.asarray([frames if state is None else state[0] + frames], np.float32)

    def encode(self, step: Step[Samples], n_q: int) -> tuple[Codes, States]:
        """Samples that count from 0 -> in every codebook the number of the frame."""
        assert step.data.dtype == np.float32
        frames = -(-step.data.size // HOP)
        assert step.final or step.data.size == frames * HOP, "only a final step may hold part of a frame"
        assert step.state is not None or step.final or frames >= self.start_frames, "too little to open a reflecting stream"
        done = 0 if step.state is None else int(step.state[0])
        assert (step.data == np.arange(done * HOP, done * HOP + step.data.size)).all(), "samples out of order"
        codes = np.tile(np.arange(done, done + frames, dtype=np.int32), (n_q, 1))
        return codes, self._advance(frames, step.state, step.final)

    def decode(self, step: Step[Codes]) -> tuple[Samples, States]:
        """Codes -> the first codebook as samples, each HOP times."""
        frames = step.data.shape[1]
        assert step.state is not None or step.final or frames >= self.start_frames
        return np.repeat(step.data[0].astype(np.float32), HOP), self._advance(frames, step.state, step.final)


def as_engine(fake: FakeEngine) -> Engine:
    return cast(Engine, fake)


def run_encoder(fake: FakeEngine, row: EncoderRow) -> list[Codes]:
    packets: list[Codes] = []
    while (step := row.next_step()) is not None:
        packets += row.complete(*fake.encode(step, row.n_q))
    return packets


def run_decoder(fake: FakeEngine, row: DecoderRow) -> Samples:
    parts = [np.empty(0, np.float32)]
    while (step := row.next_step()) is not None:
        parts += row.complete(*fake.decode(step))
    return np.concatenate(parts)


def encoder(fake: FakeEngine, *, packet_frames: int = 6, start: Start = "exact", n_q: int = 2) -> EncoderRow:
    return EncoderRow(as_engine(fake), n_q=n_q, packet_frames=packet_frames, start=start)


def decoder(fake: FakeEngine, *, start: Start = "exact") -> DecoderRow:
    return DecoderRow(as_engine(fake), n_q=2, start=start)


def counting(samples: int) -> Samples:
    return np.arange(samples, dtype=np.float32)


def feed_frame_by_frame(fake: FakeEngine, row: EncoderRow, frames: int) -> list[int]:
    """The number of packets after each frame."""
    out = []
    for i in range(frames):
        row.feed(counting((i + 1) * HOP)[i * HOP :])
        out.append(len(run_encoder(fake, row)))
    return out


def test_an_exact_reflecting_stream_is_late_with_its_first_packet_only() -> None:
    fake = FakeEngine()
    out = feed_frame_by_frame(fake, encoder(fake), 24)
    assert [frames for frames, _, _ in fake.steps] == [7, 5, 6, 6]
    assert [opens for _, opens, _ in fake.steps] == [True, False, False, False]
    assert [i + 1 for i, packets in enumerate(out) if packets] == [7, 12, 18, 24]


@pytest.mark.parametrize("fake", [FakeEngine(opens_by_itself=False), FakeEngine(start_frames=1)])
def test_a_stream_with_a_start_state_is_never_late(fake: FakeEngine) -> None:
    out = feed_frame_by_frame(fake, encoder(fake), 18)
    assert [frames for frames, _, _ in fake.steps] == [6, 6, 6]
    assert [i + 1 for i, packets in enumerate(out) if packets] == [6, 12, 18]


def test_a_primed_stream_is_never_late() -> None:
    fake = FakeEngine()
    out = feed_frame_by_frame(fake, encoder(fake, start="primed"), 12)
    assert [i + 1 for i, packets in enumerate(out) if packets] == [6, 12]
    assert not any(opens for _, opens, _ in fake.steps)


@pytest.mark.parametrize(
    ("packet_frames", "sizes"), [(1, [7, 1, 1, 1]), (2, [7, 1, 2, 2]), (3, [7, 2, 3, 3]), (7, [7, 7]), (8, [8, 8]), (25, [25, 25])]
)
def test_the_step_after_the_opening_one_ends_where_a_packet_does(packet_frames: int, sizes: list[int]) -> None:
    fake = FakeEngine()
    row = encoder(fake, packet_frames=packet_frames)
    out = feed_frame_by_frame(fake, row, sum(sizes))
    assert [frames for frames, _, _ in fake.steps] == sizes
    assert sum(out) == sum(sizes) // packet_frames


@pytest.mark.parametrize(
    ("samples", "steps", "packets"),
    [
        (1, [(1, True, True)], [1]),
        (6 * HOP, [(6, True, True)], [6]),
        (7 * HOP - 1, [(7, True, True)], [6, 1]),
        (7 * HOP, [(7, True, False)], [6, 1]),
        (7 * HOP + 1, [(7, True, False), (1, False, True)], [6, 2]),
        (12 * HOP, [(7, True, False), (5, False, False)], [6, 6]),
        (12 * HOP + 1, [(7, True, False), (5, False, False), (1, False, True)], [6, 6, 1]),
        (13 * HOP - 1, [(7, True, False), (5, False, False), (1, False, True)], [6, 6, 1]),
    ],
)
def test_the_end_of_a_stream_is_one_final_step_over_the_remaining_samples(samples: int, steps: list[object], packets: list[int]) -> None:
    fake = FakeEngine()
    row = encoder(fake)
    row.feed(counting(samples))
    row.finish()
    out = run_encoder(fake, row) + row.remainder()
    assert fake.steps == steps
    assert [packet.shape for packet in out] == [(2, frames) for frames in packets]


def test_an_empty_stream_has_no_step_and_no_packet() -> None:
    fake = FakeEngine()
    row = encoder(fake)
    row.feed(counting(0))
    row.finish()
    assert row.next_step() is None
    assert row.remainder() == []


feeds = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 12 * HOP), st.integers(0, 60 * HOP)), max_size=12)
engines = st.builds(FakeEngine, start_frames=st.integers(1, 9), hold_frames=st.integers(0, 1), opens_by_itself=st.booleans())
starts = st.sampled_from(["exact", "primed"])


@given(fake=engines, sizes=feeds, packet_frames=st.integers(1, 25), start=starts, eager=st.booleans())
def test_an_encoder_row_loses_and_duplicates_nothing_for_any_feeds(
    fake: FakeEngine, sizes: list[int], packet_frames: int, start: Start, eager: bool
) -> None:
    row = encoder(fake, packet_frames=packet_frames, start=start)
    samples, at, packets = counting(sum(sizes)), 0, []
    for size in sizes:
        row.feed(samples[at : at + size])
        at += size
        if eager:
            packets += run_encoder(fake, row)
    if eager:
        held = at // HOP - packet_frames * len(packets)
        assert held < max(packet_frames, fake.start_frames), "a whole packet is held back"
    assert all(packet.shape == (2, packet_frames) for packet in packets)
    row.finish()
    packets += run_encoder(fake, row)
    assert all(packet.shape == (2, packet_frames) for packet in packets)
    packets += row.remainder()
    frames = -(-at // HOP)
    assert [packet.shape[1] for packet in packets] == [packet_frames] * (frames // packet_frames) + [frames % packet_frames] * (
        frames % packet_frames > 0
    )
    if frames:
        assert (np.concatenate(packets, axis=1) == np.arange(frames)).all()
    assert [final for _, _, final in fake.steps[:-1]] == [False] * (len(fake.steps) - 1 if fake.steps else 0)


@given(fake=engines, sizes=st.lists(st.integers(0, 200), max_size=10), start=starts, eager=st.booleans())
def test_a_decoder_row_loses_and_duplicates_nothing_for_any_feeds(fake: FakeEngine, sizes: list[int], start: Start, eager: bool) -> None:
    row = decoder(fake, start=start)
    frames = np.tile(np.arange(sum(sizes), dtype=np.int32), (2, 1))
    at, parts = 0, []
    for size in sizes:
        row.feed(frames[:, at : at + size])
        at += size
        if eager:
            parts.append(run_decoder(fake, row))
            held = at - sum(part.size for part in parts) // HOP
            assert held <= fake.hold_frames + (fake.start_frames - 1 if not fake.steps else 0), "more is held back than must be"
    row.finish()
    parts.append(run_decoder(fake, row))
    assert (np.concatenate(parts) == np.repeat(np.arange(at), HOP)).all()
    assert sum(frames for frames, _, _ in fake.steps) == at
    if fake.hold_frames and at:
        assert fake.steps[-1][2], "a model that holds frames back gives them only to a final step"


def test_a_decoder_row_takes_a_long_backlog_in_steps_of_at_most_a_second() -> None:
    fake = FakeEngine()
    row = decoder(fake)
    row.feed(np.zeros((2, 400), np.int32))
    assert run_decoder(fake, row).size == 400 * HOP
    assert max(frames for frames, _, _ in fake.steps) == 75


def test_a_decoder_row_marks_the_codebooks_that_a_packet_lacks() -> None:
    fake = FakeEngine(opens_by_itself=False)
    row = decoder(fake)
    row.feed(np.zeros((3, 2), np.int32))
    row.feed(np.ones((1, 2), np.int32))
    step = row.next_step()
    assert step is not None
    assert step.data.tolist() == [[0, 0, 1, 1], [0, 0, UNUSED, UNUSED], [0, 0, UNUSED, UNUSED]]


@given(shapes=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=5))
def test_codes_are_joined_in_time_with_every_absent_codebook_marked(shapes: list[tuple[int, int]]) -> None:
    parts = [np.full(shape, i, np.int32) for i, shape in enumerate(shapes)]
    joined = join_codes(parts, axis=1, unused=UNUSED)
    assert joined.shape == (max(n for n, _ in shapes), sum(f for _, f in shapes))
    at = 0
    for part in parts:
        n_q, frames = part.shape
        assert (joined[:n_q, at : at + frames] == part).all()
        assert (joined[n_q:, at : at + frames] == UNUSED).all()
        at += frames


@given(n_qs=st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_codes_are_joined_as_rows_with_every_absent_codebook_marked(n_qs: list[int]) -> None:
    joined = join_codes([np.full((1, n_q, 3), i, np.int32) for i, n_q in enumerate(n_qs)], axis=0, unused=UNUSED)
    assert joined.shape == (len(n_qs), max(n_qs), 3)
    for i, n_q in enumerate(n_qs):
        assert (joined[i, :n_q] == i).all()
        assert (joined[i, n_q:] == UNUSED).all()


def test_a_row_keeps_only_its_own_state_in_memory() -> None:
    fake = FakeEngine(opens_by_itself=False)
    states, codes = np.zeros((16, 1), np.float32), np.zeros((2, 6), np.int32)
    for row, data, result in ((encoder(fake), counting(12 * HOP), codes), (decoder(fake), codes, counting(6 * HOP))):
        row.feed(data)  # type: ignore[arg-type]
        row.next_step()
        row.complete(result, states[3])  # type: ignore[arg-type]
        row.feed(data)  # type: ignore[arg-type]
        step = row.next_step()
        assert step is not None and step.state is not None and not np.shares_memory(step.state, states)
