"""A live stream as bytes: small, whole again at the other end, and refused with a reason where they are damaged or do not fit."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_models import stereo_model
from node_rig import NAME, Listener, codes_hello, codes_messages, ended, feed, nodes, over_the_wire, pcm_hello, pcm_messages, publish
from patience import pass_time, run_patiently
from server_rig import GatedEngine, offline_codec, run, until

import streamcodec
from streamcodec.errors import EngineHungError, RemoteProtocolError, SnapshotError, StreamCodecError, UnsupportedModelError, WireCode
from streamcodec.protocol import Gap, Packet, Resume
from streamcodec.protocol.values import MAX_VALUE_BYTES, pack_value, unpack_value
from streamcodec.server.ingest.pcm import PcmState
from streamcodec.server.snapshot import StreamSnapshot


def taken(hello: Any, messages: list[Any], *, decoded: bool = True) -> StreamSnapshot:
    """A snapshot of a stream of these messages, with a second of decoded packets."""
    found: list[StreamSnapshot] = []

    async def main() -> None:
        async with nodes(1) as [node]:
            if decoded:
                node.registry.subscribe(Listener("pcm_f32le").subscriber)
            stream = publish(node, hello)
            feed(stream, messages)
            found.append(await stream.snapshot(1.0))

    run_patiently(main())
    return found[0]


@pytest.fixture(scope="module")
def snapshot() -> StreamSnapshot:
    hello = pcm_hello(rate=16_000, channels=1)
    return taken(hello, pcm_messages(hello, 1.3, lost=3))


def to_bytes(snapshot: StreamSnapshot) -> bytes:
    return snapshot.to_bytes(offline_codec().fingerprint, offline_codec().engine)


def from_bytes(data: bytes) -> StreamSnapshot:
    return StreamSnapshot.from_bytes(data, offline_codec().fingerprint, offline_codec().engine)


def test_bytes_are_the_snapshot_again(snapshot: StreamSnapshot) -> None:
    again = from_bytes(to_bytes(snapshot))
    assert to_bytes(again) == to_bytes(snapshot)
    assert again.hello == snapshot.hello and again.fan_out.history == snapshot.fan_out.history
    assert again.fan_out.decoder is not None and again.fan_out.pcm


def test_a_snapshot_has_no_token_and_shows_no_secret(snapshot: StreamSnapshot) -> None:
    assert snapshot.hello.token is None and b"not told" not in to_bytes(snapshot)
    assert snapshot.secret.encode() in to_bytes(snapshot) and snapshot.secret not in repr(snapshot)


@pytest.mark.parametrize("decoded", [False, True])
def test_ten_seconds_of_history_take_a_few_tens_of_kilobytes_beside_the_model_s_states(decoded: bool) -> None:
    hello = pcm_hello(silence_db=None)
    value = replace(taken(hello, pcm_messages(hello, 10.5), decoded=decoded))
    traits = offline_codec().engine.traits
    states = 4 * (traits.encoder_state_size + (traits.decoder_state_size if decoded else 0))
    pcm = sum(item.samples.nbytes for item in value.fan_out.pcm if not isinstance(item, Gap))
    assert len(value.fan_out.history) >= 120 and (pcm > 90_000) is decoded
    assert len(to_bytes(value)) - states - pcm < 50_000


@settings(max_examples=300)
@given(data=st.data())
def test_damaged_bytes_are_refused_with_a_reason_or_are_a_snapshot_that_fits(snapshot: StreamSnapshot, data: st.DataObject) -> None:
    whole = bytearray(to_bytes(snapshot))
    # Most of the bytes are samples: what says what they are is at the beginning, or at the end.
    places = st.one_of(st.integers(0, 400), st.integers(len(whole) - 300, len(whole) - 1), st.integers(0, len(whole) - 1))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(places)] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    try:
        from_bytes(bytes(whole[:cut]))
    except SnapshotError as exc:
        assert str(exc) and str(exc).isprintable() and len(str(exc)) < 500


def changed(snapshot: StreamSnapshot, **changes: Any) -> StreamSnapshot:
    return from_bytes(to_bytes(replace(snapshot, **changes)))


def test_what_contradicts_itself_is_refused(snapshot: StreamSnapshot) -> None:
    fan_out, source = snapshot.fan_out, snapshot.source
    assert isinstance(source, PcmState) and fan_out.decoder is not None
    states = [
        ({"next_seq": snapshot.next_seq + 1}, "numbers go up to"),
        ({"epoch": 7}, "of epoch"),
        ({"secret": ""}, "secret is of type str"),
        ({"taken_s": float("nan")}, "expected times"),
        ({"hello": codes_hello()}, "not that of format"),
        ({"hello": replace(snapshot.hello, bandwidth=7.0)}, "does not fit"),
        ({"hello": replace(snapshot.hello, bandwidth=3.0)}, "codes have shape"),
        ({"fan_out": replace(fan_out, first_seq=snapshot.next_seq + 1)}, "begins with number"),
        ({"fan_out": replace(fan_out, history=fan_out.history[::-1])}, "follows on"),
        ({"fan_out": replace(fan_out, history=(*fan_out.history, replace(fan_out.history[-1], payload=b"x")))}, "does not fit"),
        ({"fan_out": replace(fan_out, decoder=None)}, "have no decoder"),
        ({"fan_out": replace(fan_out, decoder=replace(fan_out.decoder, next_seq=0))}, "the decoder's next number"),
        ({"fan_out": replace(fan_out, decoder=replace(fan_out.decoder, samples=np.zeros(9_999, np.float32)))}, "decoded samples"),
        ({"fan_out": replace(fan_out, decoder=replace(fan_out.decoder, row=replace(fan_out.decoder.row, state=None)))}, None),
        ({"source": replace(source, row=replace(source.row, state=np.zeros(3, np.float32)))}, "encoder's state has shape"),
        ({"source": replace(source, row=replace(source.row, pending=np.zeros(9_999, np.float32)))}, "encoder's samples have shape"),
        ({"source": replace(source, row=replace(source.row, codes=np.full((8, 3), 1024, np.int32)))}, "codes go from"),
        ({"source": replace(source, timeline=replace(source.timeline, anchors=()))}, "0 timestamps"),
        ({"source": replace(source, timeline=replace(source.timeline, out_s=1e9))}, "expected 0 or more"),
        ({"source": replace(source, fed=replace(source.fed, lost_s=-1.0))}, "expected 0 or more"),
    ]
    for changes, reason in states:
        if reason is None:
            changed(snapshot, **changes)
        else:
            with pytest.raises(SnapshotError, match=reason):
                changed(snapshot, **changes)


def test_a_snapshot_of_another_version_model_or_layout_is_refused(snapshot: StreamSnapshot) -> None:
    engine = offline_codec().engine
    with pytest.raises(SnapshotError, match="is of the model 'other'"):
        from_bytes(snapshot.to_bytes("other", engine))
    plain = msgpack.unpackb(to_bytes(snapshot))
    for at, value, reason in [(1, 3, "version 3, expected 2"), (3, "layers 1+1", "laid out as 'layers 1")]:
        with pytest.raises(SnapshotError, match=reason):
            from_bytes(msgpack.packb([*plain[:at], value, *plain[at + 1 :]]))


def test_what_is_too_long_is_not_even_read(snapshot: StreamSnapshot) -> None:
    with pytest.raises(SnapshotError, match=f"expected at most {MAX_VALUE_BYTES}"):
        from_bytes(bytes(MAX_VALUE_BYTES + 1))
    with pytest.raises(SnapshotError, match="expected at most"):
        to_bytes(replace(snapshot, fan_out=replace(snapshot.fan_out, history=snapshot.fan_out.history * 10_000)))
    for bad in (b"", b"\xc1", msgpack.packb({"a": 1}), msgpack.packb(list(range(100_000))), b"\x91" * 5_000, msgpack.packb(3)):
        with pytest.raises(SnapshotError):
            unpack_value(StreamSnapshot, bad)
    assert unpack_value(Gap, pack_value(Gap(first_seq=1, count=2))) == Gap(first_seq=1, count=2)


def test_timestamps_are_those_of_the_clock_of_the_server_that_goes_on(snapshot: StreamSnapshot) -> None:
    """The other server's clock says 2 s less at a time of day that is 3 s later: it is 5 s behind."""
    later = snapshot.on_clock(snapshot.taken_us - 2_000_000, snapshot.taken_s + 3.0)
    for ours, theirs in [(later.fan_out.history, snapshot.fan_out.history), (later.fan_out.pcm, snapshot.fan_out.pcm)]:
        for moved, stayed in zip(ours, theirs, strict=True):
            if not isinstance(moved, Gap) and not isinstance(stayed, Gap):
                assert (stayed.timestamp - moved.timestamp) % 2**32 == 5_000_000
    assert isinstance(later.source, PcmState) and isinstance(snapshot.source, PcmState)
    for (position, moved_us), (_, us) in zip(later.source.timeline.anchors, snapshot.source.timeline.anchors, strict=True):
        assert (us - moved_us) % 2**32 == 5_000_000 and position >= 0
    assert snapshot.on_clock(snapshot.taken_us + 1_000_400, snapshot.taken_s + 1.0) is snapshot


