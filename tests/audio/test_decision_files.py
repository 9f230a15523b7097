"""The shared decisions are those of the code: a port of the playout is compared with these files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from decision_files import FILES, FOLDER


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_decisions_is_what_the_playout_decides(name):
    shared, made = json.loads((FOLDER / name).read_text(encoding="utf-8")), FILES[name]()
    assert {key: shared[key] for key in shared if key not in ("decisions", "heard")} == {
        key: made[key] for key in made if key not in ("decisions", "heard")
    }
    advice = "run `python tests/audio/decision_files.py` and read what has changed"
    np.testing.assert_allclose(shared["decisions"], made["decisions"], rtol=0, atol=1e-8, err_msg=advice)
    if made["heard"] is not None:
        np.testing.assert_allclose(shared["heard"], made["heard"], rtol=0, atol=2e-5, err_msg=advice)


def test_the_files_hold_each_kind_of_decision():
    totals = np.max([np.max(json.loads((FOLDER / name).read_text(encoding="utf-8"))["decisions"], axis=0) for name in FILES], axis=0)
    assert (totals > 0).all(), "a figure that is never above 0 is not compared"
