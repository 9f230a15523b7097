"""The calls that take turns in `benchmarks.step`: our steps and clips, the packages', Mimi's and Lyra's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.timing import Candidate
from benchmarks.peers import Peer, lyra
from streamcodec.audio import resample
from streamcodec.codec import Codec
from streamcodec.engine.openvino.engine import OpenVinoEngine
from streamcodec.types import Samples

__all__ = [
    "BANDWIDTH",
    "LYRA",
    "STREAMING_PEERS",
    "EngineSetup",
    "Repeats",
    "Shape",
    "lyra_calls",
    "our_clips",
    "our_steps",
    "peer_calls",
    "peer_clips",
]


BANDWIDTH = 6.0
LYRA = "Lyra V2"
STREAMING_PEERS = ("Mimi", LYRA)
"""Other models than EnCodec, which keep their state from call to call."""


@dataclass(frozen=True)
class Shape:
    """What a step handles: `batch` streams, `frames` of each."""

    batch: int
    frames: int

    @property
    def pace(self) -> Repeats:
        """One stream's steps are quick and their times wanted exactly; many streams' are slow."""
        return Repeats(5) if self.batch == 1 else Repeats(3, 2)


@dataclass(frozen=True)
class Repeats:
    """How often a candidate runs: `burst` times in a row in every `every`-th round."""

    burst: int
    every: int = 1


@dataclass(frozen=True)
class EngineSetup:
    """How a model of ours runs."""

    engine: str
    precision: str
    threads: int


def _labels(who: str, way: EngineSetup, operation: str, kind: str, shape: Shape, *, ours: bool) -> dict[str, Any]:
    how = {"engine": way.engine, "precision": way.precision, "threads": way.threads}
    return {"who": who, "ours": ours, **how, "operation": operation, "kind": kind, "batch": shape.batch, "frames": shape.frames}


# Ours --------------------------------------------------------------------------------------------------------------------------------


def our_steps(name: str, codec: Codec, way: EngineSetup, speech: Samples, shape: Shape, pace: Repeats | None = None) -> list[Candidate]:
    """An engine's step as a server makes it, to encode and to decode: states in, states out, on speech that goes on from call to call."""
    engine, n_q, packet = codec.engine, codec.config.n_q_for(BANDWIDTH), shape.frames * codec.hop_length
    audio_s, pace = shape.batch * packet / codec.sample_rate, pace or shape.pace
    starts = [np.roll(speech, -row * 7_919) for row in range(shape.batch)]
    blocks = np.stack([row[: len(speech) // packet * packet].reshape(-1, packet) for row in starts], axis=1)[:32]  # [steps, B, T]

    def opened(start: Any) -> Any:
        # A reflecting model opens an exact stream on its seventh frame only: time the steps behind that.
        return None if start is None else np.stack([start] * shape.batch)

    rows = [n_q] * shape.batch
    encoder, decoder = opened(engine.encoder_start("primed")), opened(engine.decoder_start("primed", n_q))
    codes = [engine.encode(block, encoder, rows)[0] for block in blocks[:8]]
    encode = _chained(lambda x, s: engine.encode(x, s, rows), list(blocks), encoder)
    decode = _chained(engine.decode, codes, decoder)
    if isinstance(engine, OpenVinoEngine) and shape.batch in engine.best_batches:
        # A server's shapes come often enough for a network of their own.
        engine.prepare(shape.frames, [shape.batch], decoder=True)
        engine.wait_until_compiled()
        encode()
        decode()
    return [
        Candidate(call, audio_s, _labels(name, way, operation, "step", shape, ours=True), pace.burst, pace.every)
        for operation, call in (("encode", encode), ("decode", decode))
    ]


def _chained(step: Callable[[Any, Any], tuple[Any, Any]], inputs: Sequence[Any], states: Any) -> Callable[[], None]:
    """A call that takes the next input and the states which the call before it left."""
    at = 0

    def call() -> None:
        nonlocal at, states
        _, states = step(inputs[at % len(inputs)], states)
        at += 1

    return call


def our_clips(name: str, codec: Codec, way: EngineSetup, clip: Samples, pace: Repeats) -> list[Candidate]:
    """Our call on the whole clip."""
    codes = codec.encode(clip, bandwidth=BANDWIDTH)
    audio_s, shape = len(clip) / codec.sample_rate, Shape(1, codes.shape[1])
    calls = {"encode": lambda: codec.encode(clip, bandwidth=BANDWIDTH), "decode": lambda: codec.decode(codes)}
    return [
        Candidate(call, audio_s, _labels(name, way, operation, "clip", shape, ours=True), pace.burst, pace.every)
        for operation, call in calls.items()
    ]


# Peers -------------------------------------------------------------------------------------------------------------------------------


def peer_calls(peer: Peer, threads: int, speech: Samples, shape: Shape) -> list[Candidate]:
    """A package's call on the same amount of audio: each on its own, or the next of a stream where the peer streams."""
    x = np.stack([np.roll(speech, -row * 7_919)[: shape.frames * 320] for row in range(shape.batch)])
    return _of_peer(peer, threads, torch.from_numpy(x)[:, None], "step", shape, shape.pace)


def peer_clips(peer: Peer, threads: int, clip: Samples, pace: Repeats) -> list[Candidate]:
    """A package's call on the whole clip."""
    return _of_peer(peer, threads, torch.from_numpy(clip)[None, None], "clip", Shape(1, len(clip) // 320), pace)


def lyra_calls(folder: Path, speech: Samples) -> list[Candidate]:
    """Lyra V2's stream on the next 80 ms, four frames of its own, with its 8-bit weights."""
    stream, at = lyra.Lyra(folder, BANDWIDTH), 0
    wide = resample(speech, 24_000, lyra.RATE)
    packets = wide[: len(wide) // (4 * lyra.FRAME) * 4 * lyra.FRAME].reshape(-1, 4, lyra.FRAME)
    coded = [[stream.encode(frame) for frame in packet] for packet in packets[:8]]

    def encode() -> None:
        nonlocal at
        for frame in packets[at % len(packets)]:
            stream.encode(frame)
        at += 1

    def decode() -> None:
        for indices in coded[at % len(coded)]:
            stream.decode(indices)

    way, shape = EngineSetup("tflite", "int8", 1), Shape(1, 6)
    return [
        Candidate(call, 0.08, _labels(LYRA, way, operation, "step", shape, ours=False), shape.pace.burst)
        for operation, call in (("encode", encode), ("decode", decode))
    ]


def _of_peer(peer: Peer, threads: int, x: torch.Tensor, kind: str, shape: Shape, pace: Repeats) -> list[Candidate]:
    # The README of the one that streams says no_grad; inference_mode is never slower for the others.
    mode = torch.no_grad if peer.streams else torch.inference_mode

    def encode() -> torch.Tensor:
        with mode():
            return peer.encode(x, BANDWIDTH)

    codes = encode()

    def decode() -> torch.Tensor:
        with mode():
            return peer.decode(codes)

    audio_s = x.shape[0] * x.shape[-1] / 24_000
    way = EngineSetup("torch", "fp32", threads)
    return [
        Candidate(call, audio_s, _labels(peer.name, way, operation, kind, shape, ours=False), pace.burst, pace.every)
        for operation, call in (("encode", encode), ("decode", decode))
    ]
