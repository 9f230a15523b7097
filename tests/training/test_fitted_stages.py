"""Stages that fit something at once: what they change of a model, and that the rest stays."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from training_material import AUTOENCODER, RATE, TINY, voice, write_voices

from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel
from streamcodec.training.data.corpus import Folder, build
from streamcodec.training.losses.spectral import SpectralLoss
from streamcodec.training.stages.autoencoder import AutoencoderLearner
from streamcodec.training.stages.averaging import averaged
from streamcodec.training.stages.codebooks import refit
from streamcodec.training.stages.latents import weighed
from streamcodec.training.stages.rounding import rounded


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> EncodecModel:
    """A model that has begun to learn: it says something, if little."""
    root = tmp_path_factory.mktemp("audio")
    corpus = build([Folder("voices", write_voices(root / "voices"))], root / "corpus")
    learner = AutoencoderLearner(TINY, AUTOENCODER, corpus, None)
    for step in range(100, 104):
        learner.step(step, 0.0)
    return learner.average.requires_grad_(False)


def heard(seconds: float = 4.0, count: int = 1) -> torch.Tensor:
    return torch.stack([torch.from_numpy(voice(seconds, RATE, 9 + seed)) for seed in range(count)])[:, None]


def changed(before: EncodecModel, after: EncodecModel) -> set[str]:
    """The names of the tensors in which two models differ."""
    return {name for name, tensor in before.state_dict().items() if not torch.equal(tensor, after.state_dict()[name])}


def test_codebooks_are_fitted_and_the_rest_is_left(begun: EncodecModel) -> None:
    assert changed(begun, refit(begun, [heard()])) == {"quantizer.embed"}
    with pytest.raises(InputError, match=r"^0 frames of audio, expected at least 16"):
        refit(begun, [])


def test_rounding_an_encoder_to_bfloat16_keeps_its_mean_latents(begun: EncodecModel) -> None:
    x = heard()
    after, merely = rounded(begun, [x]), deepcopy(begun)
    assert all(name.startswith("encoder.") for name in changed(begun, after))
    matrices = [p for p in after.encoder.parameters() if p.ndim > 1]
    assert matrices and all(torch.equal(p, p.bfloat16().float()) for p in matrices)
    with torch.no_grad():
        for p in merely.encoder.parameters():
            if p.ndim > 1:
                p.copy_(p.bfloat16())
        latents, corrected, shifted = (m.encoder(x, None, True)[0].mean(dim=2) for m in (begun, after, merely))
    assert (corrected - latents).norm() < 0.05 * (shifted - latents).norm()
    with pytest.raises(InputError, match="0 batches of audio, expected at least 1"):
        rounded(begun, [])


def test_weighted_latents_give_the_same_samples(begun: EncodecModel) -> None:
    x = heard(2.0)
    after = weighed(begun, [x])
    deepest = len(begun.encoder.layers) - 1
    turned = {f"encoder.layers.{deepest}.conv.weight", f"encoder.layers.{deepest}.conv.bias", "decoder.layers.0.conv.weight"}
    assert changed(begun, after) == {*turned, "quantizer.embed"}
    with torch.no_grad():
        said = [m.decoder(m.encoder(x, None, True)[0], None, True)[0] for m in (begun, after)]
        torch.testing.assert_close(said[1], said[0], rtol=0.0, atol=1e-4)
        powers = [m.encoder(x, None, True)[0].square().mean() for m in (begun, after)]
    assert 0.5 < powers[1] / powers[0] < 2.0
    with pytest.raises(InputError, match=r"strength is 1\.5, expected 0 to 1"):
        weighed(begun, [x], 1.5)
    with pytest.raises(InputError, match="0 batches of audio, expected at least 1"):
        weighed(begun, [])


def test_weighted_latents_keep_precision_for_what_is_audible(begun: EncodecModel) -> None:
    model, deaf = deepcopy(begun), [1, 4, 6]
    x = heard()
    with torch.no_grad():
        model.decoder.layers[0].conv.weight[:, deaf] = 0.0  # type: ignore[union-attr, operator, index]
        before, half, whole = (m.encoder(x, None, True)[0][0].std(dim=1) for m in (model, weighed(model, [x]), weighed(model, [x], 1.0)))
        kept = [i for i in range(model.config.codebook_dim) if i not in deaf]
        for after, most in ((half, 0.5), (whole, 0.1)):
            assert (after[deaf] / before[deaf]).max() < most * (after[kept] / before[kept]).max()


def test_weighted_latents_lose_less_in_the_codebooks(begun: EncodecModel) -> None:
    """Latents whose directions have wrong sizes are weighed anew; codebooks are fitted to either, and nothing else learns."""
    model = deepcopy(begun)
    x = heard(count=4)
    sizes = torch.logspace(-0.6, 0.6, model.config.codebook_dim)
    with torch.no_grad():
        last, first = model.encoder.layers[-1].conv, model.decoder.layers[0].conv  # type: ignore[union-attr]
        last.weight.mul_(sizes[:, None, None])  # type: ignore[union-attr, operator]
        last.bias.mul_(sizes)  # type: ignore[union-attr, operator]
        first.weight.div_(sizes[:, None])  # type: ignore[union-attr, operator]
    lost = []
    for mine in (model, weighed(model, [x])):
        fitted = refit(mine, [x], iterations=20)
        with torch.no_grad():
            latents = fitted.encoder(x, None, True)[0]
            coded = fitted.quantizer.decode(fitted.quantizer.encode(latents, fitted.config.num_quantizers))
            said, whole = (fitted.decoder(z, None, True)[0][:, 0] for z in (coded, latents))
            lost.append(float(SpectralLoss(RATE)(said, whole).mel))
    assert lost[1] < lost[0]


def test_two_models_are_averaged(begun: EncodecModel) -> None:
    other = deepcopy(begun)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.add_(1.0)
    after = averaged(begun, other, 0.25).state_dict()
    assert all(torch.allclose(after[name], tensor + 0.25, atol=1e-6) for name, tensor in begun.state_dict().items())
    with pytest.raises(InputError, match=r"share is 1\.5, expected 0 to 1"):
        averaged(begun, other, 1.5)
    with pytest.raises(InputError, match="different configurations"):
        averaged(begun, EncodecModel(begun.config.from_dict({**begun.config.to_dict(), "search_beam": 2})))
