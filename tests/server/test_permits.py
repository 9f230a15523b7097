"""A session lives no longer than its grant: time, a narrower grant and a key that is gone end it, and what may be resumed is said."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from patience import TIMEOUT_S
from server_rig import OURS, is_clean, listen_hello, packet, publish_hello, raw, run, serving, small_limits, until

from streamcodec.errors import InputError, RemoteProtocolError, WireCode
from streamcodec.server import Grant, TokenKeys, Tokens
from streamcodec.server.auth import Access
from streamcodec.server.auth.credential import Basis, Credential
from streamcodec.server.auth.grant import NEVER
from streamcodec.server.auth.keys import LEEWAY_S
from streamcodec.server.auth.permits import MAX_NARROWED, MAX_NARROWED_AGAIN, Permit, Permits

NOW = 1_800_000_000.0
KEYS, OTHER = TokenKeys.generate("EdDSA"), TokenKeys.generate("HS256")


class Clock:
    now = NOW

    def __call__(self):
        return self.now


def session(permits, stack, credential, role="listen", stream="alice"):
    """A session that holds a permit; what ended it comes into the list."""
    ended = []
    return stack.enter_context(permits.holding(Permit(role, stream, credential, ended.append))), ended


def signed(keys=KEYS, expires=NOW + 60, role="listen", stream="alice", **grants):
    grant = Grant(**({"listen": ["*"]} | grants), expires=expires)
    return Access(keys=keys, clock=lambda: NOW).check(role, stream, keys.sign(grant))


def test_a_session_ends_when_a_hello_with_its_token_would_be_refused():
    clock = Clock()
    permits = Permits(clock)
    with contextlib.ExitStack() as stack:
        _, ended = session(permits, stack, signed(expires=NOW + 60))
        _, later = session(permits, stack, signed(expires=NOW + 600))
        clock.now = NOW + 60 + LEEWAY_S
        permits.look()
        assert ended == []
        clock.now += 1
        permits.look()
        permits.look()
        [why] = ended
        assert (why.code, why.reason, why.resumable) == (WireCode.UNAUTHORIZED, "the token has expired", True)
        assert later == []
        clock.now = NOW + 700
        permits.look()
        assert len(later) == 1
    assert len(permits) == 0


def test_who_has_shown_no_token_stays():
    clock = Clock()
    permits = Permits(clock)
    with contextlib.ExitStack() as stack:
        _, ended = session(permits, stack, Credential(Basis.OPEN))
        clock.now = NEVER
        permits.look()
        assert ended == []


def test_a_token_that_is_narrowed_ends_its_sessions_that_need_more_and_lets_no_new_one_in():
    permits = Permits(Clock())
    credential, another = signed(), signed(expires=NOW + 61)
    with contextlib.ExitStack() as stack:
        alice, ended = session(permits, stack, credential)
        _, stays = session(permits, stack, credential, stream="bob")
        _, untouched = session(permits, stack, another)
        permits.narrow(alice.credential, Grant(listen=["bob"], expires=NEVER))
        [why] = ended
        assert (why.code, why.resumable) == (WireCode.UNAUTHORIZED, False)
        assert stays == untouched == []
        permits.check("listen", "bob", credential)
        permits.check("listen", "alice", another)
        with pytest.raises(RemoteProtocolError, match="does not allow"):
            permits.check("listen", "alice", credential)
        permits.narrow(credential, Grant(listen=["*"], expires=NEVER))
        with pytest.raises(RemoteProtocolError, match="does not allow"):
            permits.check("listen", "alice", credential)


def test_a_narrower_time_ends_a_session_sooner():
    clock = Clock()
    permits = Permits(clock)
    with contextlib.ExitStack() as stack:
        permit, ended = session(permits, stack, signed(expires=NOW + 600))
        permits.narrow(permit.credential, Grant(listen=["*"], expires=NOW + 10))
        clock.now = NOW + 10
        permits.look()
        assert ended == []
        clock.now += 0.5
        permits.look()
        assert len(ended) == 1
        with pytest.raises(RemoteProtocolError, match="expired"):
            permits.check("listen", "alice", permit.credential)


def test_what_is_narrowed_is_bounded_and_never_forgotten_while_its_token_is_good():
    clock = Clock()
    permits = Permits(clock)
    nothing = Grant(expires=NEVER)
    with pytest.raises(InputError, match="no token that could be narrowed"):
        permits.narrow(Credential(Basis.OPEN), nothing)
    tokens = [Credential(Basis.SIGNED, Grant(listen=["*"], expires=NOW + 60), f"digest {i}") for i in range(MAX_NARROWED)]
    for one in tokens:
        permits.narrow(one, nothing)
    one_more = Credential(Basis.SIGNED, Grant(listen=["*"], expires=NOW + 600), "one more")
    with pytest.raises(InputError, match=f"{MAX_NARROWED} tokens are narrowed already"):
        permits.narrow(one_more, nothing)
    for _ in range(MAX_NARROWED_AGAIN - 1):
        permits.narrow(tokens[0], nothing)
    with pytest.raises(InputError, match=f"narrowed {MAX_NARROWED_AGAIN} times already"):
        permits.narrow(tokens[0], nothing)
    clock.now = NOW + 61
    permits.narrow(one_more, nothing)


@pytest.mark.parametrize(
    ("credential", "access", "why"),
    [
        (signed(), Access(keys=OTHER.before(KEYS)), None),
        (signed(), Access(keys=OTHER), "the key that has signed the token is not good any more"),
        (signed(), Access(), "the key that has signed the token is not good any more"),
        (Access(Tokens(listen=["a", "b"])).check("listen", "x", "a"), Access(Tokens(listen=["a"])), None),
        (Access(Tokens(listen=["a", "b"])).check("listen", "x", "b"), Access(Tokens(listen=["a"])), "the token is not good any more"),
        (Access(Tokens(listen=["a"])).check("listen", "x", "a"), Access(Tokens(publish=["a"])), "the token is not good any more"),
        (Credential(Basis.OPEN), Access(Tokens(publish=["a"])), None),
        (Credential(Basis.OPEN), Access(keys=KEYS), "a token is needed to listen from now on"),
        (Credential(Basis.ECHO), Access(keys=KEYS), None),
        (Credential(Basis.ASKED), Access(keys=KEYS, asks=True), None),
        (Credential(Basis.ASKED), Access(keys=KEYS), "the token is not good any more"),
    ],
)
def test_what_a_key_or_a_token_granted_that_is_gone_is_ended(credential, access, why):
    permits = Permits(Clock())
    with contextlib.ExitStack() as stack:
        _, ended = session(permits, stack, credential)
        permits.reload(access)
        assert [(one.reason, one.resumable) for one in ended] == ([] if why is None else [(why, False)])


def test_a_key_that_is_replaced_by_another_of_its_name_is_gone():
    [kid] = KEYS.ids
    impostor = TokenKeys([{**TokenKeys.generate("EdDSA")._keys[0], "kid": kid}])
    assert impostor.ids == KEYS.ids
    assert Access(keys=impostor).withdrawn("listen", signed()) is not None
    assert Access(keys=KEYS.public()).withdrawn("listen", signed()) is None


def test_a_publisher_whose_token_expires_goes_on_with_a_new_one_and_a_listener_hears_no_break():
    """What PROTOCOL.md says under Tokens: `unauthorized`, close code 4401, and a resume with another token."""

    async def main():
        async with serving(token_keys=KEYS, limits=small_limits(resume_s=TIMEOUT_S)) as server:
            clock = Clock()
            server.permits.clock = clock

            def token(expires, **grants):
                # Good by the real clock as well, which the hello is judged by.
                return KEYS.sign(Grant(**grants, expires=expires))

            clock.now = 4e9
            first = token(clock.now + 100, publish=["bad"])
            async with raw(server.url) as listener, raw(server.url) as publisher:
                await listener.send(listen_hello(format="codes", model=OURS, token=token(clock.now + 9999, listen=["bad"])))
                assert (await listener.receive())["type"] == "welcome"
                assert (await listener.receive())["type"] == "waiting"
                await publisher.send(publish_hello(token=first))
                session = (await publisher.receive())["session"]
                await publisher.send(packet(0))
                assert (await listener.receive())["type"] == "start"
                assert (await listener.receive())[0] == 0
                clock.now += 100 + LEEWAY_S + 1
                word, code = await publisher.last_word()
                assert (word["type"], word["code"], code) == ("error", "unauthorized", 4401)
                assert word["reason"] == "the token has expired"
                async with raw(server.url) as again:
                    resume = {"session": session, "epoch": 0, "next_seq": 1}
                    await again.send(publish_hello(token=first, resume=resume))
                    word, code = await again.last_word()
                    assert (word["type"], word["code"], code) == ("refuse", "unauthorized", 4401)
                async with raw(server.url) as again:
                    await again.send(publish_hello(token=token(clock.now + 100, publish=["bad"]), resume=resume))
                    assert (await again.receive())["next_seq"] == 1
                    await again.send(packet(1))
                    await again.send({"type": "end", "last_seq": 1})
                    assert (await again.receive())["type"] == "ended"
                assert (await listener.receive())[0] == 1
                assert (await listener.receive())["type"] == "stream_end"

    run(main())


def test_sessions_of_a_key_that_is_taken_away_end_and_cannot_be_resumed():
    async def main():
        async with serving(token_keys=KEYS.before(OTHER), limits=small_limits(resume_s=TIMEOUT_S)) as server:
            grants = {"publish": ["*"], "listen": ["*"], "expires": 4e9}
            async with raw(server.url) as old, raw(server.url) as new:
                await old.send(publish_hello(token=OTHER.sign(Grant(**grants))))
                await new.send(listen_hello(token=KEYS.sign(Grant(**grants))))
                assert (await old.receive())["type"] == (await new.receive())["type"] == "welcome"
                server.reload(Tokens(), KEYS)
                word, code = await old.last_word()
                assert (word["code"], word["reason"], code) == (
                    "unauthorized",
                    "the key that has signed the token is not good any more",
                    4401,
                )
                await until(lambda: not server.registry.streams)
                await new.send({"type": "ping", "time": 7})
                while (await new.receive())["type"] != "pong":
                    pass
                async with raw(server.url) as again:
                    await again.send(publish_hello(token=OTHER.sign(Grant(**grants))))
                    assert (await again.receive())["code"] == "unauthorized"
        await is_clean(server)

    run(main())


def test_a_key_that_is_taken_away_just_when_its_token_is_granted_ends_that_session_too(monkeypatch):
    async def main():
        async with serving(token_keys=KEYS.before(OTHER)) as server:
            admit = server._gate.admit

            async def then_reload(*hello):
                credential = await admit(*hello)
                asyncio.get_running_loop().call_soon(server.reload, Tokens(), KEYS)
                return credential

            monkeypatch.setattr(server._gate, "admit", then_reload)
            async with raw(server.url) as client:
                await client.send(listen_hello(token=OTHER.sign(Grant(listen=["*"], expires=4e9))))
                await client.receive()
                assert all(permit.ended for permit in server.permits._held)
                word, code = await client.last_word()
            assert (word["reason"], code) == ("the key that has signed the token is not good any more", 4401)
        await is_clean(server)

    run(main())
