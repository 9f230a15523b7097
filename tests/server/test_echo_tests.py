"""Echo tests: who brings no token publishes, listens and hears itself, under names that are bounded and under no other."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from patience import pass_time, patient_limits
from server_rig import listening, offline_codec, publish_all, run, s16, same_codes, tiny_codec, until, voice

from streamcodec.client import PublishOptions, listen, publish
from streamcodec.errors import InputError, Refused, RemoteProtocolError, WireCode
from streamcodec.protocol import Packet
from streamcodec.server import AuthUrl, Operations, RecordingFolder, Server, Tokens
from streamcodec.server.admin import Admin
from streamcodec.server.auth.credential import Credential
from streamcodec.server.door import Door
from streamcodec.server.limits import Limits
from streamcodec.server.refusals import Bound, Refusals

TOKENS = Tokens(publish=("secret",), listen=("secret",))


def a_server(tests: int = 2, **options: Any) -> Server:
    return Server(tiny_codec(), port=0, echo=tests > 0, limits=patient_limits(max_echo_tests=tests or 16), **{"tokens": TOKENS, **options})


def test_a_client_without_a_token_hears_itself() -> None:
    audio = voice(1)

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(a_server())
            heard = await listening(stack, server.url, "echo.mine", offline_codec())
            ended = await publish_all(server.url, "echo.mine", audio)
            await heard.to_end()
        assert len(heard.of(Packet)) == ended.emitted > 10
        codes = heard.codes(offline_codec())
        same_codes(offline_codec(), codes, s16(audio), 6.0, "primed")
        assert np.isfinite(heard.audio(offline_codec())).all()

    run(main())


@pytest.mark.parametrize(("tests", "stream"), [(2, "alice"), (2, "echo"), (2, "my.echo.x"), (0, "echo.mine")])
def test_other_names_need_a_token_and_these_do_where_nobody_allows_echo_tests(tests: int, stream: str) -> None:
    async def main() -> None:
        async with a_server(tests) as server:
            for attempt in (publish(server.url, stream), listen(server.url, stream, format="pcm_s16le")):
                with pytest.raises(Refused, match="unauthorized"):
                    await attempt.__aenter__()

    run(main())


def test_so_many_echo_tests_run_at_a_time_and_streams_with_a_token_besides() -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(a_server(2))
            for name in ("echo.a", "echo.b"):
                await stack.enter_async_context(publish(server.url, name))
            with pytest.raises(Refused, match="has its 2 echo tests"):
                await publish(server.url, "echo.c").__aenter__()
            await stack.enter_async_context(publish(server.url, "alice", PublishOptions(token="secret")))
            for _ in range(2):
                await listening(stack, server.url, "echo.a", format="pcm_s16le")
            with pytest.raises(Refused, match="has its 2 listeners"):
                await listen(server.url, "echo.a", format="pcm_s16le").__aenter__()
            for name in ("echo.y", "echo.z"):
                await listening(stack, server.url, name, format="pcm_s16le")
            with pytest.raises(Refused, match="has its 4 listeners of echo tests"):
                await listen(server.url, "echo.x", format="pcm_s16le").__aenter__()

    run(main())


def test_an_address_has_so_many_echo_tests_and_leaves_places_for_others() -> None:
    limits = Limits(max_echo_tests_per_address=1)
    entrance = Door(limits, refusals := Refusals(lambda: 0.0), lambda: 0.0)
    for publishes, told in ((True, "1 echo tests"), (False, "2 listeners of echo tests")):
        with contextlib.ExitStack() as stack:
            for _ in range(int(told[0])):
                stack.enter_context(entrance.testing("203.0.113.7", publishes=publishes))
            with pytest.raises(RemoteProtocolError, match=f"this address has its {told}") as caught:
                stack.enter_context(entrance.testing("203.0.113.7", publishes=publishes))
            assert caught.value.code == WireCode.SERVER_FULL
            for other in ("203.0.113.8", "127.0.0.1", "127.0.0.1", "127.0.0.1"):
                stack.enter_context(entrance.testing(other, publishes=publishes))
        with entrance.testing("203.0.113.7", publishes=publishes):
            pass
    assert refusals.counts[Bound.ECHO_TESTS_OF_ADDRESS] == 2


def test_a_server_counts_the_echo_tests_of_an_address_and_no_other_streams() -> None:
    async def main() -> None:
        limits = patient_limits(max_echo_tests_per_address=1, bound_loopback=True)
        async with Server(tiny_codec(), port=0, echo=True, limits=limits, tokens=TOKENS) as server, contextlib.AsyncExitStack() as stack:
            for name in ("alice", "bob"):
                await stack.enter_async_context(publish(server.url, name, PublishOptions(token="secret")))
            first = await stack.enter_async_context(publish(server.url, "echo.a"))
            with pytest.raises(Refused, match="this address has its 1 echo tests"):
                await publish(server.url, "echo.b").__aenter__()
            for _ in range(2):
                await listening(stack, server.url, "echo.a", format="pcm_s16le")
            with pytest.raises(Refused, match="this address has its 2 listeners of echo tests"):
                await listen(server.url, "echo.b", format="pcm_s16le").__aenter__()
            await first.end()
            await until(lambda: "echo.a" not in server.registry.streams)
            await stack.enter_async_context(publish(server.url, "echo.b"))

    run(main())


def test_an_echo_test_ends_when_its_time_is_over() -> None:
    async def main() -> None:
        async with a_server() as server:
            publisher = publish(server.url, "echo.mine", PublishOptions(pace="fast"))
            await publisher.__aenter__()
            await publisher.send(voice(1))
            await pass_time(server.limits.echo_test_s + 1)
            with pytest.raises(Refused, match="lasts 300 s at most"):
                await publisher.end()
            await publisher.__aexit__(Refused, None, None)
            await until(lambda: not server.registry.streams)
            # Another one may begin, and one that has ended before its time is left alone.
            await publish_all(server.url, "echo.mine", voice(2))
            await pass_time(server.limits.echo_test_s + 1)

    run(main())


def test_new_tokens_leave_an_echo_test_alone_and_the_operator_ends_it() -> None:
    async def main() -> None:
        async with a_server() as server:
            publisher = publish(server.url, "echo.mine", PublishOptions(pace="fast"))
            await publisher.__aenter__()
            server.reload(Tokens(publish=("new",), listen=("new",)), None)
            await publisher.send(voice(1))
            await until(lambda: server.registry.streams["echo.mine"].totals.emitted > 0)
            admin = Admin(server.registry, server.permits, lambda: server._connections)
            [shown] = admin.streams()
            assert (shown["stream"], shown["holder"], shown["recorded"]) == ("echo.mine", None, False)
            with pytest.raises(InputError, match="has shown no token"):
                admin.end(shown["session"], bar=True)
            admin.end(shown["session"])
            with pytest.raises(Refused, match="the operator ended it"):
                await publisher.end()
            await publisher.__aexit__(Refused, None, None)

    run(main())


def test_a_server_that_drains_takes_no_echo_test() -> None:
    async def main() -> None:
        async with a_server() as server:
            server.drain(60)
            with pytest.raises(Refused, match="closing"):
                await publish(server.url, "echo.mine").__aenter__()

    run(main())


def test_nobody_else_is_asked_about_an_echo_test() -> None:
    class Asked(AuthUrl):
        async def ask(self, role: str, stream: str, token: str | None, address: str) -> Credential:  # noqa: ARG002
            raise RemoteProtocolError(WireCode.UNAUTHORIZED, f"asked about {stream}")

    async def main() -> None:
        operations = Operations(auth_url=Asked("http://127.0.0.1:9/", time.time))
        async with a_server(operations=operations, tokens=None) as server:
            await publish_all(server.url, "echo.mine", voice(1))
            with pytest.raises(Refused, match="asked about alice"):
                await publish(server.url, "alice").__aenter__()

    run(main())


def test_echo_tests_are_not_recorded(tmp_path: Path) -> None:
    async def main() -> None:
        async with a_server(recordings=RecordingFolder(tmp_path)) as server:
            await publish_all(server.url, "echo.mine", voice(1))
            await publish_all(server.url, "alice", voice(1), token="secret")

    run(main())
    assert [path.name.partition("_")[2] for path in tmp_path.iterdir()] == ["alice.rec"]
