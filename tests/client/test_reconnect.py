"""Waiting times grow up to a bound, and two clients never have the same; an attempt is made again until it cannot succeed any more."""

import asyncio
import random
from itertools import islice
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from streamcodec.client import backoff, keep_trying, reconnect
from streamcodec.errors import ConnectionFailed, Refused


@given(st.integers(), st.floats(0.01, 2), st.floats(2, 60))
def test_each_wait_is_between_half_and_all_of_a_bound_that_doubles_up_to_the_most(seed, first_s, max_s):
    bound = first_s
    for wait in islice(backoff(first_s, max_s, random.Random(seed)), 40):
        assert bound / 2 <= wait <= bound
        bound = min(max_s, 2 * bound)
    assert bound == max_s


def test_two_clients_do_not_wait_alike():
    first, second = (list(islice(backoff(rng=random.Random(seed)), 8)) for seed in (1, 2))
    assert first != second
    assert list(islice(backoff(rng=random.Random(1)), 8)) == first


def test_where_the_server_says_how_long_not_to_come_nobody_comes_sooner(monkeypatch):
    waits: list[float] = []

    async def slept(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(reconnect, "asyncio", SimpleNamespace(sleep=slept))
    monkeypatch.setattr(reconnect, "backoff", lambda: iter(lambda: 0.25, None))
    answers = [Refused("server_full", "full", True, 5.0), Refused("server_full", "full", True), ConnectionFailed("lost")]

    async def attempt() -> None:
        if answers:
            raise answers.pop(0)

    asyncio.run(keep_trying(attempt, note=lambda _: None, give_up=lambda: False))
    assert waits == [5.25, 0.25, 0.25]