# What cannot be, and what goes wrong ----------------------------------------------------------------------------------------------------


def test_a_stream_of_a_model_in_chunks_stays_where_it_is() -> None:
    async def main() -> None:
        codec = streamcodec.load(stereo_model())
        async with nodes(1, codec.engine) as [node]:
            stream = publish(node, pcm_hello(bandwidth=None, silence_db=None))
            for moving in (stream.snapshot, stream.give):
                with pytest.raises(UnsupportedModelError, match="codes chunks"):
                    await moving()
            assert stream.lease.holder is node

    run_patiently(main())


def test_a_stream_that_ends_is_not_given() -> None:
    async def main() -> None:
        async with nodes(1) as [node]:
            stream = publish(node, codes_hello())
            stream.publisher_end()
            with pytest.raises(StreamCodecError, match="the publisher ended it"):
                await stream.snapshot()
            with pytest.raises(StreamCodecError, match="the publisher ended it"):
                await stream.give()
            await until(stream.ended.is_set)
            assert stream.may_resume(stream.lease.secret), "it may ask again how its stream ended"

    run_patiently(main())


def test_whoever_publishes_resumes_at_the_other_server_and_not_at_the_old_one() -> None:
    async def main() -> None:
        messages = codes_messages(10)
        async with nodes(2) as [there, here]:
            evicted: list[int] = []
            stream = publish(there, codes_hello())
            stream.attach(stream, lambda exc: None, lambda: evicted.append(1))  # noqa: ARG005
            feed(stream, messages[:6])
            again = here.registry.restore(over_the_wire(await stream.give()))
            assert evicted == [1]
            hello = replace(codes_hello(), resume=Resume(session=stream.lease.secret, epoch=0, next_seq=10))
            with pytest.raises(RemoteProtocolError) as refused:
                there.registry.publish(hello)
            assert refused.value.code is WireCode.UNKNOWN_SESSION
            assert here.registry.publish(hello) is again
            with pytest.raises(RemoteProtocolError, match="has a publisher already"):
                here.registry.restore(await again.snapshot())
            again.attach(here, lambda exc: None, lambda: None)  # noqa: ARG005
            assert (again.lease.next_seq, again.totals.received) == (6, 6)
            feed(again, messages)
            await ended(again)
            assert [packet.seq for packet in [*there.events, *here.events] if isinstance(packet, Packet)] == list(range(10))

    run_patiently(main())


