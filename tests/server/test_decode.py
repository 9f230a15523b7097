"""One decoder for all who listen to PCM: packets come out in order, messages in their place, and late results reach nobody."""

import numpy as np
import pytest
from fake_worker import FakeWorker

from streamcodec.errors import EngineHungError
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart, pack_codes
from streamcodec.server.fanout.decode import DecodedPacket, SharedDecoder

HOP = 320


class Setup:
    def __init__(self, **options):
        self.worker = FakeWorker()
        self.out = []
        self.failures = []
        self.dropped = 0
        options = {"n_q": 2, "start": "exact", "restart": "exact", "first_seq": 0, "next_seq": 0, "epoch": 0, "wait_s": 1.0, **options}
        self.now = 0
        self.decoder = SharedDecoder(self.worker, sink=self.out.append, failed=self.failures.append, dropped=self._count, **options)
        (self.stream,) = self.worker.opened

    def _count(self, count):
        self.dropped += count

    def feed(self, *seqs, epoch=0, frames=6):
        for seq in seqs:
            self.now += 80_000
            self.decoder.feed(packet(seq, epoch, frames), frames, self.now)

    @property
    def shown(self):
        """Packets as their numbers, messages as they are."""
        return [item.seq if isinstance(item, DecodedPacket) else item for item in self.out]


def packet(seq, epoch=0, frames=6):
    return Packet(seq, epoch, 1_000 * seq, 2, pack_codes(np.full((2, frames), seq % 1024), 10))


def start(seq, epoch):
    return StreamStart(
        epoch=epoch, n_q=2, bandwidth=1.5, packet_frames=6, start="exact", first_seq=seq, live_seq=seq, format="codes", sample_rate=24_000
    )


def samples(frames, value=0.5):
    return np.full(frames * HOP, value, np.float32)


def test_samples_are_cut_at_the_packets_whatever_the_steps_were():
    rig = Setup()
    rig.feed(0, 1)
    rig.feed(2, frames=3)
    rig.stream.give(samples(4, 0.1))
    assert rig.out == []
    rig.stream.give(samples(10, 0.2))
    rig.stream.give(samples(1, 0.3), ended=True)
    assert rig.shown == [0, 1, 2]
    assert [len(item.samples) for item in rig.out] == [6 * HOP, 6 * HOP, 3 * HOP]
    assert [item.timestamp for item in rig.out] == [0, 1_000, 2_000]
    np.testing.assert_allclose(rig.out[0].samples, np.concatenate([samples(4, 0.1), samples(2, 0.2)]))
    assert rig.decoder.next_seq == 3


def test_what_the_worker_is_fed_becomes_codes_on_its_thread():
    rig = Setup()
    rig.feed(7)
    codes = rig.stream.options["prepare"](rig.stream.items[0])
    np.testing.assert_array_equal(codes, np.full((2, 6), 7))


def test_a_packet_of_fewer_codebooks_is_unpacked_as_what_it_is():
    rig = Setup()
    quiet = Packet(0, 0, 0, 1, pack_codes(np.full((1, 6), 5), 10))
    rig.decoder.feed(quiet, 6, 0)
    rig.feed(1)
    assert [rig.stream.options["prepare"](item).shape for item in rig.stream.items] == [(1, 6), (2, 6)]


def test_packets_before_the_first_number_only_warm_the_decoder():
    rig = Setup(next_seq=5)
    rig.feed(3, 4, 5)
    rig.stream.give(samples(18))
    assert rig.shown == [5]


def test_messages_keep_their_place_behind_packets_that_are_not_decoded_yet():
    rig = Setup()
    gap, new, end = Gap(first_seq=1, count=2, reason="publisher"), start(3, 1), StreamEnd(next_seq=4)
    rig.feed(0)
    rig.decoder.pass_on(gap)
    rig.decoder.pass_on(new)
    rig.feed(3, epoch=1)
    rig.decoder.end(end)
    assert rig.out == []
    assert rig.stream.verbs == ["feed", "restart", "feed", "end"]
    rig.stream.give(samples(6))
    assert rig.shown == [0, gap, new]
    rig.stream.give(ended=True)
    rig.stream.give(samples(6))
    rig.stream.give(ended=True)
    assert rig.shown == [0, gap, new, 3, end]


