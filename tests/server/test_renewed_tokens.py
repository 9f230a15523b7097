"""A client that shows another token when its first one has expired goes on as if its connection had broken; one that has none is told."""

from __future__ import annotations

import asyncio

import pytest
from patience import TIMEOUT_S
from server_rig import Heard, offline_codec, run, same_codes, serving, small_limits, until, voice

from streamcodec.client import listen, publish, token_file
from streamcodec.client.publisher import PublishOptions
from streamcodec.client.tokens import may_go_on, token_now, with_token
from streamcodec.errors import ConnectionFailed, InputError, Refused
from streamcodec.protocol import Gap, ListenHello, Packet
from streamcodec.server import Grant, TokenKeys

KEYS = TokenKeys.generate("EdDSA")
EXPIRED = Refused("unauthorized", "the token has expired", False)


@pytest.mark.parametrize(
    ("lost", "token", "goes_on"),
    [
        (EXPIRED, lambda: "new", True),
        (EXPIRED, lambda: "old", False),
        (EXPIRED, "new", False),
        (EXPIRED, None, False),
        (Refused("server_closing", "", True), lambda: "new", False),
        (Refused("moved", "", True, None, "ws://b"), None, True),
        (Refused("moved", "", True), "new", True),
        (ConnectionFailed("it broke"), None, True),
        (ValueError("something else"), lambda: "new", False),
    ],
)
def test_a_session_goes_on_after_a_break_or_with_another_token(lost, token, goes_on):
    assert may_go_on(lost, "old", token) is goes_on


def test_a_token_is_asked_for_each_time_or_stays():
    hello = ListenHello(stream="a", format="pcm_s16le", token="old")
    assert with_token(hello, "new") is hello and with_token(hello, None) is hello
    assert with_token(hello, lambda: "new").token == "new"
    assert (token_now("a"), token_now(None), token_now(lambda: "b")) == ("a", None, "b")


def test_a_file_is_read_again_and_what_is_no_token_is_told(tmp_path):
    path = tmp_path / "token"
    token = token_file(path)
    for text in ("first\n", "second"):
        path.write_text(text)
        assert token() == text.strip()
    path.write_text("two\nlines-of-secrets\n")
    with pytest.raises(InputError, match="expected one line") as caught:
        token()
    assert "secrets" not in str(caught.value)
    path.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="no text file"):
        token()
    path.unlink()
    with pytest.raises(InputError, match="No such file"):
        token()


def test_a_stream_goes_on_behind_the_end_of_its_tokens_without_a_loss():
    codec, x, now = offline_codec(), voice(7, 2.0), 4e9

    async def main():
        nonlocal now
        asked = {"publish": 0, "listen": 0}

        def token(role):
            def give():
                asked[role] += 1
                return KEYS.sign(Grant(**{role: ["*"]}, expires=now + 100))

            return give

        async with serving(token_keys=KEYS, limits=small_limits(resume_s=TIMEOUT_S)) as server:
            server.permits.clock = lambda: now
            async with listen(server.url, "long", model=codec.fingerprint, token=token("listen")) as listener:
                heard = Heard(listener)
                await until(lambda: server.registry.num_listeners == 1)
                options = PublishOptions(bandwidth=6.0, pace="fast", token=token("publish"))
                async with publish(server.url, "long", options) as publisher:
                    await publisher.send(x[: len(x) // 2])
                    await heard.to(lambda heard: heard.of(Packet))
                    hearing = asyncio.create_task(heard.to_end())
                    now += 200
                    await until(lambda: publisher.resumed == listener.resumed == 1)
                    await publisher.send(x[len(x) // 2 :])
                    ended = await publisher.end()
                await hearing
            assert ended.dropped == 0 and heard.of(Gap) == []
            same_codes(codec, heard.codes(codec), x, 6.0, publisher.welcome.start)
            assert min(asked.values()) >= 2

    run(main())


def test_who_has_no_other_token_is_told_and_does_not_try_again():
    now = 4e9

    async def main():
        nonlocal now
        async with serving(token_keys=KEYS, limits=small_limits(resume_s=TIMEOUT_S)) as server:
            server.permits.clock = lambda: now
            token = KEYS.sign(Grant(listen=["*"], expires=now + 100))
            async with listen(server.url, "long", format="pcm_s16le", token=token) as listener:
                await anext(listener)
                now += 200
                with pytest.raises(Refused, match="the token has expired") as caught:
                    await anext(listener)
                assert not caught.value.retry and listener.resumed == 0

    run(main())
