"""Waits grow, are never in step with everybody else's, and never grow for ever."""

import random
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from streamcodec.client import backoff


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
