"""One engine now, another as soon as it is ready, so that a server need not wait for a conversion."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from streamcodec.config import DEFAULT_PACKET_FRAMES, CodecConfig, Start
from streamcodec.engine.base import Engine
from streamcodec.engine.warming import warm_up
from streamcodec.types import Codes, Samples, States

__all__ = ["StandIn"]

log = logging.getLogger("streamcodec.engine")


class StandIn:
    """One engine now, another as soon as it is ready: their states are laid out alike, so a stream changes over between two steps."""

    def __init__(self, now: Engine, make: Callable[[], Engine]) -> None:
        self._engine = now
        self.config: CodecConfig = now.config
        self.workers = now.workers
        self.encoder_state_size = now.encoder_state_size
        self.decoder_state_size = now.decoder_state_size
        self.encoder_start_frames = now.encoder_start_frames
        self.decoder_start_frames = now.decoder_start_frames
        self.decoder_hold_frames = now.decoder_hold_frames
        self.default_live_start: Start = now.default_live_start
        self._asked: set[int] = set()
        self._asking = threading.Lock()
        # No daemon: a program that ends meanwhile waits for it, since what it runs cannot be cut off safely.
        self.preparing = threading.Thread(target=self._change_over, args=(make,), name="streamcodec-prepare")
        self.preparing.start()

    def _change_over(self, make: Callable[[], Engine]) -> None:
        try:
            engine = make()
            warm_up(engine, [DEFAULT_PACKET_FRAMES])
            with self._asking:
                self._engine = engine
                for packet_frames in self._asked:
                    engine.prepare(packet_frames)
        except Exception:
            log.exception("the faster engine cannot be prepared: going on with %s", self.name)
        else:
            log.info("the engine is %s now", self.name)

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def best_batches(self) -> tuple[int, ...]:
        return self._engine.best_batches

    def prepare(self, packet_frames: int) -> None:
        with self._asking:
            self._asked.add(packet_frames)
            self._engine.prepare(packet_frames)

    def stop_preparing(self) -> None:
        with self._asking:
            self._asked.clear()
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
