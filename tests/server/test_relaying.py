"""One stream to many listeners: what is the same for all of them is done once, and who is held up holds up nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from fanout_rig import PACKET_S, check_books
from server_rig import run, serving, until

from benchmarks.capacity.connection import LoadConnection
from benchmarks.relay.listener import RelayListener
from streamcodec.config import CodecConfig
from streamcodec.errors import WireCode
from streamcodec.protocol import Gap, ListenHello, Packet, PublishHello, Report, Welcome, messages, pack_codes
from streamcodec.server import websocket
from streamcodec.server.fanout.codes import CodesBranch
from streamcodec.server.fanout.subscriber import Subscriber, SubscriberOptions
from streamcodec.server.info import StreamInfo
from streamcodec.server.limits import Limits

CONFIG = CodecConfig()
INFO = StreamInfo("alice", "codes", 8, 6.0, 6, "primed", live=True, packet_samples=1_920, packet_s=0.08)


def packet(seq: int, n_q: int = 8) -> Packet:
    return Packet(seq, 0, 0, n_q, pack_codes(np.full((n_q, 6), seq % 1024), 10))


class Crowd:
    """Subscribers of one live stream on a made-up clock; each notes what is sent to it, past its queue or out of it."""

    def __init__(self, **limits: Any) -> None:
        self.now = 100.0
        self.branch = CodesBranch(INFO, CONFIG, 10.0)
        self.limits = Limits(**limits)
        self.seq = 0

    def join(self, **options: Any) -> Member:
        member = Member(self, **options)
        self.branch.subscribers.add(member.subscriber)
        return member

    def emit(self, n_q: int = 8) -> None:
        self.now += PACKET_S
        self.branch.packet(packet(self.seq, n_q), 6)
        self.seq += 1


class Member:
    def __init__(self, crowd: Crowd, max_n_q: int | None = None, min_n_q: int | None = None) -> None:
        options = SubscriberOptions("alice", "codes", max_n_q=max_n_q, min_n_q=min_n_q)
        self.subscriber = Subscriber(options, crowd.limits, clock=lambda: crowd.now)
        self.subscriber.join(crowd.branch.ladder(max_n_q), live=True)
        self.relayed: list[Packet] = []
        self.got: list[Any] = []
        self.failures: list[Any] = []
        self.takes_more = True
        self.subscriber.ready = self.take
        self.subscriber.relayed = self.relay
        self.subscriber.failed = self.failures.append

    def relay(self, packet: Packet) -> bool:
        if self.takes_more:
            self.relayed.append(packet)
            self.got.append(packet)
        return self.takes_more

    def take(self) -> None:
        while self.takes_more and (messages := self.subscriber.take()):
            self.got += messages

    def report(self) -> None:
        self.subscriber.reported(Report(received=self.got[-1].seq + 1))


def test_who_wants_an_odd_number_of_codebooks_gets_the_next_to_which_a_packet_can_be_cut() -> None:
    odd = CodecConfig(target_bandwidths=(0.75, 1.5, 2.25, 6.0))
    assert [CodesBranch(INFO, odd, 1.0).ladder(n_q) for n_q in (1, 2, 3, 6, 8, None)] == [[2], [2], [2, 8], [2, 6], [2, 8], [2, 8]]
    crowd = Crowd()
    one, all_of_it = crowd.join(max_n_q=1), crowd.join()
    crowd.emit()
    crowd.emit(n_q=1)
    assert [message.n_q for message in one.got] == [2, 1] and [message.n_q for message in all_of_it.got] == [8, 1]


def test_a_packet_passes_the_queues_of_all_who_keep_up_as_one_object_for_each_bandwidth() -> None:
    crowd = Crowd()
    members = [crowd.join(max_n_q=max_n_q) for max_n_q in (None, 2, None, 2, None)]
    for _ in range(20):
        crowd.emit()
        for member in members:
            member.report()
    for member in members:
        assert check_books(member.got) == 20
        assert member.relayed == member.got[1:], "the first one finds out that nothing is in the way"
    for at in range(20):
        assert len({id(member.got[at]) for member in members}) == 2
        assert {member.got[at].n_q for member in members} == {2, 8}


def test_a_listener_that_reports_no_more_gets_gaps_and_is_disconnected_while_the_others_never_notice() -> None:
    crowd = Crowd(listener_max_lag_s=1.0, listener_give_up_s=5.0)
    fast, slow = [crowd.join() for _ in range(3)], crowd.join()
    for _ in range(10):
        crowd.emit()
        for member in (*fast, slow):
            member.report()
    while not slow.failures:
        crowd.emit()
        for member in fast:
            member.report()
        assert crowd.seq < 1000
    assert slow.failures[0].code is WireCode.SLOW_LISTENER
    assert slow.subscriber.queue.dropped > 0
    assert isinstance(slow.got[-1], Gap), "packets wait for its report, and what is dropped is told at once"
    assert check_books(slow.got) < crowd.seq
    assert sum(isinstance(message, Packet) for message in slow.got) < 30, "no more than the window was sent"
    for member in fast:
        assert member.relayed == member.got[1:]
        assert check_books(member.got) == crowd.seq
        assert not member.failures


def test_a_listener_whose_socket_is_full_gets_what_waited_in_order_and_then_passes_its_queue_again() -> None:
    crowd = Crowd()
    member = crowd.join()
    crowd.emit()
    crowd.emit()
    assert len(member.relayed) == 1
    member.takes_more = False
    for _ in range(5):
        crowd.emit()
    assert len(member.got) == 2
    member.takes_more = True
    member.take()
    assert check_books(member.got) == 7
    crowd.emit()
    assert member.relayed[-1].seq == 7
    assert check_books(member.got) == 8


def test_a_listener_that_was_given_fewer_codebooks_passes_its_queue_only_with_all_of_them() -> None:
    crowd = Crowd()
    member = crowd.join(min_n_q=2)
    for _ in range(10):
        crowd.emit()
        member.report()
    for _ in range(25):  # it reports nothing, so its lag rises
        crowd.emit()
    member.take()
    assert member.subscriber.n_q < 8
    relayed = len(member.relayed)
    member.report()
    for _ in range(10):
        crowd.emit()
        member.take()
        member.report()
    assert len(member.relayed) == relayed, "it is to be given more again"
    for _ in range(400):
        crowd.emit()
        member.take()
        member.report()
    assert member.subscriber.n_q == 8
    assert member.relayed[-1].seq == crowd.seq - 1


def test_silence_is_thinned_for_each_listener_and_what_follows_passes_the_queue_again() -> None:
    crowd = Crowd()
    member, later = crowd.join(), crowd.join()
    for n_q in [8] * 5 + [1] * 30 + [8] * 5:
        crowd.emit(n_q)
        for one in (member, later):
            one.take()
            one.report() if isinstance(one.got[-1], Packet) else None
    for one in (member, later):
        assert check_books(one.got) == 40
        assert any(isinstance(message, Gap) and message.reason == "silence" for message in one.got)
        assert [message.seq for message in one.relayed[-4:]] == [36, 37, 38, 39]


# Over WebSockets -------------------------------------------------------------------------------------------------------------------------


class Publisher:
    """A publisher of codes that makes no task."""

    def __init__(self, server: Any) -> None:
        self.sent: list[bytes] = []
        self.welcome: Welcome | None = None
        self.lost: list[str] = []
        hello = PublishHello(stream="alice", format="codes", model=server.codec.fingerprint, bandwidth=6.0)
        self.connection = LoadConnection(server.url, hello, self._hear, self.lost.append)
        self.connection.open()

    def _hear(self, message: Any) -> None:
        if isinstance(message, Welcome):
            self.welcome = message

    def send(self) -> None:
        codes = np.random.default_rng(len(self.sent)).integers(0, 1024, (8, 6), dtype=np.int32)
        self.sent.append(pack_codes(codes, 10))
        self.connection.session.send_packet(self.sent[-1], 0)
        self.connection.flush()

    def end(self) -> None:
        self.connection.session.end()
        self.connection.flush()


async def joined(server: Any, publisher: Publisher, count: int, bandwidth: float | None = None) -> list[RelayListener]:
    """So many listeners, once each has begun to hear the stream."""
    await until(lambda: publisher.welcome)
    sent: Any = publisher.sent if bandwidth is None else Prefixes(publisher.sent)
    hello = ListenHello(stream="alice", format="codes", model=server.codec.fingerprint, bandwidth=bandwidth)
    listeners = [RelayListener(hello, sent, PACKET_S, 3, lambda: None) for _ in range(count)]
    for listener in listeners:
        await listener.connect("127.0.0.1", server.port)
    await until(lambda: all(one.heard.next_seq is not None for one in listeners))
    return listeners


class Prefixes:
    """The payloads at 1.5 kbps."""

    def __init__(self, sent: list[bytes]) -> None:
        self.sent = sent

    def __getitem__(self, seq: int) -> bytes:
        return self.sent[seq][:15]


def test_a_packet_is_serialised_and_framed_once_for_all_listeners_of_a_bandwidth(monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[tuple[int, int]] = []
    framed: list[bytes] = []
    pack = messages.pack

    def packing(value: Any) -> bytes:
        if isinstance(value, tuple):
            packed.append((value[0], value[3]))
        return pack(value)

    class Framing(websocket.Frame):
        def __init__(self, opcode: Any, data: bytes) -> None:
            super().__init__(opcode, data)
            framed.append(data)

    async def main() -> None:
        async with serving() as server:
            publisher = Publisher(server)
            listeners = [*await joined(server, publisher, 6), *await joined(server, publisher, 4, bandwidth=1.5)]
            monkeypatch.setattr(messages, "pack", packing)
            monkeypatch.setattr(websocket, "Frame", Framing)
            for at in range(1, 13):
                publisher.send()
                await until(lambda at=at: all(one.heard.next_seq == at for one in listeners))
            monkeypatch.undo()
            publisher.end()
            await until(lambda: all(one.heard.ended for one in listeners))
            assert not any(one.heard.unnamed or one.heard.differing or one.heard.error for one in listeners)
            assert server.metrics.packets_sent == 120
            for one in listeners:
                one.leave()

    run(main())
    # 8 codebooks twice: the publisher is in this process, too.
    assert sorted(packed) == sorted([(seq, 8) for seq in range(12)] * 2 + [(seq, 2) for seq in range(12)])
    assert len(framed) == len(set(framed)) == 24


def test_neither_a_packet_nor_a_report_makes_a_task() -> None:
    made: list[Any] = []

    async def main() -> None:
        async with serving() as server:
            publisher = Publisher(server)
            listeners = await joined(server, publisher, 5)
            publisher.send()
            await until(lambda: all(one.heard.next_seq == 1 for one in listeners))
            loop = asyncio.get_running_loop()
            loop.set_task_factory(
                lambda loop, coroutine, **options: made.append(coroutine) or asyncio.Task(coroutine, loop=loop, **options)
            )
            for at in range(2, 12):
                publisher.send()
                await until(lambda at=at: all(one.heard.next_seq == at for one in listeners))
            await until(lambda: all(one.in_flight.seconds < 3 * PACKET_S for one in server.registry.listeners["alice"]))
            loop.set_task_factory(None)
            publisher.end()
            await until(lambda: all(one.heard.ended for one in listeners))
            for one in listeners:
                one.leave()

    run(main())
    assert made == []
