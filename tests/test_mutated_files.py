"""A damaged file is dealt with, whatever the damage; `tests/rigs/mutated_files.py` tries many more."""

from __future__ import annotations

import pytest
from mutated_files import KINDS, mutations_of


@pytest.mark.parametrize(("kind", "count"), [("audio", 360), ("checkpoints", 60), ("codes", 300), ("recordings", 100)])
def test_a_damaged_file_is_an_answer_or_an_error_of_ours(tmp_path, kind, count):
    assert kind in KINDS
    outcomes = list(mutations_of(kind, count, tmp_path))
    assert [finding for _, finding in outcomes if finding is not None] == []
    # Some damage is found, and some changes nothing that counts.
    assert len({outcome for outcome, _ in outcomes}) >= 2 and len(outcomes) == count
