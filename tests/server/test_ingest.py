"""Where packets come from: each has the time at which its first sample was captured, and what is lost is counted in packets."""

from __future__ import annotations

import numpy as np
import pytest
from fake_worker import FakeWorker, codes_output
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.errors import AudioError, EngineHungError, InputError
from streamcodec.protocol import Packet, pack_codes
from streamcodec.published import PUBLISHED
from streamcodec.server.ingest.pcm import PcmSource
from streamcodec.server.ingest.relay import CodesSource

RATE = 24_000
MODULUS = 1 << 32
PAYLOAD = pack_codes(codes_output(), 10)


class Sink:
    """Notes what a source tells its stream."""

    def __init__(self):
        self.events = []
        self.times = []
        self.n_q = []
        self.num_dropped = 0

    def emit(self, payload, n_q, frames, timestamp, times):
        self.events.append(("packet", frames, timestamp))
        self.times.append((payload, times))
        self.n_q.append(n_q)

    def discontinuity(self, missing, reason):
        self.events.append(("epoch", missing, reason))

    def gap(self, missing, reason):
        if missing:
            self.events.append(("gap", missing, reason))

    def dropped(self, count, wait_s):
        assert wait_s > 0
        self.num_dropped += count

    def finished(self):
        self.events.append(("finished",))

    def failed(self, exc):
        self.events.append(("failed", exc))


