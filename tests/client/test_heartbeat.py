"""A connection that dies without a word is given up after a few looks; one that is slow, idle, or not listened to is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from client_rig import run, scripted, start, until
from websockets.exceptions import ConnectionClosed

import streamcodec.client.connection as connection
import streamcodec.client.heartbeat as heartbeat
import streamcodec.client.reconnect as reconnect
import streamcodec.client.uplink as uplink_module
from streamcodec.client import PublishOptions, listen, publish
from streamcodec.errors import ConnectionFailed
from streamcodec.protocol import End, Ended, Gap, Packet, Ping, Pong, StreamEnd, StreamStart, Waiting

BLOCK = np.zeros(2400, np.float32)  # 100 ms
FOREVER = {"session": "5ec2e7", "resume_ms": 3_000_000}


class Looks:
    """The looks of all connections, which pass when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []

    async def sleep(self, _: float) -> None:
        self.waiting.append(asyncio.get_running_loop().create_future())
        await self.waiting[-1]

    async def take(self, count: int = 1) -> None:
        for _ in range(count):
            await until(lambda: self.waiting)
            waiting, self.waiting = self.waiting, []
            for look in waiting:
                if not look.done():
                    look.set_result(None)
            await asyncio.sleep(0)

    async def begin(self, ws) -> None:
        """Wait until all that was sent has arrived, and count from here."""
        await until(lambda: not ws._sent()[1])
        await self.take()
        ws._quiet = 0


@pytest.fixture
def looks(monkeypatch):
    looks = Looks()
    monkeypatch.setattr(connection, "_PINGS_AT_START", 0)
    monkeypatch.setattr(heartbeat, "asyncio", SimpleNamespace(sleep=looks.sleep))
    monkeypatch.setattr(reconnect, "_FIRST_WAIT_S", 0.01)
    return looks


class Silent:
    """A server's connection that neither reads nor writes from now on, as behind a network that is gone."""

    def __init__(self, server) -> None:
        self._ws = server.ws
        self._ws.send_data = self._ws.protocol.data_to_send
        self._ws.transport.pause_reading()

    async def until_left(self, over) -> None:
        """Keep it for as long as the test needs it: closing it takes long, since it says nothing."""
        await over.wait()
        self._ws.transport.abort()


@contextlib.asynccontextmanager
async def released(over):
    """Let go of what is silent, however the block ends."""
    try:
        yield
    finally:
        over.set()


def lives(*scripts):
    left = list(scripts)

    async def script(server):
        await left.pop(0)(server)

    return script


async def ending(server):
    while not isinstance(message := await server.receive(), End):
        if isinstance(message, Ping):
            await server.send(Pong(time=message.time, server_time=message.time))
    await server.send(Ended(received=1, emitted=1, dropped=0))
    await server.ws.close()


def test_a_listener_s_connection_that_falls_silent_is_asked_once_then_broken_off_and_resumed(looks):
    hellos, notes = [], []

    async def main():
        over = asyncio.Event()

        async def first(server):
            await server.welcome(resume_ms=3_000_000)
            await server.send(start(format="pcm_s16le", session="5e55"), Packet(0, 0, 0, 0, bytes(4)))
            await Silent(server).until_left(over)

        async def second(server):
            hellos.append(await server.welcome(resume_ms=3_000_000))
            await server.send(start(format="pcm_s16le", session="5e55", start="continued", first_seq=1, live_seq=1), StreamEnd(next_seq=1))
            await server.ws.wait_closed()

        async with (
            scripted(lives(first, second)) as url,
            released(over),
            listen(url, "alice", format="pcm_s16le", note=notes.append) as listener,
        ):
            assert [type(await anext(listener)) for _ in range(2)] == [StreamStart, Packet]
            ws, asked = listener._connection._ws, []
            send_ping = ws.protocol.send_ping
            ws.protocol.send_ping = lambda data: (asked.append(ws._quiet), send_ping(data))
            reading = asyncio.ensure_future(anext(listener))
            await looks.begin(ws)
            await looks.take(7)
            assert not ws.dead and asked == [2]
            await looks.take()
            assert isinstance(await reading, StreamEnd)
            assert ws.dead and listener.resumed == 1
        assert hellos[0].resume.next_seq == 1
        assert "nothing came any more; resumed after" in notes[0]

    run(main())


@pytest.mark.parametrize("pace", ["live", "fast"])
def test_a_publisher_s_connection_is_broken_off_too_but_a_server_may_leave_a_fast_one_waiting(looks, pace):
    servers = []

    async def main():
        over = asyncio.Event()

        async def first(server):
            await server.welcome(**FOREVER)
            await Silent(server).until_left(over)

        async def second(server):
            servers.append(server)
            await server.welcome(**FOREVER)
            await ending(server)

        async with scripted(lives(first, second)) as url, released(over), publish(url, "alice", PublishOptions(pace=pace)) as publisher:
            ws = publisher._uplink.connection._ws
            publisher.offer(BLOCK)
            await until(lambda: not publisher.queued_s)
            await looks.begin(ws)
            await looks.take(7 if pace == "live" else 39)
            assert not ws.dead
            await looks.take()
            await until(lambda: publisher.resumed)
        assert [message.seq for message in servers[0].got if isinstance(message, Packet)] == [0]

    run(main())


