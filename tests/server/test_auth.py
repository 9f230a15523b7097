"""Shared tokens open roles, each its own; signed ones open streams by name, for a while; and who guesses has to wait."""

from __future__ import annotations

import asyncio
import base64
import json
import logging

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_rig import figures, is_clean, listen_hello, publish_hello, raw, run, serving, small_limits, tiny_codec

from streamcodec.errors import InputError, RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello, PublishHello
from streamcodec.server import Grant, Server, TokenKeys, Tokens
from streamcodec.server.auth import Access, Permits
from streamcodec.server.auth.gatekeeper import Gatekeeper, bearer_of
from streamcodec.server.auth.keys import unproved
from streamcodec.server.limits import Limits
from streamcodec.server.rate import Rate
from streamcodec.server.refusals import Refusals

NOW = 1_800_000_000.0
KEYS = TokenKeys.generate("EdDSA")


def token(publish=(), listen=(), *, expires=NOW + 60, keys=KEYS, **claims):
    return keys.sign(Grant(publish=publish, listen=listen, expires=expires, **claims))


@pytest.mark.parametrize("given_token", [None, "", "anything"])
@pytest.mark.parametrize("role", ["publish", "listen"])
def test_a_role_without_tokens_is_open_to_everybody(role, given_token):
    Access().check(role, "alice", given_token)
    assert Access().open_roles == ["publish", "listen"]


@pytest.mark.parametrize("given_token", [None, "", "wrong", "s3cre", "s3crets", "hear-me"])
def test_a_role_with_tokens_is_closed_to_everybody_else(given_token):
    tokens = Tokens(publish=["s3cret", "other"], listen=["hear-me"])
    assert not tokens.allows("publish", given_token)
    with pytest.raises(RemoteProtocolError) as caught:
        Access(tokens).check("publish", "alice", given_token)
    assert caught.value.code == WireCode.UNAUTHORIZED


def test_each_of_several_tokens_opens_its_role_and_no_other():
    tokens = Tokens(publish=["first", "sécond"], listen=["third"])
    assert tokens.allows("publish", "first")
    assert tokens.allows("publish", "sécond")
    assert tokens.allows("listen", "third")
    assert not tokens.allows("listen", "first")


def test_guarding_one_role_leaves_the_other_open():
    access = Access(Tokens(publish=["first"]))
    access.check("listen", "alice", None)
    assert access.open_roles == ["listen"]


def test_keys_close_both_roles_and_shared_tokens_go_on_beside_them():
    access = Access(Tokens(publish=["shared"]), KEYS, clock=lambda: NOW)
    assert access.open_roles == []
    access.check("publish", "alice", "shared")
    access.check("listen", "alice", token(listen=["alice"]))
    for role in ("publish", "listen"):
        with pytest.raises(RemoteProtocolError, match=f"a token is needed to {role}"):
            access.check(role, "alice", None)


@pytest.mark.parametrize(
    ("grants", "role", "stream", "allowed"),
    [
        ({"publish": ["alice"]}, "publish", "alice", True),
        ({"publish": ["alice"]}, "publish", "bob", False),
        ({"publish": ["alice"]}, "publish", "alice2", False),
        ({"publish": ["alice"]}, "listen", "alice", False),
        ({"listen": ["room.*"]}, "listen", "room.7", True),
        ({"listen": ["room.*"]}, "listen", "room.", True),
        ({"listen": ["room.*"]}, "listen", "roomX7", False),
        ({"listen": ["*"]}, "listen", "anything", True),
        ({"listen": ["*"]}, "publish", "anything", False),
        ({"listen": ["a*z", "b"]}, "listen", "a-to-z", True),
        ({"listen": ["a*z", "b"]}, "listen", "a-to-y", False),
        ({}, "listen", "alice", False),
    ],
)
@pytest.mark.parametrize("algorithm", ["EdDSA", "HS256"])
def test_a_signed_token_opens_the_streams_that_its_patterns_name(algorithm, grants, role, stream, allowed):
    keys = TokenKeys.generate(algorithm)
    access = Access(keys=keys, clock=lambda: NOW)
    signed = token(**grants, keys=keys)
    if allowed:
        access.check(role, stream, signed)
    else:
        with pytest.raises(RemoteProtocolError, match="the token does not allow to"):
            access.check(role, stream, signed)


