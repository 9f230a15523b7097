"""One step: what its losses hold in place, and what it moves, whatever the phase."""

from __future__ import annotations

import pytest
import torch
from training_material import SHORT, TINY

from streamcodec.training.recipe import Phase
from streamcodec.training.step import Learner, _scaled


def entered(learner: Learner, phase: Phase) -> torch.Tensor:
    """Put a learner into `phase`; returns a batch to learn from."""
    chance = torch.Generator().manual_seed(1)
    learner.start(0.1 * torch.randn(24, 64 * TINY.hop_length, generator=chance), (0.1 * torch.randn(4, 1, 5120, generator=chance),))
    learner.phase = phase
    return 0.1 * torch.randn(SHORT.batch, 1, SHORT.crop_frames * TINY.hop_length, generator=chance)


@pytest.mark.parametrize("phase", Phase)
def test_every_weight_and_bias_moves(phase: Phase) -> None:
    learner = Learner(TINY, SHORT)
    x = entered(learner, phase)
    before = [p.detach().clone() for p in learner.parameters]
    for step in range(100, 103):  # what starts at zero moves first, and then what is behind it
        learner.step(x, step, 0.0)
    assert all(not torch.equal(a, b) for a, b in zip(before, learner.parameters, strict=True))


@pytest.mark.parametrize("phase", Phase)
def test_latents_that_shout_cost_something_in_every_phase(phase: Phase) -> None:
    """Codebooks follow the latents anywhere and the commitment is relative: without this term nothing holds their scale."""

    def regular(loudness: float) -> float:
        learner = Learner(TINY, SHORT)
        x = entered(learner, phase)
        with torch.no_grad():
            for parameter in learner.model.encoder.layers[-1].parameters():
                parameter.mul_(loudness)
        return learner.step(x, 0, 0.5)["regular"]

    assert regular(10.0) > regular(1.0) + 0.5


def test_each_row_is_pulled_by_its_share() -> None:
    at_y, pull = torch.randn(3, 50), torch.randn(3, 50) * torch.tensor([[1e-3], [1.0], [1e3]])
    scaled = _scaled(pull, at_y, 0.5)
    torch.testing.assert_close(scaled.norm(dim=1), 0.5 * at_y.norm(dim=1), rtol=1e-3, atol=0.0)
    torch.testing.assert_close(torch.cosine_similarity(scaled, pull, dim=1), torch.ones(3))
    assert torch.equal(_scaled(torch.zeros(3, 50), at_y, 0.5), torch.zeros(3, 50))
