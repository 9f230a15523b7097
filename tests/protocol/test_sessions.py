from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_pair import (
    LISTEN_CODES,
    LISTEN_PCM,
    MODEL,
    ONE_OF_EACH,
    PAYLOAD,
    PUBLISH_CODES,
    PUBLISH_PCM,
    RESUME,
    START,
    Pair,
    welcome_to,
)

from streamcodec.errors import LocalProtocolError, RemoteProtocolError, WireCode
from streamcodec.protocol import (
    ClientSession,
    End,
    Ended,
    Error,
    Gap,
    Packet,
    Ping,
    Pong,
    Refuse,
    Report,
    ServerSession,
    Side,
    State,
    StreamEnd,
    Waiting,
    payload_size,
)
from streamcodec.protocol.transitions import TRANSITIONS

EACH_TYPE = list({type(message): message for message in ONE_OF_EACH}.values())


def packet(seq, epoch=0, n_q=8, payload=PAYLOAD):
    return Packet(seq, epoch, 0, n_q, payload)


def publishing(hello=PUBLISH_CODES, **changes):
    return Pair(hello, welcome_to(hello, **changes))


def streaming(hello=LISTEN_CODES, **changes):
    pair = Pair(hello)
    pair.server.send(replace(START, format=hello.format, **changes))
    pair.exchange()
    return pair


def asked(hello):
    client, server = ClientSession(hello), ServerSession()
    for data in client.data_to_send():
        server.feed(data)
    return client, server


def ends_in(state):
    """(client, server) of a connection that is in `state`; there is no client that has not said hello."""
    if state is State.HELLO:
        return None, ServerSession()
    if state in (State.PUBLISH_ASKED, State.LISTEN_ASKED):
        return asked(PUBLISH_CODES if state is State.PUBLISH_ASKED else LISTEN_CODES)
    pair = {State.WAITING: lambda: Pair(LISTEN_CODES), State.STREAMING: streaming}.get(state, publishing)()
    if state in (State.DRAINING, State.CLOSED):
        pair.client.end()
    if state is State.CLOSED:
        pair.exchange()
        pair.server.send(Ended(received=0, emitted=0, dropped=0))
    pair.exchange()
    return pair.client, pair.server


def refused(session, message):
    """The error that a message from the peer raises."""
    with pytest.raises(RemoteProtocolError) as caught:
        session.feed(message.serialize())
    assert session.state is State.CLOSED
    assert session.close_code == caught.value.code.close_code
    return caught.value


@pytest.mark.parametrize("state", State)
def test_a_connection_can_be_brought_into_every_state(state):
    assert all(end.state is state for end in ends_in(state) if end is not None)


ILLEGAL = [
    pytest.param(state, side, message, id=f"{state}-{side}-{type(message).__name__}")
    for state in State
    for side in Side
    for message in EACH_TYPE
    if (state, side, type(message)) not in TRANSITIONS
]


@pytest.mark.parametrize(("state", "side", "message"), ILLEGAL)
def test_a_message_out_of_turn_is_our_error_when_sent(state, side, message):
    client, server = ends_in(state)
    sender = client if side is Side.CLIENT else server
    if sender is None:
        return
    with pytest.raises(LocalProtocolError, match=f"the {side} sent '{message.type}', not allowed while {state}"):
        sender._send(message)
    assert sender.state is state
    assert sender.data_to_send() == []


@pytest.mark.parametrize(("state", "side", "message"), ILLEGAL)
def test_a_message_out_of_turn_is_the_peers_error_when_it_arrives(state, side, message):
    client, server = ends_in(state)
    receiver = server if side is Side.CLIENT else client
    if receiver is None:
        return
    if state is State.CLOSED:
        assert receiver.feed(message.serialize()) == []
    else:
        assert refused(receiver, message).code == WireCode.OUT_OF_TURN


@pytest.mark.parametrize("state", [state for state in State if state is not State.CLOSED])
def test_either_end_can_give_up_in_every_state_and_the_other_understands(state):
    for giving_up in (0, 1):
        ends = ends_in(state)
        one, other = ends[giving_up], ends[1 - giving_up]
        if one is None:
            continue
        assert one.fail(RemoteProtocolError(WireCode.TIMEOUT, "too late")) == 4408 == one.close_code
        (data,) = one.data_to_send()
        if other is not None:
            (told,) = other.feed(data)
            assert isinstance(told, (Refuse, Error))
            assert (told.code, told.reason, other.state, other.close_code) == ("timeout", "too late", State.CLOSED, 4408)


