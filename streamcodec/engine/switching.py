"""An engine that switches to a faster one when that is ready, so that a server does not have to wait for the conversion."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from streamcodec.config import DEFAULT_PACKET_FRAMES, CodecConfig, Start
from streamcodec.engine.base import Engine
from streamcodec.engine.warming import warm_up
from streamcodec.types import Codes, Samples, States

__all__ = ["SwitchingEngine"]

log = logging.getLogger("streamcodec.engine")


class SwitchingEngine:
    """Runs on the engine `first` and switches to the engine from `make` as soon as that is ready.

    `make` runs on a thread of its own. Both engines have the same layout of states, so a stream can switch between two steps.
    """

    def __init__(self, first: Engine, make: Callable[[], Engine]) -> None:
        self._engine = first
        self.config: CodecConfig = first.config
        self.workers = first.workers
        self.traits = first.traits
        self._prepared_lengths: set[int] = set()
        self._lock = threading.Lock()
        # Not a daemon thread: a program that ends waits for it, because the conversion cannot be interrupted safely.
        self.preparing = threading.Thread(target=self._switch, args=(make,), name="streamcodec-prepare")
        self.preparing.start()

    def __reduce__(self) -> str:
        raise TypeError("an engine that still switches to a faster one cannot be copied or pickled: load with wait_for_compile")

    def _switch(self, make: Callable[[], Engine]) -> None:
        try:
            engine = make()
            warm_up(engine, [DEFAULT_PACKET_FRAMES])
            with self._lock:
                self._engine = engine
                for packet_frames in self._prepared_lengths:
                    engine.prepare(packet_frames)
        except Exception:
            log.exception("the faster engine could not be prepared; %s continues to run the model", self.name)
        else:
            log.info("switched to the engine %s", self.name)

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def best_batches(self) -> tuple[int, ...]:
        return self._engine.best_batches

    def prepare(self, packet_frames: int) -> None:
        with self._lock:
            self._prepared_lengths.add(packet_frames)
            self._engine.prepare(packet_frames)

    def stop_preparing(self) -> None:
        with self._lock:
            self._prepared_lengths.clear()
            self._engine.stop_preparing()

    def encoder_start(self, start: Start) -> States | None:
        return self._engine.encoder_start(start)

    def decoder_start(self, start: Start, n_q: int) -> States | None:
        return self._engine.decoder_start(start, n_q)

    def encode(self, samples: Samples, states: States | None, n_q: Sequence[int], final: bool = False) -> tuple[Codes, States]:
        return self._engine.encode(samples, states, n_q, final)

    def decode(self, codes: Codes, states: States | None, final: bool = False) -> tuple[Samples, States]:
        return self._engine.decode(codes, states, final)

    def embed(self, codes: Codes) -> Samples:
        return self._engine.embed(codes)

    def decode_latents(self, latents: Samples) -> Samples:
        return self._engine.decode_latents(latents)
