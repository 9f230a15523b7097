"""A run: steps from a checkpoint to the budget's end, with logs, evaluations and checkpoints by the way.

The budget counts the processor's time, divided by the threads that the run may have at most, so a run that is paused or crowded out
spends nothing meanwhile; on another device it is the clock's time.
"""

from __future__ import annotations

import json
import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from streamcodec.config import CodecConfig
from streamcodec.errors import InputError
from streamcodec.model.checkpoint import fingerprint
from streamcodec.model.encodec import EncodecModel
from streamcodec.training.batches import Batches
from streamcodec.training.corpus import Corpus
from streamcodec.training.evaluate import evaluate
from streamcodec.training.recipe import Recipe
from streamcodec.training.rundir import CsvLog, latest_checkpoint, load_checkpoint, save_checkpoint
from streamcodec.training.step import Learner
from streamcodec.training.threads import FreeCores

__all__ = ["Pace", "Run"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """How often something else than learning happens: in steps, and for checkpoints in seconds."""

    log_steps: int = 100
    thread_steps: int = 20
    evaluate_steps: int = 2000
    perceptual_steps: int = 8000
    checkpoint_seconds: float = 240.0
    clips: int = 12
    clip_seconds: float = 8.0  # short clips do not tell how a stream goes on


class Run:
    """Training in one folder; made anew it goes on from the folder's latest checkpoint, whose config and recipe then hold.

    It begins with the weights of `base`, a model of this config, or with those that `initialise` finds. Raises `InputError` where the
    recipe trains a decoder only and there is no `base` to whose codes it belongs, or the folder's run is of another one.
    """

    def __init__(
        self,
        folder: Path,
        corpus: Corpus,
        config: CodecConfig,
        recipe: Recipe,
        pace: Pace = Pace(),
        *,
        base: EncodecModel | None = None,
        device: str = "cpu",
        computed: Callable[[], float] | None = None,
        wall: Callable[[], float] = time.monotonic,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        threads = torch.get_num_threads()
        self.folder, self.pace = folder, pace
        spent = (lambda: time.process_time() / threads) if device == "cpu" else time.monotonic
        self._computed, self._wall = computed or spent, wall
        self._free_cores = FreeCores(threads)
        saved = self._latest()
        if saved is not None:
            config = CodecConfig.from_dict(saved["config"])
            recipe = Recipe.from_dict(saved["recipe"]).with_budget(recipe.hours, recipe.steps)
        corpus.check_rate(config.sampling_rate)
        self.recipe = recipe
        self.learner = Learner(config, recipe, device)
        self.step, self._seconds_before = 0, 0.0
        self._base = "" if base is None else fingerprint(base)
        if saved is not None:
            self.learner.restore(saved["learner"])
            self.step, self._seconds_before = saved["step"], saved["seconds"]
            if base is not None and saved["base"] != self._base:
                raise InputError(f"{folder}: this run began with another model, expected a new name for this one")
            self._base = saved["base"]
            log.info("resumed at step %d after %.2f h of computing", self.step, self.hours)
        self.batches = Batches(corpus, recipe, config.hop_length)
        begun = Batches(corpus, replace(recipe, stream_seconds=0.0), config.hop_length)
        heard = (begun(step) for step in range(recipe.kmeans_batches))
        if saved is None and base is not None:
            self.learner.start_from(base, heard)
        elif saved is None:
            if recipe.decoder_only:
                raise InputError("the recipe trains a decoder only, expected a model for it to belong to")
            self.learner.start(torch.cat([begun(step)[:, 0] for step in range(recipe.fit_batches)]), heard)
        self._clips = corpus.clips(pace.clip_seconds, pace.clips) if pace.clips else []
        self._steps_log, self._quality_log = CsvLog(folder / "steps.csv"), CsvLog(folder / "quality.csv")
        (folder / "recipe.json").write_text(json.dumps({"config": config.to_dict(), "recipe": recipe.to_dict()}, indent=2) + "\n")

    def _latest(self) -> dict[str, Any] | None:
        self._started = self._computed()
        path = latest_checkpoint(self.folder)
        return None if path is None else load_checkpoint(path)

    @property
    def hours(self) -> float:
        """Hours of computing so far, all resumptions together."""
        return (self._seconds_before + self._computed() - self._started) / 3600.0

    @property
    def progress(self) -> float:
        """The share of the budget spent."""
        return self.recipe.progress(self.step, self.hours)

    def save(self) -> Path:
        """Write a checkpoint now."""
        values = {
            "config": self.learner.config.to_dict(),
            "recipe": self.recipe.to_dict(),
            "base": self._base,
            "step": self.step,
            "seconds": self.hours * 3600.0,
            "learner": self.learner.state(),
        }
        return save_checkpoint(self.folder, self.step, values)

    def train(self) -> bool:
        """Learn until the budget is spent (True) or SIGTERM or SIGINT asks to stop (False); a checkpoint is left either way."""
        recent: list[dict[str, float]] = []
        saved_at = logged_at = self._wall()
        with _told_to_stop() as stop, _threads_restored():
            while self.progress < 1.0 and not stop:
                self._enter_phase()
                if self.step % self.pace.thread_steps == 0:
                    torch.set_num_threads(self._free_cores.count())
                goes_on = self.batches.goes_on(self.step)
                recent.append(self.learner.step(self.batches(self.step), self.step, self.progress, goes_on))
                self.step += 1
                if self.step % self.pace.log_steps == 0:
                    now = self._wall()
                    self._log(recent, (now - logged_at) / len(recent))
                    recent, logged_at = [], now
                if self._clips and self.step % self.pace.evaluate_steps == 0:
                    self.evaluate(perceptual=self.step % self.pace.perceptual_steps == 0)
                    logged_at = self._wall()
                if self._wall() - saved_at >= self.pace.checkpoint_seconds:
                    self.save()
                    saved_at = self._wall()
            self.save()
            return not stop

    def _enter_phase(self) -> None:
        due = self.recipe.phase(self.progress)
        if due > self.learner.phase:
            log.info("step %d: phase %s", self.step, due.name.lower())
            self.learner.phase = due

    def evaluate(self, *, perceptual: bool) -> list[dict[str, float]]:
        """Measure the averaged model on held-out clips, and log it."""
        rows = evaluate(deepcopy(self.learner.average).cpu(), self._clips, perceptual=perceptual)
        columns = ("kbps", "sisdr", "mel", "level", "perplexity_first", "perplexity_least", "pesq", "stoi")
        for row in rows:
            self._quality_log.add({"step": self.step, "hours": self.hours, **{k: row.get(k, "") for k in columns}})
            log.info("step %d: %s", self.step, "  ".join(f"{k} {v:.3g}" for k, v in row.items()))
        return rows

    def _log(self, recent: Sequence[dict[str, float]], seconds: float) -> None:
        columns = (
            "rate",
            "mel",
            "relative",
            "noise",
            "snr",
            "disturbance",
            "lost",
            "unlike",
            "regular",
            "latents",
            "gradient",
            "critic",
            "adversarial",
            "features",
        )
        values = {k: [r[k] for r in recent if k in r] for k in columns}
        means = {k: sum(v) / len(v) if v else "" for k, v in values.items()}
        self._steps_log.add({"step": self.step, "hours": self.hours, "phase": int(self.learner.phase), "seconds_a_step": seconds, **means})
        shown = "  ".join(f"{k} {v:.4g}" for k, v in means.items() if isinstance(v, float))
        log.info("step %d  %.2f h  %.2f s  %s", self.step, self.hours, seconds, shown)


@contextmanager
def _threads_restored() -> Iterator[None]:
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


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
