"""How held-out clips are fetched, selected and told."""

from __future__ import annotations

import argparse
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamcodec.errors import InputError
from streamcodec.training.data.corpus import Corpus, Folder, build
from streamcodec.training.data.fetch import fetch, unpacked
from streamcodec.training.data.sources import SOURCES, Kind
from streamcodec.types import Samples

__all__ = ["Clip", "Corpus", "add_options", "chosen", "describe", "main", "select", "tell"]


_SHORTEST_S, _MAX_INTERVAL_S = 4, 8


@dataclass(frozen=True)
class Clip:
    """`samples` [T] at the corpus's rate, from `offset` samples behind the source's first one."""

    source: str
    kind: Kind
    offset: int
    samples: Samples

    @property
    def name(self) -> str:
        """The source and the offset, as a file name takes them."""
        return f"{self.source}-{self.offset}"


def main(argv: Sequence[str] | None = None) -> None:
    """Fetch the held-out sources and build a corpus of them."""
    question = "Fetch the held-out sources and build a corpus of them."
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heldout", description=question)
    parser.add_argument("corpus", type=Path, help="the corpus's folder")
    parser.add_argument("--packages", type=Path, default=Path("packages"), help="where the packages are unpacked; those there are used")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    held_out = [source for source in SOURCES if source.held_out]
    fetch(args.packages, held_out)
    folders = [Folder(s.name, unpacked(args.packages, s), s.kind, s.held_out, s.pattern, s.licence) for s in held_out]
    print(f"{build(folders, args.corpus).hours():.2f} h in {args.corpus}")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every benchmark on held-out clips takes."""
    parser.add_argument(
        "--corpus", type=Path, default=Path("corpus"), help="from `python -m benchmarks.heldout` or `streamcodec train data`"
    )
    parser.add_argument("--clips", type=int, default=48, help="of speech")
    parser.add_argument("--music-clips", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0, help="of the selection")


def chosen(args: argparse.Namespace, *, music: bool) -> list[Clip]:
    """The clips that the command line asks for, speech first. Raises `InputError`, with the command that makes a corpus, without any."""
    try:
        corpus = Corpus(args.corpus)
        clips = select(corpus, "speech", args.clips, args.seed)
        return clips + (select(corpus, "music", args.music_clips, args.seed) if music else [])
    except InputError as error:
        raise InputError(f"{error} (python -m benchmarks.heldout {args.corpus})") from error


def select(corpus: Corpus, kind: Kind, count: int, seed: int) -> list[Clip]:
    """About `count` clips of 4 to 8 s, shared out evenly among the held-out sources, always the same ones for one seed.

    A clip begins with a file and goes on into the next ones of its source until it is long enough; only what is longer than 8 s is cut.
    Raises `InputError` if there is no held-out sound of this kind.
    """
    pieces = _pieces(corpus, kind)
    if not pieces:
        raise InputError(f"the corpus holds no held-out {kind}")
    drawn: list[Clip] = []
    for at, (source, found) in enumerate(pieces.items()):
        share = min(count // len(pieces) + (at < count % len(pieces)), len(found))
        first, _ = corpus.spans(kind, held_out=True)[source]
        picked = np.random.default_rng([seed, zlib.crc32(source.encode())]).choice(len(found), share, replace=False)
        for index in sorted(picked.tolist()):
            start, length = found[index]
            drawn.append(Clip(source, kind, start - first, corpus.read(start, length)))
    return drawn


def _pieces(corpus: Corpus, kind: Kind) -> dict[str, list[tuple[int, int]]]:
    """Each held-out source cut into (start, length) that do not overlap."""
    shortest, longest = _SHORTEST_S * corpus.rate, _MAX_INTERVAL_S * corpus.rate
    pieces: dict[str, list[tuple[int, int]]] = {}
    start, length, source = 0, 0, ""
    for stretch in corpus.stretches:
        if stretch.kind != kind or not stretch.held_out:
            continue
        if stretch.source != source or start + length != stretch.offset:
            start, length, source = stretch.offset, 0, stretch.source
        length += stretch.length
        while length >= shortest:
            taken = min(length, longest)
            pieces.setdefault(source, []).append((start, taken))
            start, length = start + taken, length - taken
        if stretch.length >= shortest:  # what is left of a long file is no beginning
            start, length = stretch.offset + stretch.length, 0
    return pieces


def describe(clips: Sequence[Clip]) -> list[dict[str, Any]]:
    """Each clip by source and offset, with a checksum of its 16-bit samples: what it takes to select it again."""
    return [
        {
            "source": clip.source,
            "kind": clip.kind,
            "offset": clip.offset,
            "samples": len(clip.samples),
            "crc32": f"{zlib.crc32(np.round(clip.samples * 32768.0).astype('<i2').tobytes()):08x}",
        }
        for clip in clips
    ]


def tell(described: Sequence[dict[str, Any]], rate: int) -> str:
    """The selection in a sentence, from the figures alone."""
    parts = []
    for source in dict.fromkeys(clip["source"] for clip in described):
        lengths = [clip["samples"] / rate for clip in described if clip["source"] == source]
        parts.append(f"{len(lengths)} of `{source}` ({sum(lengths):.0f} s)")
    counts = {kind: sum(clip["kind"] == kind for clip in described) for kind in ("speech", "music")}
    kinds = [f"{count} {'clip' if count == 1 else 'clips'} of {kind}" for kind, count in counts.items() if count]
    lengths = [clip["samples"] / rate for clip in described]
    return (
        f"{' and '.join(kinds)}, {min(lengths):.1f} to {max(lengths):.1f} s each, held out "
        f"from training by whole sources: {', '.join(parts)}. Each clip's offset and checksum stand in the JSON"
    )
