"""Whoever runs the server sees and ends what runs on it, by the admin token alone, and nobody guesses that."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from patience import pass_time
from server_rig import OURS, listen_hello, packet, publish_hello, raw, run, serving, small_limits, until

from streamcodec.errors import InputError
from streamcodec.server import Grant, Operations, TokenKeys
from streamcodec.server.admin import ADMIN_GUESSES, MIN_TOKEN
from streamcodec.server.totals import RecentPackets

ADMIN = "an-admin-token-of-32-characters!"
KEYS = TokenKeys.generate("EdDSA")
ROUTES = [
    ("GET", "/admin/streams"),
    ("GET", "/admin/listeners"),
    ("POST", "/admin/streams/a/end"),
    ("POST", "/admin/sessions/0/end"),
    ("POST", "/admin/sessions/0/grant"),
    ("POST", "/admin/drain"),
]


async def ask(server, method, path, body=None, token=ADMIN):
    """Status and JSON of the answer of the private port."""
    reader, writer = await asyncio.open_connection(server.private.host, server.private.port)
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    bearer = "" if token is None else f"Authorization: Bearer {token}\r\n"
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.private.port}\r\nContent-Length: {len(data)}\r\n{bearer}\r\n"
    writer.write(head.encode("latin-1") + data)
    head, _, answer = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), json.loads(answer) if "application/json" in head else answer


def administered(**options):
    return serving(private_port=0, operations=Operations(admin_token=ADMIN), **options)


@pytest.mark.parametrize("token", ["", "short", "x" * (MIN_TOKEN - 1), "ünter-tausend-zeichen", "two words in a row!!", "a" * 20 + "\n"])
def test_an_admin_token_that_can_be_guessed_or_not_be_sent_is_refused(token):
    with pytest.raises(InputError, match=f"expected {MIN_TOKEN} letters") as caught:
        Operations(admin_token=token)
    assert len(token) < 6 or token not in str(caught.value)


def test_nobody_acts_without_the_token_and_who_guesses_has_to_wait():
    async def main():
        async with administered() as server, serving(private_port=0) as closed:
            for method, path in ROUTES:
                assert (await ask(closed, method, path))[0] == 404
            wrong = [None, "", ADMIN[:-1], ADMIN + "x", "\xff" * 20]
            assert len(wrong) == ADMIN_GUESSES.burst
            for (method, path), token in zip(ROUTES[1:], wrong, strict=True):
                status, answer = await ask(server, method, path, token=token)
                assert status == 401 and "Authorization" in answer["error"]
            assert (await ask(server, "GET", "/admin/streams"))[0] == 429, "a right guess tells nothing meanwhile"
            assert server.refusals.counts["admin_tokens"] == 1
            await pass_time(1 / ADMIN_GUESSES.per_s)
            assert await ask(server, "GET", "/admin/streams") == (200, {"streams": []})
            assert not server.draining.begun

    run(main())


def test_nobody_acts_on_the_public_port():
    async def main():
        async with administered() as server:
            private, server.private = server.private, type("Public", (), {"host": server.host, "port": server.port})
            for method, path in ROUTES:
                assert (await ask(server, method, path))[0] in (400, 426)
            server.private = private
            assert not server.draining.begun

    run(main())


def test_streams_and_listeners_are_shown():
    async def main():
        async with administered(token_keys=KEYS) as server:
            token = KEYS.sign(Grant(publish=["*"], listen=["*"], expires=4e9, name="Al\x1b[31mice\n"))
            async with raw(server.url) as publisher, raw(server.url) as listener, raw(server.url) as waiting:
                await publisher.send(publish_hello("here", token=token))
                await publisher.receive()
                await listener.send(listen_hello("here", format="codes", model=OURS, bandwidth=3.0, token=token))
                await waiting.send(listen_hello("nowhere", token=token))
                assert [(await listener.receive())["type"] for _ in range(2)] == ["welcome", "start"]
                assert [(await waiting.receive())["type"] for _ in range(2)] == ["welcome", "waiting"]
                for seq in range(3):
                    await publisher.send(packet(seq))
                    assert (await listener.receive())[0] == seq
                await listener.send({"type": "report", "received": 3, "late_ms": 21, "margin_ms": 40})
                await until(lambda: any(s.in_flight.report for group in server.registry.listeners.values() for s in group))
                status, answer = await ask(server, "GET", "/admin/streams")
                [stream] = answer["streams"]
                assert status == 200
                assert (stream["stream"], stream["packets"], stream["dropped"], stream["listeners"]) == ("here", 3, 0, 1)
                assert stream["address"].startswith("127.0.0.1:") and stream["holder"] == "Al\x1b[31mice\n"
                assert (stream["bandwidth_kbps"], stream["sent_kbps"], stream["recorded"]) == (6.0, 6.0, False)
                assert 0 <= stream["late_ms"]["p50"] <= stream["late_ms"]["p95"]
                _, answer = await ask(server, "GET", "/admin/listeners")
                here, nowhere = answer["listeners"]
                assert (here["stream"], here["bandwidth_kbps"], here["jitter_ms"], here["margin_ms"]) == ("here", 3.0, 21, 40)
                assert (here["lag_ms"], here["waits"], nowhere["waits"], nowhere["bandwidth_kbps"]) == (0, False, True, None)
                assert len({one["session"] for one in (stream, here, nowhere)}) == 3

    run(main())


def test_a_session_is_ended_and_one_whose_token_is_barred_does_not_come_back():
    async def main():
        async with administered(token_keys=KEYS, limits=small_limits(resume_s=600)) as server, contextlib.AsyncExitStack() as stack:
            token = KEYS.sign(Grant(publish=["*"], listen=["*"], expires=4e9))

            async def listener():
                client = await stack.enter_async_context(raw(server.url))
                await client.send(listen_hello(token=token))
                assert (await client.receive())["type"] == "welcome"
                _, answer = await ask(server, "GET", "/admin/listeners")
                return client, answer["listeners"][-1]["session"]

            client, session = await listener()
            assert await ask(server, "POST", f"/admin/sessions/{session}/end") == (200, {"done": True})
            word, code = await client.last_word()
            assert (word["code"], word["reason"], code) == ("unauthorized", "the operator ended it", 4401)
            assert (await ask(server, "POST", f"/admin/sessions/{session}/end"))[0] == 404
            client, session = await listener()
            beside, _ = await listener()
            assert await ask(server, "POST", f"/admin/sessions/{session}/end", {"bar": True}) == (200, {"done": True})
            for one in (client, beside):
                assert (await one.last_word())[0]["code"] == "unauthorized"
            async with raw(server.url) as again:
                await again.send(listen_hello(token=token))
                assert (await again.receive())["code"] == "unauthorized"

    run(main())


def test_a_stream_is_ended_for_its_publisher_and_its_listeners():
    async def main():
        limits = small_limits(resume_s=600)
        async with administered(limits=limits) as server, raw(server.url) as publisher, raw(server.url) as listener:
            await publisher.send(publish_hello("here"))
            await publisher.receive()
            await listener.send(listen_hello("here", format="codes", model=OURS))
            assert [(await listener.receive())["type"] for _ in range(2)] == ["welcome", "start"]
            assert await ask(server, "POST", "/admin/streams/here/end") == (200, {"done": True})
            word, code = await publisher.last_word()
            assert (word["code"], word["reason"], code) == ("unauthorized", "the operator ended it", 4401)
            end = await listener.receive()
            assert (end["type"], end["reason"]) == ("stream_end", "the operator ended it")
            assert await ask(server, "POST", "/admin/streams/here/end") == (404, {"error": "there is no stream 'here'"})
            await listener.ws.close()

    run(main())


def test_a_grant_is_narrowed_and_nonsense_changes_nothing():
    async def main():
        async with administered(token_keys=KEYS) as server, raw(server.url) as client:
            await client.send(listen_hello("here", token=KEYS.sign(Grant(listen=["*"], expires=4e9))))
            assert (await client.receive())["type"] == "welcome"
            _, answer = await ask(server, "GET", "/admin/listeners")
            path = f"/admin/sessions/{answer['listeners'][0]['session']}/grant"
            for body in (b"{", b"[]", b"7", b"[" * 8000, {"listens": ["*"]}, {"listen": "*"}, {"listen": ["a/b"]}, {"exp": "now"}):
                status, answer = await ask(server, "POST", path, body)
                assert status == 400 and answer["error"], body
            assert await ask(server, "POST", path, {"listen": ["here"]}) == (200, {"done": True})
            await client.send({"type": "ping", "time": 7})
            assert {(await client.receive())["type"] for _ in range(2)} == {"waiting", "pong"}
            assert (await ask(server, "POST", path, {"listen": ["there"]}))[0] == 200
            word, code = await client.last_word()
            assert (word["code"], code) == ("unauthorized", 4401)
        async with administered() as server, raw(server.url) as client:
            await client.send(listen_hello("here"))
            assert (await client.receive())["type"] == "welcome"
            _, answer = await ask(server, "GET", "/admin/listeners")
            status, answer = await ask(server, "POST", f"/admin/sessions/{answer['listeners'][0]['session']}/grant", {})
            assert status == 400 and "no token that could be narrowed" in answer["error"]

    run(main())


def test_a_server_is_drained():
    async def main():
        async with administered() as server:
            for body in ({"seconds": -1}, {"seconds": "5"}, {"to": "http://b.example"}, {"now": True}):
                assert (await ask(server, "POST", "/admin/drain", body))[0] == 400
                assert not server.draining.begun
            assert await ask(server, "POST", "/admin/drain", {"seconds": 300, "to": "wss://b.example"}) == (200, {"done": True})
            assert server.draining.go_to == "wss://b.example"
            assert await server.until_over() is None

    run(main())


def test_what_is_told_of_recent_packets_is_what_they_were():
    recent = RecentPackets()
    assert (recent.kbps, recent.late_ms, recent.at) == (None, None, None)
    for late_ms in range(100):
        recent.note(late_ms, 60, 0.08, late_ms)
    assert (recent.kbps, recent.late_ms, recent.at) == (6.0, {"p50": 50, "p95": 95}, 99)
    for _ in range(128):
        recent.note(1000, 15, 0.08, 0.25)
    assert (recent.kbps, recent.late_ms) == (1.5, {"p50": 0.2, "p95": 0.2})
