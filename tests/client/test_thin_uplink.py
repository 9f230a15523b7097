"""An uplink that is thinner than the stream: what is under way stays bounded, and what does not fit is dropped and told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from made_up_time import Line, run_in_made_up_time

from streamcodec.client import Publisher, kept_connection, publish

BLOCK = np.zeros(2400, np.float32)  # 100 ms
STREAM = 48_200.0  # bytes/s of 24 kHz in 16 bits, as messages of 100 ms


@pytest.fixture
def speaking(monkeypatch) -> Callable[..., Line]:
    """Publish live for so many seconds over a `Line`, whose rate (in streams) and delay then change, for as many seconds as is said.

    The line is given back, with the most that was under way since then, from a fifth of the time on, as `max_s`, and what waited as
    `waited_s`.
    """

    def speak(rate: float, delay_s: float, *, before: tuple[float, float] = (20.0, 0.03), before_s: float = 20.0, for_s: float) -> Line:
        line: Line

        async def talk(publisher: Publisher, seconds: float) -> tuple[float, float]:
            max_s = waited_s = 0.0
            for _ in range(round(seconds * 10)):
                await asyncio.sleep(0.1)
                publisher.offer(BLOCK)
                # What is let out now is under way.
                await asyncio.sleep(0)
                max_s, waited_s = max(max_s, publisher._uplink.queue.sent_s), max(waited_s, publisher.queued_s)
            return max_s, waited_s

        async def main() -> None:
            nonlocal line
            line = Line(STREAM * before[0], before[1])
            monkeypatch.setattr(kept_connection, "open_connection", line.connect)
            async with publish("made up", "alice") as publisher:
                line.begun_at = asyncio.get_running_loop().time()
                await talk(publisher, before_s)
                assert publisher.dropped_s == 0
                line.rate, line.delay_s = STREAM * rate, delay_s
                await talk(publisher, for_s / 5)
                line.settled_at, line.dropped_before_s = asyncio.get_running_loop().time(), publisher.dropped_s
                line.max_s, line.waited_s = await talk(publisher, 4 * for_s / 5)
                line.dropped_s = publisher.dropped_s

        run_in_made_up_time(monkeypatch, main())
        return line

    return speak


@pytest.mark.parametrize("delay_s", [0.03, 0.3])
@pytest.mark.parametrize("rate", [0.9, 0.5, 0.25])
def test_an_uplink_that_is_too_thin_is_not_taken_for_a_longer_one(speaking, rate, delay_s):
    line = speaking(rate, delay_s, before=(20.0, delay_s), for_s=600.0)
    # A second, the delay, what a ping that went alone had in front of it and with it, and a message more.
    max_s = 1.0 + delay_s + (0.24 + 0.1) / rate + 0.24 + 0.1
    assert line.max_s <= max_s
    assert line.waited_s <= 1.0 + 0.1
    # Its numbers are tenths of a second, dropped ones included.
    ages = [at - (line.begun_at + 0.1 * seq) for at, seq in line.arrived if at > line.settled_at]
    assert max(ages) <= delay_s + 1.0 + 0.1 + (max_s + 0.1) / rate
    assert line.dropped_s == pytest.approx(600.0 * (1 - rate), abs=25.0), "now and then it runs out"
    assert sum(gap.count for gap in line.gaps) * 0.1 == pytest.approx(line.dropped_s)
    assert {gap.reason for gap in line.gaps} == {"uplink"}


@pytest.mark.parametrize(("before_s", "after_s"), [(0.03, 0.7), (0.3, 0.9), (0.03, 1.5), (0.7, 0.03)])
def test_an_uplink_whose_delay_changes_for_good_is_not_held_up_for_good(speaking, before_s, after_s):
    line = speaking(2.0, after_s, before=(2.0, before_s), for_s=120.0)
    assert line.dropped_s == line.dropped_before_s, "once it is known"
    assert line.dropped_s < 10.0
    assert line.waited_s <= 0.2
    assert line.max_s <= 1.0 + after_s + 0.5
