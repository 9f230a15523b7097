"""What `make bench` and `make bench-long` run, how long that takes, and what of it is done already: values, without a clock or a process.

`SHORT` measures every section, and takes 90 minutes at most on two processors. `LONG` measures those anew for which somebody asked for a
longer time or for more clips than there is room for in that: an hour's soak, half an hour in a browser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from benchmarks.harness.provenance import Repository
from benchmarks.harness.run import Benchmark, command_of, commands_of
from benchmarks.harness.sections import runs_of
from benchmarks.harness.tables import table

__all__ = [
    *("BUDGET_S", "FAILED", "HELD_OUT", "LONG", "MEASURED", "SHORT", "Planned", "Provenance", "Took"),
    *("done", "ended", "expected_s", "left", "longer_run", "processor_of", "seconds_of", "told", "with_lyra"),
]

BUDGET_S = 90 * 60.0
HELD_OUT = ("--corpus", "corpus")
_TAKE_LYRA = ("step", "quality")
_CASES = "--all"


@dataclass(frozen=True)
class Planned:
    """One command: the benchmark, its words, and how long it takes (s) as long as no run of it was timed.

    `timed` says that its figures hang on time. Those whose figures do not may run side by side.
    """

    benchmark: str
    seconds: float
    words: tuple[str, ...] = ()
    timed: bool = True

    @property
    def command(self) -> str:
        """As a user gives it."""
        return command_of(self.benchmark, self.words)


def _capacity(case: str, seconds: float, *words: str) -> Planned:
    usual = ("--threads", "2", "--workers", "2", "--precision", "auto", "--overload-seconds", "5", "--recovery-seconds", "5")
    return Planned("capacity", seconds, (*usual, *words, "--case", case))


def _sockets(case: str, seconds: float, *words: str) -> Planned:
    return _capacity(f"WebSockets, {case}", seconds, "--way", "websocket", *words)


def _relay(*words: str) -> Planned:
    return Planned("relay", 44, ("--hold-seconds", "10", "--over-seconds", "5", *words))


# Those whose figures hang on no clock stand together, the longest first.
SHORT: tuple[Planned, ...] = (
    Planned("quality", 760, (*HELD_OUT, "--clips", "12"), timed=False),
    Planned("parity", 320, timed=False),
    Planned("precision", 200, (*HELD_OUT, "--clips", "8"), timed=False),
    Planned("long_streams", 120, (*HELD_OUT, "--clips", "16"), timed=False),
    Planned("cluster_simulation", 105, timed=False),
    Planned("dtx", 85, HELD_OUT, timed=False),
    Planned("late_join", 60, HELD_OUT, timed=False),
    Planned("seams", 30, timed=False),
    Planned("step", 190, ("--rounds", "25")),
    Planned("load", 100, ("--threads", "2", "--workers", "2", "--seconds", "20")),
    Planned("latency", 800, (_CASES, "--minutes", "0.5", "--before-seconds", "5", "--after-seconds", "8")),
    Planned("mouth_to_ear", 245, ("--minutes", "0.75")),
    Planned("browser", 365, (_CASES, "--minutes", "2", "--starts", "3", "--delay-minutes", "0.5")),
    _sockets("speech-24k", 180, "--grow-seconds", "8", "--minutes", "1"),
    _sockets("speech-24k, 2 processes", 160, "--grow-seconds", "6", "--minutes", "0.5", "--processes", "2"),
    _sockets(
        "speech-24k, 13 ms packets", 110, *("--grow-seconds", "4", "--minutes", "0.5", "--packet-frames", "1", "--from", "5", "--step", "5")
    ),
    _sockets("full size", 185, "--grow-seconds", "6", "--minutes", "0.5", "--model", "full", "--from", "4", "--step", "4"),
    _capacity("in process, speech-24k", 205, "--grow-seconds", "4", "--minutes", "0.5"),
    _relay(),
    *(_relay("--listeners", *words) for words in (("300",), ("1500",), ("900",), ("900", "--processes", "2"))),
    *(Planned("churn", 162, ("--engine", engine, "--minutes", "1.2", "--warm-up-seconds", "25")) for engine in ("openvino", "torch")),
    Planned("attacks", 500, (_CASES, "--before-seconds", "1", "--seconds", "3")),
    Planned("failures", 112, (_CASES,)),
    Planned("cluster", 310, (_CASES, "--cut-seconds", "1", "10", "--minutes", "1.5", "--warm-up-seconds", "30", "--seconds", "10")),
    Planned("cluster_growth", 46),
    Planned("soak", 120, ("--minutes", "1.5", "--warm-up-seconds", "30")),
    Planned("chunks", 70, ("--seconds", "15")),
    Planned("tokenize", 170, ("--minutes", "5")),
    Planned("batches", 65, ("--rounds", "3")),
    Planned("entropy_coding", 55, (*HELD_OUT, "--clips", "8")),
)
"""Of each benchmark, what its commands take; where a machine cannot run one, its section stays as it was."""

LONG: tuple[Planned, ...] = (
    Planned("quality", 2800, (*HELD_OUT, "--clips", "48"), timed=False),
    Planned("precision", 1200, (*HELD_OUT, "--clips", "48"), timed=False),
    Planned("long_streams", 180, (*HELD_OUT, "--clips", "24"), timed=False),
    Planned("load", 260, ("--threads", "2", "--workers", "2")),
    Planned("soak", 3640, ("--minutes", "60")),
    Planned("browser", 1845, ("--case", "steps", "--minutes", "30")),
    Planned("latency", 1280, ("--case", "loopback", "drift", "--minutes", "10")),
    Planned("mouth_to_ear", 470, ("--minutes", "2")),
    *(Planned("churn", 690, ("--engine", engine, "--minutes", "10")) for engine in ("openvino", "torch")),
    Planned("attacks", 1380, (_CASES,)),
    Planned("cluster", 1180, ("--case", "cut network", "churn", "--cut-seconds", "1", "10", "60", "--minutes", "15")),
    Planned("tokenize", 1700, ("--minutes", "60")),
    Planned("entropy_coding", 500, (*HELD_OUT, "--clips", "48")),
)
"""The lengths that the issues ask for, where `SHORT` has less."""


def with_lyra(plan: Sequence[Planned], folder: str | None) -> tuple[Planned, ...]:
    """The plan with Lyra V2 in it, whose files lie in `folder`."""
    if folder is None:
        return tuple(plan)
    more = ("--lyra", folder)
    return tuple(Planned(p.benchmark, p.seconds, (*p.words, *more), p.timed) if p.benchmark in _TAKE_LYRA else p for p in plan)


# What is done -------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Provenance:
    """What a figure belongs to: the commit, the weights and the engine's code, and the processor with its widest instructions."""

    commit: str | None
    repository: Repository
    processor: str

    def of(self, ran: Mapping[str, Any]) -> bool:
        """Whether a stored run was measured in this state; nothing that has changes of no commit is."""
        if self.commit is None or self.commit.endswith("-dirty") or ran.get("commit") != self.commit:
            return False
        models = self.repository.models
        same_weights = all(models.get(name) == fingerprint for name, fingerprint in ran["machine"].get("models", {}).items())
        return same_weights and ran.get("engine") == self.repository.engine and processor_of(ran["machine"]) == self.processor


