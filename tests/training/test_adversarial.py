"""The stage of a decoder and its discriminator: codes stay, treble is looked at, and each side learns its own."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_material import ADVERSARIAL, AUTOENCODER, CROPS, RATE, TINY, voice, write_voices

from streamcodec.errors import InputError
from streamcodec.model.checkpoint import save
from streamcodec.model.encodec import EncodecModel
from streamcodec.training.data.coded import CodedBatches
from streamcodec.training.data.corpus import Corpus, Folder, build
from streamcodec.training.losses.discriminator import (
    Discriminator,
    DiscriminatorSettings,
    adversarial_loss,
    discriminator_loss,
    drawn_filters,
    feature_matching_loss,
    filtered,
    load_discriminator,
    save_discriminator,
)
from streamcodec.training.stages.adversarial import AdversarialLearner
from streamcodec.training.stages.autoencoder import AutoencoderLearner


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("audio")
    return build([Folder("voices", write_voices(root / "voices"))], root / "corpus")


@pytest.fixture(scope="module")
def base(corpus: Corpus) -> EncodecModel:
    return AutoencoderLearner(TINY, AUTOENCODER, corpus, None).average.eval()


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_all_of_the_decoder_moves_and_nothing_else_of_the_model(corpus: Corpus, base: EncodecModel, tmp_path: Path) -> None:
    learner = AdversarialLearner(base, ADVERSARIAL, corpus, tmp_path)
    for step in range(8):
        learner.step(step, 0.1)
    for model in (learner.model, learner.average):
        moved = {name for name, tensor in weights(model).items() if not torch.equal(tensor, base.state_dict()[name])}
        assert moved == {name for name in base.state_dict() if name.startswith("decoder.")}


def test_the_discriminator_learns_alone_at_first(corpus: Corpus, base: EncodecModel, tmp_path: Path) -> None:
    learner = AdversarialLearner(base, ADVERSARIAL, corpus, tmp_path)
    critic = weights(learner.discriminator)
    logged = [learner.step(step, 0.1) for step in range(4)]
    assert [set(row) >= {"features", "adversarial", "mel"} for row in logged] == [False, False, False, True]
    moved = {name for name, tensor in weights(learner.discriminator).items() if not torch.equal(tensor, critic[name])}
    assert {name for name in critic if not name.endswith("head.bias")} <= moved  # scores begin halfway between the hinges


def test_a_discriminator_tells_its_pairs_apart_in_time(corpus: Corpus, base: EncodecModel, tmp_path: Path) -> None:
    learner = AdversarialLearner(base, replace(ADVERSARIAL, discriminator_alone=100, discriminator_rate=3e-3), corpus, tmp_path)
    losses = [learner.step(step, 0.1)["critic"] for step in range(20)]
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])


def test_a_learner_goes_on_as_if_it_had_not_stopped(corpus: Corpus, base: EncodecModel, tmp_path: Path) -> None:
    first = AdversarialLearner(base, ADVERSARIAL, corpus, tmp_path / "coded")
    for step in range(6):
        first.step(step, 0.1)
    torch.save(first.state(), tmp_path / "state.pt")
    second = AdversarialLearner(base, ADVERSARIAL, corpus, tmp_path / "coded")
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert second.step(6, 0.1) == pytest.approx(first.step(6, 0.1), rel=0.01)


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(InputError, match="losses has pesq, expected some of mel"):
        replace(ADVERSARIAL, losses={"pesq": 1.0})


def coded_batches(corpus: Corpus, folder: Path, asked: list[int], count: int = 8) -> CodedBatches:
    def encode(samples: np.ndarray, n_q: int) -> np.ndarray:
        asked.append(n_q)
        return np.arange(len(samples) // TINY.hop_length)[None].repeat(n_q, axis=0) % 16

    return CodedBatches(corpus, CROPS, TINY.hop_length, 1, folder=folder, count=count, n_q=(1, 3), encode=encode, unused=16)


def test_streams_are_coded_once_and_go_on_from_batch_to_batch(corpus: Corpus, tmp_path: Path) -> None:
    asked: list[int] = []
    batches = coded_batches(corpus, tmp_path, asked)
    first = [batches(step) for step in range(8)]
    assert len(asked) == 8 and set(asked) == {1, 3}
    again = [coded_batches(corpus, tmp_path, asked)(step) for step in range(8)]
    assert len(asked) == 8
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.samples, b.samples) and torch.equal(a.codes, b.codes) and torch.equal(a.goes_on, b.goes_on)
    at_first, later = first[0], first[1]
    assert at_first.samples.shape == (4, 24 * TINY.hop_length) and at_first.codes.shape == (4, 3, 24)
    assert torch.equal(later.codes[0, 0], (at_first.codes[0, 0] + 24) % 16)  # the codes of the crop behind it
    assert {int((row == 16).all(dim=1).sum()) for row in at_first.codes} == {0, 2}  # codebooks that a row does without


def test_a_batch_needs_a_stream_for_each_row(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="streams is 3, expected at least 4"):
        coded_batches(corpus, tmp_path, [], count=3)


def test_the_discriminator_looks_at_treble_alone() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(RATE)
    x = torch.from_numpy(np.stack([voice(0.4, RATE, seed) for seed in range(2)]))
    t = torch.arange(x.shape[1]) / RATE
    with torch.no_grad():
        plain, low, high = (
            discriminator(x + tone) for tone in (torch.zeros(()), 0.1 * torch.sin(600.0 * t), 0.1 * torch.sin(2 * torch.pi * 5000.0 * t))
        )
    assert float(feature_matching_loss(plain, plain)) == 0.0
    assert float(feature_matching_loss(plain, low)) < 0.05 * float(feature_matching_loss(plain, high))


def test_hinge_losses_ask_for_opposite_scores() -> None:
    def judged(score: float) -> list[tuple[torch.Tensor, list[torch.Tensor]]]:
        return [(torch.full((2, 1, 3, 3), score), [])]

    assert float(discriminator_loss(judged(1.5), judged(-1.5))) == 0.0
    assert float(discriminator_loss(judged(0.0), judged(0.0))) == 2.0
    assert float(adversarial_loss(judged(0.7))) == pytest.approx(-0.7)


def test_filters_change_with_every_draw_and_turn_phases() -> None:
    x = torch.from_numpy(np.stack([voice(0.4, RATE, seed) for seed in range(2)]))
    first, second = (drawn_filters(x.shape[0], x.shape[1], torch.Generator().manual_seed(seed), 3.0) for seed in (0, 1))
    one = filtered(x, first)
    assert one.shape == x.shape
    assert float((one - filtered(x, second)).norm()) > 0.1 * float(x.norm())
    turning = drawn_filters(x.shape[0], x.shape[1], torch.Generator().manual_seed(0), 0.0)
    turned, double = filtered(x, turning), filtered(2.0 * x, turning)
    torch.testing.assert_close(double, 2.0 * turned)
    magnitudes = [torch.fft.rfft(side).abs()[:, 1:-1] for side in (x, turned)]  # the ends have no phase
    torch.testing.assert_close(magnitudes[0], magnitudes[1], atol=1e-3, rtol=1e-3)


def test_a_discriminator_is_read_as_it_was_written(tmp_path: Path) -> None:
    torch.manual_seed(0)
    settings = DiscriminatorSettings(windows=(256,), channels=(4, 8), lowest=500.0)
    written, path = Discriminator(RATE, settings), tmp_path / "deep" / "critic.safetensors"
    save_discriminator(written, path)
    read = load_discriminator(path)
    assert (read.rate, read.settings) == (RATE, settings)
    x = torch.from_numpy(voice(0.4, RATE, 0))[None]
    assert torch.equal(read(x)[0][0], written(x)[0][0])


def test_what_holds_no_discriminator_is_named(tmp_path: Path, base: EncodecModel) -> None:
    save(base, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors: its header has format 'streamcodec', expected 'streamcodec discriminator'"):
        load_discriminator(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="none"):
        load_discriminator(tmp_path / "none")


def test_a_discriminator_of_another_kind_is_refused(corpus: Corpus, base: EncodecModel, tmp_path: Path) -> None:
    other = Discriminator(RATE, DiscriminatorSettings(channels=(4,)))
    with pytest.raises(InputError, match=r"channels=\(4,\).* the stage wants .*channels=\(16, 32, 32, 32\)"):
        AdversarialLearner(base, ADVERSARIAL, corpus, tmp_path, other)


def test_a_discriminator_without_a_window_is_refused() -> None:
    with pytest.raises(InputError, match=r"windows is \(\)"):
        DiscriminatorSettings(windows=())


@pytest.mark.parametrize("step", [0, 3])
def test_all_of_a_step_is_computed_on_the_learners_device(
    corpus: Corpus, base: EncodecModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Tensors of the device "meta" have no values, but an operation that mixes them with the processor's fails as on a GPU."""
    AdversarialLearner(base, ADVERSARIAL, corpus, tmp_path).batches(step)  # codes its streams, which takes values
    monkeypatch.setattr("streamcodec.training.stages.decoding.bf16_where_fast", lambda _device: contextlib.nullcontext())
    learner = AdversarialLearner(base, ADVERSARIAL, corpus, tmp_path, device="meta")
    # The first number that the step has to say: a loss where the discriminator learns alone, the norm of a gradient later.
    with pytest.raises(RuntimeError, match=r"Tensor\.item\(\) cannot be called on meta tensors"):
        learner.step(step, 0.1)


