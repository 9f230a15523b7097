"""The fast CPU engine: OpenVINO networks, converted in memory from the torch module that defines the model.

OpenVINO runs every whole frame whose padding does not depend on what is in it. Torch runs the rest, on the same states:

- the frames over which an exact stream of a reflect-padded model reflects (7 for the published model),
- the last frame of a clip if it is not whole,
- the last frame of a decoder that trims on the left.

Each network is compiled once for all batch and packet sizes, and once more for each size that is used often.

Two parts always run in float32, whatever the precision of the rest:

- The codebook search and look-up, because their results are discrete.
- The layers whose rounding errors no later layer smooths: the encoder's last conv and the decoder's layers at the sampling rate (5% and 4%
  of the multiplications of encoder and decoder).

The loss of quality of a bf16 encoder comes mostly from the rounding of its weights, which is the same error at every step;
`streamcodec.training.stages.rounding` rounds a model so that it avoids that loss.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from streamcodec.config import Start
from streamcodec.engine.graph import FlatLayers, StateLayout, cut_before_latents, cut_where_upsampled
from streamcodec.engine.openvino.cache import load_or_convert
from streamcodec.engine.openvino.network import BATCHES, Chain, OpenVinoNetwork, Shapes, core, openvino
from streamcodec.engine.torch import TorchEngine
from streamcodec.errors import MissingDependencyError
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.layers import CausalConv1d, Sequence1d
from streamcodec.model.modes import building
from streamcodec.types import Codes, Samples, States

__all__ = ["NETWORKS", "OpenVinoEngine", "has_bf16"]

Precision = Literal["fp32", "bf16"]

# The names of the networks that encoder and decoder are converted to.
_ENCODER: dict[Precision, tuple[str, ...]] = {"fp32": ("encoder",), "bf16": ("encoder-body", "encoder-tail")}
_DECODER: dict[Precision, tuple[str, ...]] = {"fp32": ("decoder",), "bf16": ("decoder-body", "decoder-tail")}


NETWORKS: dict[Precision, tuple[str, ...]] = {precision: (*_ENCODER[precision], *_DECODER[precision]) for precision in get_args(Precision)}
"""The names of a model's converted networks."""


_TRACING = threading.Lock()  # torch traces one module at a time: two threads that load models would disturb each other


class _Part(NamedTuple):
    """A network of the encoder or decoder, the shape of one frame of its input x, and the size of its state."""

    network: OpenVinoNetwork
    frame: Sequence[int]
    states: int


