"""Fuzzes the parsers, guided by the coverage that each input reaches, and keeps the inputs that reach something new.

    python tests/fuzz/fuzz.py message --runs 200000     # one target
    python tests/fuzz/fuzz.py --runs 1000000            # all targets, so many inputs together

It needs atheris: `pip install -e '.[fuzz]'`. It ends with 1 where an input breaks a target, and prints the input. Ordinary tests replay
what is kept.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

__all__ = ["minimized"]

sys.path.insert(0, str(Path(__file__).parents[1] / "rigs"))
_MOST_BYTES = 40_000
"""Of a target's corpus: all of them have less than 300 KB."""
_HANGS_S = 60


def minimized(target: Callable[[bytes], None], inputs: Iterable[bytes], most_bytes: int = _MOST_BYTES) -> list[bytes]:
    """Of `inputs`, the short ones first, those that reach a step from line to line in this package that none before them reached."""
    kept, seen, size = list[bytes](), set[tuple[str, int, int]](), 0
    for one in sorted(set(inputs), key=lambda data: (len(data), data)):
        if size + len(one) <= most_bytes and (found := _reached(target, one)) - seen:
            kept.append(one)
            seen |= found
            size += len(one)
    return kept


def _reached(target: Callable[[bytes], None], data: bytes) -> set[tuple[str, int, int]]:
    found: set[tuple[str, int, int]] = set()

    def trace(frame: FrameType, event: str, arg: Any) -> Any:  # noqa: ARG001
        file = frame.f_code.co_filename
        if "/streamcodec/" not in file:
            return None
        before = [0]

        def step(frame: FrameType, event: str, arg: Any) -> Any:  # noqa: ARG001
            found.add((file, before[0], frame.f_lineno))
            before[0] = frame.f_lineno
            return step

        return step

    earlier = sys.gettrace()
    sys.settrace(trace)
    try:
        target(data)
    finally:
        sys.settrace(earlier)
    return found


def _fuzz(name: str, runs: int, max_len: int) -> int:
    from fuzz_targets import TARGETS, corpus_of, seeds_of, store

    with tempfile.TemporaryDirectory() as folder:
        for at, one in enumerate([*seeds_of(name), *corpus_of(name)]):
            (Path(folder) / f"known-{at}").write_bytes(one)
        inside = [sys.executable, __file__, "--inside", name, folder]
        limits = [
            f"-runs={runs}",
            f"-max_len={max_len}",
            f"-timeout={_HANGS_S}",
            "-rss_limit_mb=2048",
            "-verbosity=0",
            f"-artifact_prefix={folder}/broke-",
        ]
        done = subprocess.run([*inside, *limits], check=False)
        found = [file.read_bytes() for file in Path(folder).iterdir() if not file.name.startswith("broke-")]
        broke = [file.read_bytes() for file in Path(folder).glob("broke-*")]
    for one in broke:
        sys.stdout.write(f"{name}: an input breaks it: {one!r}\n")
    if not done.returncode:
        kept = minimized(TARGETS[name], found)
        store(name, kept)
        sys.stdout.write(f"{name}: {runs} inputs, {len(found)} found, {len(kept)} kept, {sum(map(len, kept))} bytes\n")
        sys.stdout.flush()
    return done.returncode


def _inside(name: str, arguments: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["streamcodec", "jwt"]):
        from fuzz_targets import TARGETS
    logging.disable()
    target = TARGETS[name]

    def one_input(data: bytes) -> None:
        try:
            target(data)
        except Exception:
            traceback.print_exc()
            raise

    atheris.Setup([sys.argv[0], *arguments], one_input)
    atheris.Fuzz()


def main() -> int:
    """Fuzz what the command line asks for; 1 where something broke."""
    if sys.argv[1:2] == ["--inside"]:
        _inside(sys.argv[2], sys.argv[3:])
        return 0
    from fuzz_targets import TARGETS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=100_000, help="inputs, of all targets together")
    parser.add_argument("--max-len", type=int, default=2048, help="bytes of an input")
    args = parser.parse_args()
    names = [args.target] if args.target else list(TARGETS)
    return max(int(bool(_fuzz(name, args.runs // len(names), args.max_len))) for name in names)


if __name__ == "__main__":
    sys.exit(main())