def test_a_publisher_is_heard_from_hello_to_ended():
    pair = publishing(next_seq=7, epoch=3)
    sent = [pair.client.send_packet(PAYLOAD, timestamp=2**32 + 5), pair.client.send_packet(PAYLOAD, 2**33, new_epoch=True)]
    assert sent == [Packet(7, 3, 5, 8, PAYLOAD), Packet(8, 4, 0, 8, PAYLOAD)]
    assert pair.exchange() == ([], sent)
    pair.client.end()
    assert pair.exchange() == ([], [End(last_seq=8)])
    pair.server.send(Ended(received=2, emitted=2, dropped=0))
    assert pair.exchange() == ([Ended(received=2, emitted=2, dropped=0)], [])
    assert pair.client.state is pair.server.state is State.CLOSED
    assert pair.client.close_code == pair.server.close_code == 1000


def test_a_listener_waits_hears_a_stream_and_waits_again():
    pair = Pair(LISTEN_CODES, welcome_to(LISTEN_CODES, n_q=None, packet_frames=None, start=None, epoch=None, next_seq=None, bandwidth=None))
    stream = [
        Waiting(stream="alice"),
        replace(START, first_seq=10, live_seq=12, epoch=5, start="resumed"),
        packet(10, 5),
        packet(11, 5),
        Gap(first_seq=12, count=2, reason="overload"),
        packet(14, 5),
        replace(START, first_seq=15, live_seq=15, epoch=6, reason="discontinuity"),
        packet(15, 6),
        StreamEnd(next_seq=16),
        Waiting(stream="alice"),
        replace(START, epoch=200),
        packet(0, 200),
    ]
    for message in stream:
        pair.server.send(message)
    assert pair.exchange() == (stream, [])


def test_a_running_stream_may_start_again_with_history():
    pair = streaming(first_seq=20, live_seq=20)
    pair.server.send(packet(20))
    pair.server.send(Gap(first_seq=21, count=9, reason="slow_listener"))
    pair.server.send(replace(START, first_seq=18, live_seq=30, start="resumed"))
    pair.server.send(packet(18))
    assert len(pair.exchange()[0]) == 4
    assert pair.client.next_seq == pair.server.next_seq == 19


@pytest.mark.parametrize("live_seq", [19, 22])
def test_a_start_that_skips_or_repeats_live_packets_is_a_bad_sequence(live_seq):
    pair = streaming(first_seq=21, live_seq=21)
    error = refused(pair.client, replace(START, first_seq=19, live_seq=live_seq, epoch=1))
    assert error.code == WireCode.BAD_SEQUENCE
    assert f"live_seq is {live_seq}, expected 21" in error.reason


@pytest.mark.parametrize(
    ("seq", "words"),
    [(4, "numbers never go back"), (2, "numbers never go back"), (6, "1 are missing without a gap"), (99, "94 are missing")],
)
def test_a_repeated_or_skipped_number_is_a_bad_sequence_at_either_end(seq, words):
    at_server, at_client = publishing(next_seq=5).server, streaming(first_seq=5, live_seq=5).client
    for session in (at_server, at_client):
        error = refused(session, packet(seq))
        assert error.code == WireCode.BAD_SEQUENCE
        assert f"seq is {seq}, expected 5: {words}" in error.reason


@given(st.lists(st.one_of(st.just("packet"), st.just("epoch"), st.integers(1, 1000)), max_size=30))
def test_any_run_of_packets_gaps_and_epochs_keeps_both_ends_in_step(steps):
    pair = publishing(epoch=250)
    for step in steps:
        if isinstance(step, int):
            pair.client.send_gap(step, "uplink")
        else:
            pair.client.send_packet(PAYLOAD, 0, new_epoch=step == "epoch")
    pair.client.end()
    _, heard = pair.exchange()
    assert len(heard) == len(steps) + 1
    assert (pair.client.next_seq, pair.client.epoch) == (pair.server.next_seq, pair.server.epoch)