class Rig:
    """A PCM source on a worker that runs nothing; `give` encodes the next packets."""

    def __init__(self, *, rate=RATE, channels=1, format="pcm_s16le", wait_s=1.0, packet_frames=6, silence_db=None, config=None):
        self.now = 0
        self.sink, self.worker = Sink(), FakeWorker(config)
        self.bytes_per_s = rate * channels * (2 if format == "pcm_s16le" else 4)
        self.seq = 0
        self.source = PcmSource(
            self.sink,
            self.worker,
            format=format,
            rate=rate,
            channels=channels,
            n_q=2,
            packet_frames=packet_frames,
            start="exact",
            wait_s=wait_s,
            silence_db=silence_db,
        )
        (self.stream,) = self.worker.opened

    @property
    def dropped(self):
        return self.sink.num_dropped

    def feed(self, ms, timestamp, epoch=0):
        """Feed a message that comes as soon as its last sample is there."""
        payload = bytes(self.bytes_per_s * ms // 1000)
        self.now += ms * 1000
        self.source.feed(Packet(self.seq, epoch, timestamp % MODULUS, 0, payload), self.now)
        self.seq += 1

    def give(self, packets=1, frames=6, ended=False):
        self.stream.give(*[(PAYLOAD, 2, frames)] * packets, ended=ended)

    def quiet(self, frames=6):
        """What the worker's thread makes of the next packet: whether it has one codebook only."""
        payload, n_q, found = self.stream.options["finish"](codes_output(frames=frames))
        assert found == frames
        assert payload == pack_codes(codes_output(frames=frames)[:n_q], 10)
        return n_q == 1


def test_what_an_engine_that_hangs_was_fed_is_lost_and_counted_and_the_stream_goes_on_in_a_new_epoch():
    rig = Rig()
    for i in range(5):
        rig.feed(80, 80_000 * i)
    rig.give()
    rig.stream.give(ended=True, error=EngineHungError("it did not come back"))
    assert rig.sink.events == [("packet", 6, 0), ("epoch", 4, "internal")]
    assert (rig.source.backlog_s, rig.source.waited_s(rig.now)) == (0, 0)
    _, rig.stream = rig.worker.opened
    assert rig.stream.verbs == []
    rig.feed(80, 400_000)
    rig.give()
    rig.source.end()
    rig.give(ended=True, packets=0)
    assert rig.sink.events[2:] == [("packet", 6, 400_000), ("finished",)]


def test_a_stream_that_was_ended_ends_although_the_engine_hangs():
    rig = Rig()
    rig.feed(160, 0)
    rig.source.end()
    rig.stream.give(ended=True, error=EngineHungError("it did not come back"))
    _, rig.stream = rig.worker.opened
    assert rig.stream.verbs == ["end"]
    rig.give(ended=True, packets=0)
    assert rig.sink.events == [("epoch", 2, "internal"), ("finished",)]


# Chunks ----------------------------------------------------------------------------------------------------------------------------------


def chunks(**options):
    """A source of the published stereo model: a chunk is a second, and begins 0.99 s after the one before it."""
    return Rig(config=PUBLISHED["encodec_48khz"], rate=48_000, channels=2, packet_frames=150, **options)


def test_chunks_begin_a_stride_apart_and_one_that_is_not_whole_is_no_backlog():
    rig = chunks()
    for i in range(11):
        assert (rig.source.backlog_s, rig.source.waited_s(rig.now)) == (0, 0)
        rig.feed(100, 100_000 * i)
    assert rig.source.backlog_s == pytest.approx(0.1)
    assert rig.source.waited_s(rig.now) == pytest.approx(0.1), "the chunk was whole after a second"
    rig.give(frames=150)
    assert rig.sink.events == [("packet", 150, 0)]
    assert (rig.source.backlog_s, rig.source.waited_s(rig.now)) == (0, 0)
    for i in range(11, 20):
        rig.feed(100, 100_000 * i)
    assert rig.source.waited_s(rig.now) == pytest.approx(0.0), "the second one after 1.99 s, in the last message"
    rig.give(frames=150)
    rig.source.end()
    rig.give(frames=4)
    rig.give(ended=True, packets=0)
    assert rig.sink.events == [("packet", 150, 0), ("packet", 150, 990_000), ("packet", 4, 1_980_000), ("finished",)]


def test_what_the_publisher_lost_is_counted_in_strides():
    rig = chunks()
    for i in range(10):
        rig.feed(100, 100_000 * i)
    rig.give(frames=150)
    rig.source.gap(30, "publisher")
    rig.feed(100, 4_000_000)
    assert rig.stream.verbs[-2:] == ["restart", "feed"]
    rig.give(frames=2)  # what overlaps with the chunk that did not come
    rig.give(ended=True, packets=0)
    # It began with sample 0, and 4 s are four strides and a little: two have their numbers.
    assert rig.sink.events == [("packet", 150, 0), ("packet", 2, 990_000), ("epoch", 2, "publisher")]


# Codes -----------------------------------------------------------------------------------------------------------------------------------


def test_codes_are_relayed_as_they_are():
    sink = Sink()
    source = CodesSource(sink, FakeWorker().engine.config)
    source.feed(Packet(0, 0, 99, 2, PAYLOAD), 1234)
    assert sink.events == [("packet", 6, 99)]
    assert sink.times == [(PAYLOAD, (1234, 1234, 1234))]
    source.end()
    assert sink.events[-1] == ("finished",)
    assert source.backlog_s == 0


def test_a_packet_of_codes_has_its_own_number_of_codebooks():
    sink = Sink()
    source = CodesSource(sink, FakeWorker().engine.config)
    for seq, n_q in enumerate((8, 1, 3)):
        source.feed(Packet(seq, 0, 0, n_q, pack_codes(codes_output(n_q), 10)), 0)
    assert sink.n_q == [8, 1, 3]
    assert [event[1] for event in sink.events] == [6, 6, 6]


def test_a_publisher_s_epochs_and_gaps_of_codes_are_passed_on():
    sink = Sink()
    source = CodesSource(sink, FakeWorker().engine.config)
    source.feed(Packet(0, 255, 0, 2, PAYLOAD), 0)
    source.gap(3, "")
    source.gap(2, "uplink")
    source.feed(Packet(6, 0, 0, 2, PAYLOAD), 0)
    kinds = [event for event in sink.events if event[0] != "packet"]
    assert kinds == [("epoch", 0, "publisher"), ("gap", 3, "publisher"), ("gap", 2, "uplink"), ("epoch", 0, "publisher")]


# PCM: time -------------------------------------------------------------------------------------------------------------------------------


def test_a_packet_s_time_is_that_of_its_first_sample_whatever_the_blocks_were():
    rig = Rig()
    for i in range(16):
        rig.feed(10, 500_000 + i * 10_000)
    rig.give()
    rig.give()
    assert rig.sink.events == [("packet", 6, 500_000), ("packet", 6, 580_000)]
    assert rig.sink.times[0] == (PAYLOAD, (1_000_000, 1_001_000, 1_002_000))


def test_time_follows_the_latest_block_that_began_so_a_drifting_clock_is_followed():
    rig = Rig()
    rig.feed(80, 0)
    rig.feed(80, 81_000)
    rig.feed(40, 162_000)
    rig.feed(40, 202_500)
    rig.give(3)
    assert [time for _, _, time in rig.sink.events] == [0, 81_000, 162_000]


def test_one_long_message_becomes_many_packets_each_with_its_time():
    rig = Rig()
    rig.feed(800, 1_000)
    rig.give(10)
    assert [time for _, _, time in rig.sink.events] == [1_000 + 80_000 * i for i in range(10)]


def test_time_wraps_with_its_32_bits():
    rig = Rig()
    rig.feed(160, MODULUS - 40_000)
    rig.feed(80, 120_000)
    rig.give(3)
    assert [time for _, _, time in rig.sink.events] == [MODULUS - 40_000, 40_000, 120_000]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=30), st.integers(0, MODULUS - 1))