@pytest.mark.parametrize(
    ("now", "why"),
    [(NOW - 31, "not good for another"), (NOW - 29, None), (NOW + 60, None), (NOW + 89, None), (NOW + 91, "expired 31 s ago")],
)
def test_a_token_is_good_from_its_beginning_to_its_end_and_clocks_may_differ(now, why):
    access = Access(keys=KEYS, clock=lambda: now)
    signed = token(listen=["*"], not_before=NOW)
    if why is None:
        access.check("listen", "alice", signed)
    else:
        with pytest.raises(RemoteProtocolError, match=why):
            access.check("listen", "alice", signed)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def gate(**limits):
    clock = Clock()
    access = Access(Tokens(publish=["s3cret"]), KEYS, clock=lambda: NOW)
    refusals = Refusals(clock)
    return Gatekeeper(access, Limits(**limits), refusals, clock, Permits(lambda: NOW)), clock, refusals


def publishing(shown):
    return PublishHello(stream="alice", format="codes", model="f00d", token=shown)


def code_of(keeper, hello, address="203.0.113.7", bearer=None):
    try:
        asyncio.run(keeper.admit(hello, bearer, address))
    except RemoteProtocolError as exc:
        return exc.code
    return None


def test_an_address_that_shows_wrong_tokens_has_to_wait_and_others_do_not():
    keeper, clock, refusals = gate()
    assert [code_of(keeper, publishing("wrong")) for _ in range(12)] == [WireCode.UNAUTHORIZED] * 10 + [WireCode.RATE_LIMITED] * 2
    assert refusals.counts["tokens"] == 2
    assert code_of(keeper, publishing("s3cret")) == WireCode.RATE_LIMITED, "a right guess tells nothing meanwhile"
    assert code_of(keeper, publishing("s3cret"), "203.0.113.8") is None
    clock.now += 5
    assert code_of(keeper, publishing("s3cret")) is None
    assert [code_of(keeper, publishing("wrong")) for _ in range(2)] == [WireCode.UNAUTHORIZED, WireCode.RATE_LIMITED]


def test_who_has_to_wait_is_told_how_long():
    keeper, clock, _ = gate(refused_tokens=Rate(0.1, 1))
    code_of(keeper, publishing("wrong"))
    clock.now += 4
    with pytest.raises(RemoteProtocolError) as caught:
        asyncio.run(keeper.admit(publishing("wrong"), None, "203.0.113.7"))
    assert caught.value.retry_after_ms == 6000


def test_no_token_is_no_guess():
    keeper, *_ = gate()
    assert {code_of(keeper, publishing(None)) for _ in range(50)} == {WireCode.UNAUTHORIZED}
    assert code_of(keeper, publishing("s3cret")) is None


def test_one_network_of_ipv6_is_one_guesser():
    keeper, *_ = gate()
    for i in range(10):
        code_of(keeper, publishing("wrong"), f"2001:db8::{i:x}")
    assert code_of(keeper, publishing("wrong"), "2001:db8::ffff") == WireCode.RATE_LIMITED
    assert code_of(keeper, publishing("wrong"), "2001:db8:0:1::1") == WireCode.UNAUTHORIZED
    assert code_of(keeper, publishing("s3cret"), "::ffff:203.0.113.9") is None


def test_loopback_is_bounded_where_that_is_asked_for_only():
    for bound, code in ((False, WireCode.UNAUTHORIZED), (True, WireCode.RATE_LIMITED)):
        keeper, *_ = gate(bound_loopback=bound)
        assert [code_of(keeper, publishing("wrong"), "127.0.0.1") for _ in range(20)][-1] == code


def test_a_token_may_come_in_a_header_and_that_of_the_hello_comes_first():
    keeper, *_ = gate()
    assert code_of(keeper, publishing(None), bearer="s3cret") is None
    assert code_of(keeper, publishing("wrong"), bearer="s3cret") == WireCode.UNAUTHORIZED
    assert code_of(keeper, publishing("s3cret"), bearer="wrong") is None
    assert code_of(keeper, ListenHello(stream="alice", format="pcm_s16le"), bearer=token(listen=["al*"])) is None


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        (["Bearer abc"], "abc"),
        (["bearer  abc "], "abc"),
        (["Basic abc"], None),
        (["abc"], None),
        (["Bearer"], ""),
        ([], None),
        (["Bearer abc", "Bearer def"], None),
    ],
)
def test_a_bearer_is_read_from_one_header(headers, found):
    assert bearer_of(headers) == found


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.168.1.7", "voice.example.org"])
@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "could publish and listen"),
        ({"tokens": Tokens(publish=["x"])}, "could listen"),
        ({"tokens": Tokens(listen=["x"])}, "could publish"),
    ],
)
def test_others_do_not_reach_a_server_that_asks_for_nothing(host, options, told):
    with pytest.raises(InputError, match=f"{told} without a token"):
        Server(tiny_codec(), host, **options)
    Server(tiny_codec(), host, **options, insecure=True)


@pytest.mark.parametrize("options", [{"token_keys": KEYS}, {"tokens": Tokens(publish=["x"], listen=["y"])}])
def test_others_reach_a_server_that_asks_for_tokens(options):
    Server(tiny_codec(), "0.0.0.0", **options)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_needs_no_tokens(host):
    Server(tiny_codec(), host)


