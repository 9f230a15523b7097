"""A benchmark run as its users run it, in a tiny setting, with what holds for every one of them."""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from made_up_models import FEW_LAYERS, small_model
from patience import TIMEOUT_S, patient_limits

from benchmarks import report
from benchmarks.accelerator import benchmark as accelerator
from benchmarks.cluster import node
from benchmarks.harness import processes
from benchmarks.harness.models import Loading
from benchmarks.harness.provenance import repository
from benchmarks.harness.run import main
from benchmarks.harness.sections import render_section
from benchmarks.peers import transformers_peer
from benchmarks.step import benchmark as step
from benchmarks.step import gemm
from benchmarks.tokenize import benchmark as tokenize
from streamcodec.codec import Codec, load
from streamcodec.server import ClusterOptions, Limits, Server
from streamcodec.server.cluster import link

ROOT = Path(__file__).parents[2]
HANGS_S = 1200  # nothing takes so long but what hangs


def run_tiny(name: str, words: Sequence[str], out: Path, *, stands: str | None = None, here: bool = False) -> dict[str, Any]:
    """Run `benchmarks.NAME` with `words` and return the section that it stored in `out`; `stands` is how its command ends (`words`).

    It runs as a process of its own, or `here`, in this one: see `in_one_process`.
    """
    if here:
        with in_one_process():
            assert main(report.benchmark(name), [*words, "--out", str(out)]) == 0
    else:
        command = [sys.executable, "-m", f"benchmarks.{name}", *words, "--out", str(out)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS_S)
        assert done.returncode == 0, done.stderr
    section: dict[str, Any] = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    text = (out / f"{name}.md").read_text(encoding="utf-8")
    assert render_section(section, report.benchmark(name).render, repository()) == text, "every figure of a section comes from its JSON"
    assert f"`python -m benchmarks.{name} {' '.join(words) if stands is None else stands}`" in text, "the command stands beside its figures"
    assert str(out) not in text + json.dumps(section), "where somebody's files lie is nobody's business"
    assert "Outdated" not in text, "what was measured just now is of this repository"
    return section


@contextmanager
def in_one_process() -> Iterator[None]:
    """A benchmark's processes are threads of this one, which share what is imported; the model is small, and the server waits for it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "Process", _Threaded)
        for serving in (processes, node):
            patch.setattr(serving, "freeze_gc", lambda: None)
            patch.setattr(serving, "Server", _patient_server)
        patch.setattr(link, "HELD_S", TIMEOUT_S)
        patch.setattr(Loading, "__call__", _load_small)
        patch.setattr(gemm, "_SIZES", (64, 128))
        for benchmark in (accelerator, step, tokenize):
            patch.setattr(benchmark, "transformers_peer", functools.partial(transformers_peer, **FEW_LAYERS))
        yield


def _load_small(loading: Loading) -> Codec:
    return load(small_model(), engine="torch" if loading.engine == "auto" else loading.engine, workers=loading.workers)


def _patient_server(codec: Codec, host: str, *, port: int, limits: Limits, insecure: bool, cluster: ClusterOptions | None = None) -> Server:
    kept = {name: getattr(limits, name) for name in ("capacity", "max_publishers", "max_listeners", "resume_s")}
    return Server(codec, host, port=port, limits=patient_limits(**kept), insecure=insecure, cluster=cluster)


class _Threaded(processes.Process):
    """A process of a benchmark as a thread."""

    def __init__(self, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self.pipe, there = multiprocessing.Pipe()

        def run() -> None:
            with there:
                target(there, *arguments)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        return os.getpid()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def receive(self) -> Any:
        return self.pipe.recv()

    def end(self, patience_s: float = HANGS_S) -> None:  # noqa: ARG002 - a thread cannot be terminated
        with contextlib.suppress(OSError):
            self.pipe.send("stop")
        self._thread.join(HANGS_S)
        assert not self.alive, "a benchmark's thread does not end"


def files_of(out: Path) -> set[str]:
    """The names of what a benchmark wrote."""
    return {path.name for path in out.iterdir()}
