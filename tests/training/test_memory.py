"""A run keeps the memory that it frees."""

from __future__ import annotations

import subprocess
import sys

import pytest

from streamcodec.training.memory import keep_freed

FRESH_PAGES = """
import resource, sys
from streamcodec.training.memory import keep_freed
if sys.argv[1] == "keep":
    assert keep_freed()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def fill():
    bytearray(b"x") * (64 << 20)
fill()
before = faults()
for _ in range(20):
    fill()
print(faults() - before)
"""


def fresh_pages(how: str) -> int:
    """Pages that a process asks the system for while it fills and frees 64 MiB twenty times."""
    done = subprocess.run([sys.executable, "-c", FRESH_PAGES, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator only")
def test_what_was_freed_is_used_again() -> None:
    assert fresh_pages("keep") < 2 * 16384 < fresh_pages("give back")  # 64 MiB are 16,384 pages


def test_an_allocator_that_refuses_is_told_of() -> None:
    assert not keep_freed(lambda *_: 0)
    assert keep_freed(lambda *_: 1)
