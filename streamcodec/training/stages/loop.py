"""The loop of a stage that learns: steps from the latest checkpoint to the last one, with logs, evaluations and checkpoints by the way."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from streamcodec.model.encodec import EncodecModel
from streamcodec.training.evaluate import evaluate
from streamcodec.training.rundir import CsvLog, latest_checkpoint, load_checkpoint, save_checkpoint
from streamcodec.types import Samples

__all__ = ["DEFAULT_PACE", "Intervals", "Learner", "learn"]

log = logging.getLogger(__name__)


class Learner(Protocol):
    """What learns: its averaged model, a step, and all of it as a value."""

    @property
    def average(self) -> EncodecModel: ...

    def step(self, step: int, progress: float) -> dict[str, float]: ...

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Intervals:
    """How often something else than learning happens: in steps, and for checkpoints in seconds.

    `clips` held-out ones of `clip_seconds` are what is evaluated on.
    """

    log_steps: int = 100
    evaluate_steps: int = 2000
    perceptual_steps: int = 8000
    checkpoint_seconds: float = 240.0
    clips: int = 12
    clip_seconds: float = 8.0  # short clips do not tell how a stream goes on


DEFAULT_PACE = Intervals()


def learn(
    learner: Learner,
    steps: int,
    folder: Path,
    pace: Intervals,
    clips: Sequence[Samples] = (),
    *,
    computed: Callable[[], float] = time.process_time,
    wall: Callable[[], float] = time.monotonic,
) -> bool:
    """Learn until `steps` are done (True) or SIGTERM or SIGINT asks to stop (False); a checkpoint is left in `folder` either way.

    It goes on from the folder's latest checkpoint. `computed` and `wall` are clocks: seconds of computing, and of the day.
    """
    saved = latest_checkpoint(folder)
    step, seconds_before = 0, 0.0
    if saved is not None:
        values = load_checkpoint(saved)
        learner.restore(values["learner"])
        step, seconds_before = values["step"], values["seconds"]
        log.info("goes on at step %d after %.2f h of computing", step, seconds_before / 3600.0)
    started = computed()
    logs = _Logs(folder)
    recent: list[dict[str, float]] = []
    saved_at = wall()

    def seconds() -> float:
        return seconds_before + computed() - started

    def save() -> None:
        save_checkpoint(folder, step, {"step": step, "seconds": seconds(), "learner": learner.state()})

    with _told_to_stop() as stop:
        while step < steps and not stop:
            recent.append(learner.step(step, step / steps))
            step += 1
            if step % pace.log_steps == 0 or step == steps:
                logs.steps(step, seconds(), recent)
                recent = []
            if clips and step % pace.evaluate_steps == 0:
                logs.quality(step, evaluate(deepcopy(learner.average).cpu(), clips, perceptual=step % pace.perceptual_steps == 0))
            if wall() - saved_at >= pace.checkpoint_seconds:
                save()
                saved_at = wall()
        save()
        return not stop


class _Logs:
    """A stage's two logs: losses by step, and quality by bandwidth."""

    def __init__(self, folder: Path) -> None:
        self._steps, self._quality = CsvLog(folder / "steps.csv"), CsvLog(folder / "quality.csv")

    def steps(self, step: int, seconds: float, recent: Sequence[dict[str, float]]) -> None:
        values: dict[str, list[float]] = {}
        for row in recent:
            for name, value in row.items():
                values.setdefault(name, []).append(value)
        means = {name: sum(found) / len(found) for name, found in values.items()}
        self._steps.add({"step": step, "hours": seconds / 3600.0, **means})
        log.info("step %d  %.2f h  %s", step, seconds / 3600.0, "  ".join(f"{k} {v:.4g}" for k, v in means.items()))

    def quality(self, step: int, rows: Sequence[dict[str, float]]) -> None:
        for row in rows:
            self._quality.add({"step": step, **row})
            log.info("step %d: %s", step, "  ".join(f"{k} {v:.3g}" for k, v in row.items()))


@contextmanager
def _told_to_stop() -> Iterator[list[int]]:
    """A list that fills when SIGTERM or SIGINT comes; outside the main thread, where no handler can be set, it stays empty."""
    told: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        told.append(number)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:
        before = {}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