class OpenVinoEngine:
    """Runs `model` with OpenVINO on the CPU, in fp32 or bf16, on `threads` threads that `workers` simultaneous calls share.

    The converted networks are stored in the user's cache folder, so a model is converted only at its first start. Raises
    `MissingDependencyError` if OpenVINO is not installed.
    """

    def __init__(self, model: EncodecModel, fingerprint: str, precision: Precision = "fp32", threads: int = 1, workers: int = 1) -> None:
        self._torch = torch_engine = TorchEngine(model, workers=workers, threads=max(1, threads // workers))
        self._fingerprint = fingerprint
        self._threads = threads
        self.workers = workers
        self.best_batches = BATCHES
        self.precision = precision
        shared = f"{threads} thread(s)" if workers == 1 else f"{threads} threads for {workers} steps at a time"
        self.name = f"OpenVINO {openvino().__version__.split('-')[0]}, {precision}, {shared}"
        self.config = model.config
        self.traits = torch_engine.traits
        embed = model.quantizer.embed.numpy()
        # Each codebook gets one more row of zeros, for the "unused" code.
        self._table = np.concatenate([embed, np.zeros_like(embed[:, :1])], axis=1).reshape(-1, embed.shape[2])
        hop, dim = self.config.hop_length, self.config.codebook_dim
        self._background = ThreadPoolExecutor(1, "streamcodec-compile")
        encoder: tuple[Sequence1d, ...] = (model.encoder,)
        decoder: tuple[Sequence1d, ...] = (model.decoder,)
        if precision == "bf16":
            encoder, decoder = cut_before_latents(model.encoder), cut_where_upsampled(model.decoder)
        wide, narrow = cast(CausalConv1d, model.encoder.layers[-1]).conv.in_channels, self.config.num_filters
        self._encoder_parts = self._half(_ENCODER[precision], encoder, torch_engine.encoder_layout, ([hop], [wide, 1]), audio_in=True)
        self._decoder_parts = self._half(
            _DECODER[precision], decoder, torch_engine.decoder_layout, ([dim, 1], [narrow, hop]), audio_out=True
        )
        self._encoder, self._decoder = _chained(self._encoder_parts), _chained(self._decoder_parts)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made anew from the model: compiled networks belong to this process."""
        return OpenVinoEngine, (self._torch.model, self._fingerprint, self.precision, self._threads, self.workers)

    def prepare(self, packet_frames: int, batches: Sequence[int] = BATCHES, *, decoder: bool = False) -> None:
        """As the contract says, for these batch sizes; with `decoder` for decoders as well."""
        for part in [*self._encoder_parts, *(self._decoder_parts if decoder else [])]:
            *channels, length = part.frame
            part.network.prepare([((rows, *channels, length * packet_frames), (rows, part.states)) for rows in batches])

    def stop_preparing(self) -> None:
        for network in (self._encoder, self._decoder):
            network.stop_preparing()

    @property
    def specialized_shapes(self) -> list[Shapes]:
        """The input shapes for which the encoder or the decoder has a specialized network now."""
        return [*self._encoder.specialized_shapes, *self._decoder.specialized_shapes]

    def wait_until_compiled(self) -> None:
        """Wait until the compilations that were requested so far are done."""
        self._background.submit(lambda: None).result()

    def encoder_start(self, start: Start) -> States | None:
        return self._torch.encoder_start(start)

    def decoder_start(self, start: Start, n_q: int) -> States | None:
        return self._torch.decoder_start(start, n_q)

    def encode(self, samples: Samples, states: States | None, n_q: Sequence[int], final: bool = False) -> tuple[Codes, States]:
        hop, parts = self.config.hop_length, []
        if states is None:
            states, opened = self._start(self._torch.encoder_start("exact"), len(samples)), 0
            if states is None:
                opened = self.traits.encoder_start_frames * hop
                if samples.shape[1] <= opened:
                    return self._torch.encode(samples, None, n_q, final)
                codes, states = self._torch.encode(np.ascontiguousarray(samples[:, :opened]), None, n_q)
                parts.append(codes)
            samples = samples[:, opened:]
        whole = samples.shape[1] // hop * hop
        if whole:
            latents, states = self._encoder(np.ascontiguousarray(samples[:, :whole]), states)
            parts.append(self._torch.search(latents, n_q))
        if whole < samples.shape[1]:
            codes, states = self._torch.encode(np.ascontiguousarray(samples[:, whole:]), states, n_q, final)
            parts.append(codes)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2), states

    def decode(self, codes: Codes, states: States | None, final: bool = False) -> tuple[Samples, States]:
        return self._decode(self.embed(codes), states, final)

    def _decode(self, latents: Samples, states: States | None, final: bool) -> tuple[Samples, States]:
        parts = []
        if states is None:
            states, opened = self._start(self._torch.decoder_start("exact", 1), len(latents)), 0
            if states is None:
                opened = self.traits.decoder_start_frames
                if latents.shape[2] <= opened + self.traits.decoder_hold_frames:
                    return self._torch.decode_step(latents, None, final)
                samples, states = self._torch.decode_step(np.ascontiguousarray(latents[..., :opened]), None)
                parts.append(samples)
            latents = latents[..., opened:]
        held = self.traits.decoder_hold_frames if final else 0
        middle = latents.shape[2] - held
        if middle:
            samples, states = self._decoder(np.ascontiguousarray(latents[..., :middle]), states)
            parts.append(samples)
        if held:
            samples, states = self._torch.decode_step(np.ascontiguousarray(latents[..., middle:]), states, final)
            parts.append(samples)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1), states

    @staticmethod
    def _start(state: States | None, rows: int) -> States | None:
        """The state of `rows` streams that start from `state`."""
        return None if state is None else np.tile(state, (rows, 1))

    def embed(self, codes: Codes) -> Samples:
        offsets = np.arange(codes.shape[1], dtype=np.int32)[:, None] * (self.config.codebook_size + 1)
        return np.ascontiguousarray(self._table[codes + offsets].sum(axis=1).transpose(0, 2, 1))

    def decode_latents(self, latents: Samples) -> Samples:
        return self._decode(latents, None, final=True)[0]

    def _compile(self, network: Any, precision: Precision, background: ThreadPoolExecutor | None) -> OpenVinoNetwork:
        options = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
            "INFERENCE_NUM_THREADS": max(1, self._threads // self.workers),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        return OpenVinoNetwork(network, options, self.workers, background)

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
        """Make a network for each part of the encoder or decoder, whose state has `layout`; all but the first run in float32."""
        networks = []
        for i, (name, layers, frame) in enumerate(zip(names, parts, frames[: len(parts)], strict=True)):
            part_layout, layout = layout.cut(layers.num_states)
            module = FlatLayers(layers, part_layout, audio_in=audio_in and i == 0, audio_out=audio_out and i == len(parts) - 1)
            networks.append(_Part(self._network(name, module, frame, "fp32" if i else self.precision), frame, part_layout.size))
        return networks

    def _network(self, name: str, module: FlatLayers, frame: Sequence[int], precision: Precision) -> OpenVinoNetwork:
        """Load or convert `module` for x [B, *frame], whose last dimension may be any multiple of the frame's."""
        *channels, length = frame
        with building():
            example = (torch.zeros(2, *channels, 2 * length), torch.zeros(2, module.layout.size))
        shapes = ([-1, *channels, -1], [-1, module.layout.size])
        network = load_or_convert(self._fingerprint, name, lambda: self._convert(module, example, shapes))
        return self._compile(network, precision, self._background)

    def _convert(self, module: nn.Module, example: tuple[Tensor, ...], shapes: tuple[list[int], ...]) -> Any:
        # Tracing warns about loops over a fixed number of codebooks, and that tracing is deprecated.
        with _TRACING, building(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network = openvino().convert_model(module.eval(), example_input=example)
        network.reshape({i: openvino().PartialShape(shape) for i, shape in enumerate(shapes)})
        return network


def _chained(parts: Sequence[_Part]) -> OpenVinoNetwork | Chain:
    """All parts as one callable."""
    return parts[0].network if len(parts) == 1 else Chain([(part.network, part.states) for part in parts])


def has_bf16() -> bool:
    """Whether OpenVINO is installed and this processor multiplies bf16 natively."""
    try:
        return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except MissingDependencyError:
        return False
