"""EnCodec's language model: predicts a frame's codes from all that came before, for the arithmetic coder.

A transformer that takes one frame after the other, with its past as a value (Défossez et al., 2022, section 3.3; facebookresearch/encodec,
`encodec/model.py` and `encodec/modules/transformer.py`). All codebooks of a frame are predicted at once. The sums are made in the
reference's order, because the least difference of a probability makes other bits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamcodec.config import CodecConfig
from streamcodec.errors import CheckpointError
from streamcodec.model.checkpoint.stored import read
from streamcodec.model.modes import building

__all__ = ["LanguageModel", "LanguageModelConfig", "LanguageState", "load_language_model"]

_PAST_S = 3.5  # of the published models
_HEADS = 8


@dataclass(frozen=True)
class LanguageModelConfig:
    """The architecture; the defaults are those of the published model for 24 kHz."""

    num_codebooks: int = 32
    codebook_size: int = 1024
    dim: int = 200
    feed_forward_dim: int = 800
    num_layers: int = 5
    num_heads: int = _HEADS
    past_frames: int = 262
    """The most frames that a frame looks back at."""
    max_period: int = 10_000
    """The longest period of the positions' cosines, in frames divided by 2 pi."""


@dataclass(frozen=True)
class LanguageState:
    """What the model carries from frame to frame: the past inputs of each layer [B, H, dim], H from 1, and the number of frames so far."""

    past: tuple[Tensor, ...]
    frames: int


class TransformerLayer(nn.Module):
    """Self-attention over the past, then two linear layers; each is added to its input and normalised."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        dim = config.dim
        self.heads, self.past_frames = config.num_heads, config.past_frames
        self.in_proj = nn.Linear(dim, 3 * dim)  # queries, keys and values
        self.out_proj = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, config.feed_forward_dim)
        self.contract = nn.Linear(config.feed_forward_dim, dim)
        self.feed_forward_norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, T, dim] and the layer's past inputs [B, H, dim] -> y [B, T, dim] and the new past, of at most `past_frames`."""
        known = torch.cat([past, x], dim=1)
        y = self.attention_norm(x + self._attend(x, known))
        y = self.feed_forward_norm(y + self.contract(F.gelu(self.expand(y))))
        return y, known[:, -self.past_frames :]

    def _attend(self, x: Tensor, known: Tensor) -> Tensor:
        batch, frames, dim = x.shape
        total = known.shape[1]
        w, b = self.in_proj.weight, self.in_proj.bias
        # [B, T, dim] -> [T, B, dim]: the order of the reference's sums
        q = F.linear(x.transpose(0, 1), w[:dim], b[:dim])
        k, v = F.linear(known.transpose(0, 1), w[dim:], b[dim:]).chunk(2, dim=-1)
        # [T, B, dim] -> [B, heads, T, dim / heads]
        q, k, v = (y.reshape(len(y), batch, self.heads, -1).permute(1, 2, 0, 3) for y in (q, k, v))
        ago = torch.arange(total - frames, total)[:, None] - torch.arange(total)
        hidden = torch.zeros(frames, total).masked_fill_((ago < 0) | (ago > self.past_frames), float("-inf"))
        y = F.scaled_dot_product_attention(q, k, v, hidden)
        # [B, heads, T, dim / heads] -> [T * B, dim]
        attended: Tensor = self.out_proj(y.permute(2, 0, 1, 3).reshape(frames * batch, dim))
        return attended.view(frames, batch, dim).transpose(0, 1)


