"""Which engine runs a model: chosen from what was asked for, what is installed and what the processor can do."""

from __future__ import annotations

import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Literal, cast, get_args

from streamcodec.config import DEFAULT_PACKET_FRAMES, CodecConfig, Start
from streamcodec.engine.base import Engine, EngineName, PrecisionName
from streamcodec.engine.torch import TorchEngine
from streamcodec.engine.warming import warm_up
from streamcodec.errors import InputError
from streamcodec.model.encodec import EncodecModel
from streamcodec.types import Codes, Samples, States

__all__ = ["ENGINES", "PRECISIONS", "make_engine"]

ENGINES: tuple[EngineName, ...] = get_args(EngineName)
log = logging.getLogger("streamcodec.engine")
PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)


def make_engine(
    model: EncodecModel,
    fingerprint: str,
    engine: EngineName = "auto",
    precision: PrecisionName = "fp32",
    *,
    device: str = "cpu",
    threads: int = 1,
    workers: int = 1,
    wait_for_compile: bool = True,
) -> Engine:
    """Make the engine that runs `model`.

    "auto" is what $STREAMCODEC_ENGINE says, else OpenVINO on CPUs where it is installed, else torch; the precision "auto" is bf16 where
    OpenVINO runs and the processor multiplies it natively, else fp32. Without `patient`, an engine that must be prepared first is stood in
    for by torch until it is ready. `workers` calls may come at a time; they share the `threads`.

    Raises `InputError` for what does not go together, `MissingDependencyError` where OpenVINO was asked for and is not there.
    """
    if engine == "auto":
        engine = cast(EngineName, os.environ.get("STREAMCODEC_ENGINE", "auto"))
    if engine not in ENGINES or precision not in PRECISIONS:
        raise InputError(f"engine is {engine!r} and precision {precision!r}, expected one of {ENGINES} and one of {PRECISIONS}")
    if engine == "openvino" and device != "cpu":
        raise InputError(f"device is {device!r}: the OpenVINO engine runs on cpu")
    if engine == "torch" or device != "cpu" or (engine == "auto" and importlib.util.find_spec("openvino") is None):
        if precision == "bf16":
            raise InputError("precision bf16 needs the OpenVINO engine; torch runs fp32")
        return TorchEngine(model, device, workers)
    from streamcodec.engine.openvino.engine import OpenVinoEngine, has_bf16, is_prepared

    chosen: Literal["fp32", "bf16"] = precision if precision != "auto" else ("bf16" if has_bf16() else "fp32")
    prepared = is_prepared(fingerprint, chosen)
    if not prepared:
        log.info("converting the model for this processor, once: it is kept for the next start")
    if wait_for_compile or prepared:
        return OpenVinoEngine(model, fingerprint, chosen, threads, workers)
    return _StandIn(TorchEngine(model, workers=workers), lambda: OpenVinoEngine(model, fingerprint, chosen, threads, workers))


class _StandIn:
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
