"""The capacity benchmark: its books on made-up packets, its course on a made-up machine, and a tiny run of both ways; never its speed."""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np
import pytest
from tiny_benchmark import files_of, run_tiny

from benchmarks.capacity import phases
from benchmarks.capacity.ledger import CODES, PCM, PacketLedger, Sample, Schedule, back_after
from benchmarks.capacity.phases import CapacityRun, PhasePlan, fewer_to_hold, run_phases
from benchmarks.capacity.render import headlines

TINY = ["--from", "2", "--step", "2", "--most", "2", "--grow-seconds", "0.3", "--minutes", "0.01", "--overload-seconds", "0.6"]
WAYS = {
    "in process": ["--way", "inprocess", "--threads", "1"],
    "WebSockets": ["--way", "websocket", "--threads", "1", "--pcm-listeners", "1", "--block-ms", "20"],
}


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The section's cases: one of each way."""
    out = tmp_path_factory.mktemp("results")
    for name, way in WAYS.items():
        words = [*way, *TINY, "--recovery-seconds", "0.6", "--patience-seconds", "2", "--case", name]
        section = run_tiny("capacity", words, out, stands=shlex.join(words), here=True)
    assert files_of(out) == {"capacity.json", "capacity.md", "capacity.png"}
    found: dict[str, Any] = section["cases"]
    return found


def test_cases_of_several_runs_share_one_section(cases: dict[str, Any]) -> None:
    assert set(cases) == set(WAYS)


@pytest.mark.parametrize("name", WAYS)
def test_every_packet_of_a_tiny_run_comes_out(cases: dict[str, Any], name: str) -> None:
    figures = cases[name]["figures"]
    assert figures["failures"] == []
    assert figures["never_came"] == 0
    assert len(figures["growth"]) >= 1
    before = figures["hold"]["streams"]
    for phase in ("hold", "overload", "recovery"):
        found = figures[phase]
        # Publishers join and leave as fast as the machine lets them: so many are there from one phase to the next, at least and at most.
        fewest, most = sorted((before, found["streams"]))
        before, per_stream = found["streams"], found["seconds"] / 0.08
        assert 0.5 * fewest * per_stream < found["packets"] + found["dropped"] <= most * (per_stream + 1)
        assert found["late_ms"]["p50"] > 0, "nothing is out before it was due"
        assert found["rss_mib"][0] > 0
    if name == "WebSockets":
        assert figures["hold"]["pcm_packets"] > 0
        assert figures["admission"]["asked"] == figures["admission"]["streams"] + figures["admission"]["refused"]


def test_phases_are_spread_and_packets_fall_due_on_time_for_ever() -> None:
    schedule = Schedule(0.08, 0.02, seed=3)
    voices = [schedule.make() for _ in range(50)]
    for voice in voices:
        schedule.begin(voice, 100.0)
    assert len({round(voice.phase_s, 3) for voice in voices}) > 30
    taken = schedule.take(200.0)
    due = np.array([at for at, voice in taken if voice is voices[0]])
    assert np.allclose(np.diff(due), 0.02, atol=1e-9)
    assert due[0] - 100.0 <= 0.08 + 0.02
    assert due[-1] == pytest.approx(voices[0].begun + len(due) * 0.02, abs=1e-9)
    schedule.leave(voices[0])
    assert all(voice is not voices[0] for _, voice in schedule.take(201.0))


def packets(*rows: tuple[float, float, int]) -> Sample:
    return Sample(packets=np.array(rows, np.float64).reshape(-1, 3))


def test_a_packet_that_is_not_out_counts_with_what_it_has_waited() -> None:
    ledger = PacketLedger()
    ledger.add(packets(*[(at / 100, at / 100 + 0.010, CODES) for at in range(100)]), now=1.0)
    assert ledger.p99_ms(0, 1) == pytest.approx(10)
    ledger.add(Sample(waiting=np.full(5, 0.5)), now=1.0)
    assert ledger.p99_ms(0, 1) == pytest.approx(500)
    ledger.add(packets(*[(0.5, 0.52, CODES)] * 5), now=1.0)
    assert ledger.p99_ms(0, 1) == pytest.approx(20)


def test_late_pcm_is_not_hidden_by_codes_in_time() -> None:
    ledger = PacketLedger()
    ledger.add(packets(*[(0.5, 0.51, CODES)] * 1000, *[(0.5, 0.6, PCM)] * 5), now=1.0)
    assert ledger.p99_ms(0, 1) == pytest.approx(100)


def test_recovery_ends_with_the_first_second_in_time_and_without_drops() -> None:
    ledger = PacketLedger()
    late = [(at / 50, at / 50 + (0.5 if at < 100 else 0.01), CODES) for at in range(500)]
    ledger.add(packets(*late), now=10.0)
    assert back_after(ledger, 0.0, 10.0, 40.0) == pytest.approx(2.0)
    ledger.add(Sample(dropped=np.array([[4.05, CODES]])), now=10.0)
    assert back_after(ledger, 3.5, 10.0, 40.0) == pytest.approx(0.6)
    assert back_after(ledger, 0.0, 1.5, 40.0) is None


