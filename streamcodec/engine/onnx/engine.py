"""The engine without torch: ONNX Runtime runs graphs that are written from a model's architecture and weights.

There is a graph for each kind of step: one that starts a stream, one that ends it, one that does both and one that does neither. A graph is
written and loaded when it is first needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from streamcodec.config import CodecConfig, Start
from streamcodec.engine.base import StreamTraits, exact_start
from streamcodec.engine.lookup import CodebookTable
from streamcodec.engine.onnx.graph import Graph
from streamcodec.engine.onnx.steps import Steps
from streamcodec.errors import MissingDependencyError
from streamcodec.model.canonical import Tensors
from streamcodec.types import Codes, Samples, States

__all__ = ["OnnxEngine", "onnxruntime"]

_ROWS = 384  # the residuals that are searched at once, which bounds the memory for their scores


def onnxruntime() -> Any:
    """Import the package. Raises `MissingDependencyError` if it is not installed."""
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingDependencyError("the engine onnx needs ONNX Runtime: pip install 'streamcodec[play]'") from exc
    return onnxruntime


class OnnxEngine:
    """Runs a model of this architecture and these weights with ONNX Runtime, in float32 on the CPU.

    The `threads` are shared by up to `workers` simultaneous calls. Raises `MissingDependencyError` if ONNX Runtime is not installed.
    """

    def __init__(self, config: CodecConfig, tensors: Tensors, threads: int = 1, workers: int = 1) -> None:
        self._threads = threads
        self.workers = workers
        self.config = config
        self.best_batches: tuple[int, ...] = ()
        shared = f"{threads} thread(s)" if workers == 1 else f"{threads} threads for {workers} steps at a time"
        self.name = f"ONNX Runtime {onnxruntime().__version__}, fp32, {shared}"
        self.steps = Steps(config, tensors)
        self.traits = StreamTraits.of(config, self.steps.encoder_state_size, self.steps.decoder_state_size)
        self._sessions: dict[str, Any] = {}
        self._primed_decoders: dict[int, States] = {}
        self._making = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made anew from the weights: sessions belong to this process."""
        return OnnxEngine, (self.config, self.steps.tensors, self._threads, self.workers)

    def prepare(self, packet_frames: int) -> None:
        pass

    def stop_preparing(self) -> None:
        pass

    def encoder_start(self, start: Start) -> States | None:
        if start == "primed":
            return self._primed_encoder.copy()
        return exact_start(self.config, self.traits.encoder_state_size)

    def decoder_start(self, start: Start, n_q: int) -> States | None:
        if start == "primed":
            with self._making:
                if n_q not in self._primed_decoders:
                    self._primed_decoders[n_q] = self._primed_decoder(n_q)
            return self._primed_decoders[n_q].copy()
        return exact_start(self.config, self.traits.decoder_state_size, self.traits.decoder_hold_frames)

    @cached_property
    def _primed_encoder(self) -> States:
        states: States = self._layers("encoder", self._silence(), None, final=False)[1][0]
        return states

    def _primed_decoder(self, n_q: int) -> States:
        latents, _ = self._layers("encoder", self._silence(), None, final=False)
        states: States = self._layers("decoder", self.embed(self._search(latents, [n_q])), None, final=False)[1][0]
        return states

    def _silence(self) -> Samples:
        frames = -(-self.config.sampling_rate // self.config.hop_length)
        return np.zeros((1, self.config.audio_channels, frames * self.config.hop_length), np.float32)

    def encode(self, samples: Samples, states: States | None, n_q: Sequence[int], final: bool = False) -> tuple[Codes, States]:
        latents, states = self._layers("encoder", samples if samples.ndim == 3 else samples[:, None], states, final=final)
        return self._search(latents, n_q), states

    def decode(self, codes: Codes, states: States | None, final: bool = False) -> tuple[Samples, States]:
        samples, states = self._layers("decoder", self.embed(codes), states, final=final)
        return samples[:, 0] if self.config.audio_channels == 1 else samples, states

    def embed(self, codes: Codes) -> Samples:
        return self._table(codes)

    def decode_latents(self, latents: Samples) -> Samples:
        samples, _ = self._layers("decoder", latents, None, final=True)
        return samples[:, 0] if self.config.audio_channels == 1 else samples

    @cached_property
    def _table(self) -> CodebookTable:
        return CodebookTable(self.steps.embed)

    def _layers(self, half: str, x: Samples, states: States | None, *, final: bool) -> tuple[Samples, States]:
        """A step of one half over x [B, C, T] from states [B, S]; None starts the streams."""
        if states is None and self.config.granularity == "frames":
            # All that a graph of a start does about zero padding, the graph of a step in mid-stream does from zeros.
            zeros = self.encoder_start("exact") if half == "encoder" else self.decoder_start("exact", self.config.num_quantizers)
            states = None if zeros is None else np.broadcast_to(zeros, (len(x), len(zeros)))
        start = states is None
        # In the middle of its stream, a decoder that holds nothing back ends as it goes on.
        final = final and (half == "encoder" or start or self.traits.decoder_hold_frames > 0)
        part = self.steps.encoder_part if half == "encoder" else self.steps.decoder_part
        inputs = (
            {"x": np.ascontiguousarray(x)} if states is None else {"x": np.ascontiguousarray(x), "states": np.ascontiguousarray(states)}
        )
        y, new_states = self._run(f"{half}{' start' * start}{' end' * final}", lambda: part(start=start, final=final), inputs)
        return y, new_states

    def _search(self, latents: Samples, n_q: Sequence[int]) -> Codes:
        """Latents [B, dim, F] -> codes [B, max(n_q), F]; row b uses its first n_q[b] codebooks, the others get the "unused" code."""
        batch, dim, frames = latents.shape
        used, levels = np.asarray(n_q), max(n_q, default=0)
        # Rows are sorted by descending n_q, so that the rows of each run are the first ones.
        order = np.argsort(-used, kind="stable")
        residuals = np.ascontiguousarray(latents[order].transpose(0, 2, 1)).reshape(batch * frames, dim)
        indices = np.full((batch * frames, self.config.num_quantizers), self.config.codebook_size, np.int32)
        for begin in range(0, len(residuals), _ROWS):
            rows = slice(begin, begin + _ROWS)
            self._search_rows(residuals[rows], used[order].repeat(frames)[rows], indices[rows])
        codes = np.empty((batch, levels, frames), np.int32)
        codes[order] = indices[:, :levels].reshape(batch, frames, levels).transpose(0, 2, 1)
        codes[np.arange(levels) >= used[:, None]] = self.config.codebook_size
        return codes

    def _search_rows(self, residuals: Samples, used: npt.NDArray[Any], indices: Codes) -> None:
        for first, stop in self.steps.runs:
            count = int((used > first).sum())
            if not count:
                return
            run = f"search {first} {stop}"
            make = lambda first=first, stop=stop: self.steps.search_part(first, stop)  # noqa: E731
            indices[:count, first:stop], residuals = self._run(run, make, {"residuals": residuals[:count]})

    def _run(self, name: str, make: Callable[[], Graph], inputs: dict[str, npt.NDArray[Any]]) -> list[Any]:
        """Run a graph, which `make` writes the first time."""
        session = self._sessions.get(name)
        if session is None:
            with self._making:
                session = self._sessions.get(name) or self._load(make())
                self._sessions[name] = session
        results: list[Any] = session.run(None, inputs)
        return results

    def _load(self, graph: Graph) -> Any:
        options = onnxruntime().SessionOptions()
        options.intra_op_num_threads = max(1, self._threads // self.workers)
        options.inter_op_num_threads = 1
        # Threads that have nothing to do would keep the processors busy for a while, which other threads here need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime().InferenceSession(graph.serialize(), options, providers=["CPUExecutionProvider"])
