"""Attacks beside ordinary streams, in a tiny setting: what is counted is what happened. No test looks at how late anything was."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from live_rig import a_server, run
from patience import patient_limits
from tiny_benchmark import run_tiny

from benchmarks.attacks.attacks import ATTACKS
from benchmarks.attacks.benchmark import figures_of
from benchmarks.attacks.render import MOST_LATE_MS, headlines, held, render
from benchmarks.attacks.streams import StreamLog
from benchmarks.attacks.wire import AttackTarget, Got
from streamcodec.server.rate import Rate

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="attacks come from 127.0.0.66")


def log(late_s: float = 0.01, lost: tuple[int, ...] = (), error: str = "") -> StreamLog:
    """Twenty packets, one a second."""
    dues = [float(seq) for seq in range(20)]
    return StreamLog(dues, {seq: due + late_s for seq, due in enumerate(dues) if seq not in lost}, set(lost), error)


def case(*logs: StreamLog) -> dict[str, object]:
    used = {"rss_mib": 100.0, "cpu_s": 1.0, "at": 10.0}, {"rss_mib": 120.0, "cpu_s": 6.0, "at": 20.0}
    got = Got(3, 2 << 20, Counter({"close 4429": 3}))
    return figures_of(logs, (0.0, 10.0), (10.0, 20.0), got, used, argparse.Namespace(streams=len(logs)))


def test_packets_are_counted_in_the_phase_in_which_they_were_due() -> None:
    found = case(log(lost=(3, 12, 13)), log())
    assert (found["before"]["lost"], found["before"]["came"]) == (1, 19)  # type: ignore[index]
    assert (found["during"]["lost"], found["during"]["came"]) == (2, 18)  # type: ignore[index]
    assert found["server_cores"] == 0.5


@pytest.mark.parametrize(
    ("logs", "good"),
    [
        ([log()], True),
        ([log(lost=(3,))], True),
        ([log(), log(lost=(12,))], False),
        ([log(MOST_LATE_MS / 1000 + 0.001)], False),
        ([log(error="ordinary-0: the stream ended")], False),
        ([log(lost=tuple(range(10, 20)))], False),
    ],
)
def test_an_attack_is_held_where_no_stream_notices_it(logs: list[StreamLog], good: bool) -> None:
    assert held(case(*logs)) is good
    [headline] = headlines({"one": case(*logs), "other": case(log())})
    assert headline.ours == f"{1 + good} of 2"


def test_the_section_says_what_was_lost_and_what_the_attacker_got() -> None:
    text = render({"good": case(log()), "bad": case(log(lost=(12,)))})
    assert "| good | yes | 10 | 0 |" in text and "| bad | **no** | 10 | 0 |" in text and "close 4429 x 3" in text
    assert "**1 check failed**, the first: broken" in render({"bad": case(log(error="broken"))})


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_reaches_the_server_and_ends_in_time(name: str) -> None:
    async def main() -> None:
        limits = patient_limits(bound_loopback=True, new_connections=Rate(1e6, 1e6), handshake_s=1.0, drain_s=1.0)
        async with a_server(limits=limits) as server:
            target = AttackTarget(server.port, "f00d", time.perf_counter() + 0.5)
            await asyncio.wait_for(ATTACKS[name](target), 300)
            assert target.got.connections and target.got.sent_bytes + ("nothing" in name or "come and go" in name)

    run(main())


def test_a_run_writes_its_section(model: str, tmp_path: Path) -> None:
    words = ["--case", "pings", "--streams", "2", "--before-seconds", "0.5", "--seconds", "0.5"]
    section = run_tiny("attacks", [*words, "--model", model], tmp_path, stands=" ".join([*words, "--model", Path(model).name]), here=True)
    figures = section["cases"]["pings"]["figures"]
    assert figures["failures"] == [] and figures["before"]["came"] + figures["before"]["lost"] > 0
    assert figures["connections"] >= 1 and figures["answers"]
