"""The graphs of a model: whole steps for other programs, and the parts of steps that the engine runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from streamcodec.config import CodecConfig
from streamcodec.engine.onnx.codebooks import CodebookWriter
from streamcodec.engine.onnx.graph import Graph
from streamcodec.engine.onnx.layers import LayerWriter, state_size
from streamcodec.model.architecture import LayerSpec, decoder_layers, encoder_layers, runs_of
from streamcodec.model.canonical import Tensors, embed_name

__all__ = ["Steps"]


@dataclass(frozen=True)
class Steps:
    """What a model's steps are made of: its architecture and its weights."""

    config: CodecConfig
    tensors: Tensors

    @cached_property
    def encoder_layers(self) -> list[LayerSpec]:
        return encoder_layers(self.config)

    @cached_property
    def decoder_layers(self) -> list[LayerSpec]:
        return decoder_layers(self.config)

    @cached_property
    def encoder_state_size(self) -> int:
        return state_size(self.encoder_layers)

    @cached_property
    def decoder_state_size(self) -> int:
        return state_size(self.decoder_layers)

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """The runs of codebooks [first, stop) that are searched together."""
        return runs_of(self.config.search_stops)

    @cached_property
    def embed(self) -> npt.NDArray[np.float32]:
        """The codebooks [levels, size, dim]."""
        return np.stack([self.tensors[embed_name(level)] for level in range(self.config.num_quantizers)])

    # Whole steps in the middle of a mono stream

    def encode(self, graph: Graph, codebooks: int) -> Graph:
        """samples [streams, samples], states -> codes [streams, codebooks, frames], new_states; `codebooks` is where a run ends."""
        samples = graph.input("samples", "float32", ["streams", "samples"])
        states = graph.input("states", "float32", ["streams", self.encoder_state_size])
        x = graph.add("Unsqueeze", samples, graph.ints(1))
        latents, new_states = LayerWriter(graph, self.tensors).write(self.encoder_layers, "encoder", x, states)
        writer = CodebookWriter(graph, self.config, self.tensors)
        residuals, found = writer.rows(latents), []
        for first, stop in self.runs:
            if first < codebooks:
                entries, residuals = writer.search(residuals, first, stop)
                found.append(entries)
        entries = graph.add("Concat", *found, axis=1) if len(found) > 1 else found[0]
        # [B * F, n_q] -> [B, n_q, F]
        streams, frames = graph.add("Shape", latents, start=0, end=1), graph.add("Shape", latents, start=2, end=3)
        by_stream = graph.add("Reshape", entries, graph.add("Concat", streams, frames, graph.ints(codebooks), axis=0))
        codes = graph.cast(graph.add("Transpose", by_stream, perm=[0, 2, 1]), "int32")
        graph.output(codes, "codes", "int32", ["streams", codebooks, "frames"])
        graph.output(new_states, "new_states", "float32", ["streams", self.encoder_state_size])
        return graph

    def decode(self, graph: Graph, codebooks: int) -> Graph:
        """codes [streams, n_q, frames] of up to `codebooks` codebooks, states -> samples [streams, samples], new_states."""
        codes = graph.input("codes", "int32", ["streams", "n_q", "frames"])
        states = graph.input("states", "float32", ["streams", self.decoder_state_size])
        latents = CodebookWriter(graph, self.config, self.tensors).look_up(codes, codebooks)
        y, new_states = LayerWriter(graph, self.tensors).write(self.decoder_layers, "decoder", latents, states)
        graph.output(graph.add("Squeeze", y, graph.ints(1)), "samples", "float32", ["streams", "samples"])
        graph.output(new_states, "new_states", "float32", ["streams", self.decoder_state_size])
        return graph

    # Parts of steps, of any kind

    def encoder_part(self, *, start: bool = False, final: bool = False) -> Graph:
        """x [streams, channels, samples], states -> latents [streams, dim, frames], new_states; without states at a start."""
        return self._part("encoder", self.encoder_layers, [self.config.audio_channels, "length"], start=start, final=final)

    def decoder_part(self, *, start: bool = False, final: bool = False) -> Graph:
        """x [streams, dim, frames], states -> y [streams, channels, samples], new_states; without states at a start."""
        return self._part("decoder", self.decoder_layers, [self.config.codebook_dim, "length"], start=start, final=final)

    def _part(self, name: str, layers: list[LayerSpec], shape: list[int | str], *, start: bool, final: bool) -> Graph:
        graph, size = Graph(name), state_size(layers)
        x = graph.input("x", "float32", ["streams", *shape])
        states = None if start else graph.input("states", "float32", ["streams", size])
        y, new_states = LayerWriter(graph, self.tensors, start, final).write(layers, name, x, states)
        graph.output(y, "y", "float32", ["streams", "channels", "steps"])
        graph.output(new_states, "new_states", "float32", ["streams", size])
        return graph

    def search_part(self, first: int, stop: int) -> Graph:
        """residuals [rows, dim] -> entries [rows, stop - first], remaining [rows, dim]: the search of one run."""
        graph, dim = Graph(f"search-{first}-{stop}"), self.config.codebook_dim
        residuals = graph.input("residuals", "float32", ["rows", dim])
        entries, remaining = CodebookWriter(graph, self.config, self.tensors).search(residuals, first, stop)
        graph.output(graph.cast(entries, "int32"), "entries", "int32", ["rows", stop - first])
        graph.output(remaining, "remaining", "float32", ["rows", dim])
        return graph