def processor_of(machine: Mapping[str, Any]) -> str:
    """A stored machine's processor, with its instructions."""
    return " ".join([machine["cpu"], *machine["instructions"]])


def done(section: Mapping[str, Any] | None, commands: Mapping[str, str], state: Provenance) -> set[str]:
    """The cases among `commands` (each with its command) that `section` holds of this state, run by that command."""
    found = {} if section is None else runs_of(section)
    return {name for name, command in commands.items() if name in found and found[name]["command"] == command and state.of(found[name])}


def left(
    planned: Planned, benchmark: Benchmark, section: Mapping[str, Any] | None, state: Provenance, longer: Sequence[Planned], *, resume: bool
) -> tuple[str, ...] | None:
    """The words of what is to be run of a command; None where nothing is.

    A run of `longer` is not replaced by a shorter one of the same state. With `resume`, no run of this state is repeated.
    """
    commands = commands_of(benchmark, planned.words)
    have: set[str] = set()
    for other in longer:
        if other.benchmark == planned.benchmark and other.command != planned.command:
            have |= done(section, commands_of(benchmark, other.words), state)
    if resume:
        have |= done(section, commands, state)
    names = [name for name in commands if name not in have]
    if not names:
        return None
    if len(names) == len(commands):
        return planned.words
    others = tuple(word for word in planned.words if word not in (*benchmark.cases, "--case", _CASES))
    return ("--case", *names, *others)


