"""A session that moves goes on at once where its server says, and one whose server is gone goes on at a server that knows it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from types import SimpleNamespace

import numpy as np
import pytest
from client_rig import MODEL, codes_packet, run, scripted, start, until

from streamcodec.client import Destination, PublishOptions, keep_trying, listen, publish, reconnect
from streamcodec.client.connection import Connection
from streamcodec.client.route import MAX_HOPS, SessionRoute, may_follow
from streamcodec.errors import ConnectionFailed, Refused, RemoteProtocolError, UntrustedServerError
from streamcodec.protocol import (
    ClientSession,
    End,
    Ended,
    Error,
    Gap,
    ListenHello,
    Packet,
    Ping,
    Pong,
    Refuse,
    StreamEnd,
    StreamStart,
    Waiting,
    Welcome,
)

RESUME_MS = 600_000
HELLO = ListenHello(stream="alice", format="pcm_s16le")
FORMATS = ["codes", "pcm_s16le"]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    monkeypatch.setattr(reconnect, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(reconnect, "_MAX_WAIT_S", 0.05)


@pytest.fixture
def never_wait(monkeypatch):
    """Whoever waits before an attempt waits for longer than a test may take."""
    monkeypatch.setattr(reconnect, "_FIRST_WAIT_S", 1e6)


@contextlib.contextmanager
def nobody():
    """An address at which nothing listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"ws://127.0.0.1:{held.getsockname()[1]}"


def moved(go_to, code="moved"):
    return Error(code=code, reason="the session goes on elsewhere", go_to=go_to)


async def said(server, message):
    await server.send(message)
    await server.ws.close(server.session.close_code)


async def packets(server, count):
    while sum(isinstance(message, Packet) for message in server.got) < count:
        await server.receive()


async def take_the_rest(server):
    while not isinstance(await server.receive(), End):
        pass
    await server.send(Ended(received=8, emitted=8, dropped=0))
    await server.ws.close()


def welcome(hello, **changes):
    return Welcome(role="listen", stream=hello.stream, model=MODEL, format=hello.format, time=1, **changes)


def options(format):
    if format == "codes":
        return PublishOptions(format="codes", model="f00d", bandwidth=6.0)
    return PublishOptions(packet_frames=6)


def block(i, format):
    return np.full((8, 6), i) if format == "codes" else np.full(1920, i / 100, np.float32)


def seqs(server):
    return [message.seq for message in server.got if isinstance(message, Packet)]


# What is sent on -------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("never_wait")
@pytest.mark.parametrize("format", FORMATS)
def test_a_publisher_whose_session_moves_goes_on_at_once_and_sends_what_is_missing_there(format):
    servers, hellos, notes = [], [], []

    async def main():
        async def second(server):
            servers.append(server)
            hellos.append(await server.welcome(session="5ec2e7", resume_ms=RESUME_MS, next_seq=3))
            await take_the_rest(server)

        async with scripted(second) as there:

            async def first(server):
                servers.append(server)
                hellos.append(await server.welcome(session="5ec2e7", resume_ms=RESUME_MS))
                await packets(server, 5)
                await said(server, moved(there))

            async with scripted(first) as here, publish(here, "alice", options(format), note=notes.append) as publisher:
                for i in range(5):
                    await publisher.send(block(i, format))
                await until(lambda: publisher.resumed)
                for i in range(5, 8):
                    await publisher.send(block(i, format))
                assert (await publisher.end()).received == 8
                assert (publisher.resumed, publisher.dropped_s) == (1, 0.0)
            assert f"resumed at {there} after" in notes[0]
        assert [hello.can_move for hello in hellos] == [True, True] and hellos[0].resume is None
        assert (hellos[1].resume.session, hellos[1].resume.epoch, hellos[1].resume.next_seq) == ("5ec2e7", 0, 5)
        assert seqs(servers[1]) == [3, 4, 5, 6, 7]
        again = {message.seq: message.payload for message in servers[1].got if isinstance(message, Packet)}
        before = {message.seq: message.payload for message in servers[0].got if isinstance(message, Packet)}
        assert all(again[seq] == before[seq] for seq in (3, 4))
        assert servers[1].got[-1] == End(last_seq=7)

    run(main())