def test_messages_with_nothing_before_them_go_on_at_once_and_the_numbers_follow():
    rig = Setup()
    rig.decoder.pass_on(Gap(first_seq=0, count=4, reason="publisher"))
    assert rig.decoder.next_seq == 4, "who joins now would be told of numbers that are in the gap"
    rig.decoder.pass_on(start(4, 9))
    assert (rig.decoder.next_seq, rig.decoder.epoch) == (4, 9)
    assert len(rig.out) == 2


def test_a_decoder_that_falls_behind_leaves_packets_out_with_one_gap_and_its_state_goes_on():
    rig = Setup(wait_s=0.4)
    rig.feed(*range(12))
    assert rig.decoder.backlog_s == pytest.approx(0.48)
    assert rig.dropped == 6
    rig.stream.give(samples(36))
    assert rig.shown == [0, 1, 2, 3, 4, 5, Gap(first_seq=6, count=6, reason="overload")]
    rig.feed(12)
    assert rig.dropped == 6, "nothing waits any more"
    rig.stream.give(samples(6))
    assert rig.shown == [0, 1, 2, 3, 4, 5, Gap(first_seq=6, count=6, reason="overload"), 12]
    assert "restart" not in rig.stream.verbs
    assert rig.decoder.backlog_s == 0


def test_where_the_publisher_waits_nothing_is_left_out_however_long_it_takes():
    rig = Setup(wait_s=None)
    rig.feed(*range(200))
    assert rig.dropped == 0
    rig.stream.give(samples(1_200))
    assert rig.shown == list(range(200))


def test_a_long_history_does_not_count_as_backlog():
    rig = Setup(wait_s=0.4, next_seq=30)
    rig.feed(*range(34))
    assert rig.dropped == 0


def test_a_decoder_that_breaks_names_all_that_is_lost_and_the_end_still_comes():
    rig = Setup(next_seq=2)
    rig.feed(1, 2)
    rig.stream.give(samples(6))
    new = start(4, 1)
    rig.feed(3)
    rig.decoder.pass_on(new)
    rig.stream.give(ended=True, error=RuntimeError("the engine broke"))
    assert [str(failure) for failure in rig.failures] == ["the engine broke"]
    rig.feed(4, epoch=1)
    end = StreamEnd(next_seq=5)
    rig.decoder.end(end)
    lost = [item for item in rig.out if isinstance(item, Gap)]
    assert [(gap.first_seq, gap.count) for gap in lost] == [(2, 1), (3, 1), (4, 1)]
    assert rig.out[2] == new
    assert rig.out[-1] == end


def test_a_decoder_that_hangs_is_replaced_and_what_it_was_fed_is_a_gap():
    rig = Setup()
    rig.feed(0, 1, 2)
    rig.stream.give(samples(6))
    rig.stream.give(ended=True, error=EngineHungError("it did not come back"))
    assert rig.shown[0] == 0
    assert [(gap.first_seq, gap.count, gap.reason) for gap in rig.shown[1:]] == [(1, 1, "internal"), (2, 1, "internal")]
    assert rig.failures == [] and rig.decoder.backlog_s == 0
    _, rig.stream = rig.worker.opened
    rig.feed(3)
    rig.stream.give(samples(6))
    end = StreamEnd(next_seq=4)
    rig.decoder.end(end)
    rig.stream.give(ended=True)
    assert rig.shown[3:] == [3, end]


def test_a_result_that_comes_after_the_close_reaches_nobody():
    rig = Setup()
    rig.feed(0)
    rig.decoder.close()
    rig.stream.give(samples(6))
    rig.stream.give(error=RuntimeError("late"))
    assert rig.out == []
    assert rig.failures == []
    assert "close" in rig.stream.verbs
