"""Warm-up: the first run of each shape is slow on each worker, so an engine runs the shapes of later streams once in advance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from streamcodec.engine.base import Engine
from streamcodec.engine.parallel import run_together
from streamcodec.types import Codes, States, block_shape

__all__ = ["warm_up"]

_PACKETS = 3


def warm_up(engine: Engine, lengths: Iterable[int]) -> None:
    """Encode and decode a few packets of silence of each of these `lengths` (frames), on all of the engine's workers at the same time.

    The streams also end, in the middle of a frame: an engine may have to load more for that, which would delay the other streams.

    One of the workers is the calling thread, because torch caches some kernels per thread. Nothing else may use the engine during the
    call.
    """
    with ThreadPoolExecutor(engine.workers, "streamcodec-warm-up") as pool:
        for frames in lengths:
            kind = _SilentFrames if engine.config.granularity == "frames" else _SilentChunks
            streams: list[_Silence] = [kind(engine, frames) for _ in range(engine.workers)]
            for _ in range(_PACKETS):
                # All jobs of a round run at the same time. Otherwise the engine would use one free worker again and leave another cold.
                run_together([stream.encode for stream in streams], pool)
                run_together([stream.decode for stream in streams], pool)
            run_together([stream.end for stream in streams], pool)


class _Silence(ABC):
    """One stream of silence in packets of `frames` frames."""

    def __init__(self, engine: Engine, frames: int) -> None:
        self._engine = engine
        self._frames = frames
        self._n_q = engine.config.n_q_for(None)
        self._codes: Codes

    @abstractmethod
    def encode(self) -> None:
        """Encode the next packet."""

    @abstractmethod
    def decode(self) -> None:
        """Decode the packet that was encoded last."""

    @abstractmethod
    def end(self) -> None:
        """End the stream in the middle of a frame."""


class _SilentFrames(_Silence):
    """A stream whose state goes on from packet to packet."""

    def __init__(self, engine: Engine, frames: int) -> None:
        super().__init__(engine, frames)
        start = engine.traits.default_live_start
        self._encoder = _as_batch(engine.encoder_start(start))
        self._decoder = _as_batch(engine.decoder_start(start, self._n_q))

    def encode(self) -> None:
        frames = self._frames if self._encoder is not None else max(self._frames, self._engine.traits.encoder_start_frames)
        silence = np.zeros((1, frames * self._engine.config.hop_length), np.float32)
        self._codes, self._encoder = self._engine.encode(silence, self._encoder, [self._n_q])

    def decode(self) -> None:
        frames = self._frames if self._decoder is not None else max(self._frames, self._engine.traits.decoder_start_frames)
        _, self._decoder = self._engine.decode(np.resize(self._codes, (1, self._n_q, frames)), self._decoder)

    def end(self) -> None:
        self._codes, _ = self._engine.encode(np.zeros((1, 1), np.float32), self._encoder, [self._n_q], final=True)
        if self._engine.traits.decoder_hold_frames:  # other decoders are not told that their stream ends
            self._engine.decode(self._codes, self._decoder, final=True)


class _SilentChunks(_Silence):
    """A stream in chunks: each step begins and ends one."""

    def encode(self) -> None:
        config = self._engine.config
        size = self._frames * config.hop_length if config.chunk_length is None else config.chunk_length
        shape = (1, *block_shape(size, config.audio_channels))
        self._codes, _ = self._engine.encode(np.zeros(shape, np.float32), None, [self._n_q], final=True)

    def decode(self) -> None:
        self._engine.decode(self._codes, None, final=True)

    def end(self) -> None:
        pass  # each step has ended a chunk


def _as_batch(state: States | None) -> States | None:
    return None if state is None else state[None]
