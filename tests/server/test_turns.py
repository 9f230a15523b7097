"""Handshakes are so many a second in all, addresses take turns, and whoever is turned away costs little."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import pass_time, run_patiently
from server_rig import figures, http_get, listen_hello, raw, run, serving, small_limits, until

from streamcodec.server import Proxies
from streamcodec.server.rate import Rate
from streamcodec.server.turns import FairQueue, HandshakeTurns


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3)), max_size=30))
def test_groups_take_turns_and_within_one_whoever_came_first_is_first(entries):
    queue, came = FairQueue(), []
    for at, (group, _) in enumerate(entries):
        queue.add(group, lambda at=at: came.append(at))
    waiting = {group: [at for at, (one, _) in enumerate(entries) if one == group] for group in "abc"}
    most = {group: len(numbers) for group, numbers in waiting.items()}
    for turn in range(len(entries)):
        queue.next()()
        group = entries[came[-1]][0]
        assert came[-1] == waiting[group].pop(0)
        # Whoever still waits has been overtaken by no group more than once.
        taken = {one: most[one] - len(left) for one, left in waiting.items()}
        assert all(taken[group] <= taken[one] + 1 for one, left in waiting.items() if left), turn
    assert not len(queue)
    with pytest.raises(IndexError):
        queue.next()


def test_who_has_gone_is_not_called_and_going_twice_does_no_harm():
    queue, called = FairQueue(), []
    goes = [lambda at=at: called.append(at) for at in range(3)]
    for go in goes:
        queue.add("a", go)
    queue.remove("a", goes[1])
    queue.remove("a", goes[1])
    queue.remove("nobody", goes[0])
    while len(queue):
        queue.next()()
    assert called == [0, 2]


def test_so_many_have_their_turn_in_a_second_and_a_stranger_waits_behind_one_of_them_alone():
    async def main():
        loop = asyncio.get_running_loop()
        turns, called = HandshakeTurns(Rate(10, 5), loop), []
        for at in range(100):
            turns.ask("flood", lambda at=at: called.append(at))
        assert called == [0, 1, 2, 3, 4] and turns.num_waiting == 95
        turns.ask("stranger", lambda: called.append("stranger"))
        seconds = 0.0
        while "stranger" not in called:
            await pass_time(0.05)
            seconds += 0.05
            assert seconds < 60
        assert len(called) <= 5 + 2 + 10 * 0.05 + 1
        while turns.num_waiting:
            await pass_time(0.05)
            seconds += 0.05
            assert seconds < 60
        # Passing time takes some as well, so they may have come sooner than the moved clock says, but not by far.
        assert seconds > 3 and called[-1] == 99

    run_patiently(main())


def test_whoever_waits_too_long_for_a_turn_is_told_and_counted():
    async def main():
        limits = small_limits(handshakes=Rate(1e-3, 1))
        async with serving(limits=limits) as server, raw(server.url) as first:
            await first.send(listen_hello("a"))
            assert (await first.receive())["type"] == "welcome"
            waiting = asyncio.create_task(http_get(server, "/healthz"))
            await until(lambda: server._public._turns.num_waiting)
            await pass_time(11)
            status, body = await waiting
            assert status == 503 and body == "too many connect at once: no turn came within 10 s.\n"
            assert server.refusals.counts["handshakes"] == 1

    run(main())


def test_who_gets_no_turn_behind_a_proxy_is_noted_as_who_it_is():
    async def main():
        limits, told = small_limits(handshakes=Rate(1e-3, 1)), []
        async with serving(limits=limits, proxies=Proxies(["127.0.0.1"])) as server, raw(server.url) as first:
            await first.send(listen_hello("a"))
            assert (await first.receive())["type"] == "welcome"
            server.refusals.observe = told.append
            waiting = asyncio.create_task(http_get(server, "/healthz", "X-Forwarded-For: 203.0.113.7\r\n"))
            await until(lambda: server._public._turns.num_waiting)
            await pass_time(11)
            assert (await waiting)[0] == 503
        assert [event.data["address"] for event in told] == ["203.0.113.7"]

    run(main())


def test_a_crowd_of_newcomers_is_served_one_after_another():
    async def main():
        limits = small_limits(handshakes=Rate(200, 2))
        async with serving(limits=limits) as server:
            answers = await asyncio.gather(*(http_get(server, "/healthz") for _ in range(30)))
            assert answers == [(200, "ok\n")] * 30
            assert server._public._turns.num_waiting == 0

    run(main())


def test_who_gives_up_while_waiting_for_a_turn_leaves_nothing_behind():
    async def main():
        limits = small_limits(handshakes=Rate(1e-3, 1))
        async with serving(limits=limits) as server:
            assert (await http_get(server, "/healthz"))[0] == 200
            _, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: server._public._turns.num_waiting)
            assert server._door.num_connections == 1
            writer.close()
            await pass_time(11)
            await until(lambda: not server._public.entrances)
            assert server._public._turns.num_waiting == server._door.num_connections == 0

    run(main())


def test_figures_say_how_many_handshakes_were_given_up():
    async def main():
        async with serving() as server:
            assert (await figures(server))["connections_limited_total{limit=handshakes}"] == 0

    run(main())
