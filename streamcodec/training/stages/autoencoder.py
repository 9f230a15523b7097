"""All of a model trained: encoder, decoder and codebooks, from nothing or from the model so far, by distances and models of hearing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from streamcodec.config import CodecConfig
from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel
from streamcodec.training.data.batches import Batches, Crops
from streamcodec.training.data.corpus import Corpus
from streamcodec.training.losses.balancer import scaled
from streamcodec.training.losses.nsim import NsimLoss
from streamcodec.training.losses.pesq import PesqLoss
from streamcodec.training.losses.spectral import BandSnrLoss, SpectralLoss, level, snr
from streamcodec.training.losses.stoi import StoiLoss
from streamcodec.training.side_by_side import add_up, side_by_side, split_rows, threads_of
from streamcodec.training.stages.decoding import StatefulDecoder, bf16_where_fast
from streamcodec.training.stages.initialise import LATENT_RMS, initialise
from streamcodec.training.stages.optimizers import Optimizers, averaging, follow, half_cosine, warming
from streamcodec.training.stages.quantize import LearningRVQ, as_vectors
from streamcodec.training.stages.straight import StraightThrough
from streamcodec.training.stages.streams import Streams

__all__ = ["AutoencoderLearner", "AutoencoderSettings"]

_LOSSES = ("mel", "relative", "noise", "snr", "level", "band_snr")
_PULLS = ("pesq", "stoi", "nsim")


@dataclass(frozen=True)
class AutoencoderSettings:
    """An autoencoder's stage.

    `losses` are weights of distances, `band_snr`, up to `band_snr_to` Hz, of rows with at least `band_snr_from` codebooks alone: the upper
    ones code what the lower ones left out, and all else stays what it is told. `pulls` are the shares, row by row, that models of hearing
    add to their gradient; the PESQ-like one forgives a band that is steadily up to `forgiven_db` too loud or too quiet. `n_q` is what rows
    draw their number of codebooks from; at `late_joins` of the crops the decoder begins anew in the middle of a stream. Rates go up over
    `warmup_steps`, down to a half until `decay_from` of the steps, and by half a cosine to 2% from there.
    """

    steps: int
    seed: int = 0
    crops: Crops = field(default_factory=Crops)
    late_joins: float = 0.05
    n_q: tuple[int, ...] = (2, 4, 8, 8, 16, 32)
    losses: Mapping[str, float] = field(default_factory=lambda: {"mel": 1.6, "relative": 0.3, "noise": 3.0, "snr": 0.04})
    pulls: Mapping[str, float] = field(default_factory=lambda: {"pesq": 0.4, "stoi": 0.3})
    band_snr_from: int = 16
    band_snr_to: float = 8000.0
    mel_floor: float = 3e-4
    forgiven_db: float = 0.0
    commitment: float = 0.1
    rate: float = 1e-3
    small_rate: float = 5e-5
    encoder_rate: float = 1.0
    betas: tuple[float, float] = (0.8, 0.99)
    clip: float = 1.0
    warmup_steps: int = 200
    decay_from: float = 0.6
    average: float = 0.999
    codebook_decay: float = 0.99
    revive_every: int = 20
    fit_batches: int = 120
    kmeans_batches: int = 60

    def __post_init__(self) -> None:
        for name, given, known in (("losses", self.losses, _LOSSES), ("pulls", self.pulls, _PULLS)):
            if unknown := sorted(given.keys() - set(known)):
                raise InputError(f"{name} has {', '.join(unknown)}, expected some of {', '.join(known)}")

    def factor(self, step: int, progress: float) -> float:
        """What every learning rate is multiplied by."""
        warm = warming(step, self.warmup_steps)
        if progress < self.decay_from:
            return warm * (1.0 - 0.5 * progress / self.decay_from)
        return warm * (0.02 + 0.48 * half_cosine(progress, self.decay_from))


class _Compared(NamedTuple):
    """Some rows: their losses, and the gradients at what is coded [B, dim, F] and of the decoder's weights."""

    losses: dict[str, Tensor]
    at_coded: Tensor
    gradients: Sequence[Tensor]