@pytest.mark.usefixtures("never_wait")
@pytest.mark.parametrize("format", FORMATS)
def test_a_listener_whose_session_moves_hears_nothing_twice_and_keeps_its_decoder(format):
    hellos = []
    packet = (lambda seq: codes_packet(seq, np.zeros((8, 6), int))) if format == "codes" else (lambda seq: Packet(seq, 0, 0, 0, bytes(4)))

    async def main():
        async def second(server):
            hellos.append(await server.welcome(resume_ms=RESUME_MS))
            goes_on = start(format=format, session="5e55", start="continued", first_seq=2, live_seq=2)
            await server.send(goes_on, packet(2), StreamEnd(next_seq=3))
            await server.ws.wait_closed()

        async with scripted(second) as there:

            async def first(server):
                await server.welcome(resume_ms=RESUME_MS)
                await server.send(start(format=format, session="5e55"), packet(0), packet(1))
                await said(server, moved(there))

            model = "f00d" if format == "codes" else None
            async with scripted(first) as here, listen(here, "alice", format=format, model=model) as listener:
                got = [await anext(listener) for _ in range(5)]
        assert [type(event) for event in got] == [StreamStart, Packet, Packet, Packet, StreamEnd]
        assert (listener.resumed, listener.lost, listener.packets) == (1, 0, 3)
        resume = hellos[0].resume
        assert (resume.session, resume.epoch, resume.next_seq) == ("5e55", 0, 2)

    run(main())


@pytest.mark.usefixtures("never_wait")
def test_a_listener_that_waits_for_a_publisher_moves_too():
    hellos = []

    async def main():
        async def second(server):
            hellos.append(await server.welcome(resume_ms=RESUME_MS))
            await server.send(Waiting(stream="alice"), start(format="pcm_s16le"))
            await server.ws.wait_closed()

        async with scripted(second) as there:

            async def first(server):
                await server.welcome(resume_ms=RESUME_MS)
                await server.send(Waiting(stream="alice"))
                await said(server, moved(there))

            async with scripted(first) as here, listen(here, "alice", format="pcm_s16le") as listener:
                assert [type(await anext(listener)) for _ in range(2)] == [Waiting, StreamStart]
        assert hellos[0].resume is None

    run(main())


@pytest.mark.usefixtures("never_wait")
def test_an_end_whose_answer_was_to_come_is_said_again_where_the_session_is():
    got = []

    async def main():
        async def second(server):
            await server.welcome(session="5ec2e7", resume_ms=RESUME_MS, next_seq=1)
            got.append(await server.receive())
            await server.send(Ended(received=1, emitted=1, dropped=0))
            await server.ws.close()

        async with scripted(second) as there:

            async def first(server):
                await server.welcome(session="5ec2e7", resume_ms=RESUME_MS)
                while not isinstance(await server.receive(), End):
                    pass
                await said(server, moved(there))

            async with scripted(first) as here, publish(here, "alice") as publisher:
                await publisher.send(np.zeros(2400, np.float32))
                assert (await publisher.end()).received == 1
        assert got == [End(last_seq=None)]  # of this connection

    run(main())


@pytest.mark.usefixtures("never_wait")
def test_a_hello_that_resumes_is_sent_on_to_where_the_session_is_by_now():
    async def main():
        async def third(server):
            hello = await server.welcome(resume_ms=RESUME_MS)
            assert hello.resume.next_seq == 1
            await server.send(start(format="pcm_s16le", session="5e55", start="continued", first_seq=1, live_seq=1), StreamEnd(next_seq=1))
            await server.ws.wait_closed()

        async with scripted(third) as last:

            async def second(server):
                await server.receive()
                await said(server, Refuse(code="moved", reason="it is elsewhere", retry=True, go_to=last))

            async with scripted(second) as there:

                async def first(server):
                    await server.welcome(resume_ms=RESUME_MS)
                    await server.send(start(format="pcm_s16le", session="5e55"), Packet(0, 0, 0, 0, bytes(4)))
                    await said(server, moved(there))

                async with scripted(first) as here, listen(here, "alice", format="pcm_s16le") as listener:
                    assert [type(await anext(listener)) for _ in range(3)] == [StreamStart, Packet, StreamEnd]

    run(main())