def test_threads_share_the_rows_and_find_the_gradients_that_one_finds(corpus: Corpus, base: EncodecModel, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 3):
            learner = AdversarialLearner(base, replace(ADVERSARIAL, discriminator_alone=0), corpus, tmp_path)
            torch.set_num_threads(count)
            losses = learner.step(1, 0.1)
            assert torch.get_num_threads() == count
            learns = [*learner.model.decoder.parameters(), *learner.discriminator.parameters()]
            found.append((losses, [weight.grad for weight in learns], learner.streams.state["body"], learner.balancer.norms))
    finally:
        torch.set_num_threads(threads)
    (losses, gradients, states, norms), (shared_losses, shared_gradients, shared_states, shared_norms) = found
    # What is rounded otherwise is enlarged where distances have kinks.
    assert shared_losses == pytest.approx(losses, rel=0.01)
    assert {name: pytest.approx(values, rel=0.01) for name, values in norms.items()} == shared_norms
    for alone, shared in zip(gradients, shared_gradients, strict=True):
        assert alone is not None and shared is not None
        assert float((shared - alone).norm()) <= 0.03 * float(alone.norm()) + 1e-7
    for state, other in zip(states, shared_states, strict=True):
        torch.testing.assert_close(other, state, rtol=0.0, atol=1e-5)
