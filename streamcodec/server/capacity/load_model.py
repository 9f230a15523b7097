"""What streams take of the machine: computed from measured costs, corrected by what the server's work has really taken.

This is arithmetic: times are given, nothing here reads a clock, runs a model or knows a socket. All times are seconds on one clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["Cost", "Costs", "Demand", "Kind", "LoadModel", "Shares", "Work"]

Kind = Literal["encode", "decode", "relay"]
Demand = Counter[tuple[Kind, int]]
"""How many live streams need a step of a kind, of so many frames, for each of their packets; "relay": how many listeners get them."""

_MIN_ROWS, _MIN_MESSAGES = 20, 200
_MAX_INTERVAL_S = 5.0
_SMOOTHING = 0.5
# A packet waits for the step that is running and then for its own: at 20 ms each it is 40 ms late.
_ROUND_S = 0.02
# What a packet takes beside its step, until it is known: the loop takes some 0.1 ms for each of its two messages (see benchmarks.load),
# and the model's threads take the rest.
_PACKET_S = 0.0003
# So many packets outweigh what was expected: with a few of them the work of an idle server would be counted as theirs.
_TELLING_PACKETS = 200
# The same of a packet for each listener, with its share of the listener's reports.
_RELAY_S = 0.00005
_TELLING_RELAYS = 2000
# A client that comes takes as long as so many packets that are passed on: its handshake is in the same language on the same thread.
_RELAYS_OF_HELLO = 35


@dataclass(frozen=True)
class Cost:
    """What one step of the engine takes: `step` for itself, `row` for each row in it, `frame` for each frame of each row, in seconds."""

    step: float
    row: float
    frame: float

    def of_row(self, frames: int) -> float:
        """What one more row of so many frames adds to a step."""
        return self.row + frames * self.frame


Costs = Mapping[Kind, Cost]


@dataclass(frozen=True)
class Work:
    """What the server has done since some time in the past.

    The engine ran `steps` of `rows` packets in all, for `busy_s`. The process took `cpu_s` of its processors, and of that `beside_s` on its
    loop's thread and on the model's threads between steps. `messages` are the packets that came and those that were sent, `hellos` the
    clients that came.
    """

    steps: int = 0
    rows: int = 0
    busy_s: float = 0.0
    cpu_s: float = 0.0
    beside_s: float = 0.0
    messages: int = 0
    hellos: int = 0


class Shares(NamedTuple):
    """What is taken: of the engine's time, of all processors' time, and of the time in which one interpreter runs one thread."""

    engine: float
    processors: float
    interpreter: float


class LoadModel:
    """Predicts what any demand takes; without `costs` it predicts nothing.

    `workers` is the number of steps that may run at a time, `cores` the number of processors that this process may use.
    """

    def __init__(self, costs: Costs | None, frame_rate: float, *, workers: int, cores: int, max_batch: int) -> None:
        self._costs = costs
        self._frame_rate = frame_rate
        self._workers = workers
        self._cores = cores
        self._max_batch = max_batch
        self._known: tuple[float, Work] | None = None  # when the costs beside steps were learnt last, and by what
        self._known_steps: tuple[float, Work] | None = None
        self._scale = 1.0  # how much longer steps take than they were measured
        self._width = 1.0  # processors that a step keeps from others; at least 1, though it uses less while it waits for one
        self._packet_s = _PACKET_S  # beside steps, of a packet that comes in one message and goes out in one
        self._relay_s = _RELAY_S
        self._others = 0.0  # processors, beside steps, for all that neither explains: clients that come and go, whoever asks for metrics

    def shares(self, demand: Demand) -> Shares:
        """What `demand` takes; 1 is all of it, 0 where nothing is known."""
        if self._costs is None:
            return Shares(0.0, 0.0, 0.0)
        engine = packets = 0.0
        for (kind, frames), streams in demand.items():
            if kind == "relay":
                continue
            rate = streams * self._frame_rate / frames
            steps = max(rate / self._max_batch, min(rate, 1 / _ROUND_S))
            packets += rate
            engine += self._scale * (steps * self._costs[kind].step + rate * self._costs[kind].of_row(frames))
        beside = max(0.0, packets * self._packet_s + self._relayed(demand) * self._relay_s + self._others)
        return Shares(engine / self._workers, (engine * self._width + beside) / self._cores, beside)

    def learn(self, now: float, demand: Demand, work: Work) -> None:
        """Correct the prediction by all that was done from the start on; `demand` says what the steps since the last call were for.

        So a machine that something else slows down has room for fewer streams, and one with a faster engine than before has room for more.
        """
        if self._known is None or self._known_steps is None:
            self._known = self._known_steps = (now, work)
            return
        if self._costs is None:
            return
        at, before = self._known
        rows, messages = work.rows - before.rows, work.messages - before.messages
        if rows >= _MIN_ROWS or messages >= _MIN_MESSAGES or now - at >= _MAX_INTERVAL_S:
            self._known = (now, work)
            self._learn_beside(now - at, demand, rows, messages, work.hellos - before.hellos, work.beside_s - before.beside_s)
        at, before = self._known_steps
        rows = work.rows - before.rows
        if rows >= _MIN_ROWS or now - at >= _MAX_INTERVAL_S:
            self._known_steps = (now, work)
            if any(kind != "relay" for kind, _ in demand) and rows >= _MIN_ROWS:  # work of streams that are gone cannot be weighed
                beside_s = work.beside_s - before.beside_s
                self._learn_steps(
                    demand, work.steps - before.steps, rows, work.busy_s - before.busy_s, work.cpu_s - before.cpu_s - beside_s
                )

    def _relayed(self, demand: Demand) -> float:
        """Packets that go to listeners, all together, per second."""
        return sum(listeners * self._frame_rate / frames for (kind, frames), listeners in demand.items() if kind == "relay")

    def _learn_beside(self, seconds: float, demand: Demand, rows: int, messages: int, hellos: int, beside_s: float) -> None:
        # Messages in pairs, one that comes and one that goes: more of them than rows are listeners' beyond the first, or codes that need no
        # step, and the next publisher does not bring them.
        pairs = max(rows, messages / 2)
        packet_s = (beside_s + _TELLING_PACKETS * _PACKET_S) / (pairs + _TELLING_PACKETS)
        self._packet_s += _SMOOTHING * (packet_s - self._packet_s)
        rest_s = beside_s - rows * packet_s
        # A newcomer's history is passed on, too.
        relays = max(0, messages - 2 * rows) + _RELAYS_OF_HELLO * hellos if self._relayed(demand) else 0
        relay_s = (max(0.0, rest_s) + _TELLING_RELAYS * _RELAY_S) / (relays + _TELLING_RELAYS) if relays else _RELAY_S
        self._relay_s += _SMOOTHING * (relay_s - self._relay_s)
        self._others += _SMOOTHING * ((rest_s - relays * relay_s) / seconds - self._others)

    def _learn_steps(self, demand: Demand, steps: int, rows: int, busy_s: float, cpu_s: float) -> None:
        assert self._costs is not None
        rates = {key: streams * self._frame_rate / key[1] for key, streams in demand.items() if key[0] != "relay"}
        expected_s = sum(
            rate * (steps * self._costs[kind].step + rows * self._costs[kind].of_row(frames)) for (kind, frames), rate in rates.items()
        ) / sum(rates.values())
        if expected_s > 0:
            self._scale += _SMOOTHING * (busy_s / expected_s - self._scale)
        if busy_s > 0:
            width = max(1.0, min(self._cores / self._workers, cpu_s / busy_s))
            self._width += _SMOOTHING * (width - self._width)