@pytest.mark.parametrize("how", ["at once", "in the refusal"])
def test_servers_that_send_a_session_to_and_fro_are_followed_only_so_often(how):
    came = []

    async def main():
        addresses = []

        async def script(server):
            came.append(server)
            if len(came) == 1 or how == "at once":
                await server.welcome(resume_ms=RESUME_MS)
                await server.send(*([start(format="pcm_s16le", session="5e55")] if len(came) == 1 else []))
                await said(server, moved(addresses[len(came) % 2]))
            else:
                await server.receive()
                await said(server, Refuse(code="moved", reason="there", retry=True, go_to=addresses[len(came) % 2]))

        async with scripted(script) as here, scripted(script) as there:
            addresses += [here, there]
            async with listen(here, "alice", format="pcm_s16le") as listener:
                assert isinstance(await anext(listener), StreamStart)
                with pytest.raises(Refused) as caught:
                    await anext(listener)
            # Whoever tries again does so at the address that was given.
            assert (caught.value.code, caught.value.retry, caught.value.go_to) == ("moved", True, None)
        assert len(came) == 1 + MAX_HOPS

    run(main())


@pytest.mark.parametrize("go_to", [None, "ws://.:80", "ws://127.0.0.1:99999", "ws://[::1", "ws://u:p@127.0.0.1:1", "ws://127.0.0.1:1#a"])
def test_an_address_that_is_missing_or_cannot_be_used_leaves_the_session_where_it_was(go_to):
    async def main():
        lives = iter(range(2))

        async def script(server):
            await server.welcome(resume_ms=RESUME_MS)
            if next(lives) == 0:
                await server.send(start(format="pcm_s16le", session="5e55"))
                await said(server, moved(go_to))
            else:
                goes_on = start(format="pcm_s16le", session="5e55", start="continued")
                await server.send(goes_on, StreamEnd(next_seq=0))
                await server.ws.wait_closed()

        async with scripted(script) as url, listen(url, "alice", format="pcm_s16le") as listener:
            assert [type(await anext(listener)) for _ in range(2)] == [StreamStart, StreamEnd]
            assert listener.resumed == 1

    run(main())


@pytest.mark.parametrize("go_to", ["http://b.example", "b.example", "", 7, "ws://b.example/ a", "ws://" + "x" * 1001])
def test_an_address_that_is_none_breaks_the_rules(go_to):
    async def main():
        async def script(server):
            await server.welcome(resume_ms=RESUME_MS)
            await server.send_raw({"type": "error", "code": "moved", "reason": "", "go_to": go_to})
            await server.ws.wait_closed()

        async with scripted(script) as url, listen(url, "alice", format="pcm_s16le") as listener:
            with pytest.raises(RemoteProtocolError, match="go_to is"):
                await anext(listener)

    run(main())


def test_a_server_that_keeps_no_session_moves_none():
    async def main():
        async def script(server):
            await server.welcome(resume_ms=0)
            await said(server, moved("ws://127.0.0.1:1"))

        async with scripted(script) as url, listen(url, "alice", format="pcm_s16le") as listener:
            with pytest.raises(Refused) as caught:
                await anext(listener)
            # It begins anew there, as with any other code.
            assert (caught.value.code, caught.value.go_to) == ("moved", "ws://127.0.0.1:1")

    run(main())


