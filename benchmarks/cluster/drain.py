"""A node drains while its streams are heard at both nodes: they go on at the other one, and every sample is what it would have been."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.churn.check import FLOAT_WITHIN, EndedStream, RunOf, Tally, check
from benchmarks.cluster.company import Company, CompanyTalk, missed, silence_ms, worst
from benchmarks.cluster.ear import ClusterEar
from benchmarks.cluster.site import Site, until
from benchmarks.cluster.speaker import N_Q, ClusterSpeaker, Kind, voice
from benchmarks.harness.models import Loading
from benchmarks.harness.parity import rule_of
from benchmarks.harness.processes import Processes
from benchmarks.harness.sections import Figures
from streamcodec.protocol import unpack_codes

__all__ = ["compared", "measure_drain"]

_BITS = 10
_KINDS = ("codes", "pcm")


async def measure_drain(args: argparse.Namespace, site: Site, processes: Processes) -> Figures:  # noqa: ARG001
    """Let the first node drain."""
    here, there = await site.start([site.nats.url] * 2)
    kinds: list[Kind] = ["pcm", "codes"] * args.streams
    speakers = [ClusterSpeaker(f"drain-{at}", here.url, here.fingerprint, kind, seed=at) for at, kind in enumerate(kinds)]
    talks = [CompanyTalk(speaker, (here, there), _KINDS, keep=True) for speaker in speakers]
    async with Company() as company:
        await company.begin(talks)
        begun = time.perf_counter()
        await asyncio.sleep(args.settle_seconds)
        drained = time.perf_counter()
        site.nodes[0].send("drain")

        async def all_moved() -> bool:
            (state,) = await site.states(but=0)
            return len(state["streams"]) == len(talks) and all(
                ear.resumed for talk in talks for (at, _), ear in talk.ears.items() if not at
            )

        try:
            await until(all_moved, "not everything moves")
            moved = time.perf_counter()
        except RuntimeError:
            moved = None
        await asyncio.sleep(args.after_seconds)
        over = time.perf_counter()
        (state,) = await site.states(but=0)
        await company.end()
        await company.ended()
    figures = figures_of(talks, begun, drained, moved, over)
    figures["moved_streams"] = state["moved_here"]
    figures["compared"] = found = compared(talks, Loading(args.model, args.engine))
    return {**figures, "failures": [*figures["failures"], *found["failures"]]}


def figures_of(talks: Sequence[CompanyTalk], begun: float, drained: float, moved: float | None, over: float) -> Figures:
    """What was heard: before the drain from `begun` on, and from the drain until `over`."""
    ears = [ear for talk in talks for ear in talk.ears.values()]
    speakers = [talk.speaker for talk in talks]
    lost = missed(ears)
    dropped_s = sum(speaker.dropped_s for speaker in speakers)
    failures = [f"{speaker.name}: {speaker.told[-1].reason}" for speaker in speakers if not speaker.ended and speaker.told]
    if moved is None:
        failures.append("not all streams and listeners went to the other node")
    if any(lost["told"].values()) or lost["unnamed"] or dropped_s:
        failures.append(f"packets were lost: told {lost['told']}, not told {lost['unnamed']}, {dropped_s:.2f} s dropped by publishers")
    if lost["repeated"]:
        failures.append(f"{lost['repeated']} packets came twice")
    if again := sum(len(ear.sessions) != 1 or len(ear.ends) != 1 for ear in ears):
        failures.append(f"{again} listeners heard more or less than one stream from its beginning to its end")
    return {
        "streams": {kind: sum(speaker.kind == kind for speaker in speakers) for kind in _KINDS},
        "listeners": len(ears),
        "packets": sum(len(ear.came) for ear in ears),
        "moved_s": None if moved is None else moved - drained,
        "resumed": {"publishers": sum(one.resumed for one in speakers), "listeners": sum(ear.resumed for ear in ears)},
        "lost": sum(lost["told"].values()) + lost["unnamed"],
        **lost,
        "dropped_s": dropped_s,
        "silence_ms": {
            f"{kind}, {where}": {
                "before": worst(silence_ms(ear, begun, drained) for ear in group),
                "drain": worst(silence_ms(ear, drained, over) for ear in group),
            }
            for where, place in (("at the node that drains", 0), ("at the other node", 1))
            for kind in _KINDS
            if (group := [talk.ears[place, kind] for talk in talks])
        },
        "failures": failures,
    }


def compared(talks: Sequence[CompanyTalk], loading: Loading) -> Figures:
    """Codes against one call of the encoder on what was sent, and audio against one call of the decoder on these codes."""
    codec = loading()
    rule, tally, failures = rule_of(codec), Tally(), list[str]()
    for talk in talks:
        speaker = talk.speaker
        start: Any = "primed" if speaker.kind == "pcm" else "exact"
        sent = voice(speaker.kind, speaker.seed, speaker.sent)
        codes = [_codes(talk.ears[at, "codes"]) for at in (0, 1)]
        if any(not ear.seqs or ear.seqs != list(range(len(ear.seqs))) for ear in talk.ears.values()):
            failures.append(f"{speaker.name}: not heard as a whole, so it is not compared")
            continue
        if not all(np.array_equal(one, codes[0]) for one in codes):
            failures.append(f"{speaker.name}: other codes at the other node")
            continue
        if speaker.kind == "pcm":
            check(codec, rule, EndedStream("encode", N_Q, start, [RunOf(sent, codes[0], ended=True)]), tally)
        elif not np.array_equal(codes[0], sent):
            failures.append(f"{speaker.name}: codes that differ from what was sent")
        for at in (0, 1):
            samples = np.frombuffer(b"".join(talk.ears[at, "pcm"].kept), "<f4")
            check(codec, rule, EndedStream("decode", N_Q, start, [RunOf(codes[0], samples, ended=True)]), tally)
    if tally.max_error > FLOAT_WITHIN:
        failures.append(f"decoded audio is off by {tally.max_error:.1e}, expected {FLOAT_WITHIN:g} at most")
    return {
        "entries": tally.entries,
        "differing": tally.differing,
        "near_ties": tally.near_ties,
        "samples": tally.samples,
        "max_error": tally.max_error,
        "failures": failures + tally.failures,
    }


def _codes(ear: ClusterEar) -> Any:
    """All codes [n_q, F] that a listener got; None without any."""
    packets = [unpack_codes(payload, N_Q, _BITS) for payload in ear.kept]
    return np.concatenate(packets, axis=1) if packets else None