def longer_run(command: str, benchmark: Benchmark, case: str) -> str | None:
    """Of a stored run by the short plan's command, the long plan's command; None where it has none, or where the run is another."""
    plans = [[p for p in plan if p.benchmark == benchmark.name] for plan in (SHORT, LONG)]
    short, long = ([commands_of(benchmark, p.words).get(case) for p in plan] for plan in plans)
    found = [other for other in long if other is not None]
    return found[0] if found and re.sub(r" --lyra \S+$", "", command) in short else None


# What it takes ------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Took:
    """How a command went: how long it took (s), how it ended in a word, and when, at which commit and on which processor it ran."""

    benchmark: str
    command: str
    seconds: float
    ended: str
    when: str = ""
    commit: str | None = None
    processor: str = ""


MEASURED, CHECKS_FAILED, FAILED = "measured", "measured, with checks that failed", "failed"


def ended(status: int | None, asked: Set[str], measured: Set[str]) -> str:
    """How a command ended, by its exit status (None: it was stopped) and by the cases that it was asked for and measured."""
    if status is None or not asked <= measured:
        return FAILED
    return MEASURED if status == 0 else CHECKS_FAILED


def seconds_of(planned: Planned, took: Sequence[Took]) -> float:
    """How long a command takes: as long as it took last where it measured all that it was asked for, else as the plan says."""
    timed = [each.seconds for each in took if each.command == planned.command and each.ended != FAILED]
    return timed[-1] if timed else planned.seconds


def expected_s(plan: Sequence[Planned], took: Sequence[Took], lanes: int) -> float:
    """How long a plan takes (s): one command after the other, but those without a clock in `lanes` side by side, each where one is free."""
    alone = sum(seconds_of(planned, took) for planned in plan if planned.timed)
    ends = [0.0] * max(1, lanes)
    for planned in plan:
        if not planned.timed:
            ends[ends.index(min(ends))] += seconds_of(planned, took)
    return alone + max(ends)


def told(plan: Sequence[Planned], before: Sequence[Took], took: Mapping[str, Took] | None = None) -> str:
    """A table with a line for each benchmark of the plan: what its commands are expected to take and, where they ran, what they took."""
    lines = []
    for name in dict.fromkeys(planned.benchmark for planned in plan):
        commands = [planned for planned in plan if planned.benchmark == name]
        expected = sum(seconds_of(planned, before) for planned in commands)
        line = [name, f"{expected / 60:.1f}"]
        if took is not None:
            ran = [took[planned.command] for planned in commands if planned.command in took]
            line += [
                f"{sum(each.seconds for each in ran) / 60:.1f}" if ran else "-",
                "; ".join(dict.fromkeys(each.ended for each in ran)) or "-",
            ]
        lines.append(line)
    return table(["section", "expected, min", *(["took, min", "ended"] if took is not None else [])], lines)
