from dataclasses import MISSING, fields, replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from protocol_pair import LISTEN_CODES, LISTEN_PCM, MODEL, ONE_OF_EACH, PACKET, PUBLISH_CODES, PUBLISH_PCM, START, WELCOME

from streamcodec.errors import LocalProtocolError, RemoteProtocolError, WireCode
from streamcodec.protocol import (
    MAX_CONTROL_BYTES,
    MAX_MESSAGE_BYTES,
    PACKET_OVERHEAD,
    Error,
    Gap,
    Packet,
    Ping,
    Report,
    parse,
    sample_width,
)

names = st.text("abcXYZ019._~-", min_size=1, max_size=64)
texts = st.text(max_size=200)
micros = st.integers(0, 2**53 - 1)
packets = st.builds(
    Packet, st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 255), st.binary(max_size=1008)
)
json_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=9) | st.binary(max_size=9),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=9), inner, max_size=6),
    max_leaves=12,
)


def code_of(data):
    with pytest.raises(RemoteProtocolError) as caught:
        parse(data)
    return caught.value.code


def as_map(message, **changes):
    return msgpack.unpackb(message.serialize()) | changes


@pytest.mark.parametrize("message", ONE_OF_EACH, ids=lambda message: f"{message.type}")
def test_every_message_survives_the_wire(message):
    assert parse(message.serialize()) == message


@given(packets)
def test_every_packet_survives_the_wire_with_at_most_twenty_bytes_of_overhead(packet):
    data = packet.serialize()
    assert parse(data) == packet
    assert len(data) - len(packet.payload) <= PACKET_OVERHEAD


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_535, 65_536, 1_000_000])
def test_the_largest_fields_before_any_payload_keep_to_the_overhead(size):
    data = Packet(2**32 - 1, 255, 2**32 - 1, 255, bytes(size)).serialize()
    assert len(data) - size <= PACKET_OVERHEAD


@given(names, texts, micros, st.floats(0.001, 1000), st.none() | st.integers(0, 60_000))
def test_control_messages_survive_the_wire_with_any_values(stream, free, time, bandwidth, history):
    for message in (
        replace(LISTEN_CODES, stream=stream, client=free, bandwidth=bandwidth, history_ms=history, token=free),
        replace(PUBLISH_CODES, stream=stream, bandwidth=bandwidth),
        replace(WELCOME, stream=stream, time=time, server=free, bandwidth=bandwidth),
        Ping(time=time),
    ):
        assert parse(message.serialize()) == message


@given(st.binary(max_size=300))
def test_random_bytes_raise_nothing_but_a_remote_error(data):
    try:
        parse(data)
    except RemoteProtocolError as exc:
        assert len(str(exc)) < 1000


@given(json_like)
def test_any_msgpack_value_raises_nothing_but_a_remote_error(value):
    try:
        parse(msgpack.packb(value))
    except RemoteProtocolError as exc:
        assert len(str(exc)) < 1000


@given(st.sampled_from(ONE_OF_EACH), st.data())
def test_a_field_of_any_other_value_raises_nothing_but_a_remote_error(message, data):
    value = msgpack.unpackb(message.serialize())
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    value[data.draw(st.sampled_from(keys))] = data.draw(json_like)
    try:
        parsed = parse(msgpack.packb(value))
    except RemoteProtocolError:
        return
    assert parse(parsed.serialize()) == parsed


