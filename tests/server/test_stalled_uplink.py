"""A live publisher whose uplink stalls: the server gets the newest audio afterwards, and is told which packets it does not get."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest
from patience import TIMEOUT_S
from server_rig import StoppedClock, run, serving, small_limits, until

import streamcodec.client.connection as connection_module
import streamcodec.client.heartbeat as heartbeat
from streamcodec.client import PublishOptions, publish
from streamcodec.server.stream import Stream

BLOCK = np.zeros(2400, np.float32)  # 100 ms


def test_what_a_stalled_uplink_would_make_seconds_late_is_dropped_and_told_although_sockets_would_take_it(monkeypatch):
    # Round trips take no time, and a silent connection is not given up.
    StoppedClock(monkeypatch, connection_module)
    monkeypatch.setattr(heartbeat, "_LOOK_EVERY_S", TIMEOUT_S)
    numbers: list[int] = []
    gaps = []
    feed, publisher_gap = Stream.feed, Stream.publisher_gap

    def noted(stream, packet):
        numbers.append(packet.seq)
        feed(stream, packet)

    def told(stream, gap):
        gaps.append(gap)
        publisher_gap(stream, gap)

    monkeypatch.setattr(Stream, "feed", noted)
    monkeypatch.setattr(Stream, "publisher_gap", told)

    async def main():
        async with serving(limits=small_limits(resume_s=10.0)) as server, contextlib.AsyncExitStack() as stack:
            publisher = await stack.enter_async_context(publish(server.url, "a", PublishOptions(queue_s=0.5)))
            queue, connection = publisher._uplink.queue, publisher._uplink.connection
            await until(lambda: connection.acknowledged is not None)
            for _ in range(5):
                publisher.offer(BLOCK)
            await until(lambda: connection.acknowledged == 5)
            [handler] = server._connections
            handler.peer._ws.transport.pause_reading()
            for _ in range(60):
                publisher.offer(BLOCK)
                await asyncio.sleep(0.001)  # so that it is sent, if it may be
                assert queue.sent_s <= 1.0 + 0.1 + 1e-6, "a second may be in flight, and a block more"
                assert publisher.queued_s <= 0.5 + 1e-6
            await until(lambda: queue.sent_s > 1.0)
            assert publisher.dropped_s == pytest.approx(6.0 - queue.sent_s - publisher.queued_s)
            sent = 5 + round(queue.sent_s / 0.1)
            handler.peer._ws.transport.resume_reading()
            ended = await publisher.end()
            assert (ended.received, ended.dropped) == (len(numbers), 0)
            assert numbers == [*range(sent), *range(60, 65)]
            assert [(gap.first_seq, gap.count, gap.reason) for gap in gaps] == [(sent, 60 - sent, "uplink")]
            assert publisher.dropped_s == pytest.approx(0.1 * (60 - sent))

    run(main())
