"""One step: what its losses hold in place, and what it moves, whatever the phase."""

from __future__ import annotations

import pytest
import torch
from training_material import SHORT, TINY

from streamcodec.training.recipe import Phase
from streamcodec.training.step import Learner


def entered(learner: Learner, phase: Phase) -> torch.Tensor:
    """Put a learner into `phase`; returns a batch to learn from."""
    x = 0.1 * torch.randn(SHORT.batch, 1, 16 * TINY.hop_length, generator=torch.Generator().manual_seed(1))
    if phase is not Phase.AUTOENCODER:
        latents = learner.model.encoder(x, None, True)[0]
        learner.start_codebooks(latents.transpose(1, 2).reshape(-1, latents.shape[1]).detach())
    learner.phase = phase
    return x


@pytest.mark.parametrize("phase", Phase)
def test_every_weight_and_bias_moves(phase: Phase) -> None:
    learner = Learner(TINY, SHORT)
    x = entered(learner, phase)
    before = [p.detach().clone() for p in learner.parameters]
    learner.step(x, 100, 0.0)
    assert all(not torch.equal(a, b) for a, b in zip(before, learner.parameters, strict=True))


@pytest.mark.parametrize("phase", Phase)
def test_latents_that_shout_cost_something_in_every_phase(phase: Phase) -> None:
    """Codebooks follow the latents anywhere and the commitment is relative: without this term their scale runs away."""

    def regular(loudness: float) -> float:
        learner = Learner(TINY, SHORT)
        with torch.no_grad():
            for parameter in learner.model.encoder.layers[-1].parameters():
                parameter.mul_(loudness)
        return learner.step(entered(learner, phase), 0, 0.5)["regular"]

    assert regular(1000.0) > regular(1.0) + 0.5
