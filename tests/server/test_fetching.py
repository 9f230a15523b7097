"""What a stream lacks is asked for again where no answer comes, as long as its origin keeps it; the first answer counts."""

from __future__ import annotations

import asyncio

import pytest
from patience import pass_time, run_patiently
from server_rig import until

from streamcodec.server.cluster.bus import BusError
from streamcodec.server.cluster.fetching import ASK_AGAIN_S, Fetching
from streamcodec.server.cluster.questions import NodeAnswer

KEPT_S = 10_000.0
OK = NodeAnswer("ok")


class Origin:
    """Whoever is asked: a test answers each question, or has none answered within its time."""

    def __init__(self, *, kept_s=KEPT_S):
        self.questions = []
        self.told = []
        self.connected = True
        self.dead = False
        self.fetching = Fetching(self._question, lambda: self.connected, kept_s, lambda *told: self.told.append(told))

    async def _question(self, next_seq, _within_s):
        answer = asyncio.get_running_loop().create_future()
        self.questions.append((next_seq, answer))
        if self.dead:
            raise BusError("nobody answers")
        return await answer

    async def asked(self, count):
        await until(lambda: len(self.questions) >= count)
        assert len(self.questions) == count


async def rounds():
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_first_answer_counts_and_only_then_it_is_asked_again():
    async def main():
        origin = Origin()
        origin.fetching.ask(7)
        await origin.asked(1)
        origin.questions[0][1].set_result(OK)
        await rounds()
        assert origin.told == [(OK, False)] and origin.questions[0][0] == 7
        await pass_time(ASK_AGAIN_S)
        assert len(origin.questions) == 1

    run_patiently(main())


@pytest.mark.parametrize("which", [0, 1])
def test_it_is_asked_once_more_and_an_answer_to_either_question_is_used(which):
    async def main():
        origin = Origin()
        origin.fetching.ask(7)
        await origin.asked(1)
        await pass_time(ASK_AGAIN_S)
        await origin.asked(2)
        await pass_time(0.3)
        assert not origin.told
        origin.questions[which][1].set_result(OK)
        await rounds()
        assert origin.told == [(OK, True)] and origin.questions[1 - which][1].cancelled()

    run_patiently(main())


def test_nothing_is_waited_for_longer_than_the_origin_keeps_it_and_the_time_without_a_bus_does_not_count():
    async def main():
        origin = Origin()
        origin.dead, origin.connected = True, False
        origin.fetching.ask(7)
        for connected, passed_s in ((False, 2 * KEPT_S), (False, 2 * KEPT_S), (True, 0.9 * KEPT_S), (True, 0.2 * KEPT_S)):
            assert not origin.told
            origin.connected = connected
            asked = len(origin.questions)
            await pass_time(passed_s)
            await until(lambda: len(origin.questions) > asked)  # noqa: B023
            await rounds()
        assert origin.told == [(None, True)]

    run_patiently(main())


def test_what_is_asked_next_takes_the_place_of_what_was_asked_before():
    async def main():
        origin = Origin()
        origin.fetching.ask(7)
        await origin.asked(1)
        origin.fetching.ask(9)
        await origin.asked(2)
        await rounds()
        assert origin.questions[0][1].cancelled()
        origin.questions[1][1].set_result(OK)
        await rounds()
        assert origin.told == [(OK, False)]
        origin.fetching.ask(11)
        await origin.asked(3)
        origin.fetching.stop()
        await rounds()
        assert origin.questions[2][1].cancelled() and len(origin.told) == 1

    run_patiently(main())
