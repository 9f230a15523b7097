"""The authentication URL lets in whom it grants something, for as long as it goes on granting it; whatever else it does lets nobody in."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import json
import logging
import ssl
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from patience import pass_time, run_patiently
from server_rig import figures, is_clean, listen_hello, publish_hello, raw, run, serving, small_limits, until

from streamcodec.errors import InputError, RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello
from streamcodec.server import Grant, Limits, Operations, TokenKeys, Tokens
from streamcodec.server.auth import Access, Permits
from streamcodec.server.auth.asking import ASK_WITHIN_S, MAX_ANSWER_BYTES, MAX_ASKED_AT_ONCE, AuthUrl, parse_answer
from streamcodec.server.auth.gatekeeper import MAX_ASKED_OF_ADDRESS, Gatekeeper
from streamcodec.server.auth.grant import NEVER
from streamcodec.server.rate import Rate
from streamcodec.server.refusals import Refusals

NOW = 1_800_000_000.0
URL = "https://auth.example/streamcodec"


def said(status, body):
    """An answer whose body comes when it is read, as over a network."""

    async def pieces():
        yield body

    return httpx2.Response(status, content=pieces())


class Door:
    """The program behind the URL: what it was asked, and what it says next."""

    def __init__(self, status=200, **answer):
        self.status, self.body = status, json.dumps(answer).encode()
        self.asked = []
        self.headers = []
        self.urls = []

    async def __call__(self, request):
        self.asked.append(json.loads(request.content))
        self.headers.append(request.headers)
        self.urls.append(str(request.url))
        if self.status == "broken":
            raise RuntimeError("a fault that nobody knows")
        return said(self.status, self.body)

    def says(self, status=200, **answer):
        self.status, self.body = status, json.dumps(answer).encode()

    def at(self, url=URL, **options):
        return AuthUrl(url, lambda: NOW, transport=httpx2.MockTransport(self), **options)


def ask(auth, role="listen", stream="alice", token="t0p-secret"):
    async def main():
        try:
            return await auth.ask(role, stream, token, "203.0.113.7")
        finally:
            await auth.close()

    return run_patiently(main())


def test_a_grant_lets_in_and_the_token_is_in_the_body_alone():
    door = Door(publish=["al*"], exp=NOW + 60, revalidate_s=30, sub="Alice", more="of something")
    credential = ask(door.at(bearer="it-is-me"), "publish")
    assert credential.grant == Grant(publish=["al*"], expires=NOW + 90, name="Alice")
    assert (credential.revalidate_s, credential.basis) == (30, "asked")
    assert door.asked == [{"role": "publish", "stream": "alice", "token": "t0p-secret", "address": "203.0.113.7"}]
    assert door.urls == [URL]
    assert door.headers[0]["Authorization"] == "Bearer it-is-me" and "t0p" not in str(door.headers[0])


def test_an_answer_without_a_time_holds_on():
    assert ask(Door(listen=["*"]).at()).grant.expires == NEVER


@pytest.mark.parametrize(
    ("door", "code"),
    [
        (Door(401), WireCode.UNAUTHORIZED),
        (Door(403, listen=["*"]), WireCode.UNAUTHORIZED),
        (Door(), WireCode.UNAUTHORIZED),
        (Door(listen=["bob"]), WireCode.UNAUTHORIZED),
        (Door(publish=["*"]), WireCode.UNAUTHORIZED),
        (Door(listen=["*"], exp=NOW - 31), WireCode.UNAUTHORIZED),
        (Door(500, listen=["*"]), WireCode.INTERNAL),
        (Door(302, listen=["*"]), WireCode.INTERNAL),
        (Door(204), WireCode.INTERNAL),
        (Door(201, listen=["*"]), WireCode.INTERNAL),
        (Door(listen="*"), WireCode.INTERNAL),
        (Door(listen=["a/b"]), WireCode.INTERNAL),
        (Door(listen=["*"], exp="tomorrow"), WireCode.INTERNAL),
        (Door(listen=["*"], revalidate_s=0), WireCode.INTERNAL),
        (Door(listen=["*"], revalidate_s=True), WireCode.INTERNAL),
        (Door(listen=["*"], padding="x" * MAX_ANSWER_BYTES), WireCode.INTERNAL),
    ],
)
def test_whatever_is_no_grant_lets_nobody_in_and_says_why_without_the_token(door, code, caplog):
    with pytest.raises(RemoteProtocolError) as caught:
        ask(door.at())
    assert caught.value.code is code
    assert "t0p-secret" not in caplog.text + str(caught.value)
    assert (code is WireCode.INTERNAL) == ("the authentication URL" in caplog.text)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"[" * 10_000, b"\xff", b'{"listen": {"*": 1}}', b'{"exp": 1e999}'])
def test_an_answer_that_makes_no_sense_is_an_error(body):
    with pytest.raises(InputError):
        parse_answer(body)


def test_an_answer_that_does_not_come_or_cannot_be_had_lets_nobody_in():
    async def silent(_):
        await asyncio.Event().wait()

    async def broken(_):
        raise httpx2.ConnectError("refused")

    async def main():
        slow, gone = (AuthUrl(URL, lambda: NOW, transport=httpx2.MockTransport(way)) for way in (silent, broken))
        asking = [asyncio.create_task(slow.ask("listen", "alice", None, "")) for _ in range(MAX_ASKED_AT_ONCE + 3)]
        await asyncio.sleep(0)
        await pass_time(ASK_WITHIN_S + 0.1)
        for one in await asyncio.gather(*asking, return_exceptions=True):
            assert isinstance(one, RemoteProtocolError) and one.code is WireCode.INTERNAL
        with pytest.raises(RemoteProtocolError) as caught:
            await gone.ask("listen", "alice", None, "")
        assert caught.value.code is WireCode.INTERNAL and caught.value.code.retry
        assert (slow.counts["failed"], gone.counts["failed"]) == (MAX_ASKED_AT_ONCE + 3, 1)

    run_patiently(main())


def test_only_so_many_are_asked_about_at_a_time():
    at_once, most = 0, 0
    go = asyncio.Event()

    async def counted(_):
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await go.wait()
        at_once -= 1
        return said(200, b'{"listen": ["*"]}')

    async def main():
        auth = AuthUrl(URL, lambda: NOW, transport=httpx2.MockTransport(counted))
        asking = [asyncio.create_task(auth.ask("listen", "alice", None, "")) for _ in range(3 * MAX_ASKED_AT_ONCE)]
        await until(lambda: at_once == MAX_ASKED_AT_ONCE)
        go.set()
        assert len(await asyncio.gather(*asking)) == 3 * MAX_ASKED_AT_ONCE

    run_patiently(main())
    assert most == MAX_ASKED_AT_ONCE


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://auth.example/", "expected https"),
        ("ftp://auth.example/", "expected https"),
        ("auth.example", "expected https"),
        ("https://", "expected https"),
        ("https://user:secret@auth.example/", "a name or a password"),
        ("https://auth.example:port/", "malformed"),
    ],
)
def test_a_url_that_keeps_no_secret_is_refused_at_the_start(url, why):
    with pytest.raises(InputError, match=why) as caught:
        AuthUrl(url, lambda: NOW)
    assert "secret@" not in str(caught.value)


@contextlib.asynccontextmanager
async def over_tls(tmp_path):
    """A grant of everything over TLS, by a certificate that nobody has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
    made = made.not_valid_before(begin).not_valid_after(begin + datetime.timedelta(days=9))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "both.pem").write_bytes(secret + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "both.pem")
    asked = []

    async def answer(reader, writer):
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 17\r\nConnection: close\r\n\r\n{"listen": ["*"]}')
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/", asked


