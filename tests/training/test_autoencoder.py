"""The stage that trains all of a model: what it moves, what it holds in place, and what it is told."""

from __future__ import annotations

import contextlib
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
from streamcodec.training.stages.optimizers import Muon, averaging, orthogonal


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


@pytest.mark.parametrize(("n_q", "moves"), [(2, False), (4, True)])
def test_waveforms_band_by_band_are_asked_of_the_upper_codebooks_alone(corpus: Corpus, n_q: int, moves: bool) -> None:
    after = []
    for weight in (0.0, 5.0):
        losses = {"mel": 1.0, "band_snr": weight}
        settings = replace(AUTOENCODER, n_q=(n_q,), losses=losses, pulls={}, band_snr_from=4)
        learner = AutoencoderLearner(TINY, settings, corpus, None)
        for step in range(100, 102):
            logged = learner.step(step, 0.0)
        after.append([p.detach().clone() for p in learner.optimizer.parameters])
        assert (logged["band_snr"] != 0.0) == moves
    assert any(not torch.equal(a, b) for a, b in zip(*after, strict=True)) == moves


def test_latents_that_are_too_large_are_penalised(corpus: Corpus) -> None:
    """Codebooks follow the latents anywhere and the commitment is relative: without this term nothing holds their scale."""

    def regular(loudness: float) -> float:
        learner = AutoencoderLearner(TINY, AUTOENCODER, corpus, None)
        with torch.no_grad():
            for parameter in learner.model.encoder.layers[-1].parameters():
                parameter.mul_(loudness)
        return learner.step(0, 0.5)["regular"]

    assert regular(10.0) > regular(1.0) + 0.5


def test_losses_fall_during_training(corpus: Corpus) -> None:
    learner = AutoencoderLearner(TINY, AUTOENCODER, corpus, None)
    before = [learner.step(step, step / 30) for step in range(30)][:8]
    after = [learner.step(step, 1.0) for step in range(8)]  # the same crops and draws
    for name in ("mel", "stoi"):
        assert sum(row[name] for row in after) < sum(row[name] for row in before)


def test_a_stage_continues_to_train_the_given_model(corpus: Corpus) -> None:
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


def test_an_unknown_loss_is_refused() -> None:
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
        total = balancer.weighed(balancer.gradients({"small": 1e-4 * y[0].sum(), "large": 1e4 * y[1].sum()}, y))
    torch.testing.assert_close(total.norm(dim=1), torch.tensor([0.25, 0.75]), rtol=1e-4, atol=0.0)


def test_one_pass_back_gives_what_measured_norms_give() -> None:
    y = torch.randn(2, 50, generator=torch.Generator().manual_seed(0)).requires_grad_()
    losses = {"square": y.square().sum(), "line": 1e4 * y.abs().sum()}
    balancer = Balancer({"square": 1.0, "line": 3.0})
    measured = balancer.weighed(balancer.gradients(losses, y, measure=False))  # nothing is known yet
    assert balancer.norms["square"][1] == 1.0
    torch.testing.assert_close(balancer.weighed(balancer.gradients(losses, y, measure=False)), measured)
    assert balancer.norms["square"][1] == 1.0


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


def test_steps_are_those_of_muon() -> None:
    """PyTorch's takes its steps in bfloat16, so they are alike and no more."""
    generator = torch.Generator().manual_seed(0)
    for shape in ((48, 16), (16, 48)):
        ours, theirs = (torch.nn.Parameter(torch.zeros(shape)) for _ in range(2))
        mine = Muon([{"params": [ours]}], 1e-3)
        reference = torch.optim.Muon([theirs], 1e-3, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        for _ in range(3):
            ours.grad = torch.randn(shape, generator=generator)
            theirs.grad = ours.grad.clone()
            mine.step()
            reference.step()  # type: ignore[no-untyped-call]
        assert float((ours - theirs).detach().norm()) < 0.03 * float(theirs.detach().norm())


def test_an_orthogonalised_step_has_nearly_equal_singular_values() -> None:
    matrix = torch.randn(24, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 0, 24)[:, None]
    values = torch.linalg.svdvals(orthogonal(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7))
    assert float(values.min()) > 0.4 and float(values.max()) < 1.3


def test_all_of_a_step_is_computed_on_the_learners_device(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors of the device "meta" have no values, but an operation that mixes them with the processor's fails as on a GPU."""
    with pytest.raises(RuntimeError, match=r"same device|meta"):
        torch.zeros(2) + torch.zeros(2, device="meta")
    for module in ("decoding", "autoencoder"):
        monkeypatch.setattr(f"streamcodec.training.stages.{module}.bf16_where_fast", lambda _device: contextlib.nullcontext())
    losses = {"mel": 1.0, "relative": 1.0, "noise": 1.0, "snr": 1.0, "level": 1.0, "band_snr": 1.0}
    pulls = {"pesq": 1.0, "stoi": 1.0, "nsim": 1.0}
    learner = AutoencoderLearner(TINY, replace(AUTOENCODER, losses=losses, pulls=pulls), corpus, None, device="meta")
    learner.rvq.eval()  # codebooks that count how often an entry is used need values
    # The first number that the step has to say is behind the decoder and all losses.
    with pytest.raises(RuntimeError, match=r"Tensor\.item\(\) cannot be called on meta tensors"):
        learner.step(1, 0.0)


def test_threads_share_the_rows_and_find_the_gradients_that_one_finds(corpus: Corpus) -> None:
    threads = torch.get_num_threads()
    settings = replace(AUTOENCODER, losses={**AUTOENCODER.losses, "level": 0.3, "band_snr": 1.0}, band_snr_from=2)
    found = []
    try:
        for count in (1, 3):
            learner = AutoencoderLearner(TINY, settings, corpus, None)
            torch.set_num_threads(count)
            losses = learner.step(1, 0.1)
            assert torch.get_num_threads() == count
            gradients = [weight.grad for weight in learner.optimizer.parameters]
            tensors = [*learner.streams.state["encoder"], *learner.streams.state["body"], learner.rvq.embed, learner.straight.cross]
            found.append((losses, gradients, tensors))
    finally:
        torch.set_num_threads(threads)
    (losses, gradients, tensors), (shared_losses, shared_gradients, shared_tensors) = found
    assert {"mel", "level", "band_snr", "pesq", "regular"} <= losses.keys()
    assert shared_losses == pytest.approx(losses, rel=1e-3)
    for alone, shared in zip(gradients, shared_gradients, strict=True):
        assert alone is not None and shared is not None
        assert float((shared - alone).norm()) <= 0.01 * float(alone.norm()) + 1e-7
    for tensor, other in zip(tensors, shared_tensors, strict=True):
        torch.testing.assert_close(other, tensor, rtol=1e-3, atol=1e-3)
