"""A step that hangs is noticed, told and given up; its streams go on, and the server ends where no new thread helps."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from patience import TIMEOUT_S, patient_limits
from server_rig import GatedEngine, figures, gated, http_get, run, serving, until

from streamcodec.client import listen, publish
from streamcodec.client.publisher import PublishOptions
from streamcodec.errors import Refused
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart
from streamcodec.server import Server
from streamcodec.server.watchdog import MAX_ABANDONED, Watchdog

TICK_S = 0.04


class Rig:
    """A watchdog of a worker that runs nothing, on a clock that the test winds."""

    def __init__(self, hung_s: float = 5.0) -> None:
        self.now = 1_000.0
        self.stats = SimpleNamespace(steps=0)
        self.running: list[Any] = []
        self.abandoned: list[Any] = []
        self.lost: list[str] = []
        self.watchdog = Watchdog(self, hung_s, self.now, self.lost.append)  # type: ignore[arg-type]

    def begin(self) -> Any:
        self.running.append(SimpleNamespace(batch=[None] * 3))
        return self.running[-1]

    def done(self) -> None:
        self.running.pop(0)
        self.stats.steps += 1

    def replace_dead(self) -> int:
        return 0

    def abandon(self, step: Any) -> bool:
        self.abandoned.append(step)
        self.running.remove(step)
        return True

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK_S)):
            self.now += TICK_S
            self.watchdog.check(self.now)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_steps_that_end_in_time_are_no_matter_however_many_there_are(rig: Rig) -> None:
    for _ in range(100):
        rig.begin()
        rig.wait(4.9)
        rig.done()
    assert rig.watchdog.complaint is None and rig.abandoned == []


def test_a_step_that_hangs_makes_the_server_unwell_and_is_given_up(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    step = rig.begin()
    rig.wait(5.1)
    assert rig.watchdog.complaint == "a step of the engine hangs" and rig.abandoned == []
    assert [(record.levelno, "3 streams hangs" in record.getMessage()) for record in caplog.records] == [(logging.ERROR, True)]
    rig.wait(5.0)
    assert rig.abandoned == [step] and rig.watchdog.abandoned == 1
    assert rig.watchdog.complaint == "no step of the engine has ended since one hung"
    rig.begin()
    rig.wait(0.1)
    rig.done()
    rig.wait(0.1)
    assert rig.watchdog.complaint is None, "a step has ended in time"


def test_a_step_that_comes_back_late_makes_the_server_well_again(rig: Rig) -> None:
    rig.begin()
    rig.wait(9.0)
    rig.done()
    rig.wait(0.1)
    assert rig.watchdog.complaint is None and rig.abandoned == []


def test_a_server_on_which_nothing_runs_any_longer_is_well_again(rig: Rig) -> None:
    rig.begin()
    rig.wait(10.1)
    assert rig.abandoned and rig.watchdog.complaint is not None
    rig.wait(4.8)
    assert rig.watchdog.complaint is not None
    rig.wait(0.4)
    assert rig.watchdog.complaint is None


def test_a_program_that_was_stopped_for_an_hour_has_no_step_that_hangs(rig: Rig) -> None:
    rig.begin()
    rig.wait(1.0)
    rig.now += 3_600
    rig.wait(1.0)
    assert rig.watchdog.complaint is None


def test_the_engine_is_lost_when_step_after_step_hangs(rig: Rig) -> None:
    for _ in range(MAX_ABANDONED):
        rig.begin()
        rig.wait(10.1)
    assert len(rig.abandoned) == MAX_ABANDONED and rig.lost == []
    rig.begin()
    rig.wait(60)
    assert rig.lost == ["4 steps of the engine in a row hang"] and len(rig.abandoned) == MAX_ABANDONED


# A real server --------------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def held(engine: GatedEngine) -> Iterator[None]:
    try:
        yield
    finally:
        engine.open()


async def heard(listener: Any, into: list[Any]) -> None:
    async for event in listener:
        into.append(event)
        if isinstance(event, StreamEnd):
            return


def epochs(events: list[Any]) -> list[int]:
    return sorted({event.epoch for event in events if isinstance(event, Packet)})


@pytest.mark.parametrize("format", ["codes", "pcm_s16le"])
def test_the_stream_of_a_step_that_hangs_goes_on_in_a_new_epoch_and_health_tells_of_it(format: str) -> None:
    codec, engine = gated()
    second = np.zeros(24_000, np.float32)
    events: list[Any] = []

    async def scene() -> None:
        limits = patient_limits(hung_step_s=0.2)
        async with serving(codec, limits=limits) as server, listen(server.url, "x", format=format, model=codec.fingerprint) as listener:  # type: ignore[arg-type]
            hearing = asyncio.create_task(heard(listener, events))
            async with publish(server.url, "x", PublishOptions(sample_rate=24_000, start="exact", pace="fast")) as publisher:
                await publisher.send(second)
                await until(lambda: any(isinstance(event, Packet) for event in events), "nothing is heard")
                assert await http_get(server, "/readyz") == (200, "ok\n")
                engine.encoding.clear()
                await publisher.send(second)
                await until(lambda: server._watchdog.complaint is not None, "nobody notices")
                status, body = await http_get(server, "/healthz")
                assert status == 503 and "engine" in body
                assert (await http_get(server, "/readyz"))[0] == 503
                await until(lambda: server._watchdog.abandoned == 1, "the step is not given up")
                server._watchdog._hung_s = TIMEOUT_S  # from here on a slow machine may take its time
                engine.open()
                await publisher.send(second)
            await hearing
            assert server._watchdog.complaint is None
            assert (await figures(server))["engine_steps_abandoned_total"] == 1

    run(scene(), errors_expected=True)
    assert epochs(events) == [0, 1]
    [gap] = [event for event in events if isinstance(event, Gap)]
    assert gap.reason == "internal" and gap.count > 0
    assert [event.reason for event in events if isinstance(event, StreamStart)][-1] == "internal"
    counted = [event for event in events if isinstance(event, Packet | Gap)]
    numbers = [(event.seq, event.seq + 1) if isinstance(event, Packet) else (event.first_seq, event.next_seq) for event in counted]
    assert all(before[1] == after[0] for before, after in itertools.pairwise(numbers)), "no number is missing"


def test_listeners_of_pcm_are_told_what_a_decoder_that_hangs_did_not_give() -> None:
    codec, engine = gated()
    second = np.zeros(24_000, np.float32)
    events: list[Any] = []

    async def scene() -> None:
        limits = patient_limits(hung_step_s=0.2)
        async with serving(codec, limits=limits) as server, listen(server.url, "x", format="pcm_f32le") as listener:
            hearing = asyncio.create_task(heard(listener, events))
            async with publish(server.url, "x", PublishOptions(sample_rate=24_000, pace="fast")) as publisher:
                engine.decoding.clear()
                await publisher.send(second)
                await until(lambda: server._watchdog.abandoned == 1, "the step is not given up")
                server._watchdog._hung_s = TIMEOUT_S
                engine.open()
                await until(lambda: any(isinstance(event, Gap) for event in events), "nobody is told")
                await publisher.send(second)
            await hearing

    run(scene(), errors_expected=True)
    assert {event.reason for event in events if isinstance(event, Gap)} == {"internal"}
    packets = [event.seq for event in events if isinstance(event, Packet)]
    assert packets and packets[-1] > max(event.next_seq for event in events if isinstance(event, Gap)) - 1
    assert epochs(events) == [0], "the codes are one epoch: only their decoder began anew"


def test_a_server_whose_engine_never_comes_back_says_so_and_stops_without_it() -> None:
    codec, engine = gated()

    async def scene() -> None:
        limits = patient_limits(hung_step_s=0.05, drain_s=0.1)
        with held(engine):
            async with Server(codec, port=0, limits=limits) as server:
                engine.encoding.clear()
                with pytest.raises(Refused, match="server_closing"):
                    await _talk_until_lost(server)
            assert server.engine_hangs

    run(scene(), errors_expected=True)


@pytest.mark.parametrize("where", ["in a step", "between steps"])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_of_the_model_that_dies_has_a_successor_and_the_stream_goes_on(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    codec, engine = gated()
    events: list[Any] = []
    dying = [True]

    class Died(BaseException):
        pass

    def die_once(*args: Any, **options: Any) -> Any:
        if dying:
            dying.clear()
            raise Died
        return inner(*args, **options)

    async def scene() -> None:
        nonlocal inner
        async with serving(codec, limits=patient_limits()) as server, listen(server.url, "x", model=codec.fingerprint) as listener:
            hearing = asyncio.create_task(heard(listener, events))
            async with publish(server.url, "x", PublishOptions(sample_rate=24_000, pace="fast")) as publisher:
                await publisher.send(np.zeros(24_000, np.float32))
                await until(lambda: any(isinstance(event, Packet) for event in events), "nothing is encoded")
                whose, name = (engine, "encode") if where == "in a step" else (server._worker, "_next_batch")
                inner = getattr(whose, name)
                monkeypatch.setattr(whose, name, die_once, raising=False)
                before = len(events)
                while not server._watchdog.replaced:
                    await publisher.send(np.zeros(2_400, np.float32))
                    await asyncio.sleep(0.01)
                await publisher.send(np.zeros(24_000, np.float32))
                ended = await publisher.end()
                assert ended.emitted > 0 and server._watchdog.replaced == 1
            await hearing
            assert any(isinstance(event, Packet) for event in events[before:])
            assert (await http_get(server, "/healthz"))[0] == 200

    inner: Any = None
    run(scene(), errors_expected=True)


async def _talk_until_lost(server: Server) -> None:
    async with publish(server.url, "x", PublishOptions(sample_rate=24_000, pace="live")) as publisher:

        async def talk() -> None:
            while True:
                publisher.offer(np.zeros(2_400, np.float32))
                await asyncio.sleep(0.01)

        talking = asyncio.create_task(talk())
        try:
            assert await server.until_over() == f"{MAX_ABANDONED + 1} steps of the engine in a row hang"
        finally:
            talking.cancel()
        await server.stop()
