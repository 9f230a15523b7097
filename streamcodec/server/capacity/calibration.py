"""What an engine's steps take on this machine, by running a few."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from streamcodec.config import DEFAULT_PACKET_FRAMES
from streamcodec.engine.base import Engine
from streamcodec.processors import available_processors
from streamcodec.server.capacity.admission import Admission
from streamcodec.server.capacity.load_model import Cost, Costs, Kind
from streamcodec.server.limits import Limits
from streamcodec.types import block_shape

__all__ = ["cost_of", "measure", "measured_admission"]

_ROWS = 16
_FRAMES = DEFAULT_PACKET_FRAMES
_SHAPES = ((1, _FRAMES), (_ROWS, _FRAMES), (_ROWS, 1))
_BUDGET_S = 0.3


async def measured_admission(engine: Engine, limits: Limits, max_batch: int) -> Admission:
    """Who is admitted on this machine, which is measured where the limits ask for that."""
    costs = await asyncio.to_thread(measure, engine) if limits.capacity == "auto" else None
    return Admission(
        limits,
        costs,
        engine.config.frame_rate,
        workers=engine.workers,
        cores=available_processors(),
        max_batch=max_batch,
        packet_frames=engine.config.packet_frames_for(),
    )


def measure(engine: Engine) -> Costs:
    """Run steps of one row and of many, long and short, on all of the engine's workers at once; nothing else may use it meanwhile.

    Each kind of step runs once, and again while there is time: the quickest counts. Chunks have one length.
    """
    chunked = engine.config.granularity == "chunks"
    shapes = ((1, engine.config.packet_frames_for()), (2, engine.config.packet_frames_for())) if chunked else _SHAPES
    quickest: dict[tuple[Kind, int, int], float] = {}
    give_up = time.perf_counter() + _BUDGET_S
    kinds: tuple[Kind, ...] = ("encode", "decode")
    with ThreadPoolExecutor(engine.workers) as workers:
        for round in range(4):
            for key in [(kind, rows, frames) for kind in kinds for rows, frames in shapes]:
                if round and time.perf_counter() > give_up:
                    break
                begun = time.perf_counter()
                for done in [workers.submit(_step, engine, *key) for _ in range(engine.workers)]:
                    done.result()
                quickest[key] = min(quickest.get(key, np.inf), time.perf_counter() - begun)
    cost = _cost_of_chunks if chunked else cost_of
    return {kind: cost(*(quickest[(kind, *shape)] for shape in shapes)) for kind in kinds}


def cost_of(alone: float, many: float, many_short: float) -> Cost:
    """The cost that explains how long a step of one packet, one of 16 packets and one of 16 single frames took, in seconds."""
    frame = max(0.0, (many - many_short) / (_ROWS * (_FRAMES - 1)))
    packet = max(0.0, (many - alone) / (_ROWS - 1))
    frame = min(frame, packet / _FRAMES)
    return Cost(step=max(0.0, alone - packet), row=packet - _FRAMES * frame, frame=frame)


def _cost_of_chunks(alone: float, two: float) -> Cost:
    row = min(alone, max(0.0, two - alone))
    return Cost(step=alone - row, row=row, frame=0.0)


def _step(engine: Engine, kind: Kind, rows: int, frames: int) -> None:
    config, n_q = engine.config, engine.config.n_q_for(None)
    chunked, traits = config.granularity == "chunks", engine.traits
    size = traits.encoder_state_size if kind == "encode" else traits.decoder_state_size
    states = None if chunked else np.zeros((rows, size), np.float32)
    if kind == "encode":
        # No silence: a signal so quiet that its numbers are denormal takes longer.
        shape = (rows, *block_shape(frames * config.hop_length, config.audio_channels))
        noise = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
        engine.encode(noise, states, [n_q] * rows, final=chunked)
    else:
        engine.decode(np.zeros((rows, n_q, frames), np.int32), states, final=chunked)