@given(st.sampled_from(ONE_OF_EACH), st.data())
def test_a_truncated_message_is_a_bad_message(message, data):
    whole = message.serialize()
    assert code_of(whole[: data.draw(st.integers(0, len(whole) - 1))]) == WireCode.BAD_MESSAGE


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(PACKET.serialize() + b"\x00", id="trailing byte"),
        pytest.param(b"\xc1", id="unused first byte"),
        pytest.param(b"\x91" * 100_000 + b"\x00", id="nested arrays"),
        pytest.param(b"\x81\xa1a" * 100_000 + b"\x00", id="nested maps"),
        pytest.param(b"\xdd\xff\xff\xff\xff", id="an array that claims four billion elements"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="a map that claims four billion keys"),
        pytest.param(b"\xc6\xff\xff\xff\xff", id="bytes that claim four gigabytes"),
        pytest.param(b"\x81\x01\x02", id="a key that is a number"),
        pytest.param(b"\x81\xa4type\xa2\xff\xfe", id="text that is not UTF-8"),
        pytest.param(msgpack.packb(bytes(MAX_MESSAGE_BYTES)), id="more than the limit"),
        pytest.param(msgpack.packb("hello"), id="text"),
        pytest.param(msgpack.packb({}), id="no type"),
        pytest.param(msgpack.packb({"type": "goodbye"}), id="unknown type"),
        pytest.param(msgpack.packb({"type": ["ping"]}), id="a type that is no text"),
        pytest.param(msgpack.packb([0, 0, 0, 8]), id="a packet of four"),
        pytest.param(msgpack.packb([0, 0, 0, 8, b"", 0]), id="a packet of six"),
        pytest.param(msgpack.packb([-1, 0, 0, 8, b""]), id="a negative seq"),
        pytest.param(msgpack.packb([2**32, 0, 0, 8, b""]), id="a seq beyond 32 bits"),
        pytest.param(msgpack.packb([0, 256, 0, 8, b""]), id="an epoch beyond 8 bits"),
        pytest.param(msgpack.packb([0, True, 0, 8, b""]), id="an epoch that is a boolean"),
        pytest.param(msgpack.packb([0, 0, 0.0, 8, b""]), id="a timestamp that is a float"),
        pytest.param(msgpack.packb([0, 0, 0, 8, "text"]), id="a payload that is text"),
    ],
)
def test_what_is_no_message_is_a_bad_message(data):
    assert code_of(data) == WireCode.BAD_MESSAGE


@pytest.mark.parametrize("version", [0, 2, None, "1", [1]])
@pytest.mark.parametrize("message", [PUBLISH_CODES, LISTEN_PCM, WELCOME], ids=lambda message: message.type)
def test_another_version_is_told_before_anything_else(message, version):
    assert code_of(msgpack.packb(as_map(message, version=version, role="else", stream=3))) == WireCode.BAD_VERSION


def test_a_hello_without_a_version_is_a_bad_version():
    assert code_of(msgpack.packb({"type": "hello"})) == WireCode.BAD_VERSION


@pytest.mark.parametrize("role", [None, "speak", 1, ["listen"], {}])
def test_a_hello_of_another_role_is_a_bad_request(role):
    assert code_of(msgpack.packb(as_map(LISTEN_PCM, role=role))) == WireCode.BAD_REQUEST


WRONG = [
    (PUBLISH_CODES, "stream", ["", "a" * 65, "a b", "ä", "a/b", "a\n", None, 5]),
    (PUBLISH_CODES, "format", ["mp3", None, 1]),
    (PUBLISH_CODES, "model", [None, "", "x" * 129, 1]),
    (PUBLISH_CODES, "sample_rate", [24_000]),
    (PUBLISH_CODES, "channels", [1]),
    (PUBLISH_CODES, "bandwidth", [0, -6, float("nan"), float("inf"), 1001, "6", True]),
    (PUBLISH_CODES, "packet_frames", [0, 26, 6.0, None, True, "6"]),
    (PUBLISH_CODES, "start", ["resumed", 1]),
    (PUBLISH_CODES, "pace", ["slow", None]),
    (PUBLISH_CODES, "silence_db", [-50.0]),
    (PUBLISH_PCM, "silence_db", [1, -121, 0.1, float("nan"), float("-inf"), "-50", True]),
    (PUBLISH_CODES, "token", ["x" * 4097, b"x", 1]),
    (PUBLISH_CODES, "client", ["x" * 1001, "ä" * 501, None]),
    (PUBLISH_PCM, "sample_rate", [None, 999, 768_001, 48e3]),
    (PUBLISH_PCM, "channels", [None, 0, 9]),
    (LISTEN_CODES, "model", [None]),
    (LISTEN_CODES, "history_ms", [-1, 60_001, 0.5]),
    (LISTEN_PCM, "bandwidth", [6.0]),
    (LISTEN_PCM, "min_bandwidth", [1.5]),
    (replace(LISTEN_CODES, bandwidth=3.0), "min_bandwidth", [6.0, 0, "3"]),
    (LISTEN_CODES, "resume", ["5e55", {}, {"session": "5e55"}, {"session": "", "epoch": 0, "next_seq": 0}]),
    (Report(received=0), "received", [None, -1, 2**32 + 1, 0.5]),
    (Report(received=0), "margin_ms", [0.5, 3_600_001, "1"]),
    (WELCOME, "role", ["speak"]),
    (WELCOME, "model", [None, "small", {}, {"name": "small"}]),
    (WELCOME, "n_q", [None, 0, 256]),
    (WELCOME, "next_seq", [None, 2**32 + 1]),
    (WELCOME, "alternates", [("wss://b",) * 5, ("http://b",), ("wss://b", ""), (7,), "wss://b", None]),
    (PUBLISH_CODES, "can_move", [1, "yes", None]),
    (LISTEN_PCM, "can_move", [0, None]),
    (WELCOME, "time", [None, -1, 2**53]),
    (START, "start", [None, "later"]),
    (START, "live_seq", [-1, 2**32 + 1]),
    (Gap(first_seq=5, count=1), "count", [0, -1, 2**32 - 4, None]),
    (Error(code="internal", reason=""), "code", ["", "Internal", "a b", "x" * 41, 4500, None]),
]