class LanguageModel(nn.Module):
    """Codes of the frames so far to probabilities of the next frame's."""

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        # One entry more than codes: the first stands for the frame before the first.
        self.embeddings = nn.ModuleList(nn.Embedding(config.codebook_size + 1, config.dim) for _ in range(config.num_codebooks))
        self.norm = nn.LayerNorm(config.dim)
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.num_layers))
        self.heads = nn.ModuleList(nn.Linear(config.dim, config.codebook_size) for _ in range(config.num_codebooks))
        self.register_buffer("periods", _periods(config), persistent=False)
        self.periods: Tensor

    def forward(self, indices: Tensor, state: LanguageState | None = None) -> tuple[Tensor, LanguageState]:
        """Indices [B, n_q, T] of frames, each code plus 1, or 0 for the one before the first -> probabilities of the frames after them.

        Returns probabilities [B, codebook_size, n_q, T] and the state after these frames; n_q may be less than the model has.
        """
        config, (batch, n_q, frames) = self.config, indices.shape
        x = self.embeddings[0](indices[:, 0])
        for k in range(1, n_q):
            x = x + self.embeddings[k](indices[:, k])
        if state is None:
            state = LanguageState((x.new_zeros(batch, 1, config.dim),) * config.num_layers, 0)
        phase = torch.arange(state.frames, state.frames + frames)[:, None] / self.periods
        x = self.norm(x) + torch.cat([phase.cos(), phase.sin()], dim=-1)
        new_past = []
        for layer, past in zip(self.layers, state.past, strict=True):
            x, layer_past = layer(x, past)
            new_past.append(layer_past)
        # [B, T, codebook_size] each -> [B, n_q, T, codebook_size] -> [B, codebook_size, n_q, T]
        logits = torch.stack([head(x) for head in list(self.heads)[:n_q]], dim=1).permute(0, 3, 1, 2)
        return torch.softmax(logits, dim=1), LanguageState(tuple(new_past), state.frames + frames)


def _periods(config: LanguageModelConfig) -> Tensor:
    """The periods [dim / 2] of the positions' cosines, in frames divided by 2 pi."""
    half = config.dim // 2
    return torch.pow(config.max_period, torch.arange(half) / (half - 1))


_NAMES = (
    (r"^emb\.", "embeddings."),
    (r"^linears\.", "heads."),
    (r"^transformer\.norm_in\.", "norm."),
    (r"^transformer\.layers\.", "layers."),
    (r"\.self_attn\.in_proj_", ".in_proj."),
    (r"\.self_attn\.out_proj\.", ".out_proj."),
    (r"\.linear1\.", ".expand."),
    (r"\.linear2\.", ".contract."),
    (r"\.norm1\.", ".attention_norm."),
    (r"\.norm2\.", ".feed_forward_norm."),
)


@building()
def load_language_model(path: Path, codec: CodecConfig) -> LanguageModel:
    """Load a checkpoint of the package `encodec`, such as `encodec_lm_24khz-1608e3c0.th`, for the codes of a codec of this config.

    What tensors do not tell, the heads and the length of the past, is as published. Raises `ModelNotFoundError` if there is no such file,
    and `CheckpointError` if it is damaged, is no language model, or is one for other codebooks.
    """
    tensors = {_renamed(name): tensor.float() for name, tensor in read(path).tensors.items()}
    config = _infer(tensors, path, int(_PAST_S * codec.frame_rate))
    if config.codebook_size != codec.codebook_size or config.num_codebooks < codec.num_quantizers:
        raise CheckpointError(
            f"{path}: is for {config.num_codebooks} codebooks of {config.codebook_size}, "
            f"the codec has {codec.num_quantizers} of {codec.codebook_size}"
        )
    model = LanguageModel(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != expected:
        [name, *_] = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise CheckpointError(f"{path}: {name} has shape {found.get(name)}, expected {expected.get(name)} in such a language model")
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)


def _renamed(name: str) -> str:
    for pattern, ours in _NAMES:
        name = re.sub(pattern, ours, name)
    return name


def _infer(tensors: Mapping[str, Tensor], path: Path, past_frames: int) -> LanguageModelConfig:
    try:
        entries, dim = tensors["embeddings.0.weight"].shape
        hidden, _ = tensors["layers.0.expand.weight"].shape
    except (KeyError, ValueError) as exc:
        raise CheckpointError(f"{path}: not a language model of EnCodec: it has no embeddings and layers of that shape ({exc})") from exc
    if dim < 2 * _HEADS or dim % _HEADS or entries < 2:
        raise CheckpointError(f"{path}: embeddings are {entries} x {dim}, expected a multiple of {_HEADS} heads, from {2 * _HEADS}")
    return LanguageModelConfig(
        num_codebooks=sum(1 for name in tensors if re.match(r"^embeddings\.\d+\.weight$", name)),
        codebook_size=entries - 1,
        dim=dim,
        feed_forward_dim=hidden,
        num_layers=sum(1 for name in tensors if re.match(r"^layers\.\d+\.expand\.weight$", name)),
        past_frames=past_frames,
    )