async def answer(server, hello, **options):
    async with raw(server.url + options.pop("path", ""), **options) as client:
        await client.send(hello)
        message = await client.receive()
    await is_clean(server)
    return message.get("code", message["type"]), message.get("reason", "")


def test_nobody_gets_in_without_a_token_that_is_good_for_what_they_ask(caplog):
    other = TokenKeys.generate("EdDSA")
    good = token(listen=["bad"], expires=NOW * 2)
    shown = {
        "none": None,
        "empty": "",
        "wrong": "wrong-secret-of-mine",
        "expired": token(listen=["*"], expires=1000),
        "another stream's": token(listen=["other"], expires=NOW * 2),
        "another role's": token(publish=["*"], expires=NOW * 2),
        "another server's": token(listen=["*"], keys=other, expires=NOW * 2),
        "cut": good[:-5],
        "unsigned": f"{'.'.join(good.split('.')[:2])}.",
    }
    malformed = {"a number": 1234567, "too long": "secret-" * 1000, "a list": ["secret-in-a-list"]}

    async def main():
        async with serving(token_keys=KEYS, limits=small_limits(refused_tokens=Rate(1, 1000))) as server:
            for what, one in shown.items():
                assert (await answer(server, listen_hello(token=one)))[0] == "unauthorized", what
                if one:
                    header = {"Authorization": f"Bearer {one}"}
                    assert (await answer(server, listen_hello(), additional_headers=header))[0] == "unauthorized", what
            for what, one in malformed.items():
                code, reason = await answer(server, listen_hello(token=one))
                assert code == "bad_request" and "secret" not in reason and "1234567" not in reason, what
            assert (await answer(server, listen_hello(), path=f"/?token={good}"))[0] == "unauthorized"
            assert (await answer(server, listen_hello(token=good)))[0] == "welcome"
            assert (await answer(server, listen_hello(), additional_headers={"Authorization": f"Bearer {good}"}))[0] == "welcome"
            assert (await answer(server, publish_hello(token=good)))[0] == "unauthorized"

    with caplog.at_level(logging.DEBUG, "streamcodec"):
        run(main())
    said = caplog.text
    for secret in (*filter(None, shown.values()), "secret", "1234567"):
        assert secret not in said
    assert "unauthorized" in said


def test_guesses_are_throttled_and_told_once(caplog):
    async def main():
        limits = small_limits(bound_loopback=True, refused_tokens=Rate(1e-6, 3))
        async with serving(tokens=Tokens(listen=["s3cret"]), limits=limits) as server:
            codes = [(await answer(server, listen_hello(token=f"guess-{i}")))[0] for i in range(8)]
            assert codes == ["unauthorized"] * 3 + ["rate_limited"] * 5
            assert (await figures(server))["connections_limited_total{limit=tokens}"] == 5

    with caplog.at_level(logging.INFO, "streamcodec"):
        run(main())
    assert caplog.text.count("too many tokens from this address were refused") == 1


def test_keys_that_are_read_again_are_the_same_and_two_are_good_at_once():
    old, new = TokenKeys.generate("EdDSA"), TokenKeys.generate("HS256")
    both = TokenKeys.parse(new.before(old).serialize())
    for keys in (old, new, both):
        assert both.prove(token(listen=["*"], keys=keys), lambda: NOW).allows("listen", "x")
    assert both.ids == [*new.ids, *old.ids]
    with pytest.raises(InputError, match="no key of this server"):
        new.prove(token(listen=["*"], keys=old), lambda: NOW)


def test_a_public_half_proves_and_does_not_sign():
    public = TokenKeys.parse(KEYS.public().serialize())
    assert '"d"' not in public.serialize()
    assert public.prove(token(publish=["a"]), lambda: NOW).allows("publish", "a")
    with pytest.raises(InputError, match="sign none"):
        public.sign(Grant(listen=["*"], expires=NOW))
    with pytest.raises(InputError, match="secret that proves and signs"):
        TokenKeys.generate("HS256").public()