def test_a_certificate_that_nobody_has_signed_is_not_asked(tmp_path):
    async def main():
        async with over_tls(tmp_path) as (url, asked):
            auth = AuthUrl(url, lambda: NOW)
            with pytest.raises(RemoteProtocolError) as caught:
                await auth.ask("listen", "alice", "t0p-secret", "")
            await auth.close()
            assert (caught.value.code, asked) == (WireCode.INTERNAL, [])

    run_patiently(main())


async def answer(server, hello):
    async with raw(server.url) as client:
        await client.send(hello)
        message = await client.receive()
    await is_clean(server)
    return message.get("code", message["type"])


def test_it_is_asked_about_tokens_that_this_server_does_not_know_and_others_go_on_beside_it(caplog):
    keys = TokenKeys.generate("EdDSA")
    door = Door(listen=["bad"])

    async def main():
        async with serving(operations=Operations(auth_url=door.at()), token_keys=keys, tokens=Tokens(publish=["shared"])) as server:
            assert await answer(server, listen_hello(token=keys.sign(Grant(listen=["*"], expires=4e9)))) == "welcome"
            assert await answer(server, listen_hello(token=keys.sign(Grant(listen=["*"], expires=1)))) == "unauthorized"
            assert await answer(server, publish_hello(token="shared")) == "welcome"
            assert door.asked == []
            assert await answer(server, listen_hello(token="of-the-url")) == "welcome"
            assert await answer(server, listen_hello()) == "welcome"
            assert await answer(server, publish_hello(token="of-the-url")) == "unauthorized"
            assert [one["token"] for one in door.asked] == ["of-the-url", None, "of-the-url"]
            door.says(500)
            assert await answer(server, listen_hello(token="of-the-url")) == "internal"
            seen = await figures(server)
            assert seen["auth_url_answers_total{outcome=granted}"] == 3
            assert seen["auth_url_answers_total{outcome=failed}"] == 1

    with caplog.at_level(logging.DEBUG, "streamcodec"):
        run(main(), errors_expected=True)
    assert "of-the-url" not in caplog.text


