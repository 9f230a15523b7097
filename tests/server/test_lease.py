"""One connection feeds a stream at a time; who takes over evicts the one before, and a lost publisher is waited for."""

import asyncio

import pytest

from streamcodec.server.lease import PublisherLease


def test_a_new_holder_evicts_the_old_one_and_hears_of_failures_from_then_on():
    lease, told = PublisherLease(), []
    lease.take("first", lambda exc: told.append(("first", exc)), lambda: told.append("first is evicted"))
    lease.take("second", lambda exc: told.append(("second", exc)), lambda: told.append("second is evicted"))
    assert told == ["first is evicted"]
    assert (lease.held_by("first"), lease.held_by("second")) == (False, True)
    error = RuntimeError("no")
    lease.fail(error)
    assert told[1:] == [("second", error)]


def test_nobody_hears_of_failures_after_a_lease_was_given_back():
    lease, told = PublisherLease(), []
    lease.take("first", told.append, lambda: told.append("evicted"))
    lease.give_back()
    lease.fail(RuntimeError("no"))
    lease.take("second", told.append, lambda: None)
    assert told == []
    assert not lease.held_by("first")


def test_only_its_own_secret_opens_it():
    lease, other = PublisherLease(), PublisherLease()
    assert lease.matches(lease.secret)
    assert not lease.matches(other.secret)
    assert not lease.matches("")
    assert not lease.matches("é")


def test_a_lost_publisher_is_waited_for_until_time_is_up():
    async def main():
        lease, expired = PublisherLease(), asyncio.Event()
        lease.wait(0.0, expired.set)
        assert lease.waiting
        await asyncio.wait_for(expired.wait(), 60)

    asyncio.run(main())


@pytest.mark.parametrize("stop", [lambda lease: lease.take("again", print, lambda: None), lambda lease: lease.stop_waiting()])
def test_nobody_is_waited_for_once_somebody_came_or_the_stream_ends(stop):
    async def main():
        lease, expired = PublisherLease(), asyncio.Event()
        lease.wait(0.0, expired.set)
        stop(lease)
        assert not lease.waiting
        later = asyncio.Event()
        asyncio.get_running_loop().call_later(0.0, later.set)
        await asyncio.wait_for(later.wait(), 60)
        assert not expired.is_set()

    asyncio.run(main())