@pytest.mark.parametrize("first", [0, 4, 6])
def test_a_gap_that_is_not_the_next_number_is_a_bad_sequence(first):
    gap = Gap(first_seq=first, count=1)
    assert refused(publishing(next_seq=5).server, gap).code == WireCode.BAD_SEQUENCE
    assert refused(streaming(first_seq=5, live_seq=5).client, gap).code == WireCode.BAD_SEQUENCE


def test_the_server_tells_a_publisher_what_it_dropped_and_no_number_moves():
    pair = publishing(next_seq=5)
    for _ in range(4):
        pair.client.send_packet(PAYLOAD, 0)
    pair.exchange()
    pair.server.send(Gap(first_seq=6, count=2, reason="overload"))
    assert pair.exchange()[0] == [Gap(first_seq=6, count=2, reason="overload")]
    assert pair.client.next_seq == pair.server.next_seq == 9


@pytest.mark.parametrize(("first", "count"), [(4, 1), (8, 2), (9, 1)])
def test_packets_that_were_never_sent_cannot_be_dropped(first, count):
    pair = publishing(next_seq=5)
    for _ in range(4):
        pair.client.send_packet(PAYLOAD, 0)
    pair.exchange()
    with pytest.raises(LocalProtocolError, match="but 5 to 8 were sent"):
        pair.server.send(Gap(first_seq=first, count=count))
    assert refused(pair.client, Gap(first_seq=first, count=count)).code == WireCode.BAD_SEQUENCE


@pytest.mark.parametrize("epoch", [2, 5, 255])
def test_an_epoch_that_is_not_the_following_one_is_a_bad_sequence(epoch):
    error = refused(publishing(epoch=3).server, packet(0, epoch))
    assert (error.code, f"epoch is {epoch}, expected 3 or 4" in error.reason) == (WireCode.BAD_SEQUENCE, True)


def test_the_epoch_wraps_from_255_to_0():
    pair = publishing(epoch=255)
    assert pair.client.send_packet(PAYLOAD, 0, new_epoch=True).epoch == 0
    assert pair.exchange()[1][0].epoch == 0


def test_a_listener_gets_no_new_epoch_without_a_start():
    error = refused(streaming().client, packet(0, 1))
    assert (error.code, "expected 0 until a start message" in error.reason) == (WireCode.BAD_SEQUENCE, True)


def test_a_short_packet_is_the_last_of_its_epoch():
    short = bytes(payload_size(8, 5))
    pair = publishing()
    pair.client.send_packet(short, 0)
    pair.client.send_packet(short, 0, new_epoch=True)
    pair.exchange()
    with pytest.raises(LocalProtocolError, match="packet 2 follows a short packet in epoch 1"):
        pair.client.send_packet(PAYLOAD, 0)
    assert refused(pair.server, packet(2, 1)).code == WireCode.BAD_PAYLOAD
    pair.client.end()


@pytest.mark.parametrize("size", [0, 1, 59, 61, 62, payload_size(8, 7)])
def test_codes_that_are_no_whole_packet_are_a_bad_payload(size):
    assert refused(publishing().server, packet(0, payload=bytes(size))).code == WireCode.BAD_PAYLOAD


def test_padding_that_is_not_zero_is_a_bad_payload_before_it_reaches_a_listener():
    payload = bytes(payload_size(8, 5) - 1) + b"\x01"
    assert refused(publishing().server, packet(0, payload=payload)).code == WireCode.BAD_PAYLOAD


@pytest.mark.parametrize("n_q", [0, 16])
def test_another_number_of_codebooks_is_a_bad_payload_at_either_end(n_q):
    for session in (publishing().server, streaming().client):
        error = refused(session, packet(0, n_q=n_q))
        assert error.code == WireCode.BAD_PAYLOAD
        assert f"n_q is {n_q}, expected 1 to 8" in error.reason


def test_packets_of_fewer_codebooks_go_from_publishers_and_to_listeners():
    pair = streaming()
    for seq, n_q in enumerate((8, 4, 1, 8)):
        pair.server.send(packet(seq, n_q=n_q, payload=bytes(payload_size(n_q, 6))))
    assert [p.n_q for p in pair.exchange()[0]] == [8, 4, 1, 8]
    pair = publishing()
    for n_q in (8, 1, 3, None):
        pair.client.send_packet(bytes(payload_size(n_q or 8, 6)), 0, n_q=n_q)
    assert [p.n_q for p in pair.exchange()[1]] == [8, 1, 3, 8]


