"""Many files in one go: which are meant, where each result goes, and what becomes of them.

`encode`, `decode` and `tokenize` share it.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from streamcodec.audio import open_audio_blocks
from streamcodec.cli.status import progress
from streamcodec.errors import InputError, StreamCodecError, explain
from streamcodec.output_file import check_output

__all__ = ["Advance", "FileJob", "durations", "is_newer", "is_pipe", "length_or_none", "plan", "run", "run_many"]

Advance = Callable[[float], None]
"""Is told how many seconds of audio more are done."""


class FileJob(NamedTuple):
    """A file to convert and where the result goes."""

    source: Path
    target: Path


def plan(arguments: Sequence[Path], into: Path | None, suffixes: Iterable[str], target_suffix: str) -> tuple[list[FileJob], bool]:
    """The jobs that the arguments of a command stand for, and whether they are many: a folder, or more than one input.

    Of two arguments the second is the output, unless it is a folder or an existing file of a kind to convert (`suffixes`). A folder
    stands for all such files in and below it. A result has the source's name with `target_suffix`, beside it or at the same place in the
    folder `into`. Raises `InputError` for arguments that do not fit together.
    """
    suffixes = frozenset(suffixes)
    if len(arguments) == 2 and not _is_input(arguments[1], suffixes):
        if into is not None:
            raise InputError(f"{arguments[1]} is the output, and --into names a folder for it: expected one of them")
        return [FileJob(arguments[0], arguments[1])], False
    is_many = len(arguments) > 1 or arguments[0].is_dir()
    jobs: list[FileJob] = []
    for argument in arguments:
        if argument.is_dir():
            found = sorted(path for path in argument.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
            # Not what an earlier run of the same command made of the others.
            found = [path for path in found if not path.name.endswith(target_suffix)]
            if not found:
                raise InputError(f"{argument} holds no file that ends in {', '.join(sorted(suffixes))}")
            jobs += [FileJob(path, _target(path, into and into / path.relative_to(argument).parent, target_suffix)) for path in found]
        else:
            if is_pipe(argument):
                raise InputError(f"{argument} is a pipe or a device: give the output's name as well")
            jobs.append(FileJob(argument, _target(argument, into, target_suffix)))
    _check_distinct(jobs)
    return jobs, is_many


def _is_input(path: Path, suffixes: frozenset[str]) -> bool:
    """Whether the second of two arguments is there to be converted."""
    with contextlib.suppress(OSError):  # a name that no file can have is told when it is written
        return path.is_dir() or (path.is_file() and path.suffix.lower() in suffixes)
    return False


def _target(source: Path, folder: Path | None, suffix: str) -> Path:
    target = source.with_suffix(suffix)
    return target if folder is None else folder / target.name


def _check_distinct(jobs: Iterable[FileJob]) -> None:
    made_of: dict[Path, Path] = {}
    for job in jobs:
        other = made_of.setdefault(job.target, job.source)
        if other is not job.source:
            raise InputError(f"{other} and {job.source} would both become {job.target}: give one of them an output of its own")


def run(
    jobs: Sequence[FileJob],
    is_many: bool,
    doing: str,
    seconds: Callable[[Path], float | None],
    is_done: Callable[[FileJob], bool],
    convert: Callable[[FileJob, Advance], str],
) -> int:
    """Convert files one after the other under one bar, and return the exit status.

    `seconds` tells how long a file is, and `convert` returns the line to print. For many files see `run_many`.
    """
    if not is_many:
        with progress(seconds(jobs[0].source), doing) as advance:
            line = convert(jobs[0], advance)
        print(line)
        return 0

    def one_by_one(left: Sequence[FileJob], advance: Advance) -> Iterator[Exception | None]:
        for job in left:
            try:
                job.target.parent.mkdir(parents=True, exist_ok=True)
                check_output(job.target, [job.source])
                convert(job, advance)
            except BrokenPipeError:
                raise
            except (StreamCodecError, OSError) as error:
                yield error
            else:
                yield None

    return run_many(jobs, doing, seconds, is_done, one_by_one)


def run_many(
    jobs: Sequence[FileJob],
    doing: str,
    seconds: Callable[[Path], float | None],
    is_done: Callable[[FileJob], bool],
    convert: Callable[[Sequence[FileJob], Advance], Iterable[Exception | None]],
) -> int:
    """Convert many files under one bar, and return the exit status.

    Those that are done already (`is_done`) are left alone. `convert` takes the others and tells for each that is done, in any order, the
    error of which it failed, or None. One that fails is told and does not stop the others: the same command later does the rest.
    """
    left = [job for job in jobs if not is_done(job)]
    failed = 0
    # A file that cannot be read is told when its turn comes.
    known = [length_or_none(seconds, job.source) for job in left]
    total = sum(length for length in known if length is not None) if any(known) else None
    with progress(total, f"{doing} {len(left)} files") as advance:
        for error in convert(left, advance):
            if error is not None:
                failed += 1
                told = explain(error) if isinstance(error, OSError) else error
                print(f"streamcodec: {told}", file=sys.stderr)
    print(f"{len(left) - failed} files done, {len(jobs) - len(left)} were done before, {failed} failed")
    return 1 if failed else 0


def length_or_none(seconds: Callable[[Path], float | None], source: Path) -> float | None:
    """How long a file is as far as `seconds` tells, None if it cannot be read."""
    with contextlib.suppress(StreamCodecError, OSError):
        return seconds(source)
    return None


def is_pipe(path: Path) -> bool:
    """Whether something is there that is neither a file nor a folder: it can be read once, and nothing belongs beside it."""
    return path.exists() and not path.is_file() and not path.is_dir()


def durations() -> Callable[[Path], float | None]:
    """A function that tells how many seconds of audio a file holds, None if nobody knows. It raises `AudioError`.

    It remembers what it found, since finding out may take a walk through the whole file.
    """

    @functools.cache
    def duration_s(source: Path) -> float | None:
        if is_pipe(source):
            return None  # it is read once
        with open_audio_blocks(source) as blocks:
            return blocks.duration_s

    return duration_s


def is_newer(target: Path, source: Path) -> bool:
    """Whether `target` exists and was written after `source`; it is complete then, because files take their place when they are."""
    try:
        return target.stat().st_mtime_ns >= source.stat().st_mtime_ns and target.stat().st_size > 0
    except OSError:
        return False
