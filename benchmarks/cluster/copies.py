"""How many bytes of a stream go to the bus each second with `--replicate`, by part, and how long it takes to pack them."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import math
import time
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.harness.models import Loading
from benchmarks.harness.sections import Figures
from streamcodec.audio import bundled_clip, resample
from streamcodec.client import PublishOptions, publish
from streamcodec.codec import Codec
from streamcodec.protocol.values import pack_value
from streamcodec.server import Limits, Server
from streamcodec.server.cluster.copies import HistoryPiece, StreamCopy
from streamcodec.server.ingest.pcm import PcmState
from streamcodec.server.snapshot import StreamSnapshot

__all__ = ["KINDS", "measure_copies"]

KINDS: dict[str, dict[str, Any]] = {
    "PCM, 24 kHz": {"sample_rate": 24_000},
    "PCM, 48 kHz": {"sample_rate": 48_000},
    "codes": {"format": "codes"},
}
_KBPS = 6.0
_FRAMES, _PACKET_S = 6, 0.08
_GIVEN_PCM_S = 1.0  # as in a hand-over
_LOOK_S = 0.005


async def measure_copies(args: argparse.Namespace, loading: Loading) -> Figures:
    """One stream of each kind at a server in this process; it is copied after each second of speech."""
    codec = loading()
    kinds = {}
    async with Server(codec, port=0, limits=Limits(capacity=None)) as server:
        for kind, options in KINDS.items():
            kinds[kind] = await _measure(server, codec, options, args.copies)
    return {"kinds": kinds, "kbps": _KBPS, "failures": []}


async def _measure(server: Server, codec: Codec, options: dict[str, Any], copies: int) -> Figures:
    blocks = _blocks(codec, options, copies)
    model = codec.fingerprint if "format" in options else None
    copy, sizes, pack_ms = StreamCopy(), list[tuple[int, int]](), list[float]()
    async with publish(server.url, "copied", PublishOptions(model=model, bandwidth=_KBPS, pace="fast", **options)) as publisher:
        stream = server.registry.streams["copied"]
        for at, second in enumerate(blocks, 1):
            for block in second:
                await publisher.send(block)
            while stream.numbering.next_seq < int(at / _PACKET_S) - 1:  # noqa: ASYNC110 - a resampler may hold a little back
                await asyncio.sleep(_LOOK_S)
            snapshot = await stream.snapshot(None)
            begun = time.perf_counter()
            piece, rest = copy.next(snapshot)
            sizes.append((len(rest.to_bytes(codec.fingerprint, codec.engine)), 0 if piece is None else len(pack_value(piece[1]))))
            pack_ms.append(1000 * (time.perf_counter() - begun))
            copy.written(piece, snapshot.next_seq)
        given = await stream.snapshot(_GIVEN_PCM_S)
    steady = sizes[copies // 4 * 2 :]  # whole pairs, as a piece comes with every other copy
    return {
        "parts": _parts(rest, codec),
        "copy": float(np.mean([size for size, _ in steady])),
        "piece": float(np.mean([size for _, size in steady])),
        "history": len(pack_value(HistoryPiece(given.fan_out.history))),
        "history_s": len(given.fan_out.history) * _PACKET_S,
        "given": len(given.to_bytes(codec.fingerprint, codec.engine)),
        "pack_ms": float(np.median(pack_ms)),
    }


def _parts(copy: StreamSnapshot, codec: Codec) -> Figures:
    """Bytes of each part of a copy, and of all else."""
    parts = {"states": 0, "resampler": 0, "samples": 0}
    if isinstance(copy.source, PcmState):
        row, resampler = copy.source.row, copy.source.frontend.resampler
        parts["states"] = len(pack_value(replace(row, pending=row.pending[:0], codes=row.codes[:, :0])))
        parts["resampler"] = 0 if resampler is None else len(pack_value(resampler))
        parts["samples"] = len(pack_value(replace(row, state=None)))
    parts["history"] = len(pack_value(copy.fan_out)) - len(pack_value(replace(copy.fan_out, history=())))
    return {**parts, "else": len(copy.to_bytes(codec.fingerprint, codec.engine)) - sum(parts.values())}


def _blocks(codec: Codec, options: dict[str, Any], seconds: int) -> list[list[Any]]:
    """Speech as the publisher has it, second by second: blocks of samples [T], or packets of codes [n_q, F]."""
    clip, clip_rate = bundled_clip()
    rate = options.get("sample_rate", codec.sample_rate)
    samples = resample(np.tile(clip, math.ceil(seconds * clip_rate / clip.size)), clip_rate, rate)[: seconds * rate]
    if "sample_rate" in options:
        return [np.split(second, 10) for second in np.split(samples, seconds)]
    encoder = codec.stream_encoder(_KBPS)
    codes = np.concatenate([*encoder.feed(samples), *encoder.flush()], axis=1)
    ends = [int(at / _PACKET_S) for at in range(seconds + 1)]
    return [[codes[:, at * _FRAMES : (at + 1) * _FRAMES] for at in range(first, end)] for first, end in itertools.pairwise(ends)]
