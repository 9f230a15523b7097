"""A decoder trained against a discriminator, alone: encoder and codebooks are frozen, so codes stay what they are.

What no waveform is coded of, its texture, no distance between waveforms or spectra can ask for: their best answer is a mean, which nobody
ever said. A discriminator is told recordings from reconstructions, and the decoder learns to be taken for a recording: by its score, and
by the distance between features of both (feature matching), which takes the place of losses on the waveform. The encoder is not shown
any of it: a discriminator's gradients may harm codebooks. Follows AudioDec (Wu et al., 2023) in what is frozen, and EnCodec (Défossez et
al., 2022) in losses and their balance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel
from streamcodec.training.data.batches import Crops
from streamcodec.training.data.coded import CodedBatch, CodedBatches
from streamcodec.training.data.corpus import Corpus
from streamcodec.training.losses.balancer import Balancer
from streamcodec.training.losses.discriminator import (
    Discriminator,
    DiscriminatorSettings,
    adversarial_loss,
    discriminator_loss,
    drawn_filters,
    feature_matching_loss,
    filtered,
)
from streamcodec.training.losses.spectral import SpectralLoss
from streamcodec.training.side_by_side import add_up, side_by_side, split_rows, threads_of
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


class _HeardRows(NamedTuple):
    """Some rows: their audio `y` [B, T] and states, the losses, the gradients of the discriminator's weights, and those by `y`."""

    y: Tensor
    streams: Streams
    losses: dict[str, Tensor]
    gradients: Sequence[Tensor]
    pulls: dict[str, Tensor]


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
        self._decode = StatefulDecoder(self.model.decoder)
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
        """Learn from the batch of `step`; returns the losses. Threads, as many as torch has, share the rows and the decoder's weights."""
        settings = self.settings
        chance = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        batch = self.batches(step)
        rows, length = batch.samples.shape
        goes_on = batch.goes_on & (torch.rand(rows, generator=chance) >= settings.late_joins)
        filters = drawn_filters(rows, length, chance, settings.tilt_db)
        learns = step >= settings.discriminator_alone
        factor = warming(step, settings.warmup_steps) * (0.02 + 0.98 * half_cosine(progress, settings.decay_from))
        threads = threads_of(self.device)
        shares = split_rows(rows, threads)

        def heard(part: slice) -> _HeardRows:
            share = (part.stop - part.start) / rows
            whole = CodedBatch(batch.samples[part], batch.codes[part], goes_on[part])
            return self._hear(whole, filters[part].to(self.device), self.streams.part(part), share, learns, step % _MEASURE_STEPS == 0)

        parts = side_by_side([partial(heard, part) for part in shares], threads)
        self.streams.join([part.streams for part in parts])
        logged = {name: torch.stack([part.losses[name] for part in parts]).sum() for name in parts[0].losses}
        if learns:
            pull = self.balancer.weighed({name: torch.cat([part.pulls[name] for part in parts]) for name in parts[0].pulls})
            decoder = list(self.model.decoder.parameters())
            backs = [partial(torch.autograd.grad, part.y, decoder, pull[rows]) for part, rows in zip(parts, shares, strict=True)]
            add_up(decoder, side_by_side(backs, threads))
            logged["gradient"] = self.optimizer.step(factor, threads)
            follow(self.average.decoder, self.model.decoder, averaging(settings.average, step - settings.discriminator_alone))
        weights = list(self.discriminator.parameters())
        add_up(weights, [part.gradients for part in parts])
        torch.nn.utils.clip_grad_norm_(weights, settings.clip)
        self.discriminator_optimizer.param_groups[0]["lr"] = settings.discriminator_rate * factor
        self.discriminator_optimizer.step()
        return {"rate": factor, **{k: float(v.detach()) for k, v in logged.items()}}

    def _hear(self, batch: CodedBatch, filters: Tensor, streams: Streams, share: float, learns: bool, measure: bool) -> _HeardRows:
        """What some rows, a `share` of all, ask for; losses are means over rows, and add up."""
        x = batch.samples.to(self.device)
        with torch.set_grad_enabled(learns):
            y = self._decode(self.model.quantizer.decode(batch.codes.to(self.device)), batch.goes_on, streams)
        heard = y.detach().requires_grad_(learns)
        # One pass of each through the discriminator serves both sides.
        gain = 1.0 / (x.square().mean(dim=1, keepdim=True).sqrt() + 1e-3)
        real, fake = (self.discriminator(filtered(side * gain, filters)) for side in (x, heard))
        critic = share * discriminator_loss(real, fake)
        gradients = torch.autograd.grad(critic, list(self.discriminator.parameters()), retain_graph=learns)
        if not learns:
            return _HeardRows(y, streams, {"critic": critic}, gradients, {})
        losses = {
            **self.spectral(heard, x)._asdict(), "features": feature_matching_loss(real, fake), "adversarial": adversarial_loss(fake)
        }  # fmt: skip
        losses = {name: share * loss for name, loss in losses.items()}
        return _HeardRows(y, streams, {"critic": critic, **losses}, gradients, self.balancer.gradients(losses, heard, measure=measure))

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
