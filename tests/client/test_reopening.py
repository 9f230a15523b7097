"""A client whose connection breaks tries again for as long as the server said that it keeps what was going on, and no longer."""

from __future__ import annotations

import asyncio
import math
from types import SimpleNamespace

import numpy as np
import pytest
from client_rig import run, scripted, start, until
from websockets.exceptions import ConnectionClosed

import streamcodec.client.connection as connection_module
import streamcodec.client.reconnect as reconnect
import streamcodec.client.uplink as uplink_module
from streamcodec.client import PublishOptions, listen, publish
from streamcodec.client.route import SessionRoute
from streamcodec.errors import ConnectionFailed, Refused
from streamcodec.protocol import End, Ended, Error, Gap, Packet, Ping, Pong, Refuse, Report, StreamEnd, StreamStart, Waiting

BLOCK = np.zeros(2400, np.float32)  # 100 ms


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(reconnect, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(reconnect, "_MAX_WAIT_S", 0.05)


def lives(*scripts):
    """One script for each connection, in turn."""
    left = list(scripts)

    async def script(server):
        await left.pop(0)(server)

    return script


def pcm(seq):
    return Packet(seq, 0, 0, 0, bytes(4))


async def refusing(server):
    await server.receive()
    await server.send(Refuse(code="server_closing", reason="not now", retry=True))
    await server.ws.close(4501)


async def knows_nothing(server):
    await server.receive()
    await server.send(Refuse(code="unknown_session", reason="never heard of it", retry=False))
    await server.ws.close(4410)


def test_a_listener_resumes_behind_the_last_number_it_took_after_as_many_tries_as_it_takes():
    hellos, notes = [], []

    async def main():
        taken = asyncio.Event()

        async def first(server):
            await server.welcome(resume_ms=30_000)
            await server.send(start(format="pcm_s16le", session="5e55"), pcm(0), pcm(1))
            await taken.wait()
            server.ws.transport.abort()

        async def second(server):
            hellos.append(await server.welcome(resume_ms=30_000))
            await server.send(
                start(format="pcm_s16le", session="5e55", start="continued", first_seq=2, live_seq=2), pcm(2), StreamEnd(next_seq=3)
            )
            await server.ws.wait_closed()

        async with scripted(lives(first, refusing, refusing, second)) as url:
            async with listen(url, "alice", format="pcm_s16le", note=notes.append) as listener:
                got = [await anext(listener) for _ in range(3)]
                taken.set()
                got += [await anext(listener) for _ in range(2)]
            assert [type(event) for event in got] == [StreamStart, Packet, Packet, Packet, StreamEnd]
            assert (listener.resumed, listener.lost, listener.packets) == (1, 0, 3)
        assert (hellos[0].resume.session, hellos[0].resume.epoch, hellos[0].resume.next_seq) == ("5e55", 0, 2)
        assert len(notes) == 1
        assert "was lost" in notes[0]

    run(main())


@pytest.mark.parametrize("goodbye", ["refused", "in vain"])
def test_a_listener_that_cannot_resume_says_why_the_connection_was_lost(goodbye):
    async def main():
        taken = asyncio.Event()

        async def first(server):
            await server.welcome(resume_ms=30_000 if goodbye == "refused" else 200)
            await server.send(start(format="pcm_s16le", session="5e55"))
            await taken.wait()
            server.ws.transport.abort()

        async def other(server):
            await (knows_nothing if goodbye == "refused" else refusing)(server)

        async with scripted(lives(first, *[other] * 1000)) as url, listen(url, "alice", format="pcm_s16le") as listener:
            assert isinstance(await anext(listener), StreamStart)
            taken.set()
            with pytest.raises(ConnectionFailed, match="was lost") as caught:
                await anext(listener)
            assert not isinstance(caught.value, Refused)

    run(main())


def test_a_try_that_nobody_answers_leaves_time_for_others(monkeypatch):
    now, tries = [0.0], []

    async def sleep(seconds):
        now[0] += seconds

    async def never(url, _, timeout_s, tls):  # noqa: ARG001
        tries.append(now[0])
        now[0] += timeout_s
        raise ConnectionFailed(f"{url} does not answer")

    monkeypatch.setattr(reconnect, "open_connection", never)
    monkeypatch.setattr(reconnect, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(reconnect, "asyncio", SimpleNamespace(sleep=sleep))

    async def main():
        with pytest.raises(ConnectionFailed, match="was lost"):
            await reconnect.reopen(SessionRoute("ws://a"), lambda: None, ConnectionFailed("the connection was lost"), 10.0)

    run(main())
    assert sum(at < 8.0 for at in tries) >= 3
    assert now[0] < 11.0


def test_a_server_that_says_goodbye_is_not_called_again():
    async def main():
        async def only(server):
            await server.welcome(resume_ms=30_000)
            await server.send(Error(code="slow_listener", reason="too slow"))
            await server.ws.close(4413)

        async with scripted(lives(only)) as url, listen(url, "alice", format="pcm_s16le") as listener:
            with pytest.raises(Refused, match="too slow"):
                await anext(listener)

    run(main())


@pytest.mark.parametrize("now", ["another stream", "nobody", "another epoch"])
def test_what_a_listener_missed_for_good_is_told_before_what_comes(now):
    async def main():
        taken = asyncio.Event()

        async def first(server):
            await server.welcome(resume_ms=30_000)
            await server.send(start(format="pcm_s16le", session="5e55"), pcm(0))
            await taken.wait()
            server.ws.transport.abort()

        after = {
            "another stream": start(format="pcm_s16le", session="beef"),
            "nobody": Waiting(stream="alice"),
            "another epoch": start(format="pcm_s16le", session="5e55", epoch=1, first_seq=7, live_seq=9),
        }[now]

        async def second(server):
            await server.welcome(resume_ms=30_000)
            await server.send(after)
            await server.ws.wait_closed()

        async with scripted(lives(first, second)) as url, listen(url, "alice", format="pcm_s16le") as listener:
            got = [await anext(listener) for _ in range(2)]
            taken.set()
            got += [await anext(listener) for _ in range(2)]
            assert got[3] == after
            if now == "another epoch":
                assert got[2] == Gap(first_seq=1, count=8, reason="resumed_late")
                assert listener.lost == 8
            else:
                assert got[2] == StreamEnd(next_seq=1, reason="the stream ended while the connection was lost")

    run(main())


def test_a_publisher_sends_again_what_the_server_has_not_got_and_nothing_that_it_has():
    servers, hellos = [], []

    async def main():
        async def first(server):
            servers.append(server)
            await server.welcome(session="5ec2e7", resume_ms=30_000)
            while sum(isinstance(m, Packet) for m in server.got) < 5:
                await server.receive()
            server.ws.transport.abort()

        async def second(server):
            servers.append(server)
            # Of the five that it read it has kept three.
            hellos.append(await server.welcome(session="5ec2e7", resume_ms=30_000, next_seq=3))
            while not isinstance(await server.receive(), End):
                pass
            await server.send(Ended(received=8, emitted=8, dropped=0))
            await server.ws.close()

        async with scripted(lives(first, refusing, second)) as url, publish(url, "alice", PublishOptions(queue_s=0.2)) as publisher:
            for i in range(8):
                await publisher.send(np.full(2400, i / 100, np.float32))
            assert (await publisher.end()).received == 8
            assert (publisher.resumed, publisher.dropped_s) == (1, 0.0)
        again = [m for m in servers[1].got if isinstance(m, Packet)]
        assert [m.seq for m in again] == [3, 4, 5, 6, 7]
        assert [round(int(np.frombuffer(m.payload, "<i2")[0]) / 327.68) for m in again] == [3, 4, 5, 6, 7]
        assert hellos[0].resume.session == "5ec2e7"
        assert 5 <= hellos[0].resume.next_seq <= 8
        assert servers[1].got[-1] == End(last_seq=7)

    run(main())


def test_a_publisher_whose_session_is_over_says_that_the_connection_was_lost():
    async def main():
        async def first(server):
            await server.welcome(session="5ec2e7", resume_ms=30_000)
            await server.receive()
            server.ws.transport.abort()

        async with scripted(lives(first, knows_nothing)) as url:
            with pytest.raises(ConnectionFailed, match="was lost") as caught:
                async with publish(url, "alice") as publisher:
                    await publisher.send(BLOCK)
            assert not isinstance(caught.value, Refused)

    run(main())


def test_leaving_while_the_connection_is_lost_does_not_wait_for_it():
    async def main():
        async def first(server):
            await server.welcome(session="5ec2e7", resume_ms=3_000_000)
            server.ws.transport.abort()

        async def other(server):
            await refusing(server)

        async with scripted(lives(first, *[other] * 1000)) as url:
            with pytest.raises(KeyError):
                async with publish(url, "alice") as publisher:
                    await until(lambda: publisher._uplink._catch_up_until == math.inf)
                    raise KeyError("the caller's own")

    run(main())


def test_what_waited_for_a_lost_connection_has_the_window_to_go_out_and_then_the_oldest_is_dropped(monkeypatch):
    servers, now, slow = [], [100.0], [True]
    monkeypatch.setattr(uplink_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    # An uplink that never catches up: as much is under way as may be.
    monkeypatch.setattr(uplink_module.Uplink, "_is_full", lambda *_: slow[0])

    async def main():
        async def first(server):
            await server.welcome(session="5ec2e7", resume_ms=10_000)
            server.ws.transport.abort()

        async def second(server):
            servers.append(server)
            await server.welcome(session="5ec2e7", resume_ms=10_000)
            while not isinstance(await server.receive(), End):
                pass
            await server.send(Ended(received=5, emitted=5, dropped=0))
            await server.ws.close()

        async with scripted(lives(first, second)) as url, publish(url, "alice", PublishOptions(queue_s=0.5)) as publisher:
            publisher.offer(BLOCK)
            await until(lambda: publisher.resumed)
            now[0] += 9.9
            for _ in range(29):
                publisher.offer(BLOCK)
            waited_s, dropped_s = publisher.queued_s, publisher.dropped_s
            now[0] += 0.2
            publisher.offer(BLOCK)
            slow[0] = False
            assert (waited_s, dropped_s) == (pytest.approx(3.0), 0.0)
            assert (publisher.queued_s, publisher.dropped_s) == (pytest.approx(0.5), pytest.approx(2.6))
        told = [message for message in servers[0].got if isinstance(message, (Packet, Gap))]
        assert [getattr(message, "seq", message) for message in told] == [Gap(first_seq=0, count=26, reason="uplink"), *range(26, 31)]

    run(main())


def test_what_is_under_way_to_a_server_that_answers_is_bounded_and_the_oldest_of_the_rest_is_dropped(monkeypatch):
    servers = []
    monkeypatch.setattr(connection_module, "now_us", lambda: 1_000_000)  # round trips take no time

    async def main():
        async def script(server):
            servers.append(server)
            await server.welcome()
            while True:
                try:
                    message = await server.receive()
                except ConnectionClosed:
                    return
                packets = sum(isinstance(m, Packet) for m in server.got)
                # It answers until ten packets have come, and then only reads.
                if isinstance(message, Ping) and packets < 10:
                    await server.send(Pong(time=message.time, server_time=message.time))

        async with scripted(script) as url:
            publisher = publish(url, "alice", PublishOptions(queue_s=0.5))
            await publisher.__aenter__()
            await until(lambda: publisher._uplink.connection.acknowledged is not None)
            for _ in range(60):
                publisher.offer(BLOCK)
                await asyncio.sleep(0.001)  # so that it is sent, if it may be
                assert publisher._uplink.queue.sent_s <= 1.0 + 0.1 + 1e-6
                assert publisher.queued_s <= 0.5 + 1e-6
            assert publisher.dropped_s > 2.0
            await publisher.__aexit__(KeyError, KeyError(), None)
        assert sum(isinstance(m, Packet) for m in servers[0].got) < 30

    run(main())


def test_what_waited_for_a_lost_connection_is_not_all_under_way_before_the_first_pong():
    async def main():
        let_in, answer = asyncio.Event(), asyncio.Event()
        servers = []

        async def first(server):
            await server.welcome(session="5ec2e7", resume_ms=30_000)
            server.ws.transport.abort()

        async def second(server):
            servers.append(server)
            await let_in.wait()
            await server.welcome(session="5ec2e7", resume_ms=30_000)
            while not isinstance(message := await server.receive(), End):
                if isinstance(message, Ping):
                    await answer.wait()
                    await server.send(Pong(time=message.time, server_time=message.time))
            await server.send(Ended(received=40, emitted=40, dropped=0))
            await server.ws.close()

        async with scripted(lives(first, second)) as url, publish(url, "alice") as publisher:
            await until(lambda: publisher._uplink._catch_up_until == math.inf)
            for _ in range(40):
                publisher.offer(BLOCK)
            let_in.set()
            await until(lambda: publisher.resumed and publisher._uplink.queue.sent_s > 0.9)
            for _ in range(200):
                await asyncio.sleep(0)
            max_s = 1.0 + publisher._uplink.connection.window.round_trip_s + 0.1
            under_way_s = publisher._uplink.queue.sent_s
            answer.set()
            assert under_way_s <= max_s + 1e-6
        assert [message.seq for message in servers[0].got if isinstance(message, Packet)] == list(range(40))

    run(main())


def test_a_listener_reports_at_once_and_then_with_every_third_packet():
    async def main():
        reports = []

        async def script(server):
            await server.welcome()
            await server.send(start(format="pcm_s16le"), *[pcm(seq) for seq in range(7)])
            while len(reports) < 3:
                message = await server.receive()
                if isinstance(message, Report):
                    reports.append(message.received)
            await server.send(StreamEnd(next_seq=7))
            await server.ws.wait_closed()

        async with scripted(script) as url, listen(url, "alice", format="pcm_s16le") as listener:
            while not isinstance(await anext(listener), StreamEnd):
                pass
        assert reports[0] == 1
        assert reports[-1] <= 7
        assert reports == sorted(reports)

    run(main())