class Machine:
    """A made-up way: packets of up to `room` publishers take 10 ms, those of more 100 ms."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.streams = 0
        self.at: float | None = None
        self.asked: list[int] = []

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def want(self, streams: int) -> None:
        self.streams = streams
        self.asked.append(streams)

    def collect(self) -> Sample:
        now = phases.time.perf_counter()
        due = np.linspace(now if self.at is None else self.at, now, 50 * bool(self.streams), endpoint=False)
        self.at = now
        took = 0.01 if self.streams <= self.room else 0.1
        rows = np.stack([due, due + took, np.full_like(due, CODES)], axis=1)
        return Sample(packets=rows, live=self.streams)

    def usage(self) -> dict[str, dict[str, float]]:
        now = phases.time.perf_counter()
        return {"model": {"cpu_s": 0.0, "at": now, "rss_mib": 1.0}, "load": {"cpu_s": 0.0, "at": now}}


class MadeUpTime:
    """The module `time` where only a sleeper lets time go by."""

    def __init__(self) -> None:
        self._now = 100.0

    def perf_counter(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


@pytest.fixture
def made_up_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "time", MadeUpTime())
    monkeypatch.setattr(phases, "_SETTLE_S", 0.1)
    monkeypatch.setattr(phases, "_LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(phases, "_DRAIN_S", 0.5)


class Tiring(Machine):
    """A machine that holds up to `lasting` publishers for long: more than those are late after half a second."""

    def __init__(self, room: int, lasting: int) -> None:
        super().__init__(room)
        self._lasting = lasting
        self._since: tuple[int, float] = (0, 0.0)

    def collect(self) -> Sample:
        now = phases.time.perf_counter()
        if self._since[0] != self.streams:
            self._since = (self.streams, now)
        tired = self.streams > self._lasting and now - self._since[1] > 0.5
        room, self.room = self.room, 0 if tired else self.room
        sample = super().collect()
        self.room = room
        return sample


def course(begin: int = 10, hold: int | None = None) -> PhasePlan:
    return PhasePlan(begin, 10, 100, grow_s=0.2, hold=hold, hold_s=1.2, overload_s=0.3, recovery_s=1.1, joins_per_s=100, patience_s=0.3)


@pytest.mark.usefixtures("made_up_time")
def test_growth_ends_where_packets_are_late_three_times_and_the_last_good_count_is_held() -> None:
    machine = Machine(room=34)
    figures = run_phases(CapacityRun(machine), course())
    assert [(level["streams"], level["in_time"]) for level in figures["growth"]] == [
        (10, True),
        (20, True),
        (30, True),
        (40, False),
        (40, False),
        (40, False),
    ]
    assert (figures["grown_to"], figures["hold"]["streams"], figures["held"]) == (30, 30, True)
    assert (figures["overload"]["streams"], figures["recovery"]["streams"]) == (45, 22)
    assert figures["overload"]["late_ms"]["p50"] == pytest.approx(100, abs=1)
    assert figures["recovery"]["back_after_s"] is not None
    assert machine.asked[-1] == 0


@pytest.mark.usefixtures("made_up_time")
def test_a_count_that_is_not_held_is_told_so() -> None:
    figures = run_phases(CapacityRun(Machine(room=5)), course(hold=12))
    assert (figures["grown_to"], figures["hold"]["streams"], figures["held"]) == (0, 12, False)
    assert figures["recovery"]["back_after_s"] is None


@pytest.mark.usefixtures("made_up_time")
def test_fewer_are_held_where_the_last_good_count_of_the_growth_is_late_over_a_longer_time() -> None:
    figures = run_phases(CapacityRun(Tiring(room=34, lasting=10)), course())
    assert (figures["grown_to"], figures["hold"]["streams"], figures["held"]) == (30, 10, True)
    assert [(one["streams"], one["late_ms"]["p99"]) for one in figures["held_too_many"]] == [
        (30, pytest.approx(100)),
        (20, pytest.approx(100)),
    ]


def test_a_step_fewer_is_held_until_it_is_in_time_or_patience_ends() -> None:
    assert fewer_to_hold(course(), [30], in_time=False) == 20
    assert fewer_to_hold(course(), [30], in_time=True) is None
    assert fewer_to_hold(course(), [10], in_time=False) is None, "nobody is left"
    assert fewer_to_hold(course(), [40, 30, 20], in_time=False) is None
    assert fewer_to_hold(course(hold=30), [30], in_time=False) is None, "this count was asked for"


def test_each_case_that_is_held_has_a_headline_of_its_own() -> None:
    usual = {"way": "WebSockets", "held": True, "pcm_listeners": 0, "model": "m", "limit_ms": 40.0, "threads": 2, "precision": "auto"}
    usual |= {"packet_ms": 80.0, "hold": {"streams": 30, "late_ms": {"p99": 20.0}}}
    cases = {"a": usual, "b": {**usual, "packet_ms": 1000 / 75}, "c": {**usual, "processes": 2}, "d": {**usual, "held": False}}
    assert [(line.case, line.what.split(", p99")[0].removeprefix("live publishers through WebSockets, ")) for line in headlines(cases)] == [
        ("a", "m"),
        ("b", "m, packets of 13 ms"),
        ("c", "m, 2 processes"),
    ]