def test_what_a_silent_uplink_does_not_take_is_kept_until_it_is_known_whether_it_is_lost(looks, monkeypatch):
    servers = []
    monkeypatch.setattr(uplink_module.Uplink, "_is_full", lambda self, _: not self.resumed)

    async def main():
        over = asyncio.Event()

        async def first(server):
            servers.append(server)
            await server.welcome(**FOREVER)
            await Silent(server).until_left(over)

        async def second(server):
            servers.append(server)
            await server.welcome(**FOREVER)
            await ending(server)

        async with scripted(lives(first, second)) as url, released(over), publish(url, "alice", PublishOptions(queue_s=0.5)) as publisher:

            def say(blocks):
                for _ in range(blocks):
                    publisher.offer(BLOCK)
                return pytest.approx(publisher.queued_s), pytest.approx(publisher.dropped_s)

            ws = publisher._uplink.connection._ws
            await until(lambda: servers)
            await looks.begin(ws)
            assert say(10) == (0.5, 0.5)
            await looks.take(2)
            assert say(20) == (2.5, 0.5)
            # It lives, and was only slow: then it is a clock again.
            ws._quiet = 0
            assert say(1) == (0.5, 2.6)
            await looks.take(2)
            assert say(20) == (2.5, 2.6)
            while not ws.dead:
                await looks.take()
            assert say(10) == (3.5, 2.6)
            await until(lambda: publisher.resumed)
            publisher._uplink.changed.set()
        told = [message for message in servers[1].got if isinstance(message, (Packet, Gap))]
        assert [getattr(message, "seq", message) for message in told] == [Gap(first_seq=0, count=26, reason="uplink"), *range(26, 61)]

    run(main())


def test_a_connection_on_which_nothing_happens_but_answers_to_pings_is_alive(looks):
    async def main():
        async def script(server):
            await server.welcome(resume_ms=3_000_000)
            await server.ws.wait_closed()

        async with scripted(script) as url, listen(url, "alice", format="pcm_s16le") as listener:
            ws, doubts = listener._connection._ws, 0
            for _ in range(50):
                await looks.take()
                doubts += ws.in_doubt
                await until(lambda: not ws.in_doubt)
            assert doubts > 10 and not ws.dead

    run(main())


def test_any_byte_is_a_sign_of_life_whole_messages_are_not_needed(looks):
    message = Waiting(stream="alice").serialize()
    frame = b"\x82" + bytes([len(message)]) + message

    async def main():
        step = asyncio.Event()

        async def script(server):
            await server.welcome(resume_ms=3_000_000)
            ws = server.ws
            ws.send_data = ws.protocol.data_to_send
            for byte in frame:
                await step.wait()
                step.clear()
                ws.transport.write(bytes([byte]))
            await ws.wait_closed()

        async with scripted(script) as url, listen(url, "alice", format="pcm_s16le") as listener:
            ws, reading = listener._connection._ws, asyncio.ensure_future(anext(listener))
            for _ in frame:
                await looks.take(6)
                assert not ws.dead and not reading.done()
                ws._quiet = max(1, ws._quiet)
                step.set()
                await until(lambda: not ws._quiet)
            assert await reading == Waiting(stream="alice")
            ws.transport.abort()

    run(main())


def test_who_does_not_read_hears_nothing_and_takes_nobody_for_dead(looks):
    async def main():
        async def script(server):
            await server.welcome(resume_ms=3_000_000)
            await server.send(start(format="pcm_s16le"), *[Packet(seq, 0, 0, 0, bytes(4)) for seq in range(100)], StreamEnd(next_seq=100))
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await server.receive()

        async with scripted(script) as url, listen(url, "alice", format="pcm_s16le") as listener:
            await anext(listener)
            ws = listener._connection._ws
            await until(lambda: not ws.transport.is_reading())
            await looks.take(50)
            assert not ws.dead
            while not isinstance(await anext(listener), StreamEnd):
                pass
            assert (listener.packets, listener.resumed) == (100, 0)

    run(main())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much has been taken")
def test_a_server_that_takes_what_is_sent_is_alive_and_one_that_takes_nothing_is_dead_although_writing_is_paused(looks):
    async def main():
        over, silent = asyncio.Event(), []

        async def first(server):
            await server.welcome(**FOREVER)
            silent.append(server.ws)
            await Silent(server).until_left(over)

        async def second(server):
            await server.welcome(**FOREVER)
            await ending(server)

        options = {"format": "pcm_f32le", "sample_rate": 192_000, "queue_s": 60.0}
        async with scripted(lives(first, second)) as url, released(over), publish(url, "alice", PublishOptions(**options)) as publisher:
            ws = publisher._uplink.connection._ws
            await until(lambda: silent)
            silent[0].transport.max_size = 16_384
            for _ in range(50):
                publisher.offer(np.zeros(192_000, np.float32))
            await until(lambda: ws.paused)
            await looks.take(3)
            for _ in range(12):
                # It reads a little, and says nothing.
                taken = ws._sent()[0]
                while ws._sent()[0] == taken:
                    silent[0].transport.resume_reading()
                    await asyncio.sleep(0)
                silent[0].transport.pause_reading()
                await looks.take()
                assert ws.in_doubt and not ws.dead
            while not ws.dead:
                await looks.take()
            await until(lambda: publisher.resumed)

    run(main())


def test_a_dead_connection_is_left_as_soon_as_it_is_known(looks):
    async def main():
        over = asyncio.Event()

        async def script(server):
            await server.welcome()
            await Silent(server).until_left(over)

        async with scripted(script) as url, released(over):
            listener = listen(url, "alice", format="pcm_s16le")
            await listener.__aenter__()
            listener._connection._ws.close_timeout = 1e6  # what is waited for is the silence, or this test times out
            leaving = asyncio.ensure_future(listener.__aexit__(None, None, None))
            while not leaving.done():
                await asyncio.sleep(0)
                if looks.waiting:
                    await looks.take()
            with pytest.raises(ConnectionFailed, match="nothing came any more"):
                await listener._connection.receive()

    run(main())