@pytest.mark.parametrize("n_q", [0, 9, 255])
def test_a_publisher_cannot_send_more_codebooks_than_it_was_welcomed_with(n_q):
    with pytest.raises(LocalProtocolError, match=f"n_q is {n_q}, expected 1 to 8 with format 'codes'"):
        publishing().client.send_packet(PAYLOAD, 0, n_q=n_q)


def test_a_packet_of_fewer_codebooks_is_measured_by_its_own():
    short = packet(0, n_q=1, payload=bytes(payload_size(1, 5)))
    server = publishing().server
    server.feed(short.serialize())
    assert refused(server, packet(1)).code == WireCode.BAD_PAYLOAD, "a short packet is the last of its epoch"
    assert refused(publishing().server, packet(0, n_q=1)).code == WireCode.BAD_PAYLOAD, "60 bytes are 48 frames of one codebook"


def test_a_listener_reports_in_every_state_behind_the_welcome_and_a_publisher_never():
    for pair in (Pair(LISTEN_CODES), streaming()):
        pair.client.report(Report(received=3))
        assert pair.exchange()[1] == [Report(received=3)]
    with pytest.raises(LocalProtocolError, match="not allowed while publishing"):
        publishing().client.report(Report(received=3))


def continued(**changes):
    return replace(START, **{"start": "continued", "session": "5e55", "epoch": 2, "first_seq": 70, "live_seq": 70, **changes})


def test_a_stream_goes_on_where_the_hello_asked_for_it():
    pair = Pair(replace(LISTEN_CODES, resume=RESUME))
    pair.server.send(continued())
    pair.server.send(packet(70, epoch=2))
    assert len(pair.exchange()[0]) == 2
    assert pair.client.next_seq == 71


@pytest.mark.parametrize("changes", [{"session": "other"}, {"session": None}, {"epoch": 3}, {"first_seq": 71, "live_seq": 71}])
def test_a_stream_that_goes_on_elsewhere_is_a_bad_sequence(changes):
    assert refused(Pair(replace(LISTEN_CODES, resume=RESUME)).client, continued(**changes)).code == WireCode.BAD_SEQUENCE


def test_nothing_is_continued_that_nobody_asked_for_or_twice():
    assert refused(Pair(LISTEN_CODES).client, continued()).code == WireCode.BAD_SEQUENCE
    pair = Pair(replace(LISTEN_CODES, resume=RESUME))
    pair.server.send(continued())
    pair.exchange()
    assert refused(pair.client, continued()).code == WireCode.BAD_SEQUENCE


def test_a_listener_takes_packets_of_other_lengths():
    pair = streaming()
    for seq, frames in enumerate((7, 5, 6, 25)):
        pair.server.send(packet(seq, payload=bytes(payload_size(8, frames))))
    assert len(pair.exchange()[0]) == 4
    assert refused(pair.client, packet(4, payload=bytes(payload_size(8, 26)))).code == WireCode.BAD_PAYLOAD


def test_a_packet_is_measured_by_the_models_bits():
    pair = publishing(model=replace(MODEL, codebook_size=256))
    pair.client.send_packet(bytes(payload_size(8, 6, bits=8)), 0)
    pair.exchange()
    with pytest.raises(LocalProtocolError, match="8 bits"):
        pair.client.send_packet(bytes(60 + 1), 0)


@pytest.mark.parametrize("samples", [1, 1920, 48_000])
def test_pcm_packets_hold_any_number_of_whole_samples(samples):
    pair = publishing(PUBLISH_PCM)
    assert pair.client.send_packet(bytes(4 * samples), 0).n_q == 0
    assert len(pair.exchange()[1]) == 1


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 4 * 48_001])
def test_pcm_that_is_not_whole_or_too_long_is_a_bad_payload(size):
    error = refused(publishing(PUBLISH_PCM).server, packet(0, n_q=0, payload=bytes(size)))
    assert error.code == WireCode.BAD_PAYLOAD
    assert f"payload has {size} bytes, expected a multiple of 4 (2 x pcm_s16le) up to 192000" in error.reason


def test_a_pcm_packet_with_codebooks_is_a_bad_payload():
    assert refused(publishing(PUBLISH_PCM).server, packet(0)).code == WireCode.BAD_PAYLOAD


