"""What is fuzzed of the bus: all that a node reads of what other nodes, or whoever has come onto the bus, have written there."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from counting_engine import CountingEngine

from streamcodec.audio.dsp.vad import QuietPackets
from streamcodec.errors import SnapshotError
from streamcodec.protocol import Gap, Packet, PayloadLayout, PublishHello, StreamEnd, StreamStart, pack_codes
from streamcodec.scheduler.rows import DecoderRowState, EncoderRowState
from streamcodec.server.cluster.follower import Follower
from streamcodec.server.cluster.membership import Membership, Placement
from streamcodec.server.cluster.questions import Moved, NodeAnswer, NodeQuestion, StreamState, Told, read_live
from streamcodec.server.cluster.records import Claim, NodeRecord, RecordError
from streamcodec.server.cluster.subjects import Subjects, escaped, unescaped
from streamcodec.server.fanout.decode import DecodedPacket, SharedDecoderState
from streamcodec.server.fanout.fan_out import FanOutState
from streamcodec.server.info import Numbering, StreamInfo
from streamcodec.server.ingest.frontend import FrontendState, PcmFrontend
from streamcodec.server.ingest.pcm import PcmFed, PcmState
from streamcodec.server.ingest.relay import CodesState
from streamcodec.server.ingest.timeline import TimelineState
from streamcodec.server.snapshot import StreamSnapshot

__all__ = ["BUS_TARGETS", "bus_seeds", "framed"]

_ENGINE = CountingEngine()
_MODEL = "f" * 32
_LAYOUT = PayloadLayout.of(_ENGINE.config)
_HELLO = PublishHello(stream="a", format="codes", model=_MODEL, bandwidth=6.0)
_INFO = StreamInfo.of(_HELLO, _ENGINE)
_CLAIM = Claim(name="a.b", node="n-1", address="wss://one.example", session="s_1", secret_hash=bytes(32), since=1e9)
_NODE = NodeRecord(
    node="n-1",
    address="wss://one.example",
    publishers=2,
    listeners=3,
    room=4,
    listener_room=None,
    load=0.5,
    draining=False,
    fingerprint=_MODEL,
    version="1.0",
)


def claim(data: bytes) -> None:
    """A claim, of the store of names or as a stream begins: it is written as it was read, and its words are parts of subjects."""
    try:
        found = Claim.parse(data)
    except RecordError as error:
        _one_line(error)
        return
    assert Claim.parse(found.pack()) == found
    subjects = Subjects()
    assert unescaped(escaped(found.name)) == found.name
    _one_token(subjects.live(found.session), subjects.node(found.node), subjects.began(found.name))
    found.is_publishers("a secret")


def node_record(data: bytes) -> None:
    """A node's entry, and what this node makes of it: where it sends clients."""
    try:
        found = NodeRecord.parse(data)
    except RecordError as error:
        _one_line(error)
        return
    assert NodeRecord.parse(found.pack()) == found
    nodes = Membership()
    nodes.heard(_NODE.node, _NODE, 0.0)
    nodes.heard(found.node, found, 0.0)
    placement = Placement(nodes, "own", random.Random(1))
    for _ in range(3):
        placement.place("publish", found.fingerprint, 1.0)
        placement.place("listen", found.fingerprint, 1.0)
    assert len(placement.alternates(found.fingerprint, 1.0)) <= 2


def node_question(data: bytes) -> None:
    """A question."""
    try:
        found = NodeQuestion.parse(data)
    except RecordError as error:
        _one_line(error)
        return
    assert NodeQuestion.parse(found.pack()) == found
    _one_token(Subjects().node(found.node), *([Subjects().live(found.session)] if found.session else []))
    found.secret.encode()


def node_answer(data: bytes) -> None:
    """An answer, and what a stream's listeners hear of it."""
    try:
        found = NodeAnswer.parse(data)
    except RecordError as error:
        _one_line(error)
        return
    assert NodeAnswer.parse(found.pack()) == found
    if found.kind == "moved":
        _one_token(Subjects().node(found.node))
    stream = _Heard(0, 0)
    stream.follower.look()
    stream.follower.answered(found.messages)
    for _, next_seq in found.reached:
        stream.follower.reached(next_seq)
        stream.follower.answered(None)
    stream.check()


