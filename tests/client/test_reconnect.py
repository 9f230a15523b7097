"""Waiting times grow up to a bound, and two clients never have the same; an attempt is made again until it cannot succeed any more."""

import asyncio
import random
from itertools import islice
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.client import Destination, backoff, keep_trying, reconnect
from streamcodec.client.reconnect import reopen
from streamcodec.client.route import SessionRoute
from streamcodec.errors import ConnectionFailed, Refused, UntrustedServerError


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


def test_a_client_that_is_sent_on_goes_there_soon_and_back_where_it_cannot_be(monkeypatch):
    waits: list[float] = []

    async def slept(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(reconnect, "asyncio", SimpleNamespace(sleep=slept))
    monkeypatch.setattr(reconnect, "backoff", lambda: iter(lambda: 0.25, None))
    closing = Refused("server_closing", "closes", True, 57.0, "wss://b.example")
    answers = [closing, UntrustedServerError("no certificate that is trusted"), closing, ConnectionFailed("nobody there"), None]
    to, tried, notes = Destination("ws://a.example"), [], []

    async def attempt() -> None:
        tried.append(to.url)
        if (answer := answers.pop(0)) is not None:
            raise answer

    asyncio.run(keep_trying(attempt, destination=to, note=notes.append))
    assert tried == ["ws://a.example", "wss://b.example"] * 2 + ["ws://a.example"]
    assert waits == [0.25] * 4
    assert "going on at wss://b.example in 0.2 s" in notes[0] and "trying again in 0.2 s" in notes[1]


def test_a_server_that_is_not_trusted_is_not_tried_again_where_it_is_the_one_that_was_given():
    async def attempt() -> None:
        raise UntrustedServerError("no certificate that is trusted")

    for destination in (None, Destination("wss://a.example")):
        with pytest.raises(UntrustedServerError):
            asyncio.run(keep_trying(attempt, destination=destination))


def test_a_connection_that_could_be_resumed_is_not_waited_for_where_there_is_another_server(monkeypatch):
    lost = ConnectionFailed("it broke")
    answers = [ConnectionFailed("not there yet"), Refused("server_closing", "closes", True, None, "wss://b.example")]

    async def opened(*_: object, **__: object) -> None:
        raise answers.pop(0)

    async def slept(_: float) -> None:
        pass

    monkeypatch.setattr(reconnect, "open_connection", opened)
    monkeypatch.setattr(reconnect, "asyncio", SimpleNamespace(sleep=slept))
    with pytest.raises(Refused) as caught:
        asyncio.run(reopen(SessionRoute("ws://a.example"), lambda: None, lost, 600.0))  # type: ignore[arg-type, return-value]
    assert caught.value.go_to == "wss://b.example" and not answers
