"""A recipe is a file: those that are shipped are whole, and a mistake in one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamcodec.errors import InputError
from streamcodec.training.recipe import EMBEDDED, load_recipe, shipped_recipes
from streamcodec.training.stages.adversarial import AdversarialSettings


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_can_be_read(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name and recipe.stages
    assert (recipe.base is None) == (name == "from-nothing")
    assert recipe.config == EMBEDDED


def test_the_recipe_of_the_embedded_model_says_what_it_begins_with() -> None:
    recipe = load_recipe("speech-24k")
    assert recipe.base == "speech-24k" and recipe.fingerprint is not None and len(recipe.fingerprint) == 32


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_settings_are_read_with_their_types(tmp_path: Path) -> None:
    recipe = load_recipe(
        written(
            tmp_path,
            """
            [model]
            num_filters = 4
            target_bandwidths = [1.5, 3]
            [[stages]]
            kind = "adversarial"
            steps = 7
            rate = 1
            n_q = [2, 4]
            losses = { features = 1, adversarial = 0.5 }
            crops = { batch = 2, augmentation = { speed = 0 } }
            """,
        )
    )
    assert (recipe.name, recipe.base, recipe.config.num_filters, recipe.config.target_bandwidths) == ("mine", None, 4, (1.5, 3))
    settings = recipe.stages[0].settings
    assert isinstance(settings, AdversarialSettings)
    assert (settings.steps, settings.rate, settings.n_q, settings.losses) == (7, 1.0, (2, 4), {"features": 1.0, "adversarial": 0.5})
    assert (settings.crops.batch, settings.crops.crop_frames, settings.crops.augmentation.speed) == (2, 48, 0.0)
    assert recipe.stages[0].to_dict()["crops"]["augmentation"]["reverb"] == 0.08


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages = 1", "0 stages, expected at least one"),
        ("", "0 stages, expected at least one"),
        ("colour = 1", "colour is unknown, expected base or model, and stages"),
        ("base = 'a'\n[model]\n[[stages]]\nkind = 'codebooks'", "both base and model are given"),
        ("[model]\nwidth = 3\n[[stages]]\nkind = 'codebooks'", "model: width is unknown, expected some of"),
        ("[[stages]]\nkind = 'magic'", "stage 1: kind is magic, expected one of autoencoder"),
        ("[[stages]]\nkind = 'codebooks'\n[[stages]]\nkind = 'adversarial'", r"stage 2 \(adversarial\): steps is missing"),
        ("[[stages]]\nkind = 'codebooks'\nbatch = 1", r"stage 1 \(codebooks\): batch is unknown, expected some of batches"),
        ("[[stages]]\nkind = 'codebooks'\nbatches = 'many'", "batches is 'many', expected a whole number"),
        ("[[stages]]\nkind = 'codebooks'\nbatches = true", "batches is True, expected a whole number"),
        ("[[stages]]\nkind = 'adversarial'\nsteps = 1\nrate = 'fast'", "rate is 'fast', expected a number"),
        ("[[stages]]\nkind = 'adversarial'\nsteps = 1\nn_q = 2", "n_q is 2, expected a list of numbers"),
        ("[[stages]]\nkind = 'adversarial'\nsteps = 1\nlosses = { pesq = 1 }", "losses has pesq, expected some of"),
        ("[[stages]]\nkind = 'adversarial'\nsteps = 1\nlosses = { mel = 'much' }", "losses.mel is 'much', expected a number"),
        ("[[stages", "mine.toml: "),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe(written(tmp_path, text))


def test_a_recipe_that_is_not_there_says_which_are() -> None:
    with pytest.raises(InputError, match=r"nowhere: no such recipe, expected a \.toml file or one of .*speech-24k"):
        load_recipe("nowhere")
