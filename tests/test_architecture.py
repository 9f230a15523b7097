"""ARCHITECTURE.md's walks: one packet goes through the files that the page names, in that order, and never back."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from fake_sound import FakeSound
from live_rig import run, until
from made_up_models import small_model
from patience import TIMEOUT_S, patient_limits

import streamcodec
from streamcodec.client import DeviceSink, Player, PublishOptions, connection, heartbeat, listen, play, publish
from streamcodec.codec import Codec
from streamcodec.server import Server
from streamcodec.server.ports import public

PACKAGE = Path(streamcodec.__file__).parent
PAGE = (PACKAGE / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
Step = tuple[str, str]
PACKET = np.full(1920, 0.1, np.float32)


def halves() -> list[list[Step]]:
    """The page's lists, each as (file, function) in order."""
    section = PAGE.split("## The walk of one packet")[1].split("## ")[0]
    return [re.findall(r"^(\S+\.py) +(\S+)", block, re.M) for block in section.split("```")[1::2]]


def test_a_walk_has_two_halves_and_no_half_comes_back_to_a_file() -> None:
    assert [len(half) for half in halves()] == [16, 17, 13, 8]
    for half in halves():
        files = [file for file, _ in half]
        assert len(set(files)) == len(files)
        assert all((PACKAGE / file).is_file() for file in files)


@pytest.fixture(autouse=True)
def _no_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else goes the packet's way."""
    monkeypatch.setattr(connection, "_PINGS_AT_START", 0)
    monkeypatch.setattr(connection, "_PING_EVERY_S", TIMEOUT_S)
    monkeypatch.setattr(heartbeat, "_LOOK_EVERY_S", TIMEOUT_S)
    monkeypatch.setattr(public, "PING_EVERY_S", TIMEOUT_S)


def own_codec() -> Codec:
    """A codec that no other test has used: what an engine has compiled already goes another way."""
    return streamcodec.load(small_model())


def a_server() -> Server:
    return Server(own_codec(), port=0, limits=patient_limits())


class Recorder:
    """Which of `steps` were entered since the first one was, each once, in order; threads that start later are watched too."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps
        self.entered: list[Step] = []
        self.on = False

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not self.on:
            return
        code = frame.f_code
        file = code.co_filename.removeprefix(f"{PACKAGE}/")
        step = file, code.co_qualname
        if step in self.steps and step not in self.entered and (self.entered or step == self.steps[0]):
            self.entered.append(step)

    async def follow(self, publish_one: Callable[[], Awaitable[None]]) -> None:
        """Record from the next packet on, until it has gone all the way."""
        self.on = True
        await publish_one()
        await until(lambda: len(self.entered) == len(self.steps), f"never entered: {set(self.steps) - set(self.entered)}")
        self.on = False


@contextmanager
def recording(steps: list[Step]) -> Iterator[Recorder]:
    recorder = Recorder(steps)
    threading.setprofile(recorder)
    sys.setprofile(recorder)
    try:
        yield recorder
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


def test_a_packet_goes_from_its_publisher_to_the_model_and_on_to_a_listener_as_the_page_says() -> None:
    steps = halves()[0] + halves()[1]

    async def main() -> None:
        async with (
            a_server() as server,
            listen(server.url, "a", model=server.codec.fingerprint) as listener,
            publish(server.url, "a", PublishOptions(pace="fast")) as publisher,
        ):
            await publisher.send(np.tile(PACKET, 2))
            while listener.packets < 2:
                await anext(listener)
            await until(lambda: all(one.in_flight.report is not None for one in server.registry.listeners["a"]))
            await recorder.follow(lambda: publisher.send(PACKET))

    with recording(steps) as recorder:
        run(main())
    assert recorder.entered == steps


def test_a_packet_goes_from_a_listeners_socket_to_the_sound_device_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, sound = halves()[2] + halves()[3], FakeSound(24_000.0)
    played: list[int] = []
    monkeypatch.setitem(sys.modules, "sounddevice", sound)

    async def main() -> None:
        codec = own_codec()
        async with a_server() as server, listen(server.url, "a", model=codec.fingerprint) as listener:
            sink = DeviceSink(None, 24_000)
            playing = asyncio.ensure_future(play(listener, Player(codec), sink, on_packet=lambda times, _: played.append(times.seq)))
            async with publish(server.url, "a", PublishOptions(pace="fast")) as publisher:
                await publisher.send(np.tile(PACKET, 2))
                await until(lambda: played == [0, 1])
                sound.streams[0].play(240)

                async def one() -> None:
                    await publisher.send(PACKET)
                    await until(lambda: ("audio/playout/drift.py", "DriftResampler.feed") in recorder.entered)
                    sound.streams[0].play(240)

                await recorder.follow(one)
            await until(lambda: playing.done() or sound.streams[0].play(2400) is None)
            await playing

    with recording(steps) as recorder:
        run(main())
    assert recorder.entered == steps
