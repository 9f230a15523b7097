"""The fast CPU engine: OpenVINO, converted in memory from the torch module that defines the model.

Only the steps of a running stream are compiled, for all batch and packet sizes and for those that come often once more; the first step of
a reflecting stream and the last step of any run in torch, on the same states. Whatever the precision of the rest, two things stay in
float32: the search through the codebooks and their look-up, since what they decide is discrete, and each half's layers whose rounding
nothing smooths any more: the encoder's last conv and the decoder's layers at the sample rate (5% and 4% of their products). What bf16
costs an encoder in sound is mostly the rounding of its weights, always the same way; `streamcodec.training.rounding` spares a model that.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from streamcodec.config import Start
from streamcodec.engine.graph import FlatLayers, StateLayout, cut_before_latents, cut_where_upsampled
from streamcodec.engine.openvino.cache import kept
from streamcodec.engine.openvino.network import BATCHES, Chain, OpenVinoNetwork, Shapes, core, openvino
from streamcodec.engine.openvino.search import OpenVinoSearch
from streamcodec.engine.torch import TorchEngine
from streamcodec.errors import MissingDependencyError
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.layers import CausalConv1d, Sequence1d
from streamcodec.types import Codes, Samples, States

__all__ = ["NETWORKS", "OpenVinoEngine", "has_bf16"]

Precision = Literal["fp32", "bf16"]

# The networks that each half is run as.
_ENCODER: dict[Precision, tuple[str, ...]] = {"fp32": ("encoder",), "bf16": ("encoder-body", "encoder-tail")}
_DECODER: dict[Precision, tuple[str, ...]] = {"fp32": ("decoder",), "bf16": ("decoder-body", "decoder-tail")}


NETWORKS: dict[Precision, tuple[str, ...]] = {precision: (*_ENCODER[precision], *_DECODER[precision]) for precision in get_args(Precision)}
"""The names of a model's converted networks."""


class _Part(NamedTuple):
    """A network of an encoder or a decoder, the shape of one frame of its x, and the size of its states."""

    network: OpenVinoNetwork
    frame: Sequence[int]
    states: int


