"""The schedule is arithmetic: phases in order, smooth learning rates, a budget that can grow."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_material import SHORT, TINY

from streamcodec.errors import InputError
from streamcodec.model.encodec import macs_per_second
from streamcodec.training.recipe import EMBEDDED, Phase, Recipe


def test_phases_follow_one_another() -> None:
    phases = [Recipe().phase(p / 100) for p in range(101)]
    assert phases == sorted(phases) and set(phases) == set(Phase)


@given(st.floats(0.0, 1.5))
def test_the_learning_rate_stays_within_its_bounds(progress: float) -> None:
    assert 0.02 - 1e-9 <= Recipe().rate(10_000, progress) <= 1.0


def test_the_learning_rate_has_no_jump_and_ends_low() -> None:
    rates = [Recipe().rate(10_000, p / 1000) for p in range(1001)]
    assert max(abs(a - b) for a, b in itertools.pairwise(rates)) < 0.01
    assert rates[0] == 1.0 and rates[-1] == pytest.approx(0.02)
    assert Recipe().rate(0, 0.0) < 0.01


def test_the_waveform_counts_less_later_and_averages_grow_longer() -> None:
    weights = [Recipe().snr_weight(p / 100) for p in range(101)]
    assert weights == sorted(weights, reverse=True)
    assert Recipe().averaging(0) < 0.2 and Recipe().averaging(10**6) == 0.999


def test_progress_counts_steps_where_given_and_hours_otherwise() -> None:
    assert Recipe(hours=10.0).progress(5, 2.5) == 0.25
    assert Recipe(hours=10.0, steps=10).progress(5, 2.5) == 0.5
    assert Recipe(hours=10.0).with_budget(20.0, None).progress(5, 2.5) == 0.125


def test_a_recipe_survives_its_checkpoint() -> None:
    for recipe in (Recipe(), SHORT):
        assert Recipe.from_dict(recipe.to_dict()) == recipe
        assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_a_budget_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match=r"adversarial_from is -0\.1, expected a share"):
        Recipe(adversarial_from=-0.1)
    with pytest.raises(InputError, match="hours is 0"):
        Recipe(hours=0.0)


def test_the_embedded_model_keeps_within_its_means() -> None:
    macs = macs_per_second(EMBEDDED)
    assert max(macs["encoder"], macs["decoder"]) <= 400e6
    assert TINY.num_quantizers == 4
