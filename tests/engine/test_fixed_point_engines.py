"""Every engine gives the levels that integers give, on one thread and on two."""

from __future__ import annotations

import numpy as np
import pytest
from level_steps import STEPS, integer_step, random_model

from streamcodec.engine.fixed_point import FixedPointEngine
from streamcodec.errors import CodesError

LARGE = {"n_q": 8, "entries": 1024, "dim": 96, "window": 8, "hidden": 256, "narrow": 128}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("size", [{}, LARGE], ids=["small", "as large as one that is used"])
def test_levels_are_those_of_integers(name: str, threads: int, size: dict[str, int]) -> None:
    model = random_model(**size)
    step, expected = STEPS[name](model, threads), integer_step(model)
    rng = np.random.default_rng(1)
    history = history_expected = model.start().numpy()
    seen: set[float] = set()
    for _ in range(40):
        indices = rng.integers(0, model.codebook_size + 1, (1, model.num_codebooks))
        levels, history = step(indices, history)
        levels_expected, history_expected = expected(indices, history_expected)
        np.testing.assert_array_equal(levels, levels_expected)
        np.testing.assert_array_equal(history, history_expected)
        seen |= {*np.unique(history).tolist(), *np.unique(levels).tolist()}
    assert len(seen) > 100, "clipped to nothing, all engines would agree"


def test_codebooks_that_a_stream_does_without_are_missing_codes() -> None:
    model = random_model()
    engine = FixedPointEngine(model)
    levels, state = engine.predict(None, None, 2)
    all_levels, _ = engine.predict(None, None, 4)
    np.testing.assert_array_equal(levels, all_levels[:2])
    after, _ = engine.predict(np.array([5, 6], np.int32), state, 2)
    expected, _ = integer_step(model)(np.array([[6, 7, 0, 0]]), state)
    np.testing.assert_array_equal(after, expected[0, :2])
    with pytest.raises(CodesError, match="codes have n_q 5, the language model has 4 codebooks"):
        engine.predict(None, None, 5)
