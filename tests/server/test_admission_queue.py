"""A newcomer that may be admitted in a moment waits in order of arrival; the test stands in for the machine and says when."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest
from server_rig import figures, listening, offline_codec, pcm_hello, raw, run, serving, small_limits, until

from streamcodec.client import PublishOptions, listen, publish
from streamcodec.errors import Refused
from streamcodec.server.capacity.admission import Refusal

SOON = Refusal("many come at once", 0.01)


class Doorkeeper:
    """Says to everybody what a test wants said; `let_in` so many more first."""

    def __init__(self, server, answer=SOON):
        self.answer = answer
        self.let_in = 0
        server.registry.admission.refusal = self.refusal
        server.registry.admission.joined = self.joined

    def refusal(self, now, demand, wanted):  # noqa: ARG002
        return None if not wanted or self.let_in > 0 else self.answer

    def joined(self, now, wanted, stream):  # noqa: ARG002
        self.let_in -= bool(wanted)


async def waiting(server):
    return (await figures(server))["newcomers_waiting"]


async def ask(server, name, answered, **options):
    try:
        async with publish(server.url, name, PublishOptions(**options)):
            answered.append(name)
    except Refused as exc:
        answered.append((name, exc))


def test_newcomers_are_admitted_one_after_another_in_the_order_of_arrival():
    async def main():
        async with serving(limits=small_limits(join_wait_s=30.0)) as server:
            door, answered = Doorkeeper(server), []
            tasks = []
            for i in range(5):
                tasks.append(asyncio.create_task(ask(server, f"s{i}", answered)))
                await until(lambda i=i: server.registry.newcomers.num_waiting == i + 1)
            assert await waiting(server) == 5
            for i in range(5):
                assert answered == [f"s{k}" for k in range(i)]
                door.let_in += 1
                await until(lambda i=i: len(answered) == i + 1)
            await asyncio.gather(*tasks)
            assert answered == [f"s{i}" for i in range(5)]
            assert await waiting(server) == 0
            assert server.metrics.refused_for_capacity == 0

    run(main())


def test_a_client_that_waits_in_vain_is_told_why_and_when_to_try_again():
    async def main():
        async with serving(limits=small_limits(join_wait_s=0.05)) as server:
            door, answered = Doorkeeper(server), []
            await asyncio.gather(*(ask(server, name, answered) for name in "abc"))
            assert sorted(name for name, _ in answered) == ["a", "b", "c"]
            for _, exc in answered:
                assert (exc.code, exc.reason, exc.retry, exc.retry_after_s) == ("server_full", SOON.reason, True, 1.0)
            door.answer = Refusal("full", None)
            answered.clear()
            await ask(server, "d", answered)
            assert (answered[0][1].reason, answered[0][1].retry_after_s) == ("full", None)
            assert server.metrics.refused_for_capacity == 4

    run(main())


def test_a_machine_that_is_full_says_so_at_once_and_to_who_waited_as_soon_as_it_is():
    async def main():
        async with serving(limits=small_limits(join_wait_s=1e9)) as server:
            door, answered = Doorkeeper(server), []
            task = asyncio.create_task(ask(server, "a", answered))
            await until(lambda: server.registry.newcomers.num_waiting == 1)
            door.answer = Refusal("full", None)
            await task
            assert answered[0][1].reason == "full"

    run(main())


def test_a_client_that_needs_no_room_does_not_wait_behind_those_that_do():
    codec = offline_codec()

    async def main():
        async with serving(limits=small_limits(join_wait_s=30.0)) as server, contextlib.AsyncExitStack() as stack:
            door, answered = Doorkeeper(server), []
            task = asyncio.create_task(ask(server, "pcm", answered))
            await until(lambda: server.registry.newcomers.num_waiting == 1)
            await ask(server, "codes", answered, format="codes", model=codec.fingerprint)
            await listening(stack, server.url, "pcm", codec)
            async with listen(server.url, "another", format="pcm_s16le"):
                pass
            assert answered == ["codes"]
            door.let_in += 1
            await task

    run(main())


def test_a_listener_that_needs_a_decoder_waits_in_order_too():
    async def main():
        async with serving(limits=small_limits(join_wait_s=30.0)) as server, contextlib.AsyncExitStack() as stack:
            door = Doorkeeper(server)
            door.let_in = 1
            await stack.enter_async_context(publish(server.url, "a"))
            task = asyncio.create_task(listening(stack, server.url, "a", format="pcm_s16le"))
            await until(lambda: server.registry.newcomers.num_waiting == 1)
            assert not server.registry.streams["a"].decoding
            door.let_in += 1
            await task
            await until(lambda: server.registry.streams["a"].decoding)

    run(main())


def test_a_listener_for_whom_there_is_no_place_does_not_wait_for_the_machine():
    codec = offline_codec()

    async def main():
        async with serving(limits=small_limits(join_wait_s=1e6, max_listeners=1)) as server, contextlib.AsyncExitStack() as stack:
            options = PublishOptions(format="codes", model=codec.fingerprint)
            await stack.enter_async_context(publish(server.url, "a", options))
            await listening(stack, server.url, "a", codec)
            Doorkeeper(server)
            with pytest.raises(Refused, match="the server has its 1 listeners"):
                async with listen(server.url, "a", model=codec.fingerprint):
                    pass

    run(main())


def test_listeners_of_codes_do_not_wait_behind_publishers_that_the_engine_has_no_room_for():
    codec = offline_codec()

    async def main():
        async with serving(limits=small_limits(join_wait_s=1e6)) as server, contextlib.AsyncExitStack() as stack:
            options = PublishOptions(format="codes", model=codec.fingerprint)
            await stack.enter_async_context(publish(server.url, "a", options))
            server.registry.admission.refusal = lambda now, demand, wanted: SOON if ("encode", 6) in wanted else None  # noqa: ARG005
            answered = []
            waits = asyncio.create_task(ask(server, "b", answered))
            await until(lambda: server.registry.newcomers.num_waiting == 1)
            await listening(stack, server.url, "a", codec)
            assert answered == []
            server.registry.admission.refusal = lambda now, demand, wanted: None  # noqa: ARG005
            await waits
            assert answered == ["b"]

    run(main())


def test_a_client_that_leaves_while_it_waits_publishes_nothing_and_delays_nobody():
    async def main():
        async with serving(limits=small_limits(join_wait_s=30.0, resume_s=10.0)) as server:
            door, answered = Doorkeeper(server), []
            async with raw(server.url) as leaving:
                await leaving.send(pcm_hello("a"))
                await until(lambda: server.registry.newcomers.num_waiting == 1)
                task = asyncio.create_task(ask(server, "b", answered))
                await until(lambda: server.registry.newcomers.num_waiting == 2)
            await until(lambda: server.registry.newcomers.num_waiting == 1)
            assert not server.registry.streams
            door.let_in += 1
            await task
            assert answered == ["b"]
            assert (server.metrics.publishers_accepted, server.metrics.refused, server.metrics.failed) == (1, 0, 0)

    run(main())


def test_two_who_wait_for_one_name_get_it_once():
    async def main():
        async with serving(limits=small_limits(join_wait_s=30.0)) as server:
            door, answered = Doorkeeper(server), []
            leaving = asyncio.Event()

            async def stay():
                async with publish(server.url, "a"):
                    answered.append("in")
                    await leaving.wait()

            staying = asyncio.create_task(stay())
            await until(lambda: server.registry.newcomers.num_waiting == 1)
            task = asyncio.create_task(ask(server, "a", answered))
            await until(lambda: server.registry.newcomers.num_waiting == 2)
            door.let_in += 1
            await task
            assert answered[0] == "in"
            assert answered[1][1].code == "stream_taken"
            leaving.set()
            await staying

    run(main())


@pytest.mark.parametrize("waiters", [1, 3])
def test_a_server_that_closes_lets_nobody_wait(waiters):
    async def main():
        async with serving(limits=small_limits(join_wait_s=1e9)) as server:
            Doorkeeper(server)
            answered, names = [], itertools.islice("abc", waiters)
            tasks = [asyncio.create_task(ask(server, name, answered)) for name in names]
            await until(lambda: server.registry.newcomers.num_waiting == waiters)
            await server.stop()
            await asyncio.gather(*tasks)
            assert {exc.code for _, exc in answered} == {"server_closing"}

    run(main())
