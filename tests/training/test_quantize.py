"""Codebooks follow the latents, come back from the dead, and code as the inference quantizer does."""

from __future__ import annotations

import pytest
import torch

from streamcodec.model.quantizer import ResidualVQ
from streamcodec.training.stages.quantize import LearningRVQ, as_vectors, kmeans, perplexity, refitted


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents(batch: int = 4, frames: int = 30, dim: int = 6) -> torch.Tensor:
    return torch.randn(batch, dim, frames, generator=generator(3))


def started(n_q: int = 4, size: int = 16, z: torch.Tensor | None = None, beam: int = 1) -> LearningRVQ:
    z = latents() if z is None else z
    rvq = LearningRVQ(n_q, size, z.shape[1], beam=beam, stops=[n_q // 2, n_q])
    rvq.start(z.transpose(1, 2).reshape(-1, z.shape[1]), z.shape[0] * z.shape[2], generator())
    return rvq


def test_kmeans_finds_separate_clusters() -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = (centres[:, None] + 0.1 * torch.randn(3, 50, 2, generator=generator())).reshape(-1, 2)
    found, sizes = kmeans(points, 3, 20, generator(1))
    assert sizes.sum() == 150
    assert torch.cdist(centres, found).min(dim=1).values.max() < 0.2


def test_kmeans_takes_fewer_points_than_centres() -> None:
    found, _ = kmeans(torch.ones(3, 2), 8, 2, generator())
    assert torch.equal(found, torch.ones(8, 2))


def test_each_codebook_brings_the_latents_closer() -> None:
    z = latents()
    rvq = started().eval()
    errors = [float((rvq(z, torch.full((4,), n))[0] - z).square().mean()) for n in (1, 2, 3, 4)]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("beam", [1, 3])
def test_codes_are_those_of_the_inference_quantizer(beam: int) -> None:
    z, rvq = latents(), started(beam=beam).eval()
    plain = ResidualVQ(4, 16, 6, beam, [2, 4])
    plain.embed.copy_(rvq.embed)
    quantized, _, codes = rvq(z, torch.full((4,), 4))
    assert torch.equal(codes, plain.encode(z, 4))
    torch.testing.assert_close(quantized, plain.decode(codes))


def test_rows_of_one_batch_use_different_numbers_of_codebooks() -> None:
    z, rvq = latents(), started().eval()
    mixed = rvq(z, torch.tensor([1, 2, 3, 4]))[0]
    for row, n in enumerate((1, 2, 3, 4)):
        torch.testing.assert_close(mixed[row], rvq(z, torch.full((4,), n))[0][row])


def test_the_commitment_loss_pulls_latents_towards_their_codes() -> None:
    z, rvq = latents().requires_grad_(True), started().eval()
    quantized, commitment, _ = rvq(z, torch.full((4,), 2))
    assert not quantized.requires_grad
    pull = torch.autograd.grad(commitment, z)[0]
    assert float((pull * (z - quantized).detach()).sum()) > 0.0


def test_codebooks_follow_latents_that_move() -> None:
    z, rvq = latents(), started().train()
    rvq.decay = 0.8
    before = float((rvq.eval()(z + 3.0, torch.full((4,), 4))[0] - z - 3.0).square().mean())
    rvq.train()
    for _ in range(60):
        rvq(z + 3.0, torch.full((4,), 4))
        rvq.settle()
        rvq.revive(z + 3.0, generator())
    after = float((rvq.eval()(z + 3.0, torch.full((4,), 4))[0] - z - 3.0).square().mean())
    assert after < 0.2 * before


def test_upper_codebooks_learn_though_no_row_uses_them() -> None:
    rvq = started().train()
    before = rvq.counts[3].clone()
    rvq(latents(), torch.ones(4, dtype=torch.int64))
    assert not torch.equal(rvq.counts[3], before)


def test_evaluation_changes_nothing() -> None:
    rvq = started().eval()
    before = {k: v.clone() for k, v in rvq.state_dict().items()}
    rvq(latents(), torch.full((4,), 4))
    assert all(torch.equal(v, before[k]) for k, v in rvq.state_dict().items())


def test_dead_codes_move_into_the_data_and_live_ones_stay() -> None:
    z, rvq = latents(), started()
    rvq.embed[1, 5] = 1e3
    rvq.counts[1, 5] = 0.0
    before = rvq.embed.clone()
    moved = rvq.revive(z, generator())
    assert bool(moved[1, 5]) and float(rvq.embed[1, 5].abs().max()) < 10.0
    assert torch.equal(rvq.embed[~moved], before[~moved])
    rvq.settle()
    torch.testing.assert_close(rvq.embed[1, 5], rvq.sums[1, 5] / rvq.counts[1, 5])


def test_perplexity_counts_the_entries_in_use() -> None:
    codes = torch.stack([torch.arange(8).repeat(10), torch.zeros(80, dtype=torch.int64)])[None]
    torch.testing.assert_close(perplexity(codes, 16), torch.tensor([8.0, 1.0]))


def test_refitting_brings_codebooks_closer_to_latents_they_have_not_seen() -> None:
    chance = generator(5)
    mixing = torch.randn(6, 6, generator=chance)
    many = torch.randn(4, 6, 3000, generator=chance).transpose(1, 2) @ mixing
    few, many, other = many[:1, :60].transpose(1, 2), many[:3].transpose(1, 2), many[3:].transpose(1, 2)
    rvq = started(4, 16, few).eval()
    n_q = torch.full((1,), 4)
    before = float((rvq(other, n_q)[0] - other).square().mean())
    rvq.embed.copy_(refitted(rvq.embed, as_vectors(many), 5))
    assert float((rvq(other, n_q)[0] - other).square().mean()) < 0.8 * before


def test_refitting_keeps_what_nothing_needs() -> None:
    rvq = started()
    rvq.embed[2, 7] = 1e3
    moved = refitted(rvq.embed, as_vectors(latents()), 1)
    assert torch.equal(moved[2, 7], rvq.embed[2, 7])
    assert not torch.equal(moved, rvq.embed)