def test_a_pcm_listener_gets_mono_samples_of_the_start():
    pair = streaming(LISTEN_PCM)
    pair.server.send(packet(0, n_q=0, payload=bytes(4 * 1920)))
    assert len(pair.exchange()[0]) == 1
    assert refused(pair.client, packet(1, n_q=0, payload=bytes(6))).code == WireCode.BAD_PAYLOAD


@pytest.mark.parametrize("last", [None, 4, 6, 9])
def test_an_end_that_leaves_packets_out_is_a_bad_sequence(last):
    pair = publishing(next_seq=5)
    pair.client.send_packet(PAYLOAD, 0)
    pair.exchange()
    assert refused(pair.server, End(last_seq=last)).code == WireCode.BAD_SEQUENCE


def test_an_end_before_any_packet_names_none():
    pair = publishing(next_seq=5)
    pair.client.end()
    assert pair.exchange()[1] == [End(last_seq=None)]


@pytest.mark.parametrize(
    ("resume", "next_seq", "last", "good"),
    [
        (RESUME, 5, None, True),
        (RESUME, 5, 4, True),
        (RESUME, 5, 3, False),
        (RESUME, 5, 5, False),
        (RESUME, 0, None, True),
        (RESUME, 0, 0, False),
        (None, 5, 4, False),
    ],
)
def test_an_end_behind_a_resume_that_sent_nothing_names_none_or_the_last_of_the_stream(resume, next_seq, last, good):
    pair = publishing(replace(PUBLISH_CODES, resume=resume), next_seq=next_seq)
    end = End(last_seq=last)
    if good:
        assert pair.server.feed(end.serialize()) == [end]
    else:
        assert refused(pair.server, end).code == WireCode.BAD_SEQUENCE


@pytest.mark.parametrize("next_seq", [0, 2])
def test_a_stream_end_that_leaves_packets_out_is_a_bad_sequence(next_seq):
    pair = streaming(first_seq=1, live_seq=1)
    assert refused(pair.client, StreamEnd(next_seq=next_seq)).code == WireCode.BAD_SEQUENCE


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"role": "listen"}, WireCode.BAD_REQUEST),
        ({"stream": "bob"}, WireCode.BAD_REQUEST),
        ({"format": "pcm_s16le"}, WireCode.BAD_REQUEST),
        ({"model": replace(MODEL, fingerprint="beef")}, WireCode.MODEL_MISMATCH),
    ],
)
def test_a_welcome_to_somebody_else_is_refused_by_either_end(changes, code):
    client, server = asked(PUBLISH_CODES)
    welcome = replace(welcome_to(PUBLISH_CODES), **changes)
    with pytest.raises(LocalProtocolError, match="as in the hello"):
        server.accept(welcome)
    assert refused(client, welcome).code == code


def test_a_start_in_another_format_is_refused():
    assert refused(Pair(LISTEN_PCM).client, START).code == WireCode.BAD_REQUEST


@pytest.mark.parametrize("code", WireCode)
def test_a_refusal_says_whether_to_retry_and_closes_with_its_code(code):
    client, server = asked(LISTEN_CODES)
    assert server.refuse(code, "no") == code.close_code == server.close_code
    (data,) = server.data_to_send()
    assert client.feed(data) == [Refuse(code=code.value, reason="no", retry=code.retry)]
    assert (client.state, client.close_code) == (State.CLOSED, code.close_code)


def test_a_refusal_may_override_the_retry_of_its_code():
    _, server = asked(LISTEN_CODES)
    server.refuse(WireCode.SERVER_FULL, "never", retry=False, retry_after_ms=10)
    (data,) = server.data_to_send()
    client, _ = asked(LISTEN_CODES)
    assert client.feed(data) == [Refuse(code="server_full", reason="never", retry=False, retry_after_ms=10)]


def test_a_refusal_that_was_raised_says_when_to_come_again_and_an_error_does_not():
    full = RemoteProtocolError(WireCode.SERVER_FULL, "many come at once", 1500)
    client, server = asked(LISTEN_CODES)
    assert server.fail(full) == 4503
    assert client.feed(*server.data_to_send()) == [Refuse(code="server_full", reason="many come at once", retry=True, retry_after_ms=1500)]
    pair = publishing()
    assert pair.server.fail(full) == 4503
    assert pair.client.feed(*pair.server.data_to_send()) == [Error(code="server_full", reason="many come at once")]


