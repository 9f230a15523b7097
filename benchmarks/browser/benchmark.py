"""The four measurements as one benchmark, each a case of its own, so that a long one can be repeated alone."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.browser.delay import measure_delay
from benchmarks.browser.installs import measure_installs
from benchmarks.browser.page import taskset_is_missing
from benchmarks.browser.plots import draw
from benchmarks.browser.render import headlines, render
from benchmarks.browser.start import measure_start
from benchmarks.browser.steps import measure_steps
from benchmarks.harness.browser import missing_for_browser
from benchmarks.harness.machine import Observed
from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import Figures
from benchmarks.mouth_to_ear.virtual_sound import missing_programs

__all__ = ["BENCHMARK"]

_CASES: dict[str, Callable[[argparse.Namespace], Figures]] = {
    "steps": measure_steps,
    "start": measure_start,
    "mouth-to-ear": measure_delay,
    "installs": measure_installs,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--model", default="speech-24k", help="what the server runs and the page gets")
    add("--minutes", type=float, default=2.0, help="steps: how long they go on")
    add("--starts", type=int, default=5, help="start and installs: how often each is started")
    add("--delay-minutes", type=float, default=1.0, help="mouth-to-ear: how long the clip is repeated, each way")
    add("--core", type=int, help="steps and start: the browser's processor (default: the last one that this process may use)")


def refuse(args: argparse.Namespace) -> str | None:
    """A browser takes Node, a Chromium and the page's packages; virtual sound cards take PulseAudio."""
    asked = set(_CASES if args.all else args.case)
    missing = missing_for_browser() if asked - {"installs"} else []
    if asked & {"steps", "start"} and taskset_is_missing():
        missing.append("taskset")
    if "mouth-to-ear" in asked:
        missing += missing_programs()
    return f"missing: {', '.join(missing)}" if missing else None


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    """Measure the case that is asked for."""
    with observed:
        return {"model": args.model, **_CASES[args.case](args)}


BENCHMARK = Benchmark(
    name="browser",
    title="The page in a browser",
    question="How long does the codec take in a browser, what is downloaded and how soon is it heard, and how late is what is heard?",
    options=add_options,
    refuse=refuse,
    measure=measure,
    render=render,
    draw=draw,
    headlines=headlines,
    cases=tuple(_CASES),
    case=lambda args: str(args.case),
)
