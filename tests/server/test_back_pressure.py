"""A publisher is held back by what waits for the machine, and for a while by its listeners."""

import asyncio

import pytest

from streamcodec.server.back_pressure import BackPressure
from streamcodec.server.limits import Limits

WAIT_S = 60


class Listener:
    """As far as back-pressure looks at one."""

    def __init__(self, lagging):
        self.lagging, self.given_up = lagging, False


class Rig:
    def __init__(self, backlog_s=0.0, lagging=(), stall_s=3000.0):
        self.backlog_s = backlog_s
        self.listeners = [Listener(one) for one in lagging]
        self.back_pressure = BackPressure(Limits(stall_s=stall_s), lambda: self.backlog_s, lambda: self.listeners)


async def started(waiting):
    task = asyncio.create_task(waiting)
    for _ in range(3):
        await asyncio.sleep(0)
    return task


def test_where_nothing_waits_a_publisher_goes_on_at_once():
    async def main():
        rig = Rig(lagging=[False])
        await asyncio.wait_for(rig.back_pressure.room(), WAIT_S)
        await asyncio.wait_for(rig.back_pressure.caught_up(), WAIT_S)

    asyncio.run(main())


@pytest.mark.parametrize("verb", ["room", "caught_up"])
def test_the_machine_holds_it_back_until_it_is_no_longer_behind(verb):
    async def main():
        rig = Rig(backlog_s=2.0)
        task = await started(getattr(rig.back_pressure, verb)())
        for rig.backlog_s in (1.0, 0.6):
            rig.back_pressure.progressed()
            await asyncio.sleep(0)
            assert not task.done()
        rig.backlog_s = 0.4
        rig.back_pressure.progressed()
        await asyncio.wait_for(task, WAIT_S)

    asyncio.run(main())


def test_a_listener_that_lags_holds_a_fast_publisher_back_but_not_one_that_only_catches_up():
    async def main():
        rig = Rig(lagging=[False, True])
        await asyncio.wait_for(rig.back_pressure.caught_up(), WAIT_S)
        task = await started(rig.back_pressure.room())
        assert not task.done()
        rig.listeners[1].lagging = False
        rig.back_pressure.progressed()
        await asyncio.wait_for(task, WAIT_S)
        assert not any(one.given_up for one in rig.listeners)

    asyncio.run(main())


def test_a_publisher_waits_a_limited_time_for_listeners_and_as_long_as_needed_for_the_machine():
    async def main():
        rig = Rig(backlog_s=2.0, lagging=[False, True], stall_s=0.0)
        task = await started(rig.back_pressure.room())
        while not rig.listeners[1].given_up:  # noqa: ASYNC110 - a few rounds of the loop
            await asyncio.sleep(0)
        assert not rig.listeners[0].given_up
        assert not task.done()
        rig.backlog_s = 0.0
        rig.back_pressure.progressed()
        await asyncio.wait_for(task, WAIT_S)
        await asyncio.wait_for(rig.back_pressure.room(), WAIT_S)

    asyncio.run(main())


@pytest.mark.parametrize("verb", ["room", "caught_up"])
def test_nobody_is_held_back_once_the_stream_ends(verb):
    async def main():
        rig = Rig(backlog_s=2.0, lagging=[True])
        task = await started(getattr(rig.back_pressure, verb)())
        rig.back_pressure.release()
        await asyncio.wait_for(task, WAIT_S)
        await asyncio.wait_for(getattr(rig.back_pressure, verb)(), WAIT_S)

    asyncio.run(main())