# Servers that know the same streams --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["the server is gone", "the session has moved to where nobody is"])
def test_a_session_goes_on_at_the_first_alternate_that_answers_where_its_server_is_gone(how):
    servers, hellos = [], []

    async def main():
        async def second(server):
            servers.append(server)
            hellos.append(await server.welcome(session="5ec2e7", resume_ms=RESUME_MS, next_seq=2))
            await take_the_rest(server)

        with nobody() as dead:
            async with scripted(second) as there, contextlib.AsyncExitStack() as stack:
                gone = asyncio.Event()

                async def first(server):
                    servers.append(server)
                    await server.welcome(session="5ec2e7", resume_ms=RESUME_MS, alternates=(dead, there))
                    await packets(server, 3)
                    if how == "the server is gone":
                        server.ws.transport.abort()
                        gone.set()
                    else:
                        await said(server, moved(dead))

                async def script(server):
                    if not servers:
                        await first(server)
                    else:
                        await server.receive()
                        await said(server, Refuse(code="server_closing", reason="not now", retry=True))

                here = await stack.enter_async_context(scripted(script))
                async with publish(here, "alice", options("pcm_s16le")) as publisher:
                    for i in range(3):
                        await publisher.send(block(i, "pcm_s16le"))
                    if how == "the server is gone":
                        await gone.wait()
                        await stack.aclose()
                    await until(lambda: publisher.resumed)
                    for i in range(3, 8):
                        await publisher.send(block(i, "pcm_s16le"))
                    assert (await publisher.end()).received == 8
                assert (publisher.resumed, publisher.dropped_s) == (1, 0.0)
        assert hellos[0].resume.session == "5ec2e7"
        assert seqs(servers[-1]) == [2, 3, 4, 5, 6, 7]

    run(main())


def test_a_listener_goes_on_at_an_alternate_and_back_from_there():
    hellos = {}

    async def main():
        addresses = []

        async def script(server):
            hello = await server.receive()
            hellos.setdefault(len(hellos), hello)
            at = 0 if hello.resume is None else hello.resume.next_seq
            server.session.accept(welcome(hello, resume_ms=RESUME_MS, alternates=tuple(addresses)))
            kind = "primed" if at == 0 else "continued"
            await server.send(start(format="pcm_s16le", session="5e55", start=kind, first_seq=at, live_seq=at))
            await server.send(Packet(at, 0, 0, 0, bytes(4)))
            if at == 2:
                await server.send(StreamEnd(next_seq=3))
                await server.ws.wait_closed()
            server.ws.transport.abort()

        async with scripted(script) as here:
            addresses.append(here)
            async with listen(here, "alice", format="pcm_s16le") as listener:
                got = [await anext(listener) for _ in range(5)]
            assert [type(event) for event in got] == [StreamStart, Packet, Packet, Packet, StreamEnd]
            assert listener.resumed == 2

    run(main())


def test_a_session_that_is_over_begins_anew_at_the_server_that_says_so():
    notes = []

    async def main():
        async def second(server):
            hello = await server.receive()
            if hello.resume is not None:
                return await said(server, Refuse(code="unknown_session", reason="it is over", retry=False))
            server.session.accept(welcome(hello))
            await server.send(start(format="pcm_s16le", session="new"))
            await server.ws.wait_closed()
            return None

        async with scripted(second) as there, contextlib.AsyncExitStack() as stack:
            gone = asyncio.Event()

            async def first(server):
                await server.welcome(resume_ms=RESUME_MS, alternates=(there,))
                await server.send(start(format="pcm_s16le", session="old"))
                await gone.wait()
                server.ws.transport.abort()

            here = await stack.enter_async_context(scripted(first))
            to, heard = Destination(here), []

            async def attempt():
                async with listen(to.url, "alice", format="pcm_s16le") as listener:
                    heard.append((await anext(listener)).session)
                    if heard == ["old"]:
                        gone.set()
                        await stack.aclose()
                        await anext(listener)

            await keep_trying(attempt, destination=to, note=notes.append)
            assert heard == ["old", "new"] and to.url == there
        assert len(notes) == 1 and f"going on at {there}" in notes[0]

    run(main())