def test_a_stream_whose_publisher_does_not_come_ends() -> None:
    async def main() -> None:
        async with nodes(2) as [there, here]:
            stream = publish(there, codes_hello())
            again = here.registry.restore(over_the_wire(await stream.give()))
            assert again.lease.waiting
            await pass_time(31.0)
            await until(again.ended.is_set)
            assert again.end_reason == "the publisher vanished" and NAME not in here.registry.streams

    run_patiently(main())


def test_giving_that_is_cancelled_leaves_the_stream_to_its_publisher() -> None:
    async def main() -> None:
        engine = GatedEngine(offline_codec())
        hello = pcm_hello()
        messages = pcm_messages(hello, 1.5)
        async with nodes(1, engine) as [node]:
            stream = publish(node, hello)
            engine.encoding.clear()
            feed(stream, messages)
            giving = asyncio.create_task(stream.give())
            await until(engine.held.is_set)
            giving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await giving
            assert stream.lease.waiting and stream.may_resume(stream.lease.secret)
            engine.open()
            stream.attach(node, lambda exc: None, lambda: None)  # noqa: ARG005
            await ended(stream)
            assert stream.totals.received == len(messages) and stream.totals.dropped == 0

    run(main())


def test_where_the_engine_hangs_a_snapshot_fails_and_a_stream_is_given_in_its_new_epoch() -> None:
    async def main() -> None:
        engine = GatedEngine(offline_codec())
        hello = pcm_hello()
        async with nodes(1, engine) as [node]:
            stream = publish(node, hello)
            engine.encoding.clear()
            feed(stream, pcm_messages(hello, 1.5))
            snapshot, giving = asyncio.create_task(stream.snapshot()), asyncio.create_task(stream.give())
            await until(engine.held.is_set)
            [step] = node.worker.running
            assert node.worker.abandon(step)
            with pytest.raises(EngineHungError):
                await snapshot
            engine.open()
            value = await giving
            assert (value.epoch, value.fan_out.first_seq) == (1, value.next_seq)
            assert isinstance(value.source, PcmState) and value.source.timeline.fed_s == 0.0

    run_patiently(main())


def test_where_the_stream_breaks_nobody_waits_for_its_snapshot() -> None:
    async def main() -> None:
        hello = replace(pcm_hello(), format="pcm_f32le")
        async with nodes(1) as [node]:
            stream = publish(node, hello)
            stream.feed(Packet(0, 0, 0, 0, np.full(2, np.nan, "<f4").tobytes()))
            with pytest.raises(StreamCodecError, match="holds nan"):
                await stream.give()
            await until(stream.ended.is_set)

    run_patiently(main())
