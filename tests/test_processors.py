"""The processors that a process may use: affinity, and the quotas of both versions of control groups."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from streamcodec.processors import available_processors


def system(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture(autouse=True)
def _eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


UNIFIED = {"proc/self/cgroup": "0::/a/b\n"}
FIRST = {"proc/self/cgroup": "3:cpu,cpuacct:/a\n2:memory:/a\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        (UNIFIED, 8),
        (UNIFIED | {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, 8),
        (UNIFIED | {"sys/fs/cgroup/a/b/cpu.max": "200000 100000\n"}, 2),
        (UNIFIED | {"sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 2),
        (UNIFIED | {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/cpu.max": "300000 100000\n"}, 3),
        (UNIFIED | {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        (UNIFIED | {"sys/fs/cgroup/a/b/cpu.max": "1600000 100000\n"}, 8),
        (UNIFIED | {"sys/fs/cgroup/a/b/cpu.max": "what 0 is this"}, 8),
        (FIRST | {"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "400000\n"}, 8),
        (FIRST | {f"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_{k}_us": v for k, v in {"quota": "400000\n", "period": "100000\n"}.items()}, 4),
        (FIRST | {f"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_{k}_us": v for k, v in {"quota": "-1\n", "period": "100000\n"}.items()}, 8),
    ],
)
def test_a_quota_counts_as_whole_processors_and_the_smallest_holds(tmp_path: Path, files: Mapping[str, str], expected: int) -> None:
    assert available_processors(system(tmp_path, files)) == expected


def test_affinity_counts_where_it_is_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert available_processors(system(tmp_path, UNIFIED | {"sys/fs/cgroup/a/b/cpu.max": "400000 100000\n"})) == 1


def test_this_machine_has_a_processor_to_use() -> None:
    assert available_processors() >= 1