def test_one_address_does_not_take_all_turns():
    go = asyncio.Event()

    async def held(_):
        await go.wait()
        return said(200, b'{"listen": ["*"]}')

    async def main():
        auth = AuthUrl(URL, lambda: NOW, transport=httpx2.MockTransport(held))
        refusals = Refusals(lambda: 0.0)
        gate = Gatekeeper(Access(asks=True), Limits(), refusals, lambda: 0.0, Permits(lambda: NOW), auth)
        hello = ListenHello(stream="alice", format="pcm_s16le")
        many = [asyncio.create_task(gate.admit(hello, None, "203.0.113.7")) for _ in range(2 * MAX_ASKED_OF_ADDRESS)]
        other = asyncio.create_task(gate.admit(hello, None, "203.0.113.8"))
        await asyncio.sleep(0)
        go.set()
        outcomes = await asyncio.gather(*many, other, return_exceptions=True)
        refused = [one.code for one in outcomes if isinstance(one, RemoteProtocolError)]
        assert refused == [WireCode.RATE_LIMITED] * MAX_ASKED_OF_ADDRESS and not isinstance(outcomes[-1], Exception)
        assert (await gate.admit(hello, None, "203.0.113.7")).basis == "asked"
        assert not gate._asked

    run_patiently(main())


def test_what_it_grants_is_worth_nothing_where_nobody_asks_it_any_more():
    """The access may change while the answer is on its way."""

    async def main():
        async def then_changed(_):
            gate.access = Access(asks=False)
            return said(200, b'{"listen": ["*"]}')

        auth = AuthUrl(URL, lambda: NOW, transport=httpx2.MockTransport(then_changed))
        gate = Gatekeeper(Access(asks=True), Limits(), Refusals(lambda: 0.0), lambda: 0.0, Permits(lambda: NOW), auth)
        with pytest.raises(RemoteProtocolError, match="the token is not good any more"):
            await gate.admit(ListenHello(stream="alice", format="pcm_s16le", token="of-the-url"), None, "203.0.113.7")
        await auth.close()

    run_patiently(main())


def test_guesses_do_not_reach_it_for_ever():
    door = Door(403)

    async def main():
        async with serving(
            operations=Operations(auth_url=door.at()), limits=small_limits(bound_loopback=True, refused_tokens=Rate(1e-6, 3))
        ) as server:
            codes = [await answer(server, listen_hello(token=f"guess-{i}")) for i in range(6)]
            assert codes == ["unauthorized"] * 3 + ["rate_limited"] * 3
            assert len(door.asked) == 3

    run(main())


class PassingTime:
    """The server's clocks, moved on by hand until the URL is asked again."""

    def __init__(self, server: Any, door: Any) -> None:
        self._door = door
        self._clock_s = 0.0
        server.permits.clock = lambda: NOW + self._clock_s

    async def until_asked(self, step_s: float, enough: Callable[[], bool] = lambda: False) -> None:
        """Let `step_s` pass, and wait until the URL is asked, or it is `enough`."""
        asked = len(self._door.asked)
        self._clock_s += step_s
        await pass_time(step_s)
        await until(lambda: len(self._door.asked) > asked or enough())


@pytest.mark.parametrize(
    ("later", "code", "why"),
    [
        ({"status": 403}, WireCode.UNAUTHORIZED, "does not allow"),
        ({"listen": ["other"]}, WireCode.UNAUTHORIZED, "does not allow"),
        ({"listen": ["*"], "exp": 1}, WireCode.UNAUTHORIZED, "grants nothing any more"),
        ({"status": 500}, WireCode.INTERNAL, "could not find out"),
        ({"status": "broken"}, WireCode.INTERNAL, "could not find out"),
    ],
)
def test_a_session_ends_where_the_url_does_not_go_on_granting_it(later, code, why):
    door = Door(listen=["*"], revalidate_s=60)

    async def main():
        async with serving(operations=Operations(auth_url=door.at())) as server:
            time_passes = PassingTime(server, door)
            async with raw(server.url) as client:
                await client.send(listen_hello(token="t"))
                assert (await client.receive())["type"] == "welcome"
                assert (await client.receive())["type"] == "waiting"
                for _ in range(2):
                    await time_passes.until_asked(61)
                door.says(**later)
                reading = asyncio.create_task(client.last_word())
                while not reading.done():
                    await time_passes.until_asked(61, reading.done)
                word, closed = await reading
                assert (word["type"], word["code"], closed) == ("error", code, code.close_code)
                assert why in word["reason"]
            assert {one["token"] for one in door.asked} == {"t"}

    run(main(), errors_expected=True)


def test_a_url_that_fails_for_a_moment_ends_no_session():
    door = Door(listen=["*"], revalidate_s=60)

    async def main():
        async with serving(operations=Operations(auth_url=door.at())) as server:
            time_passes = PassingTime(server, door)
            async with raw(server.url) as client:
                await client.send(listen_hello(token="t"))
                assert (await client.receive())["type"] == "welcome"
                for status, step_s in ((500, 61), (500, 6), (200, 6), (500, 61), (200, 6)):
                    door.says(status, listen=["*"], revalidate_s=60)
                    await time_passes.until_asked(step_s)
                await client.send({"type": "ping", "time": 7})
                assert {(await client.receive())["type"] for _ in range(2)} == {"waiting", "pong"}

    run(main(), errors_expected=True)