class Opened:
    """Stands for `open_connection`: answers of servers by address; who has none is not there."""

    def __init__(self, monkeypatch, **answers):
        self.tried, self._answers, self.now = [], answers, 0.0
        monkeypatch.setattr(reconnect, "open_connection", self)
        monkeypatch.setattr(reconnect, "time", self)
        monkeypatch.setattr(reconnect, "asyncio", self)

    async def __call__(self, url, hello, timeout_s, tls):  # noqa: ARG002
        self.tried.append(url)
        answers = self._answers.get(url.removeprefix("wss://").removeprefix("ws://"), [])
        answer = answers.pop(0) if answers else ConnectionFailed("nobody there")
        self.now += timeout_s if isinstance(answer, ConnectionFailed) and not isinstance(answer, Refused) else 0
        if isinstance(answer, Exception):
            raise answer
        return answer

    def monotonic(self):
        return self.now

    async def sleep(self, seconds):
        self.now += seconds


def route(url, *alternates, given=None):
    found = SessionRoute(given or url)
    found.reached(url, alternates)
    return found


LOST = "the connection was lost"


def resumed(found, lost=None, within_s=600.0):
    return asyncio.run(reconnect.reopen(found, lambda: HELLO, lost or ConnectionFailed(LOST), within_s))


def test_servers_are_tried_in_turn_within_the_time_that_the_session_is_kept(monkeypatch):
    opened = Opened(monkeypatch)
    with pytest.raises(ConnectionFailed, match=LOST):
        resumed(route("ws://a", "ws://b", "ws://c"), within_s=10.0)
    assert opened.tried[:6] == ["ws://a", "ws://b", "ws://c"] * 2
    assert opened.now < 11


def test_what_one_server_refuses_is_asked_of_the_next_one(monkeypatch):
    full = Refused("server_full", "no room", True, 5.0, "ws://elsewhere")
    no, broken = Refused("unauthorized", "no", False), RemoteProtocolError("bad_message", "rubbish")
    opened = Opened(
        monkeypatch, b=[full], c=[no], d=[broken], e=[UntrustedServerError("no certificate")], a=[ConnectionFailed("no"), "here"]
    )
    assert resumed(route("ws://a", "ws://b", "ws://c", "ws://d", "wss://e")) == "here"
    # Whoever says no for good is not asked again.
    assert opened.tried == ["ws://a", "ws://b", "ws://c", "ws://d", "wss://e", "ws://a"]


def test_the_server_of_a_session_that_sends_elsewhere_is_left_once_no_other_one_takes_it(monkeypatch):
    closing = Refused("server_closing", "closes", True, None, "ws://elsewhere")
    opened = Opened(monkeypatch, a=[closing])
    with pytest.raises(Refused) as caught:
        resumed(route("ws://a", "ws://b"))
    assert caught.value is closing and opened.tried == ["ws://a", "ws://b"]
    opened = Opened(monkeypatch, a=[closing], b=["here"])
    assert resumed(route("ws://a", "ws://b")) == "here"


@pytest.mark.parametrize(("says_so", "begins_anew_at"), [("a", None), ("b", "ws://b")])
def test_a_server_that_does_not_know_the_session_ends_the_search(monkeypatch, says_so, begins_anew_at):
    opened = Opened(monkeypatch, **{says_so: [Refused("unknown_session", "over", False)]})
    for lost in (ConnectionFailed(LOST), Refused("moved", "there", True, None, None)):
        with pytest.raises(ConnectionFailed) as caught:
            resumed(route("ws://a", "ws://b", "ws://c"), lost)
        assert caught.value is lost and lost.go_to == begins_anew_at
        assert opened.tried.pop() == f"ws://{says_so}"
        opened._answers[says_so] = [Refused("unknown_session", "over", False)]


def test_a_session_that_cannot_be_resumed_where_it_has_moved_goes_on_where_it_was_or_at_an_alternate(monkeypatch):
    lost = Refused("moved", "there", True, None, "ws://c")
    opened = Opened(monkeypatch, b=["here"])
    assert resumed(route("ws://a", "ws://b"), lost) == "here"
    assert opened.tried == ["ws://c", "ws://a", "ws://b"]
    opened = Opened(monkeypatch, c=[ConnectionFailed("not yet"), "here"])
    assert resumed(route("ws://a", given="ws://given"), lost) == "here"
    assert opened.tried == ["ws://c", "ws://a", "ws://c"]