@pytest.mark.parametrize(("can_move", "told", "close"), [(True, "moved", 4421), (False, "server_closing", 4501)])
def test_a_client_that_does_not_know_that_sessions_move_is_told_what_it_knows(can_move, told, close):
    moved = RemoteProtocolError(WireCode.MOVED, "it goes on elsewhere", go_to="wss://b.example")
    client, server = asked(replace(LISTEN_CODES, resume=RESUME, can_move=can_move))
    assert server.fail(moved) == close
    [data] = server.data_to_send()
    assert client.feed(data) == [Refuse(code=told, reason="it goes on elsewhere", retry=True, go_to="wss://b.example")]
    pair = publishing(replace(PUBLISH_CODES, can_move=can_move))
    assert pair.server.fail(moved) == close == pair.server.close_code
    [data] = pair.server.data_to_send()
    assert pair.client.feed(data) == [Error(code=told, reason="it goes on elsewhere", go_to="wss://b.example")]


def test_a_word_that_this_version_does_not_know_closes_all_the_same():
    client = Pair(LISTEN_CODES).client
    assert client.feed(Error(code="brand_new", reason="").serialize())
    assert (client.state, client.close_code) == (State.CLOSED, 1000)


def test_a_text_message_is_a_bad_message():
    session = publishing().server
    with pytest.raises(RemoteProtocolError, match="a text message of 2 characters"):
        session.feed("{}")
    assert session.close_code == 4400


def test_a_broken_hello_is_answered_with_a_refusal():
    server = ServerSession()
    with pytest.raises(RemoteProtocolError):
        server.feed(b"\xc1")
    client, _ = asked(PUBLISH_CODES)
    (answer,) = client.feed(*server.data_to_send())
    assert isinstance(answer, Refuse)
    assert (answer.code, answer.retry) == ("bad_message", False)


def test_after_a_failure_nothing_more_is_read_or_said():
    session = publishing().server
    refused(session, packet(9))
    assert len(session.data_to_send()) == 1
    assert session.feed(packet(0).serialize()) == session.feed("text") == session.feed(b"") == []
    assert session.fail(ValueError("later")) == 4416
    assert session.data_to_send() == []


def test_our_own_fault_is_told_without_its_details():
    pair = streaming()
    assert pair.server.fail(ValueError("secret")) == 4500
    assert pair.exchange()[0] == [Error(code="internal", reason="internal error")]


def test_a_long_reason_is_cut_where_the_wire_ends_and_a_character_begins():
    pair = streaming()
    pair.server.fail(RemoteProtocolError(WireCode.SLOW_LISTENER, "ä\ud800" * 900))
    (told,) = pair.exchange()[0]
    assert 990 < len(told.reason.encode()) <= 1000


@pytest.mark.parametrize("state", [State.PUBLISHING, State.DRAINING, State.WAITING, State.STREAMING])
def test_a_ping_is_answered_in_every_state_behind_the_welcome(state):
    client, server = ends_in(state)
    client.ping(41)
    assert server.feed(*client.data_to_send()) == [Ping(time=41)]
    server.send(Pong(time=41, server_time=99))
    assert client.feed(*server.data_to_send()) == [Pong(time=41, server_time=99)]


def test_nothing_can_be_sent_before_the_welcome():
    client, _ = asked(PUBLISH_CODES)
    for send in (lambda: client.send_packet(PAYLOAD, 0), lambda: client.send_gap(1, ""), client.end, lambda: client.ping(0)):
        with pytest.raises(LocalProtocolError, match="not allowed while publish_asked"):
            send()


def test_what_could_not_be_sent_leaves_the_session_as_it_was():
    client = publishing().client
    with pytest.raises(LocalProtocolError, match="n_q 8"):
        client.send_packet(bytes(61), 0)
    assert client.send_packet(PAYLOAD, 0).seq == 0


def test_the_last_number_ends_a_stream_instead_of_wrapping():
    pair = publishing(next_seq=2**32 - 1)
    pair.client.send_packet(PAYLOAD, 0)
    with pytest.raises(LocalProtocolError, match="seq is 4294967296"):
        pair.client.send_packet(PAYLOAD, 0)
    pair.client.end()
    assert pair.exchange()[1][-1] == End(last_seq=2**32 - 1)
