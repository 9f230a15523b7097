"""What a listener in Python installs with and without torch, and how long it takes to its first decoded packet."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from benchmarks.browser.page import BANDWIDTH
from benchmarks.harness.sections import Figures

__all__ = ["closure", "measure_installs"]

_ROOT = Path(__file__).parents[2]
_WAYS = {"play": "onnx", "codec": "openvino"}
"""What of the package is installed, and the engine that then decodes."""

_ABSENT = ("torch", "numba", "llvmlite", "openvino", "huggingface_hub")
_DECODE = """
import sys
sys.modules.update(dict.fromkeys({absent}))
import numpy, streamcodec
decoder = streamcodec.load({model!r}, engine={engine!r}).stream_decoder({bandwidth})
while not len(decoder.feed([numpy.zeros((8, 6), numpy.int32)])):
    pass
from benchmarks.harness.peak import peak_mib
print(peak_mib())
"""


def measure_installs(args: Namespace) -> Figures:
    """Start each `args.starts` times, by turns, and add up what its packages' files take."""
    times: dict[str, list[float]] = {extra: [] for extra in _WAYS}
    peaks: dict[str, float] = {}
    for extra in [*_WAYS, *list(_WAYS) * args.starts]:  # a first start of each fills the system's caches
        begun = time.perf_counter()
        peaks[extra] = _decode(extra, args.model)
        times[extra].append(time.perf_counter() - begun)
    rows = []
    for extra, engine in _WAYS.items():
        packages = closure("streamcodec", extra)
        sizes = {name: _bytes_of(found) for name, found in packages.items() if name != "streamcodec"}
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        rows.append(
            {
                "extra": extra,
                "engine": engine,
                "packages": len(sizes),
                "bytes": sum(sizes.values()),
                "largest": [{"package": name, "bytes": sizes[name]} for name in largest],
                "start_s": statistics.median(times[extra][1:]),
                "peak_mib": peaks[extra],
            }
        )
    return {"starts": args.starts, "bandwidth": BANDWIDTH, "own_bytes": _tree_bytes(_ROOT / "streamcodec"), "rows": rows}


def _decode(extra: str, model: str) -> float:
    """Start Python, load the model and decode a packet; returns the most memory that it had, MiB."""
    absent = _ABSENT if extra == "play" else ()
    script = _DECODE.format(absent=absent, model=model, engine=_WAYS[extra], bandwidth=BANDWIDTH)
    done = subprocess.run([sys.executable, "-c", script], cwd=_ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"a listener with streamcodec[{extra}] does not decode: {done.stderr}")
    return float(done.stdout)


def closure(name: str, extra: str) -> dict[str, Distribution]:
    """A package with what it takes to install it with `extra`, and so on, as far as that is installed here."""
    found: dict[str, Distribution] = {}
    ahead = [(name, {extra})]
    seen = set[tuple[str, str]]()
    while ahead:
        name, extras = ahead.pop()
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        found[name.lower().replace("_", "-")] = package
        for wanted in _wanted(package, extras):
            key = (wanted.name, ",".join(sorted(wanted.extras)))
            if key not in seen:
                seen.add(key)
                ahead.append((wanted.name, set(wanted.extras)))
    return found


def _wanted(package: Distribution, extras: set[str]) -> Iterator[Requirement]:
    for text in package.requires or ():
        wanted = Requirement(text)
        if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            yield wanted


def _bytes_of(package: Distribution) -> int:
    """What its files take; what Python compiled of them is left out."""
    files = [Path(str(file.locate())) for file in package.files or () if file.suffix != ".pyc"]
    return sum(file.stat().st_size for file in files if file.is_file())


def _tree_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")
