"""The fast CPU engine: OpenVINO networks, converted from the torch module that defines the model, run every step from a clip's first
sample to its last. Torch only computes the states that primed streams start from, once per model.

In float32, the live steps run on code that is compiled for them (`streamcodec.engine.step`), unless a measurement finds the networks faster
on this processor.

Each network is compiled once for all batch and packet sizes, and once more for each size that is used often.

Two parts always run in float32, whatever the precision of the rest:

- The codebook search and look-up, because their results are discrete.
- The layers whose rounding errors no later layer smooths: the encoder's last conv and the decoder's layers at the sampling rate (5% and 4%
  of the multiplications of encoder and decoder).

The loss of quality of a bf16 encoder comes mostly from the rounding of its weights, which is the same error at every step;
`streamcodec.training.stages.rounding` rounds a model so that it avoids that loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from streamcodec.config import Start
from streamcodec.engine.graph import cut_before_latents, cut_where_upsampled
from streamcodec.engine.lookup import CodebookTable
from streamcodec.engine.openvino.half import Half, Part, Precision
from streamcodec.engine.openvino.network import BATCHES, OpenVinoNetwork, Shapes, core, openvino
from streamcodec.engine.openvino.packets import PacketSteps
from streamcodec.engine.step import CompiledStep
from streamcodec.engine.torch import TorchEngine
from streamcodec.errors import MissingDependencyError
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.layers import Conv1d
from streamcodec.types import Codes, Samples, States, block_shape

__all__ = ["OpenVinoEngine", "has_bf16", "networks"]


def networks(model: EncodecModel, precision: Precision) -> set[str]:
    """The names of the networks that streams of `model` need, or its chunks: those that `warm_up` loads.

    Every encoder is told that its stream ends, and so are decoders that hold a frame back for that.
    """
    encoder, decoder = _encoder_parts(model, precision), _decoder_parts(model, precision)
    if model.config.granularity != "frames":
        return {part.clip_name for part in (*encoder, *decoder)}
    ending = encoder if model.config.trim_right_ratio == 1.0 else [*encoder, *decoder]
    return {*(part.name for part in (*encoder, *decoder)), *(part.clip_name for part in ending)}


def _encoder_parts(model: EncodecModel, precision: Precision) -> list[Part]:
    frame = [*block_shape(model.config.hop_length, model.config.audio_channels)]
    if precision == "fp32":
        return [Part("encoder", model.encoder, frame, precision)]
    body, tail = cut_before_latents(model.encoder)
    width = cast(Conv1d, model.encoder.layers[-1]).conv.in_channels
    return [Part("encoder-body", body, frame, precision), Part("encoder-tail", tail, [width, 1], "fp32")]


def _decoder_parts(model: EncodecModel, precision: Precision) -> list[Part]:
    config = model.config
    frame = [config.codebook_dim, 1]
    if precision == "fp32":
        return [Part("decoder", model.decoder, frame, precision)]
    body, tail = cut_where_upsampled(model.decoder)
    return [Part("decoder-body", body, frame, precision), Part("decoder-tail", tail, [config.num_filters, config.hop_length], "fp32")]


class OpenVinoEngine:
    """Runs `model` with OpenVINO on the CPU, in fp32 or bf16, on `threads` threads that `workers` simultaneous calls share.

    Networks are loaded when they are first needed: those for live steps when a stream starts, those for clips at the first clip. The
    converted networks are stored in the user's cache folder, so each is converted only once. Raises `MissingDependencyError` if OpenVINO
    is not installed.
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
        self._look_up = CodebookTable(model.quantizer.embed.numpy())
        self._background = ThreadPoolExecutor(1, "streamcodec-compile")
        make = fingerprint, self._compile, self._with_program if precision == "fp32" and model.config.granularity == "frames" else None
        mono = model.config.audio_channels == 1
        self._encoder = Half(_encoder_parts(model, precision), torch_engine.encoder_layout, *make, audio_in=mono)
        self._decoder = Half(_decoder_parts(model, precision), torch_engine.decoder_layout, *make, audio_out=mono)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made anew from the model: compiled networks belong to this process."""
        return OpenVinoEngine, (self._torch.model, self._fingerprint, self.precision, self._threads, self.workers)

    def prepare(self, packet_frames: int, batches: Sequence[int] = BATCHES, *, decoder: bool = False) -> None:
        """As the contract says, for these batch sizes; with `decoder` for decoders as well."""
        for half in (self._encoder, self._decoder) if decoder else (self._encoder,):
            half.prepare(packet_frames, batches)

    def stop_preparing(self) -> None:
        for half in (self._encoder, self._decoder):
            half.stop_preparing()

    @property
    def specialized_shapes(self) -> list[Shapes]:
        """The input shapes for which the encoder or the decoder has a specialized network now."""
        return [*self._encoder.specialized_shapes, *self._decoder.specialized_shapes]

    def wait_until_compiled(self) -> None:
        """Wait until the compilations that were requested so far are done."""
        for _ in range(2):  # a measurement may have requested some
            self._background.submit(lambda: None).result()

    def encoder_start(self, start: Start) -> States | None:
        _ = self._encoder.live  # so that the stream's first packet need not wait for it
        return self._torch.encoder_start(start)

    def decoder_start(self, start: Start, n_q: int) -> States | None:
        _ = self._decoder.live
        return self._torch.decoder_start(start, n_q)

    def encode(self, samples: Samples, states: States | None, n_q: Sequence[int], final: bool = False) -> tuple[Codes, States]:
        latents, states = self._encoder(samples, states, final)
        return self._torch.search(latents, n_q), states

    def decode(self, codes: Codes, states: States | None, final: bool = False) -> tuple[Samples, States]:
        return self._decoder(self.embed(codes), states, final)

    def embed(self, codes: Codes) -> Samples:
        return self._look_up(codes)

    def decode_latents(self, latents: Samples) -> Samples:
        return self._decoder(latents, None, final=True)[0]

    def _compile(self, network: Any, precision: Precision, specialize: bool) -> OpenVinoNetwork:
        options = {
            "INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16",
            "INFERENCE_NUM_THREADS": max(1, self._threads // self.workers),
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }
        return OpenVinoNetwork(network, options, self.workers, self._background if specialize else None)

    def _with_program(self, part: Part, state_size: int, longest: int, network: OpenVinoNetwork) -> PacketSteps:
        program = CompiledStep(part.layers, part.frame, state_size, max(1, self._threads // self.workers))
        return PacketSteps(program, network, longest, self._background)


def has_bf16() -> bool:
    """Whether OpenVINO is installed and this processor multiplies bf16 natively."""
    try:
        return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except MissingDependencyError:
        return False
