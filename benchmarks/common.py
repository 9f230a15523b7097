"""What every benchmark shares: the machine's description, timings that alternate, tables, and the section that each one writes.

Figures go into JSON first and reach the text only from there, so nobody types one.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import re
import resource
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

__all__ = [
    "RESULTS",
    "Candidate",
    "Figures",
    "Observed",
    "allocated_mib",
    "alternate",
    "argument_parser",
    "describe_machine",
    "fragment",
    "percentiles",
    "rss_mib",
    "table",
    "write_section",
]

RESULTS = Path(__file__).parent / "results"

Figures = dict[str, Any]

_PACKAGES = ("streamcodec", "torch", "openvino", "numpy", "encodec", "transformers", "websockets", "uvloop", "soxr")
_WIDE_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve")


def argument_parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser with what all benchmarks take: where the section goes."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the section's files (default: benchmarks/results)")
    return parser


# The machine -------------------------------------------------------------------------------------------------------------------------


def describe_machine(threads: int) -> dict[str, Any]:
    """Processor, memory, system, versions and the embedded models' fingerprints; `threads` is what the benchmark gave to each model."""
    # Here: what loads a server must not have torch beside it.
    from streamcodec.model.checkpoint import fingerprint
    from streamcodec.model.hub import embedded_models, load_model

    cpu, flags = platform.processor() or platform.machine(), ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        text = info.read_text(encoding="utf-8")
        model = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
        cpu = model[1] if model else cpu
        found = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.M)
        flags = found[1] if found else ""
    return {
        "cpu": cpu,
        "cores": os.cpu_count() or 0,
        "instructions": [name for name in _WIDE_INSTRUCTIONS if name in flags.split()],
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": _system(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "models": {name: fingerprint(load_model(name)) for name in embedded_models()},
        "threads": threads,
    }


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name}, {platform.system()} {platform.release().split('-')[0]}"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


class Observed:
    """What the machine did meanwhile, so that a reader can judge the figures; `seen` says so behind the `with`.

    Child processes must have been waited for inside it: their time is the benchmark's own.
    """

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._when = datetime.now(UTC)
        self._wall = time.perf_counter()
        self._own = _own_seconds()
        self._all = _busy_seconds()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        wall = time.perf_counter() - self._wall
        own = _own_seconds() - self._own
        self.seen = {"when": self._when.strftime("%Y-%m-%d %H:%M UTC"), "wall_s": round(wall, 1), "own_cores": round(own / wall, 2)}
        after = _busy_seconds()
        if self._all is not None and after is not None:
            busy, low = (b - a for a, b in zip(self._all, after, strict=True))
            low = min(low, max(0.0, busy - own))
            self.seen |= {"other_cores": round(max(0.0, busy - own - low) / wall, 2), "other_low_priority_cores": round(low / wall, 2)}


