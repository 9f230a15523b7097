"""What a stream gets among others against what it gets alone, computed in a process of its own: only the worker's memory is watched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.queues import Queue
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness.parity import lead_codes, rule_of
from streamcodec.codec import Codec
from streamcodec.config import Start
from streamcodec.model.near_ties import NearTies
from streamcodec.types import Codes, Samples

__all__ = ["FLOAT_WITHIN", "EndedStream", "RunOf", "Tally", "check", "verify"]


FLOAT_WITHIN = 1e-4


@dataclass(frozen=True)
class RunOf:
    """One run of a stream: what was fed, samples [T] or codes [n_q, F]; what came out, joined; and whether it was brought to its end."""

    fed: npt.NDArray[Any]
    out: npt.NDArray[Any]
    ended: bool


@dataclass(frozen=True)
class EndedStream:
    """A stream that is over: "encode" or "decode", at `n_q` codebooks, started "exact" or "primed"."""

    kind: str
    n_q: int
    start: Start
    runs: list[RunOf]


@dataclass
class Tally:
    """All that was compared: entries of codes, how many differ and the near-ties that explain them; samples and their largest error."""

    entries: int = 0
    differing: int = 0
    near_ties: int = 0
    samples: int = 0
    max_error: float = 0.0
    runs: int = 0
    failures: list[str] = field(default_factory=list)


def verify(pipe: Connection, jobs: Queue[EndedStream | None], load_codec: Callable[[], Codec]) -> None:
    """Check jobs until there are no more: sends "ready", None for each job done, and the `Tally` at the end."""
    codec, tally = load_codec(), Tally()
    rule = rule_of(codec)
    pipe.send("ready")
    while (job := jobs.get()) is not None:
        check(codec, rule, job, tally)
        pipe.send(None)
    pipe.send(tally)


def check(codec: Codec, rule: NearTies, job: EndedStream, tally: Tally) -> None:
    """Compare each run of `job` with the same input in one call, and enter it."""
    name = f"{job.kind}, n_q {job.n_q}, {job.start}"
    for run in job.runs:
        tally.runs += 1
        if not run.fed.shape[-1]:
            expected = run.fed[..., :0]
        else:
            expected = _encoded(codec, job, run.fed) if job.kind == "encode" else _decoded(codec, rule, job, run.fed)
        size, whole = run.out.shape[-1], expected.shape[-1]
        if size > whole or (run.ended and size < whole):
            told = f"{size} {'frames' if job.kind == 'encode' else 'samples'} came out, expected {whole}{'' if run.ended else ' at most'}"
            tally.failures.append(f"{name}: {told}")
            continue
        if not size:
            continue
        if job.kind == "encode":
            found = rule.compare(run.out, expected[:, :size], run.fed, job.start)
            tally.entries += found.entries
            tally.differing += found.differing
            tally.near_ties += len(found.near_ties)
            if not found:
                tally.failures.append(f"{name}: {found}")
        else:
            tally.samples += size
            tally.max_error = max(tally.max_error, float(np.abs(run.out - expected[:size]).max()))


def _encoded(codec: Codec, job: EndedStream, samples: Samples) -> Codes:
    lead = round(codec.frame_rate) if job.start == "primed" else 0
    joined = np.concatenate([np.zeros(lead * codec.hop_length, np.float32), samples])
    codes: Codes = codec.encode(joined, bandwidth=codec.config.bandwidth_of(job.n_q))[:, lead:]
    return codes


def _decoded(codec: Codec, rule: NearTies, job: EndedStream, codes: Codes) -> Samples:
    if job.start == "exact":
        whole: Samples = codec.decode(codes)
        return whole
    lead = lead_codes(rule, job.n_q)
    behind: Samples = codec.decode(np.concatenate([lead, codes], axis=1))[lead.shape[1] * codec.hop_length :]
    return behind
