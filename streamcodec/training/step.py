"""One training step: what is computed from a batch and which gradients reach what. It knows no files and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn import functional as F

from streamcodec.config import CodecConfig
from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.layers import Sequence1d, StreamingLayer
from streamcodec.training.discriminator import Discriminator, critic_loss, generator_losses
from streamcodec.training.initialise import LATENT_RMS, initialise
from streamcodec.training.losses import SpectralLoss, level, snr
from streamcodec.training.perception import Disturbance, Envelopes, Similarity
from streamcodec.training.quantize import LearningRVQ, as_vectors
from streamcodec.training.recipe import Phase, Recipe
from streamcodec.training.straight import StraightThrough
from streamcodec.training.streams import Streams

__all__ = ["Learner"]


@dataclass
class _Output:
    samples: Tensor
    latents: Tensor
    regular: Tensor


class Learner:
    """The networks, their optimizers and the averaged copy: all that a checkpoint holds, and `step`, which moves it on.

    `device` is where they compute: "cpu", or "cuda", which is untested; raises `InputError` where torch sees none.
    """

    def __init__(self, config: CodecConfig, recipe: Recipe, device: str = "cpu") -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("device is cuda, expected cpu: torch sees no CUDA device here")
        self.config = config
        self.recipe = recipe
        self.device = torch.device(device)
        self.model = EncodecModel(config).to(self.device)
        self.average = EncodecModel(config).to(self.device)
        sizes = config.num_quantizers, config.codebook_size, config.codebook_dim
        beam, stops = config.search_beam, config.search_stops
        self.rvq = LearningRVQ(*sizes, decay=recipe.codebook_decay, beam=beam, stops=stops).to(self.device)
        if recipe.decoder_only:
            self.model.encoder.requires_grad_(False)
            self.rvq.eval()
        self.discriminator = Discriminator().to(self.device)
        self.spectral = SpectralLoss(config.sampling_rate, floor=recipe.mel_floor).to(self.device)
        self.disturbance = Disturbance(config.sampling_rate, forgiven_db=recipe.forgiven_db).to(self.device)
        self.envelopes = Envelopes(config.sampling_rate).to(self.device)
        self.similarity = Similarity(config.sampling_rate).to(self.device)
        self.straight = StraightThrough(config.codebook_dim, recipe.straight_average).to(self.device)
        self.parameters = [p for p in (*self.model.encoder.parameters(), *self.model.decoder.parameters()) if p.requires_grad]
        # Speech has 30 dB less above 4 kHz than below 1 kHz, and each weight of a layer meets all bands at once: only directions across
        # weights tell them apart. Muon makes equal steps in all of them (Jordan et al., 2024); Adam does not learn what is weak in time.
        # It takes matrices: views of the convs' weights. Biases, and the first and the last layer, which are vectors, are Adam's.
        self._matrices = [p for p in self.parameters if p.ndim > 1 and 1 not in p.shape[:2]]
        self._views = [p.detach().flatten(1) for p in self._matrices]
        groups = self._shared(dict(zip(self._matrices, self._views, strict=True)))
        self.optimizer = torch.optim.Muon(groups, recipe.learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        matrices = set(self._matrices)
        others = {p: p for p in self.parameters if p not in matrices}
        self.small_optimizer = torch.optim.AdamW(self._shared(others), recipe.small_rate, recipe.betas, weight_decay=0.0)
        self.critic_optimizer = torch.optim.AdamW(
            self.discriminator.parameters(), recipe.discriminator_rate, recipe.betas, weight_decay=0.0
        )
        self.phase = Phase.QUANTIZED
        layers = cast("list[StreamingLayer]", list(self.model.decoder.layers))
        self._body, self._end = Sequence1d(layers[:-1]), layers[-1]
        self.streams = Streams(carried=config.trim_right_ratio == 1.0)

    def _shared(self, parameters: Mapping[Parameter, Tensor]) -> list[dict[str, Any]]:
        """An optimizer's groups, each with its share of the learning rate: what stands for the encoder's parameters, and the rest."""
        encoder = set(self.model.encoder.parameters())
        groups = ((self.recipe.encoder_rate, True), (1.0, False))
        made = [{"params": [v for p, v in parameters.items() if (p in encoder) is its], "share": share} for share, its in groups]
        return [group for group in made if group["params"]]

    @torch.no_grad()
    def start(self, audio: Tensor, heard: Iterable[Tensor]) -> None:
        """Set what training begins with: weights fitted to training speech `audio` [N, T], codebooks to the latents of batches `heard`."""
        generator = torch.Generator().manual_seed(self.recipe.seed)
        fresh = EncodecModel(self.config)
        initialise(fresh, audio, generator)
        for mine in (self.model, self.average):
            mine.load_state_dict(fresh.state_dict())
        self.rvq.start(self._latents(heard), self.recipe.batch * self.recipe.crop_frames, generator)
        self.average.quantizer.embed.copy_(self.rvq.embed)

    @torch.no_grad()
    def start_from(self, model: EncodecModel, heard: Iterable[Tensor]) -> None:
        """Begin with the weights and the codebooks of `model`, of the same config; these go on from how batches `heard` use them."""
        for mine in (self.model, self.average):
            mine.load_state_dict(model.state_dict())
        if self.recipe.decoder_only:
            self.rvq.embed.copy_(model.quantizer.embed)  # they stay, however they are used
        else:
            self.rvq.adopt(model.quantizer.embed, self._latents(heard), self.recipe.batch * self.recipe.crop_frames)

    def _latents(self, heard: Iterable[Tensor]) -> Tensor:
        return torch.cat([as_vectors(self.model.encoder(x.to(self.device), None, True)[0]) for x in heard])

    def state(self) -> dict[str, Any]:
        """Everything learnt so far, as tensors and numbers."""
        return {
            "phase": int(self.phase),
            "streams": self.streams.state,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.phase = Phase(state["phase"])
        self.streams.state = {name: [part.to(self.device) for part in parts] for name, parts in state.get("streams", {}).items()}
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "average": self.average,
            "rvq": self.rvq,
            "straight": self.straight,
            "discriminator": self.discriminator,
            "optimizer": self.optimizer,
            "small_optimizer": self.small_optimizer,
            "critic_optimizer": self.critic_optimizer,
        }

    def step(self, x: Tensor, step: int, progress: float, goes_on: Tensor | None = None) -> dict[str, float]:
        """Learn from a batch [B, 1, T], whose rows `goes_on` [B] are the next of the step before's streams; returns the losses."""
        chance = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)
        rate = self.recipe.rate(step, progress)
        for optimizer, most in ((self.optimizer, self.recipe.learning_rate), (self.small_optimizer, self.recipe.small_rate)):
            for group in optimizer.param_groups:
                group["lr"] = most * rate * group["share"]
        self.critic_optimizer.param_groups[0]["lr"] = self.recipe.discriminator_rate * rate
        x = x.to(self.device)
        output = self._run(x, torch.zeros(len(x), dtype=torch.bool) if goes_on is None else goes_on, chance)
        original, y = x[:, 0], output.samples
        terms, ratios = self.spectral(y, original), snr(y, original)
        recipe = self.recipe
        loss = recipe.mel * terms.mel + recipe.relative * terms.relative + recipe.noise * terms.noise
        loss = loss - recipe.snr_weight(progress) * ratios.mean()
        if recipe.level:
            loss = loss + recipe.level * F.huber_loss(level(y, original), torch.zeros(len(y), device=y.device))
        logged = {"mel": terms.mel, "relative": terms.relative, "noise": terms.noise, "snr": ratios.mean(), "regular": output.regular}
        logged["latents"] = output.latents.square().mean().sqrt()
        at_y = torch.autograd.grad(loss, y)[0]
        pulls, heard = self._hear(y, original)
        logged |= heard
        if self.phase is Phase.ADVERSARIAL:
            pull, judged = self._judge(y, original)
            pulls.append((recipe.adversarial_pull, pull))
            logged |= judged
        at_y = at_y + sum(_scaled(pull, at_y, share) for share, pull in pulls)
        self.model.zero_grad(set_to_none=True)
        if self.recipe.decoder_only:
            torch.autograd.backward(y, at_y)
        else:
            torch.autograd.backward([y, output.regular], [at_y, torch.ones_like(output.regular)])
        logged["gradient"] = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        if torch.isfinite(logged["gradient"]):
            for view, matrix in zip(self._views, self._matrices, strict=True):
                view.grad = None if matrix.grad is None else matrix.grad.flatten(1)
            self.optimizer.step()  # type: ignore[no-untyped-call]
            self.small_optimizer.step()
        self._follow(output, step, chance)
        return {"rate": rate, **{k: float(v.detach()) for k, v in logged.items()}}

    def _run(self, x: Tensor, goes_on: Tensor, chance: torch.Generator) -> _Output:
        with self._bf16():
            latents = self.streams.through(self.model.encoder, "encoder", x, goes_on).float()
        goes_on = goes_on & (torch.rand(len(x), generator=chance) >= self.recipe.late_joins)
        choice = torch.randint(len(self.recipe.n_q), (len(x),), generator=chance)
        n_q = torch.tensor(self.recipe.n_q)[choice].clamp(max=self.rvq.n_q).to(self.device)
        quantized, distance, _ = self.rvq(latents, n_q)
        if self.recipe.decoder_only:
            return _Output(self._decode(quantized, goes_on), latents, torch.zeros(()))
        # The codebooks follow wherever the latents go and the commitment is relative to their power: nothing else holds their scale.
        regular = self.recipe.latent_power * (latents.square().mean() / LATENT_RMS**2 - 1.0).square()
        decoded = self._decode(self.straight(latents, quantized), goes_on)
        return _Output(decoded, latents.detach(), regular + self.recipe.commitment * distance)

    def _bf16(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _decode(self, latents: Tensor, goes_on: Tensor) -> Tensor:
        # All but the last layer in bfloat16: samples rounded to 8 bits would be heard by the losses in quiet bands.
        with self._bf16():
            latents = self.streams.through(self._body, "body", latents, goes_on)
        return self.streams.through(self._end, "end", latents.float(), goes_on)[:, 0]

    def _hear(self, y: Tensor, x: Tensor) -> tuple[list[tuple[float, Tensor]], dict[str, Tensor]]:
        # A listener's losses are steep where a row is quiet, so they pull by their direction: each by its share of what a row is told else.
        pulls, logged = [], {}
        for name, share, loss in (
            ("disturbance", self.recipe.disturbance_pull, self.disturbance),
            ("lost", self.recipe.envelopes_pull, self.envelopes),
            ("unlike", self.recipe.similarity_pull, self.similarity),
        ):
            if not share:
                continue
            rows = loss(y, x)
            pulls.append((share, torch.autograd.grad(rows.sum(), y)[0]))
            logged[name] = rows.mean()
        return pulls, logged

    def _judge(self, y: Tensor, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        # Half the rows go before the discriminator.
        rows = min(self.recipe.adversarial_rows, len(y))
        heard, fake = x[:rows], y[:rows].detach().requires_grad_(True)
        with self._bf16():
            critic = critic_loss(self.discriminator(heard), self.discriminator(fake.detach()))
        self.critic_optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(critic)
        torch.nn.utils.clip_grad_norm_(self.discriminator.parameters(), self.recipe.clip)
        self.critic_optimizer.step()
        with torch.no_grad(), self._bf16():
            real = self.discriminator(heard)
        with self._bf16():
            adversarial, features = generator_losses(real, self.discriminator(fake))
        pull = torch.autograd.grad(adversarial + self.recipe.feature_matching * features, fake)[0]
        whole = torch.zeros_like(y)
        whole[:rows] = pull
        return whole, {"critic": critic.detach(), "adversarial": adversarial.detach(), "features": features.detach()}

    @torch.no_grad()
    def _follow(self, output: _Output, step: int, chance: torch.Generator) -> None:
        decay = self.recipe.averaging(step)
        pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
        averages, currents = map(list, zip(*pairs, strict=True))
        torch._foreach_lerp_(averages, currents, 1.0 - decay)
        if self.recipe.decoder_only:
            return
        self.rvq.settle()
        embed = self.average.quantizer.embed
        embed.lerp_(self.rvq.embed, 1.0 - decay)
        if step % self.recipe.revive_every == 0:
            moved = self.rvq.revive(output.latents, chance)
            embed[moved] = self.rvq.embed[moved]


def _scaled(pull: Tensor, at_y: Tensor, share: float) -> Tensor:
    """Each row of `pull` [B, T], as long as `share` of that row of `at_y`, so that no weight needs tuning when either loss changes.

    The balancer of Défossez et al. (2022), row by row.
    """
    scale: Tensor = share * at_y.norm(dim=1, keepdim=True) / (pull.norm(dim=1, keepdim=True) + 1e-8)
    return scale * pull
