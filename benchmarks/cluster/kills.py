"""A node or NATS is killed (SIGKILL): what goes on, what comes back by itself and when, and what is told of what was lost."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from collections.abc import Sequence

from benchmarks.cluster.company import Company, CompanyTalk, heard_again_s, missed, silence_ms, worst
from benchmarks.cluster.ear import PACKET_S
from benchmarks.cluster.site import Site
from benchmarks.cluster.speaker import ClusterSpeaker, Kind
from benchmarks.harness.processes import Address, Processes
from benchmarks.harness.sections import Figures

__all__ = ["measure_kill_nats", "measure_kill_node", "nats_figures", "node_figures"]


async def measure_kill_node(args: argparse.Namespace, site: Site, processes: Processes, *, replicate: bool) -> Figures:  # noqa: ARG001
    """Kill the node that has all publishers."""
    here, there = await site.start([site.nats.url] * 2, replicate=replicate)
    talks = [CompanyTalk(speaker, (here, there)) for speaker in _speakers(here, "kill", args.streams)]
    async with Company() as company:
        await company.begin(talks)
        await asyncio.sleep(args.settle_seconds)
        os.kill(site.nodes[0].pid, signal.SIGKILL)
        killed = time.perf_counter()
        await company.heard_again(killed)
        await asyncio.sleep(args.after_seconds)
        (state,) = await site.states(but=0)
        await company.end()
        await company.ended()
    return {"replicate": replicate, "restored": state["restored"], **node_figures(talks, killed)}


def node_figures(talks: Sequence[CompanyTalk], killed: float) -> Figures:
    """What was heard after the kill at the node that lives, place 1, and by those who listened at the one that was killed, place 0."""
    rows: list[Figures] = []
    for talk in talks:
        speaker, (left, stays) = talk.speaker, (talk.ears[at, "codes"] for at in (0, 1))
        rows.append(
            {
                "kind": speaker.kind,
                "again_s": heard_again_s(stays, killed),
                "again_elsewhere_s": heard_again_s(left, killed),
                "sessions": len(stays.sessions),
                "publisher": [[round(told.at - killed, 2), told.code, told.reason] for told in speaker.told if told.at > killed],
                "told": stays.told,
                "ends": [reason for _, reason in stays.ends[:-1]],
                "unheard_s": max(0.0, speaker.spoken_s - PACKET_S * len(stays.came)),
            }
        )
    lost = missed([ear for talk in talks for ear in talk.ears.values()], killed)
    failures = [f"{talk.speaker.name}: never heard again" for talk, row in zip(talks, rows, strict=True) if row["again_s"] is None]
    failures += [
        f"{talk.speaker.name}: not heard again by who listened at the node that was killed"
        for talk, row in zip(talks, rows, strict=True)
        if row["again_elsewhere_s"] is None
    ]
    if lost["unnamed"]:
        failures.append(f"{lost['unnamed']} packets lost that nothing names")
    failures += [
        f"{talk.speaker.name}: began anew, and its publisher or its listener was not told"
        for talk, row in zip(talks, rows, strict=True)
        if row["sessions"] > 1 and not (row["ends"] and row["publisher"])
    ]
    return {
        "streams": rows,
        "again_s": worst(row["again_s"] for row in rows),
        "again_elsewhere_s": worst(row["again_elsewhere_s"] for row in rows),
        "unheard_s": worst(row["unheard_s"] for row in rows),
        **lost,
        "failures": failures,
    }


async def measure_kill_nats(args: argparse.Namespace, site: Site, processes: Processes) -> Figures:  # noqa: ARG001
    """Kill NATS under two nodes, and start it again after a while."""
    here, there = await site.start([site.nats.url] * 2)
    speakers = [*_speakers(here, "here", args.streams), *_speakers(there, "there", args.streams)]
    talks = [CompanyTalk(speaker, (here, there)) for speaker in speakers]
    new = CompanyTalk(ClusterSpeaker("new", here.url, here.fingerprint), (here, there))
    async with Company() as company:
        await company.begin(talks)
        await asyncio.sleep(args.settle_seconds)
        await asyncio.to_thread(site.nats.kill)
        killed = time.perf_counter()
        await asyncio.sleep(args.nats_down_seconds / 2)
        beginning = asyncio.create_task(company.begin([new]))  # a stream that begins meanwhile is heard at its node
        await asyncio.sleep(args.nats_down_seconds / 2)
        await asyncio.to_thread(site.nats.start)
        back = time.perf_counter()
        await beginning
        await company.heard_again(back)
        await asyncio.sleep(args.after_seconds)
        over = time.perf_counter()
        await company.end()
        await company.ended()
    return nats_figures([*talks, new], here, killed, back, over)


def nats_figures(talks: Sequence[CompanyTalk], here: Address, killed: float, back: float, over: float) -> Figures:
    """What was heard from the kill on: by those at the publisher's node, and by the others."""
    local, remote = [], []
    for talk in talks:
        at = int(talk.speaker.url != here.url)
        local.append(talk.ears[at, "codes"])
        remote.append(talk.ears[1 - at, "codes"])
    near, far = missed(local, killed), missed(remote, killed)
    failures = []
    if sum(near["told"].values()) or near["unnamed"] or any(len(ear.sessions) != 1 for ear in local):
        failures.append(f"listeners at the publishers' nodes lost packets: told {near['told']}, not told {near['unnamed']}")
    if far["unnamed"]:
        failures.append(f"{far['unnamed']} packets lost that nothing names")
    again = [heard_again_s(ear, killed, over) for ear in remote]
    failures += [f"{ear.name}: never heard again at the other node" for ear, after in zip(remote, again, strict=True) if after is None]
    failures += [f"{talk.speaker.name}: {talk.speaker.told[-1].reason}" for talk in talks if not talk.speaker.ended and talk.speaker.told]
    return {
        "streams": len(talks),
        "down_s": back - killed,
        "local_silence_ms": worst(silence_ms(ear, killed, over) for ear in local[:-1]),
        "local_lost": sum(near["told"].values()) + near["unnamed"],
        "back_s": worst(None if after is None else max(0.0, killed + after - back) for after in again),
        "remote_told": far["told"],
        "remote_unnamed": far["unnamed"],
        "remote_sessions": max(len(ear.sessions) for ear in remote),
        "new_stream_local_after_s": local[-1].came[0] - killed if local[-1].came else None,
        "failures": failures,
    }


def _speakers(address: Address, name: str, streams: int) -> list[ClusterSpeaker]:
    kinds: list[Kind] = ["pcm", "codes"] * streams
    return [ClusterSpeaker(f"{name}-{at}", address.url, address.fingerprint, kind, seed=at) for at, kind in enumerate(kinds)]
