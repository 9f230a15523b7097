"""A listener that falls behind gets fewer codebooks, then fewer packets, then no connection; a burst and a pause are no lag."""

import pytest
from fanout_rig import PACKET_S, check_books, packet, start

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import Gap, Packet, Report, StreamEnd
from streamcodec.server.fanout.queue import MAX_MESSAGES
from streamcodec.server.fanout.subscriber import Subscriber, SubscriberOptions
from streamcodec.server.limits import Limits


class Clock:
    """A clock that a test winds."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def make(limit_s=0.8, clock=None, observer=None, min_n_q=None, **changes):
    limits = Limits(**{"listener_queue_s": limit_s, "resume_s": 0.0, "listener_max_lag_s": 1e9, **changes})
    return Subscriber(SubscriberOptions("alice", "codes", min_n_q=min_n_q), limits, clock=clock or Clock(), observer=observer)


def drain(listener):
    return listener.take(2 * MAX_MESSAGES)


def test_a_listener_is_told_at_once_that_something_may_be_sent_and_the_publisher_hears_of_progress():
    listener, got, progress = make(), [], []
    listener.ready = lambda: got.extend(listener.take())
    listener.progressed = lambda: progress.append(listener.queue.queued_s)
    assert listener.take() == []
    listener.put(packet(0), PACKET_S)
    assert (got, progress) == ([packet(0)], [0.0])


def test_a_listener_with_too_many_messages_waiting_is_refused_as_slow():
    listener, failures = make(), []
    listener.failed = failures.append
    for seq in range(0, 4 * MAX_MESSAGES, 2):
        listener.put(start(seq))
        listener.put(Gap(first_seq=seq, count=2, reason="publisher"))
    assert len(listener.queue) == MAX_MESSAGES + 1
    assert drain(listener) == []
    assert [type(failure) for failure in failures] == [RemoteProtocolError]
    assert failures[0].code is WireCode.SLOW_LISTENER


def test_giving_up_on_a_listener_lasts_until_half_its_queue_is_free():
    listener = make(limit_s=0.8)
    for seq in range(10):
        listener.put(packet(seq), PACKET_S)
    assert listener.lagging
    listener.given_up = True
    listener.take()
    assert listener.given_up
    while listener.lagging:
        listener.take()
    assert not listener.given_up


# Lag -------------------------------------------------------------------------------------------------------------------------------------


class Live:
    """A listener of a live stream of 80 ms packets, on a clock of its own; it takes what it may and reports as it is told."""

    def __init__(self, min_n_q=None, **limits):
        self.clock = Clock()
        self.listener = make(2.0, self.clock, min_n_q=min_n_q, **{"listener_max_lag_s": 2.0, "resume_s": 10.0, **limits})
        self.listener.join([2, 4, 8], live=True)
        self.failures = []
        self.listener.failed = self.failures.append
        self.got = []
        self.seq = 0

    def packet(self):
        self.listener.put(packet(self.seq), PACKET_S)
        self.seq += 1

    def take(self):
        """Send all that may be sent."""
        while self.listener.may_send and not self.failures:
            self.got += self.listener.take()

    def report(self):
        last = next((m for m in reversed(self.got) if isinstance(m, (Packet, Gap))), None)
        if last is not None:
            self.listener.reported(Report(received=last.next_seq if isinstance(last, Gap) else last.seq + 1))

    def run(self, seconds, report=True):
        """So much of the stream comes in time; every third packet is reported."""
        for _ in range(round(seconds / PACKET_S)):
            self.clock.now += PACKET_S
            self.packet()
            self.take()
            if report and self.seq % 3 == 0:
                self.report()

    @property
    def lag_s(self):
        return self.listener.lag_s(self.clock.now)


def test_the_lag_is_what_was_emitted_and_not_reported_however_much_of_it_the_socket_took():
    live = Live()
    live.run(2.4)
    assert live.lag_s <= 0.25
    live.run(0.4, report=False)
    assert live.listener.empty
    assert live.lag_s == pytest.approx(0.4, abs=0.1)


def test_no_more_is_under_way_than_the_window_and_a_round_trip_and_the_rest_waits():
    live = Live(listener_window_s=0.5)
    live.run(2.4)
    assert live.listener.in_flight.round_trip_s == 0.0
    sent = len(live.got)
    live.run(4.0, report=False)
    assert sum(isinstance(message, Packet) for message in live.got[sent:]) * PACKET_S == pytest.approx(0.56)
    assert live.listener.queue.queued_s <= 2.0 + PACKET_S
    live.report()
    live.take()
    live.report()
    live.take()
    check_books(live.got)


def test_a_listener_that_never_reports_gets_all_that_its_socket_takes():
    live = Live()
    live.run(20.0, report=False)
    assert len(live.got) == 250
    assert live.lag_s == 0.0
    assert live.failures == []


def test_a_listener_that_reports_no_more_loses_what_is_stale_and_then_its_connection():
    live = Live()
    live.run(2.4)
    live.run(3.0, report=False)
    assert live.listener.queue.dropped > 0
    assert live.failures == []
    live.run(15.0, report=False)
    (failure,) = live.failures
    assert failure.code is WireCode.SLOW_LISTENER
    assert "too far behind for 10 s" in failure.reason
    assert live.listener.take() == []


def test_a_listener_that_catches_up_in_time_keeps_its_connection():
    live = Live()
    for _ in range(4):
        live.run(2.4)
        live.run(9.0, report=False)
        for _ in range(20):
            live.report()
            live.take()
    assert live.failures == []
    assert live.listener.queue.dropped > 0
    check_books(live.got)


def test_a_publisher_that_pauses_makes_no_lag():
    live = Live(min_n_q=2)
    live.run(2.48)
    live.clock.now += 60
    assert live.lag_s <= 0.25
    live.run(0.8)
    assert live.listener.n_q == 8


def test_a_burst_makes_no_lag_and_loses_nothing():
    live = Live(min_n_q=2)
    live.run(2.4)
    for _ in range(100):
        live.packet()
    assert live.lag_s == 0.0
    while not live.listener.empty:
        live.clock.now += 0.01
        live.take()
        live.report()
    assert live.listener.queue.dropped == 0
    assert live.listener.n_q == 8


def test_a_pause_does_not_count_as_lag_and_the_speech_after_it_goes_out_at_once():
    live = Live(min_n_q=2)
    live.run(2.4)
    sent = len(live.got)
    for i in range(250):
        live.clock.now += PACKET_S
        live.listener.put(packet(live.seq), PACKET_S, quiet=True)
        live.seq += 1
        live.take()
        # Of the 20 s it says nothing for 5, as if nothing arrived.
        if not 100 <= i < 163:
            live.report()
        assert live.lag_s <= 0.6
    assert live.listener.n_q == 8
    assert live.listener.queue.dropped == 0
    assert 45 <= len(live.got) - sent <= 51, "a gap and a packet every 0.8 s"
    live.clock.now += PACKET_S
    live.packet()
    live.take()
    assert live.got[-1] == packet(live.seq - 1)
    check_books(live.got)


def test_a_listener_has_time_to_catch_up_with_a_burst_that_was_held_up_elsewhere():
    live = Live(min_n_q=2)
    live.run(2.4)
    live.listener.expect_burst()
    for _ in range(100):
        live.packet()
    for _ in range(30):
        live.clock.now += 0.3
        live.packet()
        live.take()
        live.report()
    assert live.listener.queue.dropped == 0
    assert live.listener.n_q == 8


def test_a_report_about_a_stream_that_is_over_is_ignored_in_the_next_one():
    live = Live()
    live.run(2.4)
    live.listener.put(StreamEnd(next_seq=live.seq))
    live.listener.put(start(0))
    live.seq = 0
    live.take()
    live.packet()
    live.take()
    live.listener.reported(Report(received=30))
    assert live.lag_s == 0.0
    live.clock.now += 5
    assert live.lag_s == pytest.approx(PACKET_S)


def test_what_a_listener_asks_for_comes_at_once():
    live = Live()
    live.run(0.8)
    for asked, granted in ((2, 2), (8, 8), (32, 8), (5, 4)):
        live.listener.reported(Report(received=live.seq), asked)
        assert live.listener.n_q == granted


class Link(Live):
    """The same behind a link of a round trip `delay_s` that carries `rate` seconds of audio a second; it reports as the protocol says."""

    def __init__(self, delay_s=0.03, rate=20.0, **limits):
        super().__init__(**limits)
        self.delay_s, self.rate = delay_s, rate
        self.sent = 0
        self.free_at = self.next_at = self.clock.now
        self.on_the_way = []
        self.unreported_s = 0.0
        self.longest_s = 0.0

    def run(self, seconds):
        """So much of the stream comes in time."""
        until = self.clock.now + seconds
        while self.clock.now < until and not self.failures:
            self.clock.now = min([self.next_at, *(at for at, *_ in self.on_the_way)])
            if self.clock.now >= self.next_at:
                self.packet()
                self.next_at += PACKET_S
            due = [event for event in self.on_the_way if event[0] <= self.clock.now]
            self.on_the_way = [event for event in self.on_the_way if event[0] > self.clock.now]
            for _, message, report in due:
                if report is None:
                    self.arrive(message)
                else:
                    self.listener.reported(report)
            self.take()
            for message in self.got[self.sent :]:
                self.free_at = max(self.free_at, self.clock.now) + (PACKET_S / self.rate if isinstance(message, Packet) else 0.0)
                self.on_the_way.append((self.free_at + self.delay_s / 2, message, None))
            self.sent = len(self.got)
            self.longest_s = max(self.longest_s, self.listener.in_flight.seconds)

    def arrive(self, message):
        self.unreported_s += PACKET_S if isinstance(message, Packet) else 0.0
        if self.unreported_s >= 0.24 - 1e-6 or self.listener.in_flight.report is None:
            self.unreported_s = 0.0
            following = message.next_seq if isinstance(message, Gap) else message.seq + 1
            self.on_the_way.append((self.clock.now + self.delay_s / 2, message, Report(received=following)))


@pytest.mark.parametrize(("before_s", "after_s"), [(0.03, 0.7), (0.3, 0.9), (0.5, 1.5), (0.7, 0.03)])
def test_a_link_whose_delay_changes_for_good_is_not_held_up_for_good(before_s, after_s):
    live = Link(before_s)
    live.run(20.0)
    assert live.listener.queue.dropped == 0
    live.delay_s = after_s
    live.run(30.0)
    assert live.listener.in_flight.round_trip_s == pytest.approx(after_s, abs=0.05)
    dropped = live.listener.queue.dropped
    for _ in range(60):
        live.run(1.0)
        assert live.listener.empty
    assert live.listener.queue.dropped == dropped
    check_books(live.got)


@pytest.mark.parametrize("delay_s", [0.03, 0.3])
@pytest.mark.parametrize("rate", [0.95, 0.75, 0.5])
def test_a_link_with_too_low_a_rate_is_not_mistaken_for_a_longer_one(rate, delay_s):
    live = Link(delay_s)
    live.run(20.0)
    live.rate = rate
    live.run(200.0)
    assert live.failures == []
    assert live.longest_s <= 0.5 + delay_s + 0.24 / rate + 0.24 + 2 * PACKET_S
    assert live.listener.queue.dropped * PACKET_S == pytest.approx(200.0 * (1 - rate), abs=20.0)
    check_books(live.got)
