"""The latency benchmark: its books on made-up packets, its goals on made-up figures, and a tiny run of three cases; never its speed."""

from __future__ import annotations

import math
import subprocess
from typing import Any

import numpy as np
import pytest
from tiny_benchmark import files_of, run_tiny

from benchmarks.latency import device
from benchmarks.latency.cases import CASES, Lengths, make_case
from benchmarks.latency.device import BLOCK_S, DEVICE_RATE, Playing, hour_of_drift
from benchmarks.latency.figures import STAGES, back_after, ear_figures, quality_by_second, thinned
from benchmarks.latency.run import Ear, Heard, HeardPacket, Ran, Setup
from benchmarks.link import Direction, netns
from streamcodec.audio.playout.adaptive import AdaptivePlayout

TINY = ["--minutes", "0.02", "--before-seconds", "0.8", "--during-seconds", "0.8", "--after-seconds", "1.2"]
RATE = 24_000


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The section's cases: three, of which two came from one command."""
    out = tmp_path_factory.mktemp("results")
    for names in (["loopback", "shrink"], ["stall-0.5"]):
        section = run_tiny("latency", ["--case", *names, *TINY], out, stands=f"--case {names[-1]} {' '.join(TINY)}", here=True)
    assert files_of(out) == {"latency.json", "latency.md", "latency.png", "latency_shrink.png"}
    assert "nan" not in (out / "latency.md").read_text(encoding="utf-8")
    found: dict[str, Any] = section["cases"]
    return found


def test_cases_merge_into_one_section_with_a_command_for_each(cases: dict[str, Any]) -> None:
    commands = {name: f"python -m benchmarks.latency --case {name} {' '.join(TINY)}" for name in ("loopback", "shrink", "stall-0.5")}
    assert {name: ran["command"] for name, ran in cases.items()} == commands


@pytest.mark.parametrize("name", ["loopback", "shrink", "stall-0.5"])
def test_every_packet_of_a_tiny_run_is_accounted_for(cases: dict[str, Any], name: str) -> None:
    figures = cases[name]["figures"]
    assert set(figures["runs"]) == ({"calm", name} if name == "stall-0.5" else {name})
    for run in figures["runs"].values():
        for ear in run["ears"]:
            assert math.floor(run["seconds"] / 0.08 + 1e-9) <= ear["expected"] <= math.ceil(run["seconds"] / 0.08)
            assert ear["packets"] + ear["missing"] == ear["expected"]
            assert ear["missing"] == ear["told_missing"], "a link that is slow loses nothing, and a server that drops says so"
            assert len(ear["course"]["t"]) == ear["packets"]
            assert ear["stages_ms"]["encode"]["p50"] > 0 < ear["stages_ms"]["decode"]["p50"]
            # Stages follow on each other: their medians may not add up, but what is longest holds every other.
            assert ear["stages_ms"]["delay"]["max"] >= ear["stages_ms"]["decoded"]["max"] * 0.5
    assert [set(goal) for goal in figures["goals"]] == [{"goal", "found", "unit", "most", "met"}] * len(figures["goals"])


def test_a_link_that_shrinks_is_told_with_its_quality(cases: dict[str, Any]) -> None:
    run = cases["shrink"]["figures"]["runs"]["shrink"]
    for name in ("adaptive", "fixed"):
        known = [db for db in run["quality_db"][name] if db is not None]
        assert len(known) >= 1
    if run["ears"][1]["missing"] == 0:
        assert min(known) > 40, "all packets of the whole bandwidth are what decoding without a network gives"


# Made-up packets ---------------------------------------------------------------------------------------------------------------------


def play(arrivals: list[float], packet: int = 1920) -> Playing:
    playing = Playing(AdaptivePlayout(RATE, DEVICE_RATE, block_s=BLOCK_S), RATE)
    sound, at = np.random.default_rng(0).standard_normal(packet).astype(np.float32) * np.float32(0.1), 0
    for i, arrived in enumerate(arrivals):
        while at * BLOCK_S < arrived:
            playing.pull(at * BLOCK_S)
            at += 1
        playing.push(sound, arrived, (i + 1) * packet / RATE)
    for _ in range(200):
        playing.pull(at * BLOCK_S)
        at += 1
    return playing


