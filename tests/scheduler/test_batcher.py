"""The batcher takes the group with the oldest item first, and its oldest items first; no item waits for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.scheduler.batcher import Batcher


def test_nothing_is_taken_from_an_empty_queue():
    batcher: Batcher[str] = Batcher(4)
    assert len(batcher) == 0
    assert batcher.take() == []


@pytest.mark.parametrize("max_batch", [0, -1])
def test_a_largest_batch_below_one_is_refused(max_batch):
    with pytest.raises(ValueError, match="expected 1 or more"):
        Batcher(max_batch)


def test_only_items_of_one_key_share_a_batch_and_they_come_in_order_with_their_times():
    batcher: Batcher[str] = Batcher(8)
    for due, (key, item) in enumerate([("a", "a1"), ("b", "b1"), ("a", "a2"), ("b", "b2")]):
        batcher.add(key, item, due)
    assert batcher.take() == [(0, "a1"), (2, "a2")]
    assert batcher.take() == [(1, "b1"), (3, "b2")]
    assert batcher.take() == []


def test_the_group_whose_oldest_member_waited_longest_goes_first_however_small_it_is():
    batcher: Batcher[str] = Batcher(8)
    batcher.add("lonely", "first", 0.0)
    for i in range(100):
        batcher.add("crowd", f"c{i}", 1.0 + i)
    assert batcher.take() == [(0.0, "first")]


def test_a_group_larger_than_a_batch_gives_its_oldest_members_and_keeps_the_rest():
    batcher: Batcher[int] = Batcher(3)
    for i in range(7):
        batcher.add("k", i, i)
    assert [[item for _, item in batcher.take()] for _ in range(3)] == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.mark.parametrize(("waiting", "expected"), [(1, [1]), (3, [2, 1]), (5, [4, 1]), (15, [8, 4, 2, 1]), (16, [16]), (40, [16, 16, 8])])
def test_a_batch_has_the_largest_of_the_sizes_that_run_best(waiting, expected):
    batcher: Batcher[int] = Batcher(16)
    for i in range(waiting):
        batcher.add("k", i, i)
    assert [len(batcher.take(sizes=(1, 2, 4, 8, 16))) for _ in expected] == expected
    assert len(batcher) == 0


def full(step_s=0.01, row_s=0.002):
    """A batcher that knows the duration per row and has many items waiting since time 0."""
    batcher: Batcher[int] = Batcher(16, step_s)
    for _ in range(100):
        batcher.record_duration("k", 8, 8 * row_s)
    for i in range(100):
        batcher.add("k", i, 0.0)
    return batcher


@pytest.mark.parametrize(("waited_s", "expected"), [(0.0, 5), (0.009, 5), (0.02, 10), (0.5, 16)])
def test_batches_are_small_until_rows_have_waited_and_then_as_large_as_allowed(waited_s, expected):
    assert len(full().take(waited_s)) == expected


def test_a_batch_is_never_too_small_to_learn_the_duration_of_a_row():
    assert len(full(row_s=1.0).take(0.0)) == 4


def test_the_duration_of_a_row_follows_changes_and_ignores_small_batches():
    batcher = full()
    for _ in range(100):
        batcher.record_duration("k", 1, 0.5)
    assert len(batcher.take(0.0)) == 5
    for _ in range(100):
        batcher.record_duration("k", 8, 8 * 0.001)
    assert len(batcher.take(0.0)) in (9, 10)


def test_without_known_durations_only_the_largest_batch_is_a_limit():
    batcher: Batcher[int] = Batcher(16)
    for i in range(100):
        batcher.add("unknown", i, 0.0)
    assert len(batcher.take(0.0)) == 16


def test_discarded_items_are_never_taken_and_an_empty_group_is_removed():
    batcher: Batcher[str] = Batcher(8)
    for i, item in enumerate(["keep1", "drop1", "keep2"]):
        batcher.add("mixed", item, i)
    batcher.add("only", "drop2", -1)
    batcher.discard_if(lambda item: item.startswith("drop"))
    assert len(batcher) == 2
    assert batcher.take() == [(0, "keep1"), (2, "keep2")]
    assert batcher.take() == []


@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=60),
)
def test_no_item_starves_and_each_is_taken_once(max_batch, arrivals):
    """A clock ticks once per step, and items arrive in each tick. Each batch is of the group whose oldest item waited longest."""
    batcher: Batcher[int] = Batcher(max_batch)
    waiting: dict[int, tuple[int, int]] = {}  # item -> (key, due)
    served: list[int] = []
    tick = number = 0
    while arrivals or waiting:
        if arrivals:
            key, count = arrivals.pop()
            for _ in range(count):
                batcher.add(key, number, tick)
                waiting[number] = (key, tick)
                number += 1
        batch = batcher.take()
        assert bool(batch) == bool(waiting)
        assert len(batch) <= max_batch
        if batch:
            oldest = min(due for _, due in waiting.values())
            keys = {waiting[item][0] for _, item in batch}
            assert len(keys) == 1
            assert batch[0][0] == oldest, "an older item of another key was passed over"
            assert all(waiting[item][1] == due for due, item in batch)
            group = sorted((due, item) for item, (key, due) in waiting.items() if key in keys)
            assert batch == group[: len(batch)], "somebody of the group was overtaken"
        for _, item in batch:
            served.append(item)
            del waiting[item]
        tick += 1
    assert sorted(served) == list(range(number))


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(0, 3), st.integers(1, 5))
def test_discarding_keeps_the_order_of_the_other_items(keys, gone, max_batch):
    batcher: Batcher[tuple[int, int]] = Batcher(max_batch)
    for due, key in enumerate(keys):
        batcher.add(key, (key, due), due)
    batcher.discard_if(lambda item: item[1] % 4 == gone)
    left = []
    while batch := batcher.take():
        left += batch
    assert sorted(left) == [(due, (key, due)) for due, key in enumerate(keys) if due % 4 != gone]
    for key in set(keys):
        mine = [due for due, item in left if item[0] == key]
        assert mine == sorted(mine)