@pytest.mark.parametrize(("message", "field", "value"), [(message, field, value) for message, field, values in WRONG for value in values])
def test_a_field_out_of_range_is_a_bad_request_that_names_it(message, field, value):
    with pytest.raises(
        RemoteProtocolError, match=rf"{field} is .*, expected|{field}.* is missing|(model|resume): .* (missing|expected)"
    ) as caught:
        parse(msgpack.packb(as_map(message, **{field: value})))
    assert caught.value.code == WireCode.BAD_REQUEST


@pytest.mark.parametrize(("message", "field", "value"), [(message, field, value) for message, field, values in WRONG for value in values])
def test_the_same_field_is_a_local_error_where_the_message_is_made(message, field, value):
    with pytest.raises(LocalProtocolError, match=f"{message.type}: {field} is .*, expected"):
        replace(message, **{field: value})


@pytest.mark.parametrize("size", [0, 3, 8, 1000, 1023, 65_537])
def test_a_codebook_size_that_is_no_power_of_two_is_refused(size):
    with pytest.raises(LocalProtocolError, match=f"model: codebook_size is {size}"):
        replace(MODEL, codebook_size=size)


def test_a_welcome_with_as_much_as_it_may_hold_is_a_message():
    address = "wss://" + "x" * 1000
    most = replace(WELCOME, alternates=(address,) * 4, server="x" * 1000, session="x" * 128, model=replace(MODEL, name="x" * 200))
    assert len(most.serialize()) < MAX_CONTROL_BYTES / 2
    assert parse(most.serialize()) == most


def test_a_start_that_is_live_before_it_begins_is_refused():
    with pytest.raises(LocalProtocolError, match="live_seq is 3, expected first_seq 5 or more"):
        replace(START, first_seq=5, live_seq=3)


def test_a_stream_that_is_continued_has_no_history():
    with pytest.raises(LocalProtocolError, match="live_seq is 6, expected first_seq 5 where it is continued"):
        replace(START, start="continued", first_seq=5, live_seq=6)


def test_a_packet_that_the_wire_cannot_hold_is_a_local_error():
    with pytest.raises(LocalProtocolError, match="seq is 4294967296"):
        Packet(2**32, 0, 0, 8, b"")
    with pytest.raises(LocalProtocolError, match="expected bytes"):
        Packet(0, 0, 0, 8, bytearray(60))
    with pytest.raises(LocalProtocolError, match="expected at most 1048576"):
        Packet(0, 0, 0, 0, bytes(MAX_MESSAGE_BYTES)).serialize()


def test_text_that_utf8_cannot_hold_is_a_local_error():
    with pytest.raises(LocalProtocolError, match="reason"):
        Gap(first_seq=0, count=1, reason="\ud800")


@pytest.mark.parametrize("message", ONE_OF_EACH[1:], ids=lambda message: message.type)
def test_unknown_keys_are_ignored(message):
    assert parse(msgpack.packb(as_map(message, colour="green", extra={"deep": [1]}))) == message


def test_unknown_keys_of_the_model_are_ignored():
    value = as_map(WELCOME)
    value["model"]["licence"] = "MIT"
    assert parse(msgpack.packb(value)) == WELCOME


def test_a_missing_key_stands_for_the_default():
    value = {"type": "hello", "version": 1, "role": "listen", "stream": "alice", "format": "pcm_f32le"}
    assert parse(msgpack.packb(value)) == LISTEN_PCM


@pytest.mark.parametrize("message", ONE_OF_EACH[1:], ids=lambda message: message.type)
def test_a_missing_key_without_a_default_is_refused(message):
    for field in fields(message):
        value = as_map(message)
        del value[field.name]
        if field.default is MISSING or field.name in ("version", "role"):
            with pytest.raises(RemoteProtocolError, match=field.name):
                parse(msgpack.packb(value))


def test_an_integer_may_stand_for_a_number():
    assert parse(msgpack.packb(as_map(PUBLISH_CODES, bandwidth=6))).bandwidth == 6.0


def test_a_codes_format_has_no_sample_width():
    assert [sample_width(format) for format in ("codes", "pcm_s16le", "pcm_f32le")] == [0, 2, 4]
