"""A crowd comes to a simulated machine, under a clock of its own: as many come in as the machine holds, whatever it was taken for."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from streamcodec.server import Limits
from streamcodec.server.capacity.admission import Admission
from streamcodec.server.capacity.load_model import Cost, Demand, Work
from streamcodec.server.newcomers import _RECHECK_S

ENCODE = ("encode", 6)
ONE = Counter({ENCODE: 1})
PACKETS_PER_S = 12.5
TICK_S = 0.01
COME_AGAIN_S = 1.2
LIMITS = Limits(capacity="auto")
# As an embedded model's steps are measured: a packet alone in 1 ms, sixteen in 7.
MEASURED = Cost(0.0006, 0.0004, 0.0)


@dataclass
class Machine:
    """Two processors and as many workers. Steps take `factor` of what was measured, packets `beside_s` and newcomers `greeting_s` more."""

    factor: float = 1.0
    beside_s: float = 0.0003
    greeting_s: float = 0.005
    crowding: float = 0.0
    work: Work = field(default_factory=Work)

    def _slower(self, streams: int) -> float:
        return self.factor * (1 + self.crowding * streams)

    def holds(self) -> int:
        """The most streams whose shares are within what is allowed, in steps as large as a full machine makes them."""
        streams = 0
        while True:
            rows = PACKETS_PER_S * (streams + 1)
            steps = max(rows / 16, min(rows, 50))
            engine, beside = self._slower(streams + 1) * (steps * MEASURED.step + rows * MEASURED.row), rows * self.beside_s
            if max(engine / 2 / LIMITS.max_load, (engine + beside) / 2 / LIMITS.max_cpu, beside / LIMITS.max_cpu) > 1:
                return streams
            streams += 1

    def run(self, streams: int, joined: int) -> None:
        """A tick; the steps of a machine with time to spare are smaller than they need be."""
        rows = TICK_S * PACKETS_PER_S * streams
        steps = min(rows, TICK_S * 120)
        busy_s = self._slower(streams) * (steps * MEASURED.step + rows * MEASURED.row)
        beside_s = rows * self.beside_s + joined * self.greeting_s
        was = self.work
        self.work = Work(
            was.steps + steps,
            was.rows + rows,
            was.busy_s + busy_s,
            was.cpu_s + busy_s + beside_s,
            was.beside_s + beside_s,
            was.messages + 2 * rows,
        )


@dataclass
class Crowd:
    """What became of the newcomers; `most` were admitted at a time, `waited_s` is the longest that one of them waited."""

    most: int = 0
    refused: list[str] = field(default_factory=list)
    waited_s: float = 0.0


def come(machine: Machine, asking: int, per_s: float, waits_s: Callable[[int], float] = lambda streams: 0.005) -> Crowd:  # noqa: ARG005
    """`asking` publishers come, `per_s` a second, and wait in line; who is told to come again does. `waits_s` is what packets wait."""
    policy = Admission(LIMITS, {"encode": MEASURED, "decode": MEASURED}, 75.0, workers=2, cores=2)
    demand: Demand = Demand()
    coming = deque(at / per_s for at in range(asking))
    line: deque[float] = deque()
    joins: list[float] = []
    crowd, packets, ask_at = Crowd(), 0.0, 0.0
    for tick in range(round((asking / per_s + 20) / TICK_S)):
        now = tick * TICK_S
        while coming and coming[0] <= now:
            coming.popleft()
            line.append(now)
        before = len(joins)
        while line and now >= ask_at:
            refusal = policy.refusal(now, demand, ONE)
            if refusal is None:
                demand += ONE
                policy.joined(now, ONE, f"{len(joins)}")
                joins.append(now)
            elif refusal.again_s is None:
                crowd.refused.append(refusal.reason)
            elif now - line[0] >= LIMITS.join_wait_s:
                crowd.refused.append(refusal.reason)
                insort(coming, now + COME_AGAIN_S)
            else:
                ask_at = now + min(refusal.again_s, _RECHECK_S, LIMITS.join_wait_s - (now - line[0]))
                break
            crowd.waited_s = max(crowd.waited_s, now - line.popleft())
        heard = bisect_right(joins, now - 0.08)
        machine.run(heard, len(joins) - before)
        packets += TICK_S * PACKETS_PER_S * heard
        while packets >= 1:
            packets -= 1
            policy.waits.note(now, waits_s(heard))
        if policy.correction_due(now):
            policy.worked(now, demand, machine.work)
        crowd.most = max(crowd.most, demand.total())
    return crowd


@pytest.mark.parametrize("per_s", [5, 20, 100])
@pytest.mark.parametrize(
    "machine",
    [Machine(), Machine(1.3, 0.0004), Machine(1.3, 0.0006), Machine(2.0, 0.0002), Machine(0.5, 0.0001), Machine(0.2, 0.0005)],
    ids=str,
)
def test_as_many_are_admitted_as_the_machine_can_serve_although_it_differs_from_what_was_measured(machine, per_s):
    machine = replace(machine)
    crowd = come(machine, 2 * machine.holds(), per_s)
    assert 0.9 * machine.holds() <= crowd.most <= 1.05 * machine.holds()
    assert crowd.waited_s <= LIMITS.join_wait_s + 2 * TICK_S


@pytest.mark.parametrize("per_s", [5, 20, 100])
def test_a_machine_whose_steps_are_slower_the_more_it_has_to_do_is_not_overfilled_either(per_s):
    machine = Machine(beside_s=0.0004, crowding=0.01)
    crowd = come(machine, 150, per_s)
    assert 0.9 * machine.holds() <= crowd.most <= 1.05 * machine.holds()


def test_a_crowd_that_comes_before_anything_is_known_takes_half_of_what_is_predicted():
    foretold, machine = Machine().holds(), Machine(beside_s=0.001)
    crowd = come(machine, 2 * foretold, 1000)
    assert machine.holds() < crowd.most <= foretold / 2, "a machine three times as slow is overfilled, but by no more"
    assert "of a processor's time for all beside the model and 60% is allowed" in crowd.refused[-1]


@pytest.mark.parametrize("per_s", [5, 20, 100])
def test_newcomers_are_refused_soon_after_packets_become_late_for_an_unpredicted_reason(per_s):
    machine = Machine()
    crowd = come(machine, 2 * machine.holds(), per_s, lambda streams: 0.005 + 0.02 * max(0, streams - 80))
    assert 80 <= crowd.most <= 1.1 * 80
    assert "the server is behind" in crowd.refused[-1]