def test_a_packet_on_time_waits_for_the_target_and_the_resampler() -> None:
    captured = [(i + 1) * 0.08 for i in range(50)]
    playing = play([t + 0.012 for t in captured])
    handed = playing.handed()
    assert len(handed) == 50
    for t, packet in zip(captured, handed, strict=True):
        assert packet.at is not None
        delay = packet.at + packet.within_s - t
        assert delay == pytest.approx(0.012 + packet.stats.target_s + playing.withheld_s + BLOCK_S / 2, abs=BLOCK_S / 2 + 1e-6)


def test_what_a_jump_went_over_was_never_handed_to_the_device() -> None:
    captured = [(i + 1) * 0.08 for i in range(60)]
    # Two seconds stand still and come at once: far more than a playout keeps.
    handed = play([4.0 if 2.0 <= t < 4.0 else t for t in captured]).handed()
    left_out = [t for t, packet in zip(captured, handed, strict=True) if packet.at is None]
    assert left_out and all(1.9 <= t < 4.1 for t in left_out)
    assert handed[-1].at is not None


def test_a_device_whose_clock_is_off_is_followed_for_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    # Clocks are the same at a quarter of the rates, and resampling takes a quarter of the time.
    monkeypatch.setattr(device, "DEVICE_RATE", DEVICE_RATE // 4)
    monkeypatch.setattr(device, "_BLOCK", round(BLOCK_S * DEVICE_RATE / 4))
    sound = np.random.default_rng(0).standard_normal(RATE // 4).astype(np.float32) * np.float32(0.1)
    for ppm in (200.0, -200.0):
        played = hour_of_drift(sound, RATE // 4, 480, 2.0, ppm)
        assert (played["underruns"], played["jumps"]) == (0, 0)
        assert len(played["delay_ms"]) == 120
        assert abs(played["delay_ms"][-1] - played["delay_ms"][30]) < 8


def course(delays: list[tuple[float, float]]) -> dict[str, Any]:
    return {"heard": [t for t, _ in delays], "delay_ms": [d for _, d in delays], "target_ms": [30.0] * len(delays)}


def test_a_delay_is_back_with_the_first_whole_second_near_its_target() -> None:
    def delay(t: float) -> float:
        return 40.0 if t < 5.0 else 40.0 + max(0.0, 500.0 * (8.0 - t)) if t >= 6.0 else 900.0

    calm = [(i * 0.08, delay(i * 0.08)) for i in range(200)]
    assert back_after(course(calm), 0.08, 5.0, 6.0) == pytest.approx(2.0, abs=0.1)
    assert back_after(course([(t, d) for t, d in calm if t < 8.5]), 0.08, 5.0, 6.0) is None, "half a second is none"
    assert back_after(course([(t, d) for t, d in calm if not 8.0 < t < 9.0]), 0.08, 5.0, 6.0) > 2.5, "silence is not sound in time"  # type: ignore[operator]


def made_up(setup: Setup, lost: set[int]) -> Ran:
    """All packets 20 ms to the server, 1 in the queue, 5 in the step, 10 back, 4 to decode; the server's clock is an hour ahead."""
    ran, heard, ahead = Ran(begun=10_000_000), Heard(), 3_600_000_000
    ran.offered = [ran.begun + round((i + 1) * 26_666.667) + 500 for i in range(200)]
    playing = Playing(AdaptivePlayout(RATE, DEVICE_RATE, block_s=BLOCK_S), RATE)
    for i in range(int(setup.seconds / 0.08)):
        captured = ran.begun + (i + 1) * 80_000
        times = [captured + ahead + ms * 1000 for ms in (0, 20, 21, 26, 27)]
        stamp = (captured + ahead - 80_000) % 2**32
        ran.traces.append((times[0], times[1], times[2], times[3], times[4]))
        if i not in lost:
            heard.packets.append(HeardPacket(stamp, 8, captured, captured + 36_000, captured + 40_000))
            while len(playing._read) * BLOCK_S < captured / 1e6 + 0.04 - 10.0:
                playing.pull(10.0 + len(playing._read) * BLOCK_S)
            playing.push(np.full(1920, 0.1, np.float32), captured / 1e6 + 0.04, captured / 1e6)
    for _ in range(100):
        playing.pull(10.0 + len(playing._read) * BLOCK_S)
    heard.handed = playing.handed()
    heard.gaps = [(ran.begun + 1_000_000, len(lost), "slow_listener")]
    ran.heard["listener"] = heard
    return ran


def test_stages_are_told_by_two_clocks_and_lost_packets_counted() -> None:
    setup = Setup(4.0, (Ear("listener"),))
    figures = ear_figures(setup, setup.ears[0], made_up(setup, {10, 11}))
    found = {stage: figures["stages_ms"][stage]["p50"] for stage in (*STAGES[:-1], "decoded")}
    assert found == pytest.approx(
        {"capture": 0.5, "uplink": 19.5, "queue": 1, "encode": 5, "downlink": 10, "decode": 4, "decoded": 40}, abs=0.01
    )
    assert (figures["expected"], figures["packets"], figures["missing"], figures["told_missing"]) == (50, 48, 2, 2)
    added = np.array(figures["course"]["delay_ms"]) - np.array(figures["course"]["target_ms"])
    assert np.median(added) == pytest.approx(figures["stages_ms"]["added"]["p50"], abs=0.2)
    assert len(thinned({"t": list(range(1000)), "heard": [0.0] * 1000})["t"]) <= 300


def test_quality_is_full_where_everything_came_and_none_where_nothing_did() -> None:
    setup = Setup(4.0, (Ear("listener"),), keep=True)
    ran = made_up(setup, set(range(25, 38)))
    reference = np.random.default_rng(1).standard_normal(4 * RATE).astype(np.float32)
    heard = ran.heard["listener"]
    places = [(packet.captured - ran.begun) // 80_000 - 1 for packet in heard.packets]
    heard.decoded = [reference[at * 1920 : (at + 1) * 1920] for at in places]
    quality = quality_by_second(setup, ran, heard, reference)
    assert (quality[0], quality[1], quality[2]) == (60.0, 60.0, -20.0)
    assert quality[3] is not None and 5 < quality[3] < 60
    reference[:RATE] *= 0.01
    assert quality_by_second(setup, ran, heard, reference)[0] is None, "there is too little to compare"


# Goals -------------------------------------------------------------------------------------------------------------------------------


def test_a_missed_goal_is_told_with_its_figure() -> None:
    case = make_case("loopback", Lengths())
    ear = {"name": "listener", "stages_ms": {"added": {"p50": 9.0, "p99": 26.0}}, "missing": 0, "underruns": 1}
    goals = case.goals({"loopback": {"ears": [ear]}})
    assert [(goal["found"], goal["met"]) for goal in goals] == [(9.0, True), (26.0, False), (0, True), (1, False)]


@pytest.mark.parametrize("name", CASES)
def test_every_case_says_what_it_is_about_and_ends_after_its_disturbance(name: str) -> None:
    case = make_case(name, Lengths())
    assert case.about.endswith(".")
    if case.disturbed is not None:
        assert all(setup.seconds >= case.disturbed[1] + 15 for setup in case.runs.values())


def test_the_kernel_is_told_what_a_direction_does() -> None:
    direction = Direction(0.01, jitters=((5.0, 0.02),), rates=((1.0, 1000.0), (2.0, None)), stalls=((3.0, 4.0),))
    words = {t: " ".join(netns.netem(direction, t)) for t in (0.0, 1.5, 2.5, 3.5, 6.0)}
    assert words[0.0].endswith("delay 10000us")
    assert words[1.5].endswith("delay 10000us rate 8000bit")
    assert words[2.5] == words[0.0]
    assert words[3.5].endswith("loss 100%")
    assert words[6.0].endswith("delay 20000us 10000us")


def test_a_machine_without_namespaces_says_why_in_a_line() -> None:
    why = netns.missing()
    assert why is None or (why and "\n" not in why)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ("tc", "qdisc", "add", "dev", "x", "root", "netem"),
            "this kernel has no netem (module sch_netem): `tc qdisc add dev x root netem` says: no.",
        ),
        (("ip", "netns", "add", "x"), "root may not do it here: `ip netns add x` says: no."),
    ],
)
def test_what_a_machine_lacks_for_namespaces_is_said_by_name(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], expected: str
) -> None:
    def refuse(*_: object) -> None:
        raise subprocess.CalledProcessError(2, words, stderr="no.\n")

    monkeypatch.setattr(netns, "_do", refuse)
    monkeypatch.setattr(netns.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(netns.os, "geteuid", lambda: 0)
    assert netns.missing() == expected
    monkeypatch.setattr(netns.shutil, "which", lambda _: None)
    assert netns.missing() == "no ip and no tc (Debian: iproute2)"
    monkeypatch.setattr(netns.os, "geteuid", lambda: 1000)
    assert netns.missing() == "it takes root, to make network namespaces"