def test_timestamps_of_a_steady_clock_are_evenly_spaced(blocks, first):
    rig = Rig(wait_s=None)
    at = 0
    for ms in blocks:
        rig.feed(ms, first + at * 1000)
        at += ms
    count = at // 80
    rig.give(count)
    times = [(time - first) % MODULUS for _, _, time in rig.sink.events]
    np.testing.assert_allclose(times, 80_000 * np.arange(count), atol=2)


def test_bytes_are_counted_with_their_channels_width_and_rate():
    rig = Rig(rate=48_000, channels=2, format="pcm_f32le")
    rig.feed(500, 0)
    assert rig.source.backlog_s == pytest.approx(0.5)
    samples = rig.stream.options["prepare"](rig.stream.items[0])
    rest = rig.stream.options["drain"]()
    assert len(samples) + len(rest) == 12_000


def test_the_worker_s_functions_make_samples_and_payloads():
    rig = Rig()
    pcm = np.array([0, 16_384, -32_768], "<i2").tobytes()
    np.testing.assert_allclose(rig.stream.options["prepare"](pcm), [0, 0.5, -1])
    assert rig.stream.options["finish"](codes_output()) == (PAYLOAD, 2, 6)
    floats = Rig(format="pcm_f32le")
    with pytest.raises(AudioError, match="nan"):
        floats.stream.options["prepare"](np.array([0, np.nan], "<f4").tobytes())


# PCM: silence ----------------------------------------------------------------------------------------------------------------------------