def test_a_public_key_is_no_secret_to_sign_with():
    """The classic attack: a token by HS256 whose secret is the server's public key."""
    [public] = json.loads(KEYS.public().serialize())["keys"]
    for secret in (public["x"].encode(), base64.urlsafe_b64decode(public["x"] + "=")):
        forged = jwt.encode({"exp": NOW + 60, "listen": ["*"]}, secret, algorithm="HS256", headers={"kid": public["kid"]})
        with pytest.raises(InputError, match="no key of this server"):
            KEYS.prove(forged, lambda: NOW)
    unsigned = jwt.encode({"exp": NOW + 60, "listen": ["*"]}, None, algorithm="none", headers={"kid": public["kid"]})
    with pytest.raises(InputError, match="no key of this server"):
        KEYS.prove(unsigned, lambda: NOW)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"listen": ["*"]}, "lacks an 'exp'"),
        ({"exp": "soon", "listen": ["*"]}, "exp is 'soon', expected seconds since 1970"),
        ({"exp": -5}, "exp is -5"),
        ({"exp": 1e300}, "exp is"),
        ({"exp": NOW, "listen": "*"}, "listen is '\\*', expected at most 64 patterns"),
        ({"exp": NOW, "listen": ["a"] * 65}, "expected at most 64 patterns"),
        ({"exp": NOW, "listen": ["a/b"]}, "listen has the pattern 'a/b'"),
        ({"exp": NOW, "publish": [7]}, "publish has the pattern 7"),
        ({"exp": NOW, "publish": ["[a-z]"]}, "publish has the pattern"),
        ({"exp": NOW, "name": 1, "sub": "x" * 201}, "sub is"),
        ({"exp": NOW, "nbf": None}, "nbf is None"),
    ],
)
def test_claims_that_make_no_sense_are_refused_even_where_they_are_signed(claims, why):
    keys = TokenKeys.generate("HS256")
    [key] = json.loads(keys.serialize())["keys"]
    signed = jwt.encode(claims, jwt.PyJWK(key), algorithm="HS256", headers={"kid": key["kid"]})
    with pytest.raises(InputError, match=why):
        keys.prove(signed, lambda: NOW)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON Web Key Set"),
        ("[]", "no JSON Web Key Set"),
        ('{"keys": {}}', "no JSON Web Key Set"),
        ('{"keys": [1]}', "no JSON Web Key Set"),
        ('{"keys": []}', "there are 0 keys"),
        ('{"keys": [{"kty": "RSA", "kid": "a"}]}', "key 1 is of another kind"),
        ('{"keys": [{"kty": "OKP", "crv": "X25519", "x": "AA", "kid": "a"}]}', "key 1 is of another kind"),
        ('{"keys": [{"kty": "oct", "alg": "HS512", "k": "AA", "kid": "a"}]}', "key 1 is of another kind"),
        ('{"keys": [{"kty": "oct", "k": "c2hvcnQ", "kid": "a"}]}', "key 1 is too short, expected 32 bytes"),
        ('{"keys": [{"kty": "oct", "k": 7, "kid": "a"}]}', "key 1 is damaged"),
        ('{"keys": [{"kty": "oct", "kid": "a"}]}', "key 1 is damaged"),
        ('{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AA", "kid": "a"}]}', "key 1 is damaged"),
        (f'{{"keys": [{{"kty": "oct", "k": "{"A" * 44}"}}]}}', "needs a 'kid' of its own"),
    ],
)
def test_what_is_no_key_set_is_refused_and_not_shown(text, why):
    with pytest.raises(InputError, match=why) as caught:
        TokenKeys.parse(text)
    assert "c2hvcnQ" not in str(caught.value)


def test_two_keys_of_one_name_are_refused():
    with pytest.raises(InputError, match="'kid' of its own"):
        KEYS.before(KEYS)


def test_neither_keys_nor_tokens_are_shown_by_repr():
    shared = Tokens(publish=["s3cret"], listen=["hear-me"])
    [key] = json.loads(KEYS.serialize())["keys"]
    hello = publishing("s3cret")
    for thing in (KEYS, shared, Access(shared, KEYS), hello):
        assert key["d"] not in repr(thing) and "s3cret" not in repr(thing) and "hear-me" not in repr(thing)


BROKEN = st.one_of(
    st.text(max_size=200),
    st.binary(max_size=100).map(lambda data: data.decode("latin-1")),
    st.lists(st.text(alphabet="abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=", max_size=80), max_size=4).map(".".join),
)


@given(BROKEN)
def test_whatever_a_token_is_it_is_refused_in_one_way(text):
    with pytest.raises(InputError) as caught:
        KEYS.prove(text, lambda: NOW)
    assert len(text) < 20 or text not in str(caught.value)


@pytest.mark.parametrize("text", ["\udca6" * 20, "a.\udca6.b", "[" * 100_000, ""])
def test_what_is_read_without_proof_is_refused_in_the_same_way(text):
    with pytest.raises(InputError, match=r"^the token is no JSON Web Token$"):
        unproved(text)


def test_a_header_that_is_nested_deeply_is_no_token():
    deep = base64.urlsafe_b64encode(b'{"alg":' + b"[" * 3000).decode().rstrip("=")
    with pytest.raises(InputError, match="no JSON Web Token"):
        KEYS.prove(f"{deep}.e30.AA", lambda: NOW)