class AutoencoderLearner:
    """The model, its codebooks, their optimizers and the averaged copy. It begins with `base`, or with a linear codec fitted to speech.

    `fresh` is False where a checkpoint will be restored anyway: then nothing is fitted. It learns on `device`; what is fitted is fitted on
    the processor.
    """

    def __init__(
        self,
        config: CodecConfig,
        settings: AutoencoderSettings,
        corpus: Corpus,
        base: EncodecModel | None,
        *,
        fresh: bool = True,
        device: str = "cpu",
    ) -> None:
        self.settings = settings
        self.device = torch.device(device)
        self.model = EncodecModel(config)
        self.average = EncodecModel(config)
        sizes = config.num_quantizers, config.codebook_size, config.codebook_dim
        self.rvq = LearningRVQ(*sizes, decay=settings.codebook_decay, beam=config.search_beam, stops=config.search_stops)
        self.spectral = SpectralLoss(config.sampling_rate, floor=settings.mel_floor)
        self.band_snr = BandSnrLoss(config.sampling_rate, settings.band_snr_to)
        self._heard = {
            "pesq": PesqLoss(config.sampling_rate, forgiven_db=settings.forgiven_db),
            "stoi": StoiLoss(config.sampling_rate),
            "nsim": NsimLoss(config.sampling_rate),
        }
        self.straight = StraightThrough(config.codebook_dim, 0.01)
        self.streams = Streams(carried=config.trim_right_ratio == 1.0)
        self._decode = StatefulDecoder(self.model.decoder)
        self.batches = Batches(corpus, settings.crops, config.hop_length, settings.seed)
        if fresh:
            begun = Batches(corpus, replace(settings.crops, stream_seconds=0.0), config.hop_length, settings.seed)
            heard = (begun(step) for step in range(settings.kmeans_batches))
            if base is not None:
                self._start_from(base, heard)
            else:
                self._start(torch.cat([begun(step)[:, 0] for step in range(settings.fit_batches)]), heard)
        for part in (self.model, self.average, self.rvq, self.straight, self.spectral, self.band_snr, *self._heard.values()):
            part.to(self.device)
        groups = [(settings.encoder_rate, list(self.model.encoder.parameters())), (1.0, list(self.model.decoder.parameters()))]
        self.optimizer = Optimizers(groups, settings.rate, settings.small_rate, settings.betas, settings.clip)

    @property
    def _per_step(self) -> int:
        return self.settings.crops.batch * self.settings.crops.crop_frames

    @torch.no_grad()
    def _start(self, audio: Tensor, heard: Iterable[Tensor]) -> None:
        generator = torch.Generator().manual_seed(self.settings.seed)
        fresh = EncodecModel(self.model.config)
        initialise(fresh, audio, generator)
        for mine in (self.model, self.average):
            mine.load_state_dict(fresh.state_dict())
        self.rvq.start(self._latents(heard), self._per_step, generator)
        self.average.quantizer.embed.copy_(self.rvq.embed)

    @torch.no_grad()
    def _start_from(self, base: EncodecModel, heard: Iterable[Tensor]) -> None:
        """The codebooks go on from how batches `heard` use them."""
        for mine in (self.model, self.average):
            mine.load_state_dict(base.state_dict())
        self.rvq.adopt(base.quantizer.embed, self._latents(heard), self._per_step)

    def _latents(self, heard: Iterable[Tensor]) -> Tensor:
        return torch.cat([as_vectors(self.model.encoder(x, None, True)[0]) for x in heard])

    def state(self) -> dict[str, Any]:
        """Everything learnt so far, as tensors and numbers."""
        return {"streams": self.streams.state, **{name: part.state_dict() for name, part in self._parts().items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.streams.restore(state["streams"], self.device)
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {"model": self.model, "average": self.average, "rvq": self.rvq, "straight": self.straight, "optimizer": self.optimizer}

    def step(self, step: int, progress: float) -> dict[str, float]:
        """Learn from the batch of `step`; returns the losses. Threads, as many as torch has, share the rows."""
        settings = self.settings
        chance = torch.Generator().manual_seed(settings.seed * 1_000_003 + step)
        x, goes_on = self.batches(step).to(self.device), self.batches.goes_on(step)
        joins_on = goes_on & (torch.rand(len(x), generator=chance) >= settings.late_joins)
        choice = torch.randint(len(settings.n_q), (len(x),), generator=chance)
        n_q = torch.tensor(settings.n_q)[choice].clamp(max=self.rvq.n_q).to(self.device)
        threads = threads_of(self.device)
        shares = split_rows(len(x), threads)
        streams = [self.streams.part(rows) for rows in shares]

        encoded = side_by_side([partial(self._encode, x[r], goes_on[r], s) for r, s in zip(shares, streams, strict=True)], threads)
        latents = torch.cat([part.detach() for part in encoded]).requires_grad_()
        quantized, distance, _ = self.rvq(latents, n_q, threads)
        # The codebooks follow wherever the latents go and the commitment is relative to their power: nothing else holds their scale.
        regular = 0.3 * (latents.square().mean() / LATENT_RMS**2 - 1.0).square() + settings.commitment * distance
        coded = self.straight(latents, quantized)

        decoding = [
            partial(self._decode_and_compare, coded.detach()[r], x[r, 0], joins_on[r], n_q[r], len(x), s)
            for r, s in zip(shares, streams, strict=True)
        ]
        compared = side_by_side(decoding, threads)
        self.streams.join(streams)
        at_coded = torch.cat([part.at_coded for part in compared])
        (at_latents,) = torch.autograd.grad([coded, regular], latents, [at_coded, torch.ones_like(regular)])
        encoder = list(self.model.encoder.parameters())
        backs = [partial(torch.autograd.grad, part, encoder, at_latents[r]) for part, r in zip(encoded, shares, strict=True)]
        add_up(encoder, side_by_side(backs, threads))
        add_up(self.model.decoder.parameters(), [part.gradients for part in compared])
        factor = settings.factor(step, progress)
        logged = {name: torch.stack([part.losses[name] for part in compared]).sum() for name in compared[0].losses}
        logged |= {"regular": regular, "latents": latents.square().mean().sqrt(), "gradient": self.optimizer.step(factor, threads)}
        self._follow(latents.detach(), step, chance)
        return {"rate": factor, **{k: float(v.detach()) for k, v in logged.items()}}

    def _encode(self, x: Tensor, goes_on: Tensor, streams: Streams) -> Tensor:
        with bf16_where_fast(x.device):
            return streams.through(self.model.encoder, "encoder", x, goes_on).float()

    def _decode_and_compare(self, coded: Tensor, original: Tensor, goes_on: Tensor, n_q: Tensor, batch: int, streams: Streams) -> _Compared:
        """What some rows, of a batch of `batch`, say of the decoder and of what is `coded`; losses are means over rows, and add up."""
        settings, share = self.settings, len(coded) / batch
        coded = coded.requires_grad_()
        y = self._decode(coded, goes_on, streams)
        terms, ratios = self.spectral(y, original), snr(y, original)
        losses = {
            "mel": terms.mel, "relative": terms.relative, "noise": terms.noise, "snr": ratios.mean(),
            "level": F.huber_loss(level(y, original), ratios.new_zeros(len(y))),
        }  # fmt: skip
        if "band_snr" in settings.losses:
            losses["band_snr"] = (self.band_snr(y, original) * (n_q >= settings.band_snr_from)).mean()
        losses = {name: share * loss for name, loss in losses.items()}
        signs = {"snr": -1.0}  # more of it is better
        loss = torch.stack([signs.get(name, 1.0) * weight * losses[name] for name, weight in settings.losses.items()]).sum()
        at_y = torch.autograd.grad(loss, y)[0]
        # Models of hearing are steep where a row is quiet, so they pull by their direction: each by its share of what a row is told else.
        pulls = []
        for name, strength in settings.pulls.items():
            rows = self._heard[name](y, original)
            pulls.append(scaled(torch.autograd.grad(rows.sum(), y)[0], at_y, strength))
            losses[name] = share * rows.mean()
        at_coded, *gradients = torch.autograd.grad(y, [coded, *self.model.decoder.parameters()], at_y + sum(pulls))
        return _Compared(losses, at_coded, gradients)

    @torch.no_grad()
    def _follow(self, latents: Tensor, step: int, chance: torch.Generator) -> None:
        decay = averaging(self.settings.average, step)
        follow(self.average, self.model, decay)
        self.rvq.settle()
        embed = self.average.quantizer.embed
        embed.lerp_(self.rvq.embed, 1.0 - decay)
        if step % self.settings.revive_every == 0:
            moved = self.rvq.revive(latents, chance)
            embed[moved] = self.rvq.embed[moved]
