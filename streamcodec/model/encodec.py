"""The whole codec: encoder, residual VQ and decoder, with the two ways to start a stream (exact and primed).

The model stores nothing about a stream: each call takes a state and returns the new one (see `layers`).
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn

from streamcodec.config import CodecConfig
from streamcodec.model.architecture import decoder_layers, encoder_layers, start_frames
from streamcodec.model.layers import LSTM, Conv1d, ConvTranspose1d, ResidualBlock, Sequence1d, State
from streamcodec.model.quantizer import ResidualVQ
from streamcodec.model.seanet import build_decoder, build_encoder

__all__ = ["EncodecModel", "macs_per_second"]


class EncodecModel(nn.Module):
    """EnCodec (Défossez et al., 2022) with weight norm folded away.

    Its steps are those of `config.granularity`: any number of frames and a state, or a whole chunk of a clip, no state, and `final`.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = build_encoder(config)
        self.decoder = build_decoder(config)
        sizes = config.num_quantizers, config.codebook_size, config.codebook_dim
        self.quantizer = ResidualVQ(*sizes, config.search_beam, config.search_stops)

    def encode(self, samples: Tensor, state: State | None, n_q: int, final: bool = False) -> tuple[Tensor, State]:
        """Samples [B, channels, T] -> codes [B, n_q, ceil(T / hop)] and the new state; T is a multiple of the hop unless `final`."""
        latents, state = self.encoder(samples, state, final)
        return self.quantizer.encode(latents, n_q), state

    def decode(self, codes: Tensor, state: State | None, final: bool = False) -> tuple[Tensor, State]:
        """Codes [B, n_q, F] -> samples [B, channels, F * hop] and the new state."""
        samples, state = self.decoder(self.quantizer.decode(codes), state, final)
        return samples, state

    def with_search_beam(self, beam: int) -> EncodecModel:
        """A model with the same tensors (shared) and search beam `beam`; raises `UnsupportedModelError` if that is not 1 to 64."""
        model = EncodecModel(replace(self.config, search_beam=beam))
        model.load_state_dict(self.state_dict(), assign=True)
        return model.train(self.training)

    @cached_property
    def encoder_start_frames(self) -> int:
        """Frames of samples that an exact encoder needs before its first step: 7 for the published model, 1 for zero-padded models."""
        return start_frames(encoder_layers(self.config), self.config.hop_length)

    @cached_property
    def decoder_start_frames(self) -> int:
        """Frames of codes that an exact decoder needs before its first step: 7 for the published model, 1 for zero-padded models."""
        return start_frames(decoder_layers(self.config), 1)

    def primed_encoder_state(self) -> State:
        """The encoder's state [1, ...] after one second of digital silence."""
        return self._silence(1)[1]

    def primed_decoder_state(self, n_q: int) -> State:
        """The decoder's state [1, ...] after the codes of one second of digital silence, at `n_q` codebooks."""
        return self.decode(self._silence(n_q)[0], None, final=self.config.granularity != "frames")[1]

    def _silence(self, n_q: int) -> tuple[Tensor, State]:
        hop, goes_on = self.config.hop_length, self.config.granularity == "frames"
        # Of a model without a state that goes on, only the shapes of the state are of interest.
        frames = -(-self.config.sampling_rate // hop) if goes_on else 1
        samples = self.quantizer.embed.new_zeros(1, self.config.audio_channels, frames * hop)
        return self.encode(samples, None, n_q, final=not goes_on)


def macs_per_second(config: CodecConfig, n_q: int | None = None) -> dict[str, float]:
    """Multiply-accumulate operations per second of audio for the `encoder`, the `decoder` and the `search`.

    The search is that of the residual VQ with `n_q` codebooks; by default with all.
    """
    with torch.device("meta"):
        model = EncodecModel(config)
    rate = float(config.sampling_rate)
    levels = n_q or config.num_quantizers
    if config.search_beam > 1:
        # The first level of a run extends a single path; each further level extends `search_beam` paths.
        paths = sum(1 + (stop - first - 1) * config.search_beam for first, stop in model.quantizer.runs if first < levels)
    else:
        paths = levels
    return {
        "encoder": _macs(model.encoder, rate),
        "decoder": _macs(model.decoder, config.frame_rate),
        "search": config.frame_rate * paths * config.codebook_size * config.codebook_dim,
    }


def _macs(layers: Sequence1d, rate: float) -> float:
    total = 0.0
    for layer in layers.layers:
        if isinstance(layer, Conv1d):
            rate /= layer.stride
            total += rate * layer.conv.weight.numel()
        elif isinstance(layer, ConvTranspose1d):
            total += rate * layer.conv.weight.numel()
            rate *= layer.stride
        elif isinstance(layer, LSTM):
            total += rate * sum(p.numel() for name, p in layer.lstm.named_parameters() if name.startswith("weight"))
        elif isinstance(layer, ResidualBlock):
            total += rate * sum(p.numel() for name, p in layer.named_parameters() if name.endswith("weight"))
    return total
