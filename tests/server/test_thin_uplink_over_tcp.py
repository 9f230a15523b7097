"""A live publisher on a real link of half its stream: the server gets what is seconds old at most, and is told what it does not get."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
from server_rig import run, serving, small_limits

import streamcodec.client.connection as connection_module
from benchmarks.link import Conditions, Direction, Link
from streamcodec.client import publish
from streamcodec.protocol import now_us
from streamcodec.server.stream import Stream

THIN_S = 6.0


def test_an_uplink_at_half_the_streams_rate_is_no_more_than_seconds_late_and_the_rest_is_told_as_lost(monkeypatch):
    # As many as minutes would bring: all of them would soon say that the link had become long.
    monkeypatch.setattr(connection_module, "_PING_EVERY_S", 0.05)
    ages: list[float] = []
    gaps = []
    feed, publisher_gap = Stream.feed, Stream.publisher_gap

    def noted(stream, packet):
        ages.append((now_us() - begun) / 1e6 - 0.1 * packet.seq)
        feed(stream, packet)

    def told(stream, gap):
        gaps.append(gap)
        publisher_gap(stream, gap)

    monkeypatch.setattr(Stream, "feed", noted)
    monkeypatch.setattr(Stream, "publisher_gap", told)

    async def main():
        nonlocal begun
        up = Direction(delay_s=0.02, rates=((0.0, 24_300.0),))
        async with serving(limits=small_limits(resume_s=10.0)) as server, contextlib.AsyncExitStack() as stack:
            link = await stack.enter_async_context(Link(server.port, Conditions(up=up)))
            publisher = await stack.enter_async_context(publish(link.url, "a"))
            begun, max_s = now_us(), 0.0
            for index in range(round((1.0 + THIN_S) * 10)):
                await asyncio.sleep(max(0.0, (begun - now_us()) / 1e6 + 0.1 * (index + 1)))
                publisher.offer(np.zeros(2400, np.float32))
                max_s = max(max_s, publisher._uplink.queue.sent_s)
                if index == 10:
                    link.begin()
            assert max_s <= 1.0 + 0.02 + 0.34 / 0.5 + 0.24 + 0.2
            assert max(ages) <= 1.2 + (max_s + 0.2) / 0.5
            assert 0.15 * THIN_S <= publisher.dropped_s <= 0.5 * THIN_S
            await publisher.end()
            assert sum(gap.count for gap in gaps) == round(publisher.dropped_s / 0.1)
            assert {gap.reason for gap in gaps} == {"uplink"}

    begun = 0
    run(main())
