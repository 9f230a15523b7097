"""A server that is stopped and started again while clients publish and listen: they come back, and every packet is heard or named lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from made_up_models import small_model
from patience import PATIENT, TIMEOUT_S
from server_rig import offline_codec, run, same_codes, until, voice

import streamcodec
from streamcodec.client import Destination, keep_trying, listen, publish, publish_source
from streamcodec.client.publisher import PublishOptions
from streamcodec.protocol import Ended, Gap, Packet, StreamEnd, StreamStart, now_us, unpack_codes

RATE, BLOCK, PACKET = 24_000, 960, 1920
LOST_PACKETS = 5
LOST_AT = 93_120  # a whole number of packets behind the sample at which the second stream begins


class Talk:
    """A source that stops in its middle until `go_on` is set, and may then lose `lost_s` before it goes on, as a busy device does.

    `given` says up to which sample each attempt got. It gives nothing to an attempt before `heard` is set: somebody is to hear all of it.
    """

    label, sample_rate, channels = "made up", RATE, 1

    def __init__(self, x: Any, lost_s: float) -> None:
        self.dropped_s = 0.0
        self.given: list[int] = []
        self.paused, self.go_on, self.heard = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._x = x
        self._lost_s = lost_s
        self._at = 0
        self._began = now_us()

    @property
    def exhausted(self) -> bool:
        return self._at >= len(self._x)

    async def blocks(self) -> AsyncIterator[tuple[Any, int]]:
        self.given.append(self._at)
        await self.heard.wait()
        while not self.exhausted:
            if self._at >= len(self._x) / 2 and not self.go_on.is_set():
                self.paused.set()
                await self.go_on.wait()
            if self._at == LOST_AT:
                self.dropped_s = self._lost_s
            block, at = self._x[self._at : self._at + BLOCK], self._at
            self._at += len(block)
            self.given[-1] = self._at
            yield block[None], self._began + round((at / RATE + self.dropped_s) * 1e6)

    def close(self) -> None:
        pass


class Call:
    """A publisher and a listener of one stream, which connect again as `mic` and `play` do, and what each noted in each attempt."""

    def __init__(self, url: str, name: str, kind: str, lost_packets: int) -> None:
        self.x = voice(len(name), 64 * PACKET / RATE)
        self.source = Talk(self.x, lost_packets * PACKET / RATE)
        self.codec = streamcodec.load(small_model()) if kind == "codes" else None
        self.heard: list[list[Any]] = []
        self.ended: list[Ended] = []
        self.told_to_leave = asyncio.Event()
        self._url, self._name = url, name
        self._options = PublishOptions(
            format="codes" if self.codec else "pcm_s16le",
            model=offline_codec().fingerprint if self.codec else None,
            bandwidth=6.0,
            pace="fast",
        )

    async def run(self) -> None:
        to, whence = Destination(self._url), Destination(self._url)
        hearing = asyncio.create_task(keep_trying(self._hear, destination=whence))
        await keep_trying(self._say, destination=to)
        await hearing

    async def _say(self) -> None:
        async with publish(self._url, self._name, self._options) as publisher:
            leaving = asyncio.create_task(self._watch(publisher))
            try:
                self.ended.append(await publish_source(self.source, publisher, codec=self.codec, on_interrupt=self.ended.append))
            finally:
                leaving.cancel()

    async def _watch(self, publisher: Any) -> None:
        await until(lambda: publisher.closing is not None)
        self.told_to_leave.set()

    async def _hear(self) -> None:
        self.source.heard.clear()
        async with listen(self._url, self._name, model=offline_codec().fingerprint) as listener:
            self.source.heard.set()
            self.heard.append([])
            async for event in listener:
                self.heard[-1].append(event)
                if isinstance(event, StreamEnd) and self.source.exhausted:
                    return


@contextlib.asynccontextmanager
async def a_process(settings: Path, port: int) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`streamcodec serve` once it takes connections, and its address."""
    words = (sys.executable, "-m", "streamcodec.cli", "serve", "--config", str(settings), "--port", str(port))
    process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        told = (await process.stdout.readline()).decode()
        assert " at ws://" in told, told
        yield process, told.partition(" at ")[2].partition(": ")[0]
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def contiguous(events: list[Any]) -> tuple[list[Packet], list[Gap]]:
    """A stream's packets and gaps; together they are all of its numbers, from 0 to its end, in order."""
    at, packets, gaps = 0, [], []
    for event in events:
        if isinstance(event, Packet):
            assert event.seq == at
            packets.append(event)
            at += 1
        elif isinstance(event, Gap):
            assert event.first_seq == at
            gaps.append(event)
            at = event.next_seq
        elif isinstance(event, StreamEnd):
            assert event.next_seq == at
    return packets, gaps


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_restart_under_load_loses_nothing(tmp_path: Path) -> None:
    settings = tmp_path / "server.toml"
    served = {"model": str(small_model()), "page": False, "drain_seconds": TIMEOUT_S, "limits": {**PATIENT, "capacity": "off"}}
    settings.write_text(tomli_w.dumps(served), encoding="utf-8")
    kinds = [(kind, lost) for kind in ("pcm", "codes") for lost in (0, LOST_PACKETS)]

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            first, url = await stack.enter_async_context(a_process(settings, 0))
            calls = [Call(url, f"{kind}-{lost}", kind, lost) for kind, lost in kinds]
            running = asyncio.gather(*(call.run() for call in calls))
            await asyncio.gather(*(call.source.paused.wait() for call in calls))
            first.send_signal(signal.SIGTERM)
            await asyncio.gather(*(call.told_to_leave.wait() for call in calls))
            for call in calls:
                call.source.go_on.set()
            assert await first.wait() == 0
            await stack.enter_async_context(a_process(settings, int(url.rpartition(":")[2])))
            await running
        for (kind, lost), call in zip(kinds, calls, strict=True):
            assert len(call.ended) == len(call.source.given) == 2, "each published twice: before and behind the restart"
            streams = [events for events in call.heard if any(isinstance(event, StreamStart) for event in events)]
            # Who listens to a server that drains is told to come back, and not that the stream is over.
            assert [isinstance(events[-1], StreamEnd) for events in streams] == [False, True]
            at, gaps = 0, []
            for events, ended, upto in zip(streams, call.ended, call.source.given, strict=True):
                packets, named = contiguous(events)
                assert (len(packets), ended.dropped) == (ended.emitted, 0)
                if not lost:
                    codes = np.concatenate([unpack_codes(p.payload, p.n_q, 10) for p in packets], axis=1)
                    same_codes(offline_codec(), codes, call.x[at:upto], 6.0, "primed")
                at, gaps = upto, gaps + named
            assert at == len(call.x), "what the source kept while there was no server is published"
            assert [gap.count for gap in gaps] == [lost] * bool(lost), kind

    run(main())
