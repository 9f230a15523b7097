"""What an engine's steps take on this machine, by running a few."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from streamcodec.config import DEFAULT_PACKET_FRAMES
from streamcodec.engine.base import Engine
from streamcodec.server.capacity.load_model import Cost, Costs, Kind

__all__ = ["cost_of", "measure"]

_ROWS = 16
_FRAMES = DEFAULT_PACKET_FRAMES
_SHAPES = ((1, _FRAMES), (_ROWS, _FRAMES), (_ROWS, 1))
_BUDGET_S = 0.3


def measure(engine: Engine) -> Costs:
    """Run steps of one row and of many, long and short, on all of the engine's workers at once; nothing else may use it meanwhile.

    Each kind of step runs once, and again while there is time: the quickest counts.
    """
    quickest: dict[tuple[Kind, int, int], float] = {}
    give_up = time.perf_counter() + _BUDGET_S
    kinds: tuple[Kind, ...] = ("encode", "decode")
    with ThreadPoolExecutor(engine.workers) as workers:
        for round in range(4):
            for key in [(kind, rows, frames) for kind in kinds for rows, frames in _SHAPES]:
                if round and time.perf_counter() > give_up:
                    break
                begun = time.perf_counter()
                for done in [workers.submit(_step, engine, *key) for _ in range(engine.workers)]:
                    done.result()
                quickest[key] = min(quickest.get(key, np.inf), time.perf_counter() - begun)
    return {kind: cost_of(*(quickest[(kind, rows, frames)] for rows, frames in _SHAPES)) for kind in kinds}


def cost_of(alone: float, many: float, many_short: float) -> Cost:
    """The cost that explains how long a step of one packet, one of 16 packets and one of 16 single frames took, in seconds."""
    frame = max(0.0, (many - many_short) / (_ROWS * (_FRAMES - 1)))
    packet = max(0.0, (many - alone) / (_ROWS - 1))
    frame = min(frame, packet / _FRAMES)
    return Cost(step=max(0.0, alone - packet), row=packet - _FRAMES * frame, frame=frame)


def _step(engine: Engine, kind: Kind, rows: int, frames: int) -> None:
    n_q = engine.config.n_q_for(None)
    if kind == "encode":
        # No silence: a signal so quiet that its numbers are denormal takes longer.
        noise = np.random.default_rng(0).normal(0, 0.1, (rows, frames * engine.config.hop_length)).astype(np.float32)
        engine.encode(noise, np.zeros((rows, engine.traits.encoder_state_size), np.float32), [n_q] * rows)
    else:
        engine.decode(np.zeros((rows, n_q, frames), np.int32), np.zeros((rows, engine.traits.decoder_state_size), np.float32))