def rss_mib() -> float:
    """This process's resident memory now, MiB; the most it ever had where the system does not say."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def allocated_mib() -> float | None:
    """What this process has allocated and not freed, MiB, as glibc counts it; None elsewhere. More is resident: freed blocks stay."""
    count = getattr(ctypes.CDLL(None), "mallinfo2", None) if sys.platform == "linux" else None
    if count is None:
        return None
    count.restype = _Mallinfo
    found = count()
    return float(found.uordblks + found.hblkhd) / 2**20


class _Mallinfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    ]


def _own_seconds() -> float:
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def _busy_seconds() -> tuple[float, float] | None:
    """Seconds of all cores that somebody used, and those of them at low priority; None where the system does not say."""
    try:
        user, low, system, _idle, _wait, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
    except (OSError, ValueError):
        return None
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + low + system + irq + softirq) / ticks, low / ticks


# Timing ------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Candidate:
    """One call to time: `audio_s` is how much audio it handles, all streams together; `labels` say in a table what it is.

    A candidate runs `burst` times in a row in every `every`-th round. A burst's first call finds the caches as the others left them.
    """

    call: Callable[[], object]
    audio_s: float
    labels: dict[str, Any] = field(default_factory=dict)
    burst: int = 5
    every: int = 1


def alternate(candidates: Sequence[Candidate], rounds: int, warm_up: int = 3) -> list[list[float]]:
    """Time all candidates in one run, seconds per call, by turns: what the machine does meanwhile meets all of them alike.

    The order rotates from round to round; the `warm_up` calls of each come first and do not count.
    """
    for candidate in candidates:
        for _ in range(warm_up if candidate.every == 1 else 1):
            candidate.call()
    times: list[list[float]] = [[] for _ in candidates]
    for at in range(rounds):
        for i in range(len(candidates)):
            index = (i + at) % len(candidates)
            candidate = candidates[index]
            if at % candidate.every:
                continue
            for _ in range(candidate.burst):
                begun = time.perf_counter()
                candidate.call()
                times[index].append(time.perf_counter() - begun)
    return times


def percentiles(values: Sequence[float], shares: Sequence[float] = (50, 95, 99)) -> dict[str, float]:
    """`p50`, `p95`, `p99` and `max` of `values`."""
    found = np.percentile(np.asarray(values, np.float64), shares) if len(values) else np.full(len(shares), np.nan)
    return {f"p{share:g}": float(value) for share, value in zip(shares, found, strict=True)} | {"max": float(max(values, default=np.nan))}


# The section -------------------------------------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; columns behind the first are set to the right, floats with three significant digits."""
    lines = ["| " + " | ".join(header) + " |", "|---" + "|--:" * (len(header) - 1) + "|"]
    lines += ["| " + " | ".join(_cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)


def write_section(
    out: Path,
    name: str,
    title: str,
    figures: Figures,
    observed: Observed,
    render: Callable[[Figures], str],
    *,
    threads: int,
    argv: Sequence[str] | None = None,
    case: str | None = None,
) -> Path:
    """Write `name`.json and, from what the JSON then says, `name`.md; return the latter's path.

    With a `case` the section is made of several runs, each with its command, run and machine: this one takes the place of what the JSON
    has under the same name, the others stay, and `render` gets the figures of all by their names.
    """
    out.mkdir(parents=True, exist_ok=True)
    stored = out / f"{name}.json"
    ran = {
        "command": _command(name, sys.argv[1:] if argv is None else argv),
        "run": observed.seen,
        "machine": describe_machine(threads),
        "figures": figures,
    }
    if case is None:
        section = {"title": title, **ran}
    else:
        known = json.loads(stored.read_text(encoding="utf-8"))["cases"] if stored.exists() else {}
        section = {"title": title, "cases": dict(sorted({**known, case: ran}.items()))}
    stored.write_text(json.dumps(section, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path = stored.with_suffix(".md")
    path.write_text(fragment(json.loads(stored.read_text(encoding="utf-8")), render), encoding="utf-8")
    return path


def fragment(section: Mapping[str, Any], render: Callable[[Figures], str]) -> str:
    """The Markdown of a section: its figures as `render` tells them, then the command, what the machine did, and what it is."""
    cases = section.get("cases")
    if cases is None:
        figures, notes = section["figures"], f"{_run_note(section)}. {_machine_note(section['machine'])}"
    else:
        figures = {name: ran["figures"] for name, ran in cases.items()}
        machines: dict[str, list[str]] = {}
        for name, ran in cases.items():
            machines.setdefault(_machine_note(ran["machine"]), []).append(f"{name}: {_run_note(ran)}.")
        notes = "<br>\n".join(line for machine, runs in machines.items() for line in (*runs, machine))
    return f"## {section['title']}\n\n{render(figures).strip()}\n\n<sub>{notes}</sub>\n"


def _run_note(ran: Mapping[str, Any]) -> str:
    run = ran["run"]
    busy = f"took {run['wall_s']:g} s and {run['own_cores']:g} cores of its own"
    if "other_cores" in run:
        busy += f"; other programs used {run['other_cores']:g} cores, and {run['other_low_priority_cores']:g} more at low priority"
    return f"`{ran['command']}` on {run['when']}, {busy}"


def _machine_note(machine: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    models = "".join(f", {name} {digits}" for name, digits in machine.get("models", {}).items())
    wide = f" ({', '.join(machine['instructions'])})" if machine["instructions"] else ""
    return (
        f"{machine['cpu']}{wide}, {machine['cores']} cores, {machine['ram_gib']:g} GiB, {machine['system']}; Python {machine['python']}, "
        f"{packages}{models}; {machine['threads']} thread(s) per model."
    )


def _command(name: str, argv: Sequence[str]) -> str:
    """The command as somebody else would give it: where its files lie on this machine is nobody's business."""
    words, skip = [], False
    for word in argv:
        if skip or word == "--out" or word.startswith("--out="):
            skip = word == "--out"
            continue
        words.append(Path(word).name if "/" in word else word)
    return shlex.join(["python", "-m", f"benchmarks.{name}", *words])