class OpenVinoEngine:
    """Runs `model` with OpenVINO on the CPU in fp32 or bf16, on `threads` threads that `workers` calls at a time share.

    The converted networks are kept in the user's cache folder, so only a model's first start converts. Raises `MissingDependencyError`
    where OpenVINO is not installed.
    """

    def __init__(self, model: EncodecModel, fingerprint: str, precision: Precision = "fp32", threads: int = 1, workers: int = 1) -> None:
        self._ov = openvino()
        self._torch = torch_engine = TorchEngine(model)
        self._fingerprint = fingerprint
        self._threads = threads
        self.workers = workers
        self.best_batches = BATCHES
        self.precision = precision
        shared = f"{threads} thread(s)" if workers == 1 else f"{threads} threads for {workers} steps at a time"
        self.name = f"OpenVINO {self._ov.__version__.split('-')[0]}, {precision}, {shared}"
        self.config = model.config
        self.encoder_state_size = torch_engine.encoder_state_size
        self.decoder_state_size = torch_engine.decoder_state_size
        self.encoder_start_frames = torch_engine.encoder_start_frames
        self.decoder_start_frames = torch_engine.decoder_start_frames
        self.decoder_hold_frames = torch_engine.decoder_hold_frames
        self.default_live_start: Start = torch_engine.default_live_start
        embed = model.quantizer.embed.numpy()
        # One more row of zeros in each codebook: what an unused code stands for.
        self._table = np.concatenate([embed, np.zeros_like(embed[:, :1])], axis=1).reshape(-1, embed.shape[2])
        self._rows_per_book = embed.shape[1] + 1
        hop, dim = self.config.hop_length, self.config.codebook_dim
        self._aside = ThreadPoolExecutor(1, "streamcodec-compile")
        encoder: tuple[Sequence1d, ...] = (model.encoder,)
        decoder: tuple[Sequence1d, ...] = (model.decoder,)
        if precision == "bf16":
            encoder, decoder = cut_before_latents(model.encoder), cut_where_upsampled(model.decoder)
        wide, narrow = cast(CausalConv1d, model.encoder.layers[-1]).conv.in_channels, self.config.num_filters
        self._encoder_parts = self._half(_ENCODER[precision], encoder, torch_engine.encoder_layout, ([hop], [wide, 1]), audio_in=True)
        decoder_parts = self._half(_DECODER[precision], decoder, torch_engine.decoder_layout, ([dim, 1], [narrow, hop]), audio_out=True)
        self._encoder, self._decoder = _one(self._encoder_parts), _one(decoder_parts)
        self._search = OpenVinoSearch(
            model.quantizer, lambda network, usual: self._compile(network, "fp32", self._aside if usual else None)
        )

    def prepare(self, packet_frames: int) -> None:
        for part in self._encoder_parts:
            *channels, length = part.frame
            part.network.prepare([((rows, *channels, length * packet_frames), (rows, part.states)) for rows in BATCHES])
        self._search.prepare([rows * packet_frames for rows in BATCHES])

    def stop_preparing(self) -> None:
        for network in (self._encoder, self._search, self._decoder):
            network.stop_preparing()

    @property
    def own_shapes(self) -> list[Shapes]:
        """The shapes of inputs for which encoder, search or decoder have a network of their own by now."""
        return [*self._encoder.own_shapes, *self._search.own_shapes, *self._decoder.own_shapes]

    def settle(self) -> None:
        """Wait until all that is being compiled aside is there."""
        self._aside.submit(lambda: None).result()

    def encoder_start(self, start: Start) -> States | None:
        return self._torch.encoder_start(start)

    def decoder_start(self, start: Start, n_q: int) -> States | None:
        return self._torch.decoder_start(start, n_q)

    def encode(self, samples: Samples, states: States | None, n_q: Sequence[int], final: bool = False) -> tuple[Codes, States]:
        if states is None or final:
            return self._torch.encode(samples, states, n_q, final)
        latents, after = self._encoder(samples, states)
        return self._search(latents, n_q), after

    def decode(self, codes: Codes, states: States | None, final: bool = False) -> tuple[Samples, States]:
        if states is None or final:
            return self._torch.decode(codes, states, final)
        samples, after = self._decoder(self.embed(codes), states)
        return samples, after

    def embed(self, codes: Codes) -> Samples:
        offsets = np.arange(codes.shape[1], dtype=np.int32)[:, None] * self._rows_per_book
        return np.ascontiguousarray(self._table[codes + offsets].sum(axis=1).transpose(0, 2, 1))

    def decode_latents(self, latents: Samples) -> Samples:
        return self._torch.decode_latents(latents)

    def _compile(self, network: Any, precision: Precision, aside: ThreadPoolExecutor | None) -> OpenVinoNetwork:
        options = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
            "INFERENCE_NUM_THREADS": max(1, self._threads // self.workers),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        return OpenVinoNetwork(network, options, self.workers, aside)

    def _half(
        self,
        names: Sequence[str],
        parts: Sequence[Sequence1d],
        layout: StateLayout,
        frames: Sequence[Sequence[int]],
        *,
        audio_in: bool = False,
        audio_out: bool = False,
    ) -> list[_Part]:
        """Encoder or decoder, whose states have `layout`, as one network for each of its parts; all but the first are in float32."""
        made = []
        for i, (name, layers, frame) in enumerate(zip(names, parts, frames[: len(parts)], strict=True)):
            own, layout = layout.cut(layers.num_states)
            module = FlatLayers(layers, own, audio_in=audio_in and i == 0, audio_out=audio_out and i == len(parts) - 1)
            made.append(_Part(self._network(name, module, frame, "fp32" if i else self.precision), frame, own.size))
        return made

    def _network(self, name: str, module: FlatLayers, frame: Sequence[int], precision: Precision) -> OpenVinoNetwork:
        """`module` for x [B, *frame], the last dimension any multiple of it, from the cache or converted."""
        *channels, length = frame
        example = (torch.zeros(2, *channels, 2 * length), torch.zeros(2, module.layout.size))
        shapes = ([-1, *channels, -1], [-1, module.layout.size])
        return self._compile(kept(self._fingerprint, name, lambda: self._convert(module, example, shapes)), precision, self._aside)

    def _convert(self, module: nn.Module, example: tuple[Tensor, ...], shapes: tuple[list[int], ...]) -> Any:
        # Tracing warns of loops over fixed numbers of codebooks, and of its own age.
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = self._ov.convert_model(module.eval(), example_input=example)
        network.reshape({i: self._ov.PartialShape(shape) for i, shape in enumerate(shapes)})
        return network


def _one(parts: Sequence[_Part]) -> OpenVinoNetwork | Chain:
    """What runs all parts."""
    return parts[0].network if len(parts) == 1 else Chain([(part.network, part.states) for part in parts])


def has_bf16() -> bool:
    """Whether OpenVINO is here and this processor multiplies bf16 natively."""
    try:
        return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except MissingDependencyError:
        return False