def live_messages(data: bytes) -> None:
    """Messages of a stream's subject one after another, each behind its length in two bytes: each number is heard once, whatever comes."""
    stream = _Heard(0, 0)
    for one in unframed(data):
        try:
            found = read_live(one)
        except RecordError as error:
            _one_line(error)
            continue
        assert read_live(found.serialize()) == found
        if isinstance(found, Moved):
            _one_token(Subjects().node(found.node))
            stream.follower.look()
        else:
            stream.follower.take(found)
        if stream.asked and len(one) % 2:  # now and then nobody answers
            stream.asked.clear()
            stream.follower.answered(None)
    stream.check()


def snapshot(data: bytes) -> None:
    """A stream as a value: what fits is the same after it is written again, and on another server's clock."""
    try:
        found = StreamSnapshot.from_bytes(data, _MODEL, _ENGINE)
    except SnapshotError as error:
        _one_line(error)
        return
    again = found.to_bytes(_MODEL, _ENGINE)
    assert StreamSnapshot.from_bytes(again, _MODEL, _ENGINE).to_bytes(_MODEL, _ENGINE) == again
    moved = found.on_clock(2**40, 1.7e9)
    StreamSnapshot.from_bytes(moved.to_bytes(_MODEL, _ENGINE), _MODEL, _ENGINE)
    _one_token(Subjects().live(found.session))


BUS_TARGETS: dict[str, Callable[[bytes], None]] = {
    "claim": claim,
    "node_record": node_record,
    "node_question": node_question,
    "node_answer": node_answer,
    "live_messages": live_messages,
    "snapshot": snapshot,
}


class _Heard:
    """What listeners are told of a stream that is followed."""

    def __init__(self, epoch: int, next_seq: int) -> None:
        self.asked: list[int] = []
        self._numbering = Numbering(epoch, next_seq)
        self._next_seq = next_seq
        self._lost = self._gone = 0
        self.follower = Follower(self, self._numbering, self._frames_of, ask=self.asked.append, lost=self._lose, ended=self._end)

    recorded = False
    over = False

    def packet(self, packet: Packet, frames: int) -> None:
        assert (packet.seq, packet.epoch) == (self._next_seq, self._numbering.epoch) and frames and not self.over
        self._next_seq = packet.seq + 1

    def gap(self, gap: Gap) -> None:
        assert gap.first_seq == self._next_seq and gap.count > 0 and not self.over
        self._next_seq = gap.next_seq
        self._gone += gap.count if gap.reason == "link" else 0

    def epoch(self, reason: str) -> None:
        assert reason.isprintable() or reason

    def expect_burst(self) -> None:
        pass

    def moved(self) -> None:
        pass

    def end(self, message: StreamEnd, finished: Callable[[], None]) -> None:  # noqa: ARG002
        raise AssertionError("a follower tells that a stream has ended by `ended`")

    def check(self) -> None:
        """Each number was told, and what was lost is in gaps."""
        assert self._numbering.next_seq == self._next_seq and self._lost <= self._gone

    def _frames_of(self, packet: Packet) -> int | None:
        try:
            return _LAYOUT.frames(packet.payload, packet.n_q)
        except ValueError:
            return None

    def _lose(self, packets: int) -> None:
        self._lost += packets

    def _end(self, message: StreamEnd) -> None:
        assert message.next_seq == self._next_seq
        self.over = True


def _one_token(*subjects: str) -> None:
    """Each subject has the parts that this program gave it, and nothing with a meaning for NATS."""
    for subject in subjects:
        assert len(subject.split(".")) == 4 and not set(subject) & set("*> \t\r\n") and subject.isprintable(), subject


def _one_line(error: Exception) -> None:
    text = str(error)
    assert text and text.isprintable() and len(text) < 1000, f"not one line: {text!r}"


def framed(messages: list[bytes]) -> bytes:
    """Messages, each behind its length in two bytes."""
    return b"".join(len(one).to_bytes(2, "big") + one for one in messages)


def unframed(data: bytes) -> Iterator[bytes]:
    """The messages that `framed` has joined."""
    at = 0
    while at + 2 <= len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        yield data[at + 2 : at + 2 + size]
        at += 2 + size


