"""Many audio files to a folder of codes: batches on all workers of the engine, a manifest, and what is done is not done again."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from streamcodec.codec import Codec
from streamcodec.errors import InputError, StreamCodecError, explain
from streamcodec.tokenizer.files import EncodedFile, encode_files, write_encoded
from streamcodec.tokenizer.manifest import Manifest, ManifestEntry

__all__ = ["BATCH", "JobOutcome", "TokenizerJob", "is_done", "tokenize"]

BATCH = 16
"""Files that share the steps of the model."""

Error = StreamCodecError | OSError


class TokenizerJob(NamedTuple):
    """An audio file and the file for its codes; `name` and `codes_name` are their paths in the manifest."""

    source: Path
    target: Path
    name: str
    codes_name: str

    @classmethod
    def of(cls, source: Path, target: Path, folder: Path, into: Path) -> TokenizerJob:
        """For a source in or below `folder` and codes in or below `into`."""
        return cls(source, target, source.relative_to(folder).as_posix(), target.relative_to(into).as_posix())


class JobOutcome(NamedTuple):
    """What became of a source: codes, if there is no `error`."""

    job: TokenizerJob
    error: Error | None


def is_done(job: TokenizerJob, manifest: Manifest) -> bool:
    """Whether the codes are there and the source is as it was when they were made."""
    entry = manifest.entries.get(job.name)
    if entry is None or entry.error is not None:
        return False
    try:
        source, target = job.source.stat(), job.target.stat()
    except OSError:
        return False
    return (entry.source_bytes, entry.source_mtime_ns, entry.codes_bytes) == (source.st_size, source.st_mtime_ns, target.st_size)


def tokenize(
    codec: Codec,
    jobs: Sequence[TokenizerJob],
    manifest: Manifest,
    *,
    bandwidth: float | None = None,
    batch: int = BATCH,
    advance: Callable[[float], None] = lambda _: None,
) -> Iterator[JobOutcome]:
    """Encode audio files into files of codes and add them to the manifest: what became of each.

    Up to `batch` files at a time share the steps of the model, on each of the engine's workers. Files of about one length do so best, so
    sort the jobs by length. `advance` is told how many seconds of audio more are done. If the iteration ends early, what is not done is
    given up. Raises `CodesError` for a bandwidth that the model does not have.
    """
    if batch < 1:
        raise InputError(f"batch is {batch}, expected at least 1")
    codec.config.n_q_for(bandwidth)
    done: SimpleQueue[float | tuple[JobOutcome, ManifestEntry] | None] = SimpleQueue()
    stopping = threading.Event()

    def advance_unless_stopped(seconds: float) -> None:
        if stopping.is_set():
            raise _GivenUp
        done.put(seconds)

    def work(together: Sequence[TokenizerJob]) -> None:
        try:
            for found in _encode(codec, together, bandwidth, advance_unless_stopped):
                done.put(found)
        except _GivenUp:
            pass
        finally:
            done.put(None)

    size = max(1, min(batch, math.ceil(len(jobs) / codec.engine.workers)))  # few files are no reason for a worker to do nothing
    batches = [jobs[at : at + size] for at in range(0, len(jobs), size)]
    with ThreadPoolExecutor(codec.engine.workers, "streamcodec-tokenize") as pool:
        running = [pool.submit(work, together) for together in batches]
        try:
            left = len(batches)
            while left:
                item = done.get()
                if item is None:
                    left -= 1
                elif isinstance(item, float):
                    advance(item)
                else:
                    manifest.add(item[1])
                    yield item[0]
        finally:
            stopping.set()
            for future in running:
                future.cancel()
    for future in running:
        future.result()  # raises what no file is to blame for


class _GivenUp(BaseException):
    """Ends a batch on its way: nobody waits for the rest."""


def _encode(
    codec: Codec, jobs: Sequence[TokenizerJob], bandwidth: float | None, advance: Callable[[float], None]
) -> Iterator[tuple[JobOutcome, ManifestEntry]]:
    readable: list[tuple[TokenizerJob, ManifestEntry]] = []
    for job in jobs:
        entry = ManifestEntry(job.name, job.codes_name, 0, 0)
        try:
            stat = job.source.stat()
        except OSError as error:
            yield _failed(job, entry, error)
            continue
        readable.append((job, ManifestEntry(job.name, job.codes_name, stat.st_size, stat.st_mtime_ns)))
    for index, found in encode_files(codec, [job.source for job, _ in readable], bandwidth, advance):
        job, entry = readable[index]
        if not isinstance(found, EncodedFile):
            yield _failed(job, entry, found)
            continue
        try:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            size = write_encoded(codec, found, job.source, job.target)
        except (StreamCodecError, OSError) as error:
            yield _failed(job, entry, error)
            continue
        yield JobOutcome(job, None), replace(entry, codes_bytes=size, frames=found.codes.shape[1], samples=found.samples)


def _failed(job: TokenizerJob, entry: ManifestEntry, error: Error) -> tuple[JobOutcome, ManifestEntry]:
    told = explain(error) if isinstance(error, OSError) else str(error)
    return JobOutcome(job, error), replace(entry, error=told)
