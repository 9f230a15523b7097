"""A token bucket: so much a second, a little more at once, on any clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.server.rate import Rate, TokenBucket


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_burst_costs_no_wait_and_what_comes_behind_it_waits_its_share(clock):
    bucket = TokenBucket(Rate(per_s=10, burst=5), clock)
    assert [bucket.take() for _ in range(5)] == [0.0] * 5
    assert bucket.take() == pytest.approx(0.1)
    assert bucket.take(2) == pytest.approx(0.3)
    clock.now += 0.3
    assert bucket.take(0) == pytest.approx(0.0)
    assert bucket.take() == pytest.approx(0.1)


def test_tokens_that_are_not_there_are_not_given(clock):
    bucket = TokenBucket(Rate(per_s=2, burst=1), clock)
    assert bucket.takes() and not bucket.takes() and not bucket.takes()
    assert bucket.wait_s() == pytest.approx(0.5)
    clock.now += 0.5
    assert bucket.takes() and not bucket.takes()


def test_it_is_full_again_after_a_while_and_never_fuller(clock):
    bucket = TokenBucket(Rate(per_s=2, burst=3), clock)
    assert bucket.full
    bucket.take(3)
    assert not bucket.full
    clock.now += 1.5
    assert bucket.full
    clock.now += 1000
    assert [bucket.takes() for _ in range(4)] == [True, True, True, False]


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20)), max_size=50))
def test_no_more_is_given_than_the_rate_and_one_burst(steps):
    clock = Clock()
    bucket, given_out, begun = TokenBucket(Rate(per_s=3, burst=7), clock), 0, clock.now
    for pause, asked in steps:
        clock.now += pause
        given_out += sum(bucket.takes() for _ in range(asked))
        assert given_out <= 7 + 3 * (clock.now - begun) + 1e-6
