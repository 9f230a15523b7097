"""A worker that runs nothing: what it was told is noted, and results come when a test says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from streamcodec.config import CodecConfig
from streamcodec.engine.base import StreamTraits
from streamcodec.scheduler.streams import Result


class FakeStream:
    """One opened encoder or decoder."""

    def __init__(self, sink: Callable[[Result], None], options: dict[str, Any]) -> None:
        self.sink = sink
        self.options = options
        self.verbs: list[str] = []
        self.items: list[Any] = []

    def feed(self, item: Any) -> None:
        assert "end" not in self.verbs
        self.verbs.append("feed")
        self.items.append(item)

    def restart(self) -> None:
        self.verbs.append("restart")

    def cut(self) -> None:
        self.verbs.append("cut")

    def end(self) -> None:
        assert "end" not in self.verbs
        self.verbs.append("end")

    def close(self) -> None:
        self.verbs.append("close")

    def give(self, *outputs: Any, ended: bool = False, error: Exception | None = None) -> None:
        """Deliver a result, as the worker would."""
        self.sink(Result(list(outputs), ended, 1.0, 1.001, 1.002, error))


class FakeEngine:
    traits = StreamTraits(1, 1, 1, 1, 0, "exact")
    workers = 1
    best_batches = ()

    def __init__(self, config: CodecConfig) -> None:
        self.config = config


class FakeWorker:
    """Stands for `Worker` on the loop's side."""

    def __init__(self, config: CodecConfig | None = None) -> None:
        self.engine = FakeEngine(config or CodecConfig(target_bandwidths=(1.5, 3.0, 6.0, 12.0, 24.0)))
        self.opened: list[FakeStream] = []

    def open_encoder(self, sink: Callable[[Result], None], **options: Any) -> FakeStream:
        self.opened.append(FakeStream(sink, options))
        return self.opened[-1]

    open_decoder = open_encoder


def codes_output(n_q: int = 2, frames: int = 6) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.arange(n_q * frames, dtype=np.int32).reshape(n_q, frames)