def pcm(ms, value, rate=RATE):
    return np.full(rate * ms // 1000, value, "<i2").tobytes()


def test_without_a_threshold_silence_has_all_codebooks():
    rig = Rig()
    rig.stream.options["prepare"](pcm(800, 0))
    assert [rig.quiet() for _ in range(10)] == [False] * 10


@pytest.mark.parametrize("block_ms", [10, 80, 200, 800])
def test_packets_that_are_quiet_have_one_codebook_whatever_the_messages_were(block_ms):
    rig = Rig(silence_db=-50)
    sound = pcm(160, 3000) + pcm(560, 50) + pcm(80, 3000)
    size = 48 * block_ms
    for at in range(0, len(sound), size):
        rig.stream.options["prepare"](sound[at : at + size])
    # Two loud packets, 0.3 s of what may be a word's end, and -56 dBFS of nothing.
    assert [rig.quiet() for _ in range(10)] == [False] * 6 + [True] * 3 + [False]


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_silence_is_heard_in_the_model_s_samples(rate):
    rig = Rig(rate=rate, silence_db=-50)
    rig.stream.options["prepare"](pcm(160, 3000, rate) + pcm(640, 0, rate))
    rig.stream.options["drain"]()
    heard = [rig.quiet() for _ in range(10)]
    assert heard == [False] * (10 - sum(heard)) + [True] * sum(heard)
    assert 2 <= sum(heard) <= 4


def test_the_last_packet_of_a_run_is_quiet_by_what_there_is_of_it():
    rig = Rig(silence_db=-50)
    rig.stream.options["prepare"](pcm(100, 0))
    rig.stream.options["drain"]()
    assert [rig.quiet(), rig.quiet(frames=2)] == [True, True]
    rig.stream.options["prepare"](pcm(80, 0) + pcm(20, 3000))
    rig.stream.options["drain"]()
    assert [rig.quiet(), rig.quiet(frames=2)] == [True, False]


@pytest.mark.parametrize("cut", [True, False])
def test_what_a_cut_left_over_is_no_part_of_the_next_run(cut):
    rig = Rig(silence_db=-50)
    rig.stream.options["prepare"](pcm(120, 3000))
    rig.stream.options["drain"]()
    assert not rig.quiet()
    assert cut or not rig.quiet(frames=3)
    rig.stream.options["prepare"](pcm(60, 0))
    rig.stream.options["prepare"](pcm(20, 0) + pcm(80, 3000))
    assert [rig.quiet(), rig.quiet()] == [True, False]


def test_a_run_without_samples_leaves_no_state_behind():
    rig = Rig(rate=16_000, silence_db=-50)
    rig.stream.options["prepare"](pcm(40, 3000, 16_000))
    rig.stream.options["drain"]()
    rig.stream.options["drain"]()
    rig.stream.options["prepare"](pcm(200, 0, 16_000))
    assert rig.quiet()


# PCM: overload ---------------------------------------------------------------------------------------------------------------------------


def test_a_live_publisher_loses_whole_messages_once_one_has_waited_too_long_until_half_of_that():
    rig = Rig(wait_s=0.4)
    for i in range(10):
        rig.feed(80, i * 80_000)
    assert rig.dropped == 4, "when the seventh comes the first has waited for 0.48 s"
    rig.give(5)
    rig.feed(80, 800_000)
    assert rig.dropped == 5, "the sixth has waited for 0.4 s"
    rig.give(1)
    rig.feed(80, 880_000)
    assert rig.dropped == 5
    assert rig.stream.verbs == ["feed"] * 6 + ["cut", "feed"]


def test_what_comes_in_a_burst_is_kept_as_long_as_the_machine_is_quick():
    rig = Rig(wait_s=0.4)
    for i in range(50):
        rig.now = -80_000
        rig.feed(80, i * 80_000)
    rig.give(49)
    assert (rig.dropped, rig.source.waited_s(100_000)) == (0, pytest.approx(0.1))
    rig.give(1)
    assert rig.source.waited_s(10**9) == 0.0


def test_the_rest_of_a_packet_waits_for_its_other_half_and_not_for_the_machine():
    rig = Rig(wait_s=0.4)
    rig.feed(100, 0)
    rig.give(1)
    rig.now += 5_000_000
    rig.feed(20, 100_000)
    rig.feed(40, 120_000)
    assert rig.dropped == 0


def test_there_is_an_end_to_what_may_wait_however_quick_the_machine_is():
    rig = Rig(wait_s=0.4)
    for i in range(30):
        rig.now = -500_000
        rig.feed(500, i * 500_000)
    assert 19 <= 30 - rig.dropped <= 22


def test_what_follows_a_drop_is_a_new_epoch_behind_as_many_packets_as_were_lost():
    rig = Rig(wait_s=0.4)
    for i in range(10):
        rig.feed(80, i * 80_000)
    rig.give(6)
    rig.feed(80, 800_000)
    rig.give(0, ended=True)
    rig.give(1)
    assert rig.sink.events == [
        *[("packet", 6, i * 80_000) for i in range(6)],
        ("epoch", 4, "overload"),
        ("packet", 6, 800_000),
    ]
    assert rig.source.backlog_s == pytest.approx(0)


def test_what_was_dropped_last_is_told_before_the_end():
    rig = Rig(wait_s=0.4)
    for i in range(10):
        rig.feed(80, i * 80_000)
    rig.source.end()
    rig.give(6)
    rig.give(0, ended=True)
    assert rig.sink.events[-2:] == [("gap", 4, "overload"), ("finished",)]


def test_a_publisher_without_a_bound_loses_nothing():
    rig = Rig(wait_s=None)
    for i in range(100):
        rig.feed(80, i * 80_000)
    assert rig.dropped == 0
    assert rig.stream.verbs == ["feed"] * 100
    assert rig.source.backlog_s == pytest.approx(8)


@pytest.mark.parametrize("wait_s", [None, 0.4])
def test_what_is_noted_of_messages_does_not_grow_with_the_stream(wait_s):
    rig = Rig(wait_s=wait_s)
    for i in range(100):
        rig.feed(80, i * 80_000)
        rig.give()
    assert rig.dropped == 0
    assert len(rig.source._waits._arrivals) + len(rig.source._timeline._runs) + len(rig.source._timeline._runs[0].anchors) <= 4


@given(st.lists(st.integers(-3, 5), max_size=80), st.sampled_from([20, 80, 200]))
def test_every_message_is_encoded_or_counted_and_numbers_go_on_with_time(actions, ms):
    """Positive: that many messages come; negative: the worker gives that many packets of what it has."""
    rig = Rig(wait_s=0.4)
    sent = 0
    begun = [0.0]
    for action in actions:
        for _ in range(action):
            rig.feed(ms, sent * ms * 1000)
            sent += 1
            if rig.source._timeline._runs[-1].begins_s != begun[-1]:
                begun.append(rig.source._timeline._runs[-1].begins_s)
        if action < 0 and rig.source.backlog_s > 0.08 * -action:
            run = rig.source._timeline._runs[0]
            left = run.fed_s - run.out_s
            rig.give(min(-action, int(left / 0.08 + 1e-9)))
            if len(rig.source._timeline._runs) > 1 and run.fed_s - run.out_s < 0.08 - 1e-9:
                rig.give(0, ended=True)
        assert rig.source.waited_s(rig.now) <= 0.4 + (max(action, 0) * ms + 80) / 1000 + 1e-9 or rig.dropped
    assert rig.stream.verbs.count("feed") + rig.dropped == sent
    assert rig.source._timeline._runs[-1].ends_s + rig.source._dropping_s == pytest.approx(sent * ms / 1000)
    numbered, begins = 0, iter(begun[1:])
    for event in rig.sink.events:
        numbered += 1 if event[0] == "packet" else event[1]
        if event[0] == "epoch":
            # Time is rounded to packets; what was left of one when it was cut is lost with it.
            assert -0.5 <= numbered - next(begins) / 0.08 <= 1


# PCM: what the publisher lost ------------------------------------------------------------------------------------------------------------


def test_a_publisher_s_gap_is_as_long_as_its_timestamps_say():
    rig = Rig()
    rig.feed(80, 0)
    rig.source.gap(3, "uplink")
    rig.feed(80, 480_000)
    rig.give()
    rig.give(0, ended=True)
    rig.give()
    assert rig.sink.events == [("packet", 6, 0), ("epoch", 5, "publisher"), ("packet", 6, 480_000)]


def test_a_gap_across_the_wrap_of_time_is_measured_all_the_same():
    rig = Rig()
    rig.feed(80, MODULUS - 80_000)
    rig.source.gap(1, "")
    rig.feed(80, 160_000)
    rig.give()
    rig.give(0, ended=True)
    assert rig.sink.events[-1] == ("epoch", 2, "publisher")


@pytest.mark.parametrize("timestamp", [0, 5_000_000, 1_000_000], ids=["0", "the same", "gone back"])
def test_if_timestamps_stand_still_a_gap_is_as_long_as_its_messages_were(timestamp):
    rig = Rig()
    rig.feed(40, timestamp and 5_000_000)
    rig.feed(40, timestamp and 5_000_000)
    rig.source.gap(4, "")
    rig.source.gap(2, "uplink")
    rig.feed(80, timestamp)
    rig.give()
    rig.give(0, ended=True)
    assert rig.sink.events[-1] == ("epoch", 6 * 40 // 80, "publisher")


def test_a_gap_that_nothing_follows_is_told_all_the_same():
    rig = Rig()
    rig.feed(80, 0)
    rig.source.gap(3, "uplink")
    rig.source.end()
    rig.give()
    rig.give(0, ended=True)
    assert rig.sink.events == [("packet", 6, 0), ("gap", 3, "publisher"), ("finished",)]


def test_a_gap_is_told_once():
    rig = Rig()
    rig.feed(80, 0)
    rig.source.gap(3, "uplink")
    rig.feed(80, 0)
    rig.feed(80, 0, epoch=1)
    rig.source.end()
    rig.give()
    rig.give(0, ended=True)
    rig.give()
    rig.give(0, ended=True)
    rig.give()
    rig.give(0, ended=True)
    assert [event[1] for event in rig.sink.events if event[0] == "epoch"] == [3, 0]
    assert rig.sink.events[-2:] == [("packet", 6, 0), ("finished",)]


def test_a_gap_before_the_first_packet_has_no_effect():
    rig = Rig()
    rig.source.gap(7, "uplink")
    rig.feed(80, 0)
    assert rig.stream.verbs == ["feed"]


def test_an_epoch_that_a_publisher_raises_starts_the_encoder_afresh():
    rig = Rig()
    rig.feed(80, 0)
    rig.feed(80, 240_000, epoch=1)
    rig.feed(80, 320_000, epoch=1)
    assert rig.stream.verbs == ["feed", "restart", "feed", "feed"]
    rig.give()
    rig.give(0, ended=True)
    assert rig.sink.events[-1] == ("epoch", 2, "publisher")


# PCM: the end ----------------------------------------------------------------------------------------------------------------------------


def test_the_rest_comes_out_before_the_end():
    rig = Rig()
    rig.feed(100, 0)
    rig.source.end()
    rig.give()
    assert rig.sink.events == [("packet", 6, 0)]
    rig.give(1, frames=2, ended=True)
    assert rig.sink.events[1:] == [("packet", 2, 80_000), ("finished",)]


def test_a_stream_that_breaks_says_why():
    rig = Rig()
    error = InputError("no")
    rig.stream.give(ended=True, error=error)
    assert rig.sink.events == [("failed", error)]


def test_a_closed_source_reports_nothing():
    rig = Rig()
    rig.feed(80, 0)
    rig.source.close()
    rig.give()
    rig.stream.give(error=InputError("late"))
    assert rig.sink.events == []


def test_an_error_while_results_are_passed_on_ends_the_stream():
    rig = Rig()
    rig.give()  # nothing was fed: there is no time to give it
    assert rig.sink.events[0][0] == "failed"
