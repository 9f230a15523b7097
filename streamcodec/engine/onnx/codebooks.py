"""The search through codebooks and the look-up in them, as nodes of an ONNX graph: what `streamcodec.model.quantizer` does.

A search is unrolled over the levels, in plain operators: a product, the best sums, and rows gathered by number.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamcodec.config import CodecConfig
from streamcodec.engine.onnx.graph import Graph
from streamcodec.model.canonical import Tensors, embed_name

__all__ = ["CodebookWriter"]


@dataclass(frozen=True)
class CodebookWriter:
    """Writes the search in the codebooks of a model and the look-up into `graph`."""

    graph: Graph
    config: CodecConfig
    tensors: Tensors

    def embed(self, level: int) -> str:
        """The entries of a codebook [size, dim]."""
        return self.graph.weight(embed_name(level), self.tensors[embed_name(level)])

    # The search

    def rows(self, latents: str) -> str:
        """Latents [B, dim, F] -> residuals [B * F, dim]."""
        return self.graph.add(
            "Reshape", self.graph.add("Transpose", latents, perm=[0, 2, 1]), self.graph.ints(-1, self.config.codebook_dim)
        )

    def search(self, residuals: str, first: int, stop: int) -> tuple[str, str]:
        """Search a run of levels for residuals [N, dim]: entries [N, stop - first] and what remains [N, dim].

        Rows hold the paths of one residual side by side: those of residual n begin at row n * paths.
        """
        graph, size = self.graph, self.config.codebook_size
        paths, kept, chosen = 1, residuals, list[tuple[str, str, int]]()
        count = graph.add("Shape", residuals, start=0, end=1)
        zero, one = (graph.add("Squeeze", graph.ints(value)) for value in (0, 1))
        numbers = graph.add("Range", zero, graph.add("Squeeze", count), one)
        for level in range(first, stop):
            entries = self.embed(level)
            scores = self._scores(kept, entries, paths)
            together = graph.add("Reshape", scores, graph.ints(-1, paths * size))
            most = 1 if level == stop - 1 else min(self.config.search_beam, paths * size)
            best = (
                graph.add("ArgMax", together, axis=1, keepdims=1)
                if most == 1
                else graph.add_several("TopK", 2, together, graph.ints(most), axis=1)[1]
            )
            index = graph.add("Reshape", graph.add("Mod", best, graph.ints(size)), graph.ints(-1))  # [N * most]
            parents = self._parents(best, numbers, paths, size)
            before = kept if paths == 1 and most == 1 else graph.add("Gather", kept, parents, axis=0)
            kept = graph.add("Sub", before, graph.add("Gather", entries, index, axis=0))
            chosen.append((parents, index, paths))
            paths = most
        return self._follow(chosen), kept

    def _scores(self, residuals: str, entries: str, paths: int) -> str:
        """|r - e|^2 is smallest where r.e - |e|^2 / 2 - |r|^2 / 2 is largest: [N * paths, size]. With one path, |r| is the same for all."""
        graph = self.graph
        half = graph.number(0.5)
        lengths = graph.add("Mul", graph.add("ReduceSumSquare", entries, axes=[1], keepdims=0), half)
        scores = graph.add("Sub", graph.add("MatMul", residuals, graph.add("Transpose", entries, perm=[1, 0])), lengths)
        if paths == 1:
            return scores
        return graph.add("Sub", scores, graph.add("Mul", graph.add("ReduceSumSquare", residuals, axes=[1], keepdims=1), half))

    def _parents(self, best: str, numbers: str, paths: int, size: int) -> str:
        """The rows that the best continuations go on from: [N * most]."""
        graph = self.graph
        parent = graph.add("Div", best, graph.ints(size))
        begin = graph.add("Unsqueeze", graph.add("Mul", numbers, graph.ints(paths)), graph.ints(1))
        return graph.add("Reshape", graph.add("Add", parent, begin), graph.ints(-1))

    def _follow(self, chosen: list[tuple[str, str, int]]) -> str:
        """The entries [N, levels] on the way to the one path that is left at the end."""
        graph = self.graph
        at: str | None = None  # the rows of the level that the paths go through; all of them, at the last level
        entries = []
        for parents, index, paths in reversed(chosen):
            entries.append(index if at is None else graph.add("Gather", index, at, axis=0))
            if paths > 1 or at is not None:
                at = parents if at is None else graph.add("Gather", parents, at, axis=0)
        columns = [graph.add("Unsqueeze", each, graph.ints(1)) for each in reversed(entries)]
        return graph.add("Concat", *columns, axis=1) if len(columns) > 1 else columns[0]

    # The look-up

    def look_up(self, codes: str, levels: int) -> str:
        """Codes [B, n_q, F] with n_q up to `levels` -> latents [B, dim, F]; the code `codebook_size` stands for "not used"."""
        graph, size = self.graph, self.config.codebook_size
        # A row of zeros behind each codebook's entries, for the code that says "not used".
        padded = [graph.add("Pad", self.embed(level), graph.ints(0, 0, 1, 0)) for level in range(levels)]
        table = graph.add("Concat", *padded, axis=0) if levels > 1 else padded[0]
        begins = graph.ints(*(level * (size + 1) for level in range(levels)))
        used = graph.add("Slice", begins, graph.ints(0), graph.add("Shape", codes, start=1, end=2))
        whole = graph.cast(codes, "int64")
        rows = graph.add("Add", whole, graph.add("Unsqueeze", used, graph.ints(1)))
        latents = graph.add("ReduceSum", graph.add("Gather", table, rows, axis=0), graph.ints(1), keepdims=0)
        return graph.add("Transpose", latents, perm=[0, 2, 1])
