"""The machine that a benchmark ran on, and what it did meanwhile."""

from __future__ import annotations

import importlib.metadata
import platform
import time
from datetime import UTC, datetime
from functools import cache
from types import TracebackType
from typing import Any, Self

import psutil

from benchmarks.harness.peak import peak_mib

__all__ = ["Observed", "allocated_mib", "describe_machine", "rss_mib", "usage", "version"]

_PACKAGES = ("streamcodec", "torch", "openvino", "onnxruntime", "numpy", "encodec", "transformers", "websockets", "uvloop", "soxr")
_WIDE_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve")


def describe_machine(threads: int) -> dict[str, Any]:
    """The processor, memory, system and packages' versions; `threads` is what the benchmark gave to each model."""
    processor = _processor()
    flags = processor.get("flags", [])
    return {
        "cpu": processor.get("brand_raw") or platform.machine(),
        "cores": psutil.cpu_count() or 0,
        "instructions": [name for name in _WIDE_INSTRUCTIONS if name in flags],
        "ram_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": _system(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := version(name))},
        "threads": threads,
    }


@cache
def _processor() -> dict[str, Any]:
    """What py-cpuinfo finds out, which takes it two seconds."""
    import cpuinfo

    found: dict[str, Any] = cpuinfo.get_cpu_info()
    return found


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name}, {platform.system()} {platform.release().split('-')[0]}"


def version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class Observed:
    """What the machine did inside a `with`, so that a reader can judge the figures; `seen` has it afterwards.

    Child processes must have been waited for inside it: their time belongs to the benchmark.
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
        busy, low = (after - before for before, after in zip(self._all, _busy_seconds(), strict=True))
        low = min(low, max(0.0, busy - own))
        self.seen = {
            "when": self._when.strftime("%Y-%m-%d %H:%M UTC"),
            "wall_s": round(wall, 1),
            "own_cores": round(own / wall, 2),
            "other_cores": round(max(0.0, busy - own - low) / wall, 2),
            "other_low_priority_cores": round(low / wall, 2),
        }


def _own_seconds() -> float:
    """Processor seconds of this process and of the children that it has waited for."""
    spent = psutil.Process().cpu_times()
    return float(spent.user + spent.system + spent.children_user + spent.children_system)


def _busy_seconds() -> tuple[float, float]:
    """Seconds of all cores that somebody used, and those of them at low priority."""
    spent = psutil.cpu_times()._asdict()
    low = spent.get("nice", 0.0)
    return sum(spent.get(name, 0.0) for name in ("user", "system", "irq", "softirq")) + low, low


def usage() -> dict[str, float]:
    """What this process has used: seconds of it and of the calling thread (the loop's), memory now and at most (MiB), and `at` (s)."""
    spent = time.process_time()
    return {"cpu_s": spent, "loop_s": time.thread_time(), "at": time.perf_counter(), "peak_mib": peak_mib(), "rss_mib": rss_mib()}


def rss_mib() -> float:
    """This process's resident memory now, MiB."""
    return float(psutil.Process().memory_info().rss) / 2**20


def allocated_mib() -> float | None:
    """What this process has allocated and not freed, MiB; None where the C library does not count it.

    More is resident: freed blocks stay.
    """
    count = getattr(psutil, "heap_info", None)
    if count is None:
        return None
    heap = count()
    return float(heap.heap_used + heap.mmap_used) / 2**20