# Where a token may go ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "go_to", "may"),
    [
        ("ws://a", "ws://b", True),
        ("ws://a", "wss://b:1/c?d=e", True),
        ("wss://a", "wss://[::1]:1", True),
        ("wss://a", "ws://a", False),
        ("wss://a", "ws://127.0.0.1", False),
        ("ws://a", "http://b", False),
        ("ws://a", "ws://", False),
        ("ws://a", "ws:///b", False),
        ("ws://a", "ws://:80", False),
        ("ws://a", "ws://b:0", False),
        ("ws://a", "ws://b:port", False),
        ("ws://a", "ws://b:65536", False),
        ("ws://a", "ws://[::1", False),
        ("ws://a", "ws://.", False),
        ("ws://a", "ws://user@b", False),
        ("ws://a", "ws://b#c", False),
    ],
)
def test_a_client_goes_on_to_addresses_that_it_can_use_and_never_to_where_others_could_read_its_token(at, go_to, may):
    assert may_follow(at, go_to) is may
    connection = Connection(None, ClientSession(HELLO), at)
    assert connection._go_to(SimpleNamespace(go_to=go_to)) == (go_to if may else None)
    assert (go_to in route(at, go_to).round()) is (may or at == go_to)


def test_neither_a_session_that_moves_nor_an_alternate_leaves_encryption(monkeypatch):
    opened = Opened(monkeypatch, c=[Refused("moved", "there", True, None, None), "here"])
    found = route("wss://a", "ws://b", "wss://c", given="ws://given")
    assert resumed(found) == "here"
    assert opened.tried == ["wss://a", "wss://c", "wss://a", "wss://c"]


def test_hops_are_counted_until_a_connection_has_lasted():
    found = route("ws://a")
    assert [found.follow("ws://b") for _ in range(MAX_HOPS + 1)] == [True] * MAX_HOPS + [False]
    found.reached("ws://b", ())
    assert not found.follow("ws://c")
    found.lasted()
    assert found.follow("ws://c")


def test_the_alternates_of_the_last_welcome_hold_and_no_address_is_tried_twice_a_round():
    found = route("ws://b", "ws://c", "ws://a", "ws://b", "ws://c", given="ws://a")
    assert found.round() == ["ws://b", "ws://c", "ws://a"]
    found.leave_out("ws://c")
    assert found.round() == ["ws://b", "ws://a"]
    found.reached("ws://a", ("ws://c",))
    assert found.round() == ["ws://a", "ws://c"]


# A server that goes on from an older state -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("known", "again"), [(True, [2, 3, 4]), (False, [5])])
def test_what_was_acknowledged_is_sent_again_to_a_server_that_does_not_have_it(known, again):
    servers = []

    async def main():
        go = asyncio.Event()

        async def second(server):
            servers.append(server)
            await server.welcome(session="5ec2e7", resume_ms=RESUME_MS, next_seq=2)
            await take_the_rest(server)

        async with scripted(second) as there:

            async def first(server):
                servers.append(server)
                await server.welcome(session="5ec2e7", resume_ms=RESUME_MS, alternates=(there,) if known else ())
                while not go.is_set():
                    message = await server.receive()
                    if isinstance(message, Ping):
                        await server.send(Pong(time=message.time, server_time=message.time))
                await said(server, moved(there))

            async with scripted(first) as here, publish(here, "alice", options("pcm_s16le")) as publisher:
                for i in range(5):
                    await publisher.send(block(i, "pcm_s16le"))
                queue, connection = publisher._uplink.queue, publisher._uplink.connection
                await until(lambda: not queue)
                await connection.ping()
                await until(lambda: not queue._sent)
                go.set()
                await connection.ping()
                await until(lambda: publisher.resumed)
                await publisher.send(block(5, "pcm_s16le"))
                await publisher.end()
        told = [message for message in servers[1].got if isinstance(message, (Packet, Gap))]
        if known:
            assert [message.seq for message in told] == [*again, 5]
        else:
            assert told[0] == Gap(first_seq=2, count=3, reason="uplink") and [message.seq for message in told[1:]] == again

    run(main())
