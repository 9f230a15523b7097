"""What nodes ask and answer is read as it was written, and what is no question and no answer is refused with what is wrong."""

from __future__ import annotations

import pytest
from cluster_rig import MODEL
from counting_engine import CountingEngine
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.protocol import Gap, Packet, PublishHello, StreamEnd, StreamStart, Waiting
from streamcodec.protocol.unpacking import pack
from streamcodec.server.cluster.questions import Moved, NodeAnswer, NodeQuestion, StreamState, read_live, read_parts, with_length
from streamcodec.server.cluster.records import RecordError
from streamcodec.server.info import StreamInfo

INFO = StreamInfo.of(PublishHello(stream="a", format="codes", model=MODEL, bandwidth=6.0), CountingEngine())
MESSAGES = (Packet(7, 2, 5, 2, b"x" * 15), Gap(first_seq=8, count=2, reason="overload"), StreamEnd(next_seq=10, reason="over"))


@pytest.mark.parametrize(
    "question",
    [
        NodeQuestion("join", "node", "session", None),
        NodeQuestion("join", "node", "session", 2**32, 255),
        NodeQuestion("alive", "node", sessions=tuple(f"session{number}" for number in range(200))),
        NodeQuestion("give", "node", "session", secret="s" * 200),
    ],
)
def test_a_question_is_read_as_it_was_asked(question):
    assert NodeQuestion.parse(question.pack()) == question


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        pack([1]),
        pack({"kind": 1, "node": "n"}),
        pack({"kind": "join", "node": "n", "next_seq": -1}),
        pack({"kind": "join", "node": "n", "epoch": 256}),
        pack({"kind": "alive", "node": "n", "sessions": [1]}),
        pack({"kind": "give", "node": "n", "secret": "s" * 257}),
        pack({"kind": "join"}),
    ],
)
def test_what_is_no_question_is_refused(data):
    with pytest.raises(RecordError):
        NodeQuestion.parse(data)


@pytest.mark.parametrize(
    "answer",
    [
        NodeAnswer("unknown"),
        NodeAnswer("moved", node="there"),
        NodeAnswer("ok", state=StreamState(INFO, 2, 3, 10), messages=MESSAGES),
        NodeAnswer("ok", reached=(("one", 5), ("two", 2**32))),
    ],
)
def test_an_answer_is_read_as_it_was_given(answer):
    assert NodeAnswer.parse(answer.pack()) == answer


def test_an_answer_that_would_be_too_long_leaves_out_the_oldest():
    packets = tuple(Packet(seq, 0, 0, 8, bytes(1000)) for seq in range(1000))
    data = NodeAnswer("ok", state=StreamState(INFO, 0, 0, 1000), messages=packets).pack()
    told = NodeAnswer.parse(data).messages
    assert len(data) <= 1 << 19 and 400 < len(told) < 600 and told == packets[-len(told) :]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x00",
        b"\x00\x00\x00\x09x",
        with_length([b"\xc1"]),
        with_length([pack({"kind": "ok"})]),
        with_length([pack({"kind": "ok", "node": "", "state": {"info": {}}, "reached": []})]),
        with_length([pack({"kind": "ok", "node": "", "state": None, "reached": [[1]]})]),
        with_length([NodeAnswer("ok").pack()[4:], Moved("there").serialize()]),
        with_length([NodeAnswer("ok").pack()[4:], Waiting(stream="a").serialize()]),
    ],
)
def test_what_is_no_answer_is_refused(data):
    with pytest.raises(RecordError):
        NodeAnswer.parse(data)


@given(st.binary(max_size=200))
def test_no_bytes_break_a_reader(data):
    for read in (NodeQuestion.parse, NodeAnswer.parse, read_live, read_parts):
        try:
            read(data)
        except RecordError:
            continue


def test_a_streams_messages_are_those_of_the_wire_and_one_more():
    assert read_live(Moved("there").serialize()) == Moved("there")
    for message in MESSAGES:
        assert read_live(message.serialize()) == message
    with pytest.raises(RecordError, match="expected what a stream's listeners are told"):
        read_live(Waiting(stream="a").serialize())
    with pytest.raises(RecordError):
        read_live(pack({"type": "moved", "node": 5}))


def test_a_start_is_one_of_them():
    start = StreamStart(
        epoch=1, n_q=8, bandwidth=6.0, packet_frames=6, start="exact", first_seq=5, live_seq=5, format="codes", sample_rate=24_000
    )
    assert read_live(start.serialize()) == start
