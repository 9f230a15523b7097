"""audiolm-pytorch's `EncodecWrapper` over this package's engine: its transformers and trainers take it as their codec.

Follows lucidrains/audiolm-pytorch (`audiolm_pytorch/encodec.py`). What differs:

- `model` names the model. The codec is frozen: it has no parameters, `train()` and `eval()` change nothing, and no gradient passes it.
- Other rates are resampled by soxr, where torchaudio's resampler gives slightly other samples.
- Models of 24 and 32 kHz serve, and any other that codes a mono clip as one array of codes.
- There is no `rq`, the codebooks as a module of vector-quantize-pytorch.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from torch import Tensor, nn

from streamcodec.codec import Codec, load
from streamcodec.errors import InputError, UnsupportedModelError

__all__ = ["EncodecWrapper"]


class EncodecWrapper(nn.Module):
    """A frozen codec: audio [..., T] to codes [..., frames, n_q], latents [B, frames, codebook_dim] and audio [B, 1, T].

    `bandwidth` (kbps) decides `num_quantizers`. `model` is an embedded name, a file, a folder, a hub id or a `Codec`; `options` are those
    of `streamcodec.load`, such as `device`, `engine` and `threads`. The other arguments only check the model: where given, its rate, the
    strides of its encoder and its number of codebooks at this bandwidth must be these.

    Where audiolm-pytorch was imported before, an instance is one of its own `EncodecWrapper` too: its classes check that.

    Raises `InputError` for arguments that do not fit, `UnsupportedModelError` for a model whose codes are not one array, and what `load`
    raises.
    """

    rq_groups = 1

    def __new__(cls, *_: Any, **__: Any) -> Self:
        theirs = getattr(sys.modules.get("audiolm_pytorch.encodec"), "EncodecWrapper", None)
        return super().__new__(cls if theirs is None or issubclass(cls, theirs) else cls._with_base(theirs))

    @classmethod
    @functools.cache
    def _with_base(cls, base: type) -> type[Self]:
        """This class as a subclass of `base` too, whose methods it replaces."""
        return type(cls.__name__, (cls, base), {"__module__": cls.__module__, "__doc__": cls.__doc__})

    def __init__(
        self,
        target_sample_hz: int | None = None,
        strides: Sequence[int] | None = None,
        num_quantizers: int | None = None,
        bandwidth: float = 6.0,
        *,
        model: str | Path | Codec = "facebook/encodec_24khz",
        **options: Any,
    ) -> None:
        nn.Module.__init__(self)  # and not that of audiolm-pytorch's class, which downloads a model
        self.codec = model if isinstance(model, Codec) else load(model, **options)
        config = self.codec.config
        if not config.codes_alone or config.audio_channels != 1:
            raise UnsupportedModelError(
                f"{self.codec.name} codes stereo, or chunks with scales: expected a mono model whose codes are one array"
            )
        self.bandwidth = bandwidth
        self.num_quantizers = config.n_q_for(bandwidth)
        self.strides = tuple(reversed(config.upsampling_ratios))
        self.target_sample_hz = config.sampling_rate
        self.codebook_dim = config.codebook_dim
        asked = {
            "target_sample_hz": (target_sample_hz, self.target_sample_hz),
            "strides": (None if strides is None else tuple(strides), self.strides),
            "num_quantizers": (num_quantizers, self.num_quantizers),
        }
        for name, (value, its) in asked.items():
            if value not in (None, its):
                raise InputError(f"{name} is {value!r}, expected {its!r}: those of {self.codec.name} at {bandwidth:g} kbps")

    @property
    def seq_len_multiple_of(self) -> int:
        """Samples per frame: a clip of a multiple of them fills its last frame."""
        return self.codec.hop_length

    @property
    def downsample_factor(self) -> int:
        """Samples per frame."""
        return self.codec.hop_length

    def forward(
        self,
        x: Tensor,
        input_sample_hz: float | None = None,
        return_encoded: bool = False,
        **_: Any,
    ) -> tuple[Tensor | None, Tensor, None]:
        """Audio [..., T] -> latents [..., frames, codebook_dim] if `return_encoded`, codes [..., frames, n_q], and no loss.

        `input_sample_hz` is the audio's rate, by default the model's own. Raises `AudioError`.
        """
        leading = x.shape[:-1]
        clips = x.detach().float().reshape(-1, 1, x.shape[-1])
        codes: Tensor = self.codec.encode(clips, input_sample_hz, self.bandwidth).long()  # [B, n_q, frames]
        indices = codes.transpose(1, 2)
        latents = None
        if return_encoded:
            latents = self.get_emb_from_indices(indices)
            latents = latents.reshape(*leading, *latents.shape[1:])
        return latents, indices.reshape(*leading, *indices.shape[1:]), None

    def get_emb_from_indices(self, indices: Tensor) -> Tensor:
        """Codes [B, frames, n_q] -> latents [B, frames, codebook_dim], the sums of the codebook entries. Raises `CodesError`."""
        latents: Tensor = self.codec.embed(indices.transpose(1, 2))
        return latents.transpose(1, 2)

    def decode(self, emb: Tensor) -> Tensor:
        """Latents [B, frames, codebook_dim] -> audio [B, 1, T]."""
        samples: Tensor = self.codec.decode_latents(emb.detach().float().transpose(1, 2))
        return samples[:, None]

    def decode_from_codebook_indices(self, quantized_indices: Tensor) -> Tensor:
        """Codes [B, frames, n_q] of any number of codebooks -> audio [B, 1, T]. Raises `CodesError`."""
        samples: Tensor = self.codec.decode(quantized_indices.transpose(1, 2))
        return samples[:, None]
