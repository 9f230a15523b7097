"""A row as a value: another row goes on from it as this one would have, at any point of the stream, on any engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_engine import HOP, FakeEngine, ramp
from hypothesis import given
from hypothesis import strategies as st
from made_up_models import stereo_model
from parity import assert_same_codes
from patience import TIMEOUT_S
from worker_rig import Collector, deliver, first_book, open_encoder

import streamcodec
from streamcodec.codec import Codec
from streamcodec.errors import LocalProtocolError, SnapshotError, UnsupportedModelError
from streamcodec.scheduler.chunk_rows import decoder_row, encoder_row
from streamcodec.scheduler.rows import DecoderRow, DecoderRowState, EncoderRow, EncoderRowState, run_due
from streamcodec.scheduler.worker import Worker


def encoder(engine: Any, start: Any = "exact") -> EncoderRow:
    return EncoderRow(engine, n_q=2, packet_frames=3, start=start)


def moved(engine: Any, row: Any, another: Any) -> Any:
    """Another row of the same stream, from the value of this one."""
    saved = row.snapshot()
    if isinstance(saved, EncoderRowState):
        saved.check(engine, n_q=2, packet_frames=3)
    else:
        saved.check(engine)
    another.restore(saved)
    return another


@given(st.lists(st.integers(0, 40), max_size=12), st.sampled_from(["exact", "primed"]))
def test_an_encoder_that_moves_after_each_block_gives_the_same_packets(sizes: list[int], start: Any) -> None:
    engine, samples = FakeEngine(), ramp(sum(sizes) // HOP + 1)[: sum(sizes)]
    row, stays, packets, expected = encoder(engine, start), encoder(engine, start), [], []
    at = 0
    for size in sizes:
        row = moved(engine, row, encoder(engine, start))
        row.feed(samples[at : at + size])
        stays.feed(samples[at : at + size])
        packets += run_due(engine, row)
        expected += run_due(engine, stays)
        at += size
    row = moved(engine, row, encoder(engine, start))
    for one in (row, stays):
        one.finish()
    packets += [*run_due(engine, row), *row.remainder()]
    expected += [*run_due(engine, stays), *stays.remainder()]
    assert len(packets) == len(expected)
    for got, wanted in zip(packets, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_stream_of_speech_goes_on_on_another_engine(either_codec: Codec, speech: Any) -> None:
    """All engines lay their states out alike: the encoder and the decoder move back and forth, in packets and before the first one."""
    torch = streamcodec.load(engine="torch")
    clip = speech[20_000:36_000]
    engines = [torch.engine, either_codec.engine]
    for start in ("exact", "primed"):
        rows = [EncoderRow(engine, n_q=8, packet_frames=6, start=start) for engine in engines]
        decoders = [DecoderRow(engine, n_q=8, start=start) for engine in engines]
        codes, audio = [], []
        for turn, at in enumerate(range(0, clip.size, 1_500)):
            now = turn % 2
            if turn:
                saved, decoded = rows[1 - now].snapshot(), decoders[1 - now].snapshot()
                saved.check(engines[now], n_q=8, packet_frames=6)
                decoded.check(engines[now])
                rows[now] = EncoderRow(engines[now], n_q=8, packet_frames=6, start=start)
                decoders[now] = DecoderRow(engines[now], n_q=8, start=start)
                rows[now].restore(saved)
                decoders[now].restore(decoded)
            rows[now].feed(clip[at : at + 1_500])
            for packet in run_due(engines[now], rows[now]):
                codes.append(packet)
                decoders[now].feed(packet)
                audio += run_due(engines[now], decoders[now])
        got = np.concatenate(codes, axis=1)
        encoder, decoder = torch.stream_encoder(6.0, start=start), torch.stream_decoder(6.0, start=start)
        expected = np.concatenate(encoder.feed(clip), axis=1)
        assert_same_codes(torch, got, expected, clip[: expected.shape[1] * 320], start)
        heard = decoder.feed(got.astype(np.int32))
        np.testing.assert_allclose(np.concatenate(audio), heard[: sum(map(len, audio))], atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": np.zeros(2, np.float32)}, "encoder's state has shape"),
        ({"state": np.full(1, np.inf, np.float32)}, "all finite"),
        ({"pending": np.zeros(3 * HOP, np.float32)}, "T below 12"),
        ({"pending": np.full(3, np.nan, np.float32)}, "all finite"),
        ({"codes": np.zeros((2, 3), np.int32)}, "codes have shape"),
        ({"codes": np.zeros((1, 2), np.int32)}, "1 codebooks, expected 2"),
        ({"codes": np.full((2, 1), 1024, np.int32)}, "expected 0 to 1023"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(changes: Any, reason: str) -> None:
    engine = FakeEngine()
    row = encoder(engine)
    row.feed(ramp(2))
    saved = row.snapshot()
    saved.check(engine, n_q=2, packet_frames=3)  # type: ignore[arg-type]
    with pytest.raises(SnapshotError, match=reason):
        replace(saved, **changes).check(engine, n_q=2, packet_frames=3)


def test_codes_that_wait_for_a_decoder_are_bounded() -> None:
    for pending in ((np.zeros((1, 2), np.int32),), (np.zeros((1, 1), np.int32),) * 2, (np.zeros((99, 1), np.int32),)):
        with pytest.raises(SnapshotError):
            DecoderRowState(None, pending).check(FakeEngine())  # type: ignore[arg-type]


def test_rows_of_chunks_are_no_values() -> None:
    engine = streamcodec.load(stereo_model()).engine
    for row in (encoder_row(engine, n_q=1, packet_frames=1, start="exact"), decoder_row(engine, n_q=1, start="exact")):
        with pytest.raises(UnsupportedModelError, match="cannot be moved"):
            row.snapshot()
        with pytest.raises(UnsupportedModelError, match="cannot be moved"):
            row.restore(None)


# In the worker ---------------------------------------------------------------------------------------------------------------------------


def test_a_snapshot_comes_between_the_results_of_what_was_fed_before_and_after_it() -> None:
    worker, sink = Worker(FakeEngine(), deliver), Collector()  # type: ignore[arg-type]
    stream = open_encoder(worker, sink, snapshot=lambda: "beside")
    stream.feed(ramp(5))
    stream.snapshot(sink)
    stream.feed(ramp(4, 5))
    stream.end()
    with pytest.raises(LocalProtocolError, match="snapshot on a stream that was ended"):
        stream.snapshot(sink)
    worker.start()
    sink.wait_ended()
    assert worker.stop(TIMEOUT_S)
    kinds = [[output if isinstance(output, tuple) else output[0].tolist() for output in result.outputs] for result in sink.results]
    assert [len(outputs) for outputs in kinds] == [1, 1, 1, 1, 0]
    [(saved, beside)] = sink.results[1].outputs
    assert beside == "beside" and not sink.results[1].ended
    assert saved.pending.tolist() == ramp(2, 3).tolist() and saved.state is not None

    another, heard = Worker(FakeEngine(), deliver), Collector()  # type: ignore[arg-type]
    again = open_encoder(another, heard, saved=saved)
    again.feed(ramp(4, 5))
    again.restart()
    again.feed(ramp(3, 50))
    again.end()
    another.start()
    heard.wait_ended(2)
    assert another.stop(TIMEOUT_S)
    assert first_book(heard) == [3, 4, 5, 6, 7, 8, 50, 51, 52], "the run after the first one begins afresh"


def test_what_cannot_be_a_value_does_its_stream_no_harm() -> None:
    def fails() -> None:
        raise SnapshotError("not now")

    worker, sink, asked = Worker(FakeEngine(), deliver), Collector(), Collector()  # type: ignore[arg-type]
    stream = open_encoder(worker, sink, snapshot=fails)
    stream.feed(ramp(3))
    stream.snapshot(asked)
    stream.feed(ramp(3, 3))
    stream.end()
    worker.start()
    sink.wait_ended()
    assert worker.stop(TIMEOUT_S)
    assert str(asked.error) == "not now" and not asked.outputs
    assert sink.error is None and first_book(sink) == list(range(6))
