"""The stage that trains all of a model: what it moves, what it holds in place, and what it is told."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_material import AUTOENCODER, SMALL, TINY, write_voices

from streamcodec.errors import InputError
from streamcodec.model.encodec import macs_per_second
from streamcodec.training.data.corpus import Corpus, Folder, build
from streamcodec.training.losses.balancer import Balancer, scaled
from streamcodec.training.recipe import EMBEDDED
from streamcodec.training.stages.autoencoder import AutoencoderLearner
from streamcodec.training.stages.optimizers import averaging


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("audio")
    return build([Folder("voices", write_voices(root / "voices"))], root / "corpus")


def test_every_weight_and_bias_moves(corpus: Corpus) -> None:
    learner = AutoencoderLearner(TINY, AUTOENCODER, corpus, None)
    before = [p.detach().clone() for p in learner.optimizer.parameters]
    for step in range(100, 103):  # what starts at zero moves first, and then what is behind it
        learner.step(step, 0.0)
    assert all(not torch.equal(a, b) for a, b in zip(before, learner.optimizer.parameters, strict=True))


def test_latents_that_shout_cost_something(corpus: Corpus) -> None:
    """Codebooks follow the latents anywhere and the commitment is relative: without this term nothing holds their scale."""

    def regular(loudness: float) -> float:
        learner = AutoencoderLearner(TINY, AUTOENCODER, corpus, None)
        with torch.no_grad():
            for parameter in learner.model.encoder.layers[-1].parameters():
                parameter.mul_(loudness)
        return learner.step(0, 0.5)["regular"]

    assert regular(10.0) > regular(1.0) + 0.5


def test_losses_fall(corpus: Corpus) -> None:
    learner = AutoencoderLearner(TINY, AUTOENCODER, corpus, None)
    logged = [learner.step(step, step / 30) for step in range(30)]
    for name in ("mel", "stoi"):
        assert sum(row[name] for row in logged[-8:]) < sum(row[name] for row in logged[:8])


def test_it_takes_a_model_on_from_where_it_was(corpus: Corpus) -> None:
    base = AutoencoderLearner(TINY, AUTOENCODER, corpus, None).average
    learner = AutoencoderLearner(TINY, replace(AUTOENCODER, encoder_rate=0.5), corpus, base)
    assert torch.equal(learner.rvq.embed, base.quantizer.embed)
    used = learner.rvq.counts.sum(dim=1)
    assert used.tolist() == pytest.approx([SMALL.batch * SMALL.crop_frames] * TINY.num_quantizers, rel=0.01)
    learner.step(AUTOENCODER.steps, 1.0)
    assert [group["lr"] for group in learner.optimizer.muon.param_groups] == pytest.approx([0.5 * 0.02 * 3e-4, 0.02 * 3e-4], rel=0.01)


def test_what_comes_out_too_quiet_is_brought_up(corpus: Corpus) -> None:
    base = AutoencoderLearner(TINY, AUTOENCODER, corpus, None).average
    with torch.no_grad():
        base.decoder.layers[-1].conv.weight.mul_(0.5)  # type: ignore[union-attr, operator]
    louder = {}
    for weight in (0.0, 1.0):
        losses = {"mel": 1e-6, "level": weight}
        learner = AutoencoderLearner(TINY, replace(AUTOENCODER, losses=losses, pulls={}), corpus, base)
        for step in range(10):
            learner.step(step, 0.0)
        x = learner.batches(0)
        with torch.no_grad():
            louder[weight] = float(learner.model.decoder(learner.model.encoder(x, None, True)[0], None, True)[0].square().mean())
    assert louder[1.0] > louder[0.0]


@given(st.floats(0.0, 1.5))
def test_the_learning_rate_stays_within_its_bounds(progress: float) -> None:
    assert 0.02 - 1e-9 <= AUTOENCODER.factor(10_000, progress) <= 1.0


def test_the_learning_rate_has_no_jump_and_ends_low() -> None:
    rates = [AUTOENCODER.factor(10_000, p / 1000) for p in range(1001)]
    assert max(abs(a - b) for a, b in itertools.pairwise(rates)) < 0.01
    assert rates[0] == 1.0 and rates[-1] == pytest.approx(0.02)
    assert replace(AUTOENCODER, warmup_steps=200).factor(0, 0.0) < 0.01


def test_averages_grow_longer() -> None:
    assert averaging(0.999, 0) < 0.2 and averaging(0.999, 10**6) == 0.999


def test_a_loss_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="losses has pesq, expected some of mel"):
        replace(AUTOENCODER, losses={"pesq": 1.0})
    with pytest.raises(InputError, match="pulls has mel, expected some of pesq"):
        replace(AUTOENCODER, pulls={"mel": 1.0})


def test_each_row_is_pulled_by_its_share() -> None:
    at_y, pull = torch.randn(3, 50), torch.randn(3, 50) * torch.tensor([[1e-3], [1.0], [1e3]])
    found = scaled(pull, at_y, 0.5)
    torch.testing.assert_close(found.norm(dim=1), 0.5 * at_y.norm(dim=1), rtol=1e-3, atol=0.0)
    torch.testing.assert_close(torch.cosine_similarity(found, pull, dim=1), torch.ones(3))
    assert torch.equal(scaled(torch.zeros(3, 50), at_y, 0.5), torch.zeros(3, 50))


def test_losses_of_any_size_share_a_gradient_by_their_weights() -> None:
    balancer = Balancer({"small": 1.0, "large": 3.0, "none": 0.0})
    for _ in range(3):
        y = torch.zeros(2, 50, requires_grad=True)
        total = balancer({"small": 1e-4 * y[0].sum(), "large": 1e4 * y[1].sum()}, y)
    torch.testing.assert_close(total.norm(dim=1), torch.tensor([0.25, 0.75]), rtol=1e-4, atol=0.0)


def test_the_embedded_model_keeps_within_its_means() -> None:
    macs = macs_per_second(EMBEDDED)
    assert max(macs["encoder"], macs["decoder"]) <= 400e6
    assert TINY.num_quantizers == 4


def test_a_learner_goes_on_as_if_it_had_not_stopped(corpus: Corpus, tmp_path: Path) -> None:
    first = AutoencoderLearner(TINY, AUTOENCODER, corpus, None)
    for step in range(3):
        first.step(step, 0.1)
    torch.save(first.state(), tmp_path / "state.pt")
    second = AutoencoderLearner(TINY, AUTOENCODER, corpus, None, fresh=False)
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert second.step(3, 0.1) == pytest.approx(first.step(3, 0.1), rel=0.01)
