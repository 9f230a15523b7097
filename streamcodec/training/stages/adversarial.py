"""A decoder trained against a discriminator, alone: encoder and codebooks are frozen, so codes stay what they are.

What no waveform is coded of, its texture, no distance between waveforms or spectra can ask for: their best answer is a mean, which nobody
ever said. A discriminator is told recordings from reconstructions, and the decoder learns to be taken for a recording: by its score, and
by the distance between features of both (feature matching), which takes the place of losses on the waveform. The encoder is not shown
any of it: a discriminator's gradients may harm codebooks. Follows AudioDec (Wu et al., 2023) in what is frozen, and EnCodec (Défossez et
al., 2022) in losses and their balance.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel
from streamcodec.training.data.batches import Crops
from streamcodec.training.data.coded import CodedBatches
from streamcodec.training.data.corpus import Corpus
from streamcodec.training.losses.balancer import Balancer
from streamcodec.training.losses.discriminator import (
    Discriminator,
    DiscriminatorSettings,
    adversarial_loss,
    alike,
    discriminator_loss,
    feature_matching_loss,
)
from streamcodec.training.losses.spectral import SpectralLoss
from streamcodec.training.stages.decoding import StatefulDecoder
from streamcodec.training.stages.optimizers import Optimizers, averaging, follow, half_cosine, warming
from streamcodec.training.stages.streams import Streams
from streamcodec.types import Samples

__all__ = ["AdversarialLearner", "AdversarialSettings"]


_MEASURE_STEPS = 8  # how often the norms of the losses' gradients are measured: they change slowly, and cost a pass back each


@dataclass(frozen=True)
class AdversarialSettings:
    """An adversarial stage: `losses` are shares of the gradient; the decoder begins to learn after `discriminator_alone` steps.

    `streams` are coded once and heard over and over, each with a number of codebooks from `n_q`; at `late_joins` of the crops the decoder
    begins anew in the middle of a stream. The discriminator hears both sides through one filter, drawn anew for each crop, that turns
    phases and tilts the spectrum by up to `tilt_db` an octave. The loss `noise` counts up to `noise_below` Hz. Rates go up over
    `warmup_steps`, and down to 2% by half a cosine from `decay_from` of the steps on.
    """

    steps: int
    seed: int = 0
    crops: Crops = field(default_factory=lambda: Crops(batch=8))
    streams: int = 1500
    n_q: tuple[int, ...] = (2, 4, 8, 8, 16, 32)
    late_joins: float = 0.05
    losses: Mapping[str, float] = field(default_factory=lambda: {"mel": 1.0, "features": 3.0, "adversarial": 3.0})
    discriminator: DiscriminatorSettings = field(default_factory=DiscriminatorSettings)
    noise_below: float = 2000.0
    tilt_db: float = 3.0
    discriminator_alone: int = 100
    rate: float = 2e-4
    small_rate: float = 3e-5
    discriminator_rate: float = 3e-4
    betas: tuple[float, float] = (0.8, 0.99)
    clip: float = 1.0
    warmup_steps: int = 100
    decay_from: float = 0.5
    average: float = 0.998

    def __post_init__(self) -> None:
        known = ("mel", "relative", "noise", "levels", "features", "adversarial")
        if unknown := sorted(self.losses.keys() - set(known)):
            raise InputError(f"losses has {', '.join(unknown)}, expected some of {', '.join(known)}")


class AdversarialLearner:
    """The decoder of a model, its discriminator, their optimizers and the averaged copy; `folder` keeps the coded streams.

    `discriminator` is one to go on with, instead of a new one. Everything learns on `device`. Raises `InputError` where the discriminator
    is of another kind than the settings say.
    """

    def __init__(
        self,
        base: EncodecModel,
        settings: AdversarialSettings,
        corpus: Corpus,
        folder: Path,
        discriminator: Discriminator | None = None,
        device: str = "cpu",
    ) -> None:
        config = base.config
        self.settings = settings
        self.device = torch.device(device)
        self.model = deepcopy(base).eval().requires_grad_(False).to(self.device)
        self.average = deepcopy(self.model)
        self.model.decoder.requires_grad_(True)
        torch.manual_seed(settings.seed)
        self.discriminator = _discriminator(settings, config.sampling_rate, discriminator).to(self.device)
        self.spectral = SpectralLoss(config.sampling_rate, floor=2e-4, noise_below=settings.noise_below).to(self.device)
        self.balancer = Balancer(settings.losses, decay=0.9)  # of measurements, which are every few steps
        parameters = list(self.model.decoder.parameters())
        self.optimizer = Optimizers([(1.0, parameters)], settings.rate, settings.small_rate, settings.betas, settings.clip)
        self.discriminator_optimizer = torch.optim.AdamW(
            self.discriminator.parameters(), settings.discriminator_rate, settings.betas, weight_decay=0.0
        )
        self.streams = Streams(carried=config.trim_right_ratio == 1.0)
        self._decode = StatefulDecoder(self.model.decoder, self.streams)
        self.batches = CodedBatches(
            corpus, settings.crops, config.hop_length, settings.seed,
            folder=folder, count=settings.streams, n_q=[min(n, config.num_quantizers) for n in settings.n_q], encode=self._encode,
            unused=config.codebook_size,
        )  # fmt: skip

    @torch.no_grad()
    def _encode(self, samples: Samples, n_q: int) -> NDArray[np.integer]:
        codes = self.model.encode(torch.from_numpy(samples)[None, None].to(self.device), None, n_q, True)[0][0]
        return np.asarray(codes.cpu().numpy())

    def step(self, step: int, progress: float) -> dict[str, float]:
        """Learn from the batch of `step`; returns the losses."""
        settings = self.settings
        chance = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        batch = self.batches(step)
        goes_on = batch.goes_on & (torch.rand(len(batch.samples), generator=chance) >= settings.late_joins)
        learns = step >= settings.discriminator_alone
        with torch.set_grad_enabled(learns):
            y = self._decode(self.model.quantizer.decode(batch.codes.to(self.device)), goes_on)
        x, heard = batch.samples.to(self.device), y.detach().requires_grad_(learns)
        factor = warming(step, settings.warmup_steps) * (0.02 + 0.98 * half_cosine(progress, settings.decay_from))

        # One pass of each through the discriminator serves both sides.
        gain = 1.0 / (x.square().mean(dim=1, keepdim=True).sqrt() + 1e-3)
        real, fake = (self.discriminator(side) for side in alike((x * gain, heard * gain), chance, settings.tilt_db))
        critic = discriminator_loss(real, fake)
        weights = list(self.discriminator.parameters())
        gradients = torch.autograd.grad(critic, weights, retain_graph=learns)
        logged: dict[str, Tensor] = {"critic": critic}
        if learns:
            terms = self.spectral(heard, x)
            losses = {
                "mel": terms.mel, "relative": terms.relative, "noise": terms.noise, "levels": terms.levels,
                "features": feature_matching_loss(real, fake), "adversarial": adversarial_loss(fake),
            }  # fmt: skip
            self.optimizer.zero_grad()
            torch.autograd.backward(y, self.balancer(losses, heard, measure=step % _MEASURE_STEPS == 0))
            logged |= losses | {"gradient": self.optimizer.step(factor)}
            follow(self.average.decoder, self.model.decoder, averaging(settings.average, step - settings.discriminator_alone))
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
        torch.nn.utils.clip_grad_norm_(weights, settings.clip)
        self.discriminator_optimizer.param_groups[0]["lr"] = settings.discriminator_rate * factor
        self.discriminator_optimizer.step()
        return {"rate": factor, **{k: float(v.detach()) for k, v in logged.items()}}

    def state(self) -> dict[str, Any]:
        """Everything learnt so far, as tensors and numbers."""
        return {
            "streams": self.streams.state,
            "balancer": self.balancer.norms,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.streams.restore(state["streams"], self.device)
        self.balancer.norms = state["balancer"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "average": self.average,
            "discriminator": self.discriminator,
            "optimizer": self.optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }


def _discriminator(settings: AdversarialSettings, rate: int, given: Discriminator | None) -> Discriminator:
    if given is None:
        return Discriminator(rate, settings.discriminator)
    if (given.rate, given.settings) != (rate, settings.discriminator):
        raise InputError(f"the discriminator is {given.settings} at {given.rate} Hz, the stage wants {settings.discriminator} at {rate} Hz")
    return deepcopy(given)
