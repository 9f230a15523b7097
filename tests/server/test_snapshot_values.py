"""Whatever a snapshot says in any place, it is refused where it is read, or a stream goes on from it to its end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgpack
import numpy as np
import pytest
from changed_values import changed
from counting_engine import CountingEngine
from node_rig import LIMITS, NAME, Listener, Node, feed, nodes, pcm_hello, pcm_messages, publish
from server_rig import until

from streamcodec.config import Start
from streamcodec.errors import SnapshotError
from streamcodec.protocol import Packet, PublishHello, now_us, pack_codes, sample_width
from streamcodec.server.fanout.subscriber import Subscriber, SubscriberOptions
from streamcodec.server.snapshot import StreamSnapshot
from streamcodec.types import Codes, Samples, States

MODEL = "counting"


class FromNothing(CountingEngine):
    """It takes no state as that of a stream which begins, as the engines do that run models."""

    def encode(self, samples: Samples, states: States | None, n_q: Any, final: bool = False) -> tuple[Codes, States]:
        return super().encode(samples, np.zeros((len(samples), 1), np.float32) if states is None else states, n_q, final)

    def decode(self, codes: Codes, states: States | None, final: bool = False) -> tuple[Samples, States]:
        return super().decode(codes, np.zeros((len(codes), 1), np.float32) if states is None else states, final)

    def encoder_start(self, start: Start) -> Any:  # noqa: ARG002
        return None


def messages_of(hello: PublishHello, first_seq: int, epoch: int, count: int) -> list[Packet]:
    """What a publisher sends, 80 ms in each message."""
    if hello.format == "codes":
        payload, n_q = pack_codes(np.ones((8, 6), np.int32), 10), 8
    else:
        assert hello.sample_rate is not None and hello.channels is not None
        payload, n_q = bytes(round(hello.sample_rate * 0.08) * hello.channels * sample_width(hello.format)), 0
    return [Packet(seq, epoch, (80_000 * seq) % 2**32, n_q, payload) for seq in range(first_seq, min(first_seq + count, 2**32))]


async def snapshot_of(node: Node, hello: PublishHello, messages: list[Any]) -> bytes:
    node.registry.subscribe(Listener("pcm_f32le").subscriber)
    stream = publish(node, hello)
    feed(stream, messages)
    value = await stream.snapshot(1.0)
    stream.publisher_end()
    await until(stream.ended.is_set)
    return value.to_bytes(MODEL, node.worker.engine)


async def goes_on(node: Node, snapshot: StreamSnapshot) -> bool:
    """Whether a stream goes on from it: its publisher sends more, somebody listens, it moves again, and it ends."""
    try:
        stream = node.registry.restore(snapshot.on_clock(now_us(), 1.7e9))
    except SnapshotError as exc:
        assert str(exc).isprintable()
        return False
    failed: list[Exception] = []
    stream.attach(node, failed.append, lambda: None)
    for format in ("codes", "pcm_f32le"):
        listener = Listener(format)
        listener.subscriber = Subscriber(SubscriberOptions(snapshot.hello.stream, listener.subscriber.format), LIMITS, clock=lambda: 0.0)
        listener.subscriber.ready = listener._take
        node.registry.subscribe(listener.subscriber)
    for message in messages_of(snapshot.hello, stream.lease.next_seq, snapshot.lease_epoch, 3):
        stream.feed(message)
    again = await stream.snapshot(1.0)
    StreamSnapshot.from_bytes(again.to_bytes(MODEL, node.worker.engine), MODEL, node.worker.engine)
    stream.publisher_end()
    await until(stream.ended.is_set)
    assert not failed, failed
    return True


@pytest.mark.parametrize(
    "hello",
    [
        PublishHello(stream=NAME, format="codes", model=MODEL, bandwidth=6.0),
        pcm_hello(rate=24_000, channels=1, silence_db=None),
        pcm_hello(rate=8_000, channels=2),
    ],
    ids=["codes", "PCM", "PCM of another rate"],
)
def test_what_is_read_is_a_stream_that_goes_on(hello: PublishHello, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with nodes(1, FromNothing()) as [node]:
            messages = messages_of(hello, 0, 0, 5) if hello.format == "codes" else pcm_messages(hello, 0.3)
            plain = msgpack.unpackb(await snapshot_of(node, hello, messages))
            read = gone_on = 0
            for value in changed(plain):
                try:
                    found = StreamSnapshot.from_bytes(msgpack.packb(value), MODEL, node.worker.engine)
                except SnapshotError:
                    continue
                read += 1
                gone_on += await goes_on(node, found)
            assert read > 30 and gone_on > 20

    asyncio.run(main())
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
