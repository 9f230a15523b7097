"""The way between a node and NATS is cut for a while: each name has one publisher in the end, and the other one was told why."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.cluster.company import Company, CompanyTalk, heard_again_s, missed, silence_ms, worst
from benchmarks.cluster.site import Site, until
from benchmarks.cluster.speaker import ClusterSpeaker
from benchmarks.harness.processes import Address, Processes
from benchmarks.harness.sections import Figures
from benchmarks.link.conditions import Conditions, Direction
from benchmarks.link.proxy import Link
from streamcodec.errors import WireCode

__all__ = ["HOW", "figures_of", "measure_cut"]

HOW = ("silent", "reset")
"""Nothing comes through and nobody is told, as of a cable; or each connection is reset, and so is each new one."""
_LOST = (WireCode.STREAM_TAKEN, WireCode.TAKEN_OVER)


async def measure_cut(args: argparse.Namespace, site: Site, processes: Processes, *, how: str, seconds: float) -> Figures:  # noqa: ARG001
    """Cut the first node off."""
    span = ((0.0, seconds),)
    way = Direction(stalls=span)
    conditions = Conditions(up=way, down=way) if how == "silent" else Conditions(cuts=span)
    async with Link(site.nats.port, conditions) as link:
        here, there = await site.start([f"nats://127.0.0.1:{link.port}", site.nats.url])
        talks = {
            "here": CompanyTalk(ClusterSpeaker("here", here.url, here.fingerprint), (here, there)),
            "there": CompanyTalk(ClusterSpeaker("there", there.url, there.fingerprint, seed=1), (here, there)),
            "contested": CompanyTalk(ClusterSpeaker("contested", here.url, here.fingerprint, seed=2, gives_up=_LOST), (here, there)),
            "new": CompanyTalk(ClusterSpeaker("new", here.url, here.fingerprint, seed=3, gives_up=_LOST), (here, there)),
        }
        # Who wants a name at the other node meanwhile: one that is published at this node, and one that is new at both.
        rivals = {name: ClusterSpeaker(name, there.url, there.fingerprint, seed=4) for name in ("contested", "new")}
        async with Company() as company:
            await company.begin([talks[name] for name in ("here", "there", "contested")])
            await asyncio.sleep(args.settle_seconds)
            link.begin()
            cut = time.perf_counter()
            for rival in rivals.values():
                company.speak(rival)
            beginning = asyncio.create_task(company.begin([talks["new"]]))
            await asyncio.sleep(seconds)
            back = time.perf_counter()

            async def settled() -> bool:
                return _agree(await site.states(), talks, rivals)

            with contextlib.suppress(RuntimeError):
                await until(settled, "a name has no publisher, or two", 30.0)
            agreed = time.perf_counter()
            await beginning
            for rival in rivals.values():
                if not rival.begun:
                    rival.stop()  # the name is another's, and it still tries
            await company.heard_again(back)
            await asyncio.sleep(args.after_seconds)
            over, states = time.perf_counter(), await site.states()
            for rival in rivals.values():
                rival.stop()
            await company.end()
            await company.ended()
    print(f"cut for {seconds:g} s, {how}: done", file=sys.stderr, flush=True)
    return {"how": how, "cut_s": seconds, **figures_of(talks, rivals, states, here, (cut, back, agreed, over))}


def _agree(states: Sequence[Mapping[str, Any]], talks: Mapping[str, CompanyTalk], rivals: Mapping[str, ClusterSpeaker]) -> bool:
    """Whether each name is published at one node, and nobody else believes that it publishes it."""
    names = [name for state in states for name in state["streams"]]
    connected = all(state["connected"] and state["nodes"] == len(states) for state in states)
    return connected and sorted(names) == sorted(talks) and not any(_both(talks[name].speaker, rival) for name, rival in rivals.items())


def _both(one: ClusterSpeaker, other: ClusterSpeaker) -> bool:
    return one.publishes and other.publishes


def figures_of(
    talks: Mapping[str, CompanyTalk],
    rivals: Mapping[str, ClusterSpeaker],
    states: Sequence[Mapping[str, Any]],
    here: Address,
    times: tuple[float, float, float, float],
) -> Figures:
    """Who has each name in the end, what the others were told, and what was heard at both nodes; `times`: cut, back, agreed, over."""
    cut, back, agreed, over = times
    failures, contested = [], {}
    for name in talks:
        publishers = sum(name in state["streams"] for state in states)
        if publishers != 1:
            failures.append(f"{name}: {publishers} publishers in the end")
    for name, rival in rivals.items():
        first = talks[name].speaker
        winner = "here" if name in states[0]["streams"] else "there" if name in states[1]["streams"] else None
        loser = rival if winner == "here" else first
        told = sorted({one.code for one in loser.told if one.at > cut and one.code in _LOST})
        contested[name] = {
            "winner": winner,
            "both_began": bool(first.begun and rival.begun),
            "told": told,
            "told_after_s": next((one.at - back for one in loser.told if one.at > cut and one.code in _LOST), None),
        }
        if not told:
            failures.append(f"{name}: who does not have it in the end was not told so")
    steady = [talks["here"], talks["there"]]
    local = [talk.ears[int(talk.speaker.url != here.url), "codes"] for talk in steady]
    remote = [talk.ears[int(talk.speaker.url == here.url), "codes"] for talk in steady]
    near, far = missed(local, cut), missed(remote, cut)
    if sum(near["told"].values()) or near["unnamed"] or any(len(ear.sessions) != 1 for ear in local):
        failures.append(f"listeners at the publishers' nodes lost packets: told {near['told']}, not told {near['unnamed']}")
    everybody = missed([ear for talk in talks.values() for ear in talk.ears.values()])
    if everybody["unnamed"]:
        failures.append(f"{everybody['unnamed']} packets lost that nothing names")
    again = [heard_again_s(ear, cut, over) for ear in remote]
    failures += [f"{ear.name}: never heard again at the other node" for ear, after in zip(remote, again, strict=True) if after is None]
    return {
        "contested": contested,
        "agreed_s": agreed - back,
        "local_silence_ms": worst(silence_ms(ear, cut, over) for ear in local),
        "local_lost": sum(near["told"].values()) + near["unnamed"],
        "remote_back_s": worst(None if after is None else max(0.0, cut + after - back) for after in again),
        "remote_told": far["told"],
        "remote_unnamed": far["unnamed"],
        "remote_sessions": max(len(ear.sessions) for ear in remote),
        "failures": failures,
    }