def bus_seeds(target: str) -> list[bytes]:
    """Inputs that are legal, from which the others grow."""
    told = _told()
    state = StreamState(_INFO, 0, 0, 5)
    match target:
        case "claim":
            return [_CLAIM.pack()]
        case "node_record":
            return [_NODE.pack()]
        case "node_question":
            return [
                NodeQuestion("join", "n-1", "s_1", 7, 2).pack(),
                NodeQuestion("alive", "n-1", sessions=("s_1", "s_2")).pack(),
                NodeQuestion("leave", "n-1", "s_1").pack(),
                NodeQuestion("give", "n-1", "s_1", secret="x").pack(),
            ]
        case "node_answer":
            return [
                NodeAnswer("ok", state=state, messages=tuple(told)).pack(),
                NodeAnswer("ok", reached=(("s_1", 5), ("s_2", 2**32))).pack(),
                NodeAnswer("moved", node="n-2").pack(),
                NodeAnswer("unknown").pack(),
            ]
        case "live_messages":
            messages = [one.serialize() for one in told]
            return [framed(messages), framed([messages[0], messages[2], Moved("n-2").serialize(), *messages[1:]])]
        case _:
            return [one.to_bytes(_MODEL, _ENGINE) for one in _snapshots()]


def _told() -> list[Told]:
    payload = pack_codes(np.ones((8, 1), np.int32), 10)
    start = StreamStart(
        epoch=1, n_q=8, bandwidth=6.0, packet_frames=6, start="exact", first_seq=4, live_seq=4, format="codes", sample_rate=24_000
    )
    first: list[Told] = [Packet(0, 0, 0, 8, payload), Packet(1, 0, 1, 8, payload), Gap(first_seq=2, count=2, reason="overload")]
    return [*first, start, Packet(4, 1, 2, 8, payload), StreamEnd(next_seq=5, reason="over")]


def _snapshots() -> list[StreamSnapshot]:
    payload = pack_codes(np.ones((8, 1), np.int32), 10)
    history = (Packet(0, 0, 5, 8, payload), Gap(first_seq=1, count=1, reason="overload"), Packet(2, 0, 7, 8, payload))
    decoded = (DecodedPacket(2, 0, 7, np.zeros(4, np.float32), 1.0),)
    row = DecoderRowState(np.zeros(1, np.float32), (np.ones((8, 1), np.int32),))
    decoder = SharedDecoderState(row, 0, 3, 0, (), np.zeros(2, np.float32))
    pcm = PcmState(
        EncoderRowState(np.zeros(1, np.float32), np.zeros(3, np.float32), np.ones((8, 2), np.int32)),
        FrontendState(None, None, drained=False),
        TimelineState(0.0, "", 0.5, 0.25, ((0.0, 7),), 3),
        PcmFed(0.5, 0.0, 0.0, 0.08, 0, None),
    )
    common = {"taken_us": 10, "taken_s": 1.7e9, "since": 1.6e9, "next_seq": 3, "epoch": 0, "secret": "x", "lease_next_seq": 3}
    counts = {"lease_epoch": 0, "received": 3, "emitted": 2, "dropped": 0}
    hello = PublishHello(stream="a", format="pcm_s16le", sample_rate=24_000, channels=1, bandwidth=6.0)
    resampled = PublishHello(stream="a", format="pcm_f32le", sample_rate=8_000, channels=2, bandwidth=6.0, silence_db=-50.0)
    frontend = PcmFrontend("pcm_f32le", 8_000, 2, QuietPackets(_ENGINE.config, 6, -50.0), _ENGINE.config)
    frontend.prepare(bytes(40 * 2 * 4))
    return [
        StreamSnapshot(hello=_HELLO, fan_out=FanOutState("s_1", 0, history, None, ()), source=CodesState(0), **common, **counts),
        StreamSnapshot(hello=hello, fan_out=FanOutState("s_1", 0, history, decoder, decoded), source=pcm, **common, **counts),
        StreamSnapshot(
            hello=resampled,
            fan_out=FanOutState("s_1", 0, (), None, ()),
            source=replace(pcm, frontend=frontend.snapshot()),
            **common,
            **counts,
        ),
    ]
