import importlib.resources
import json
import re
from dataclasses import MISSING, fields

import numpy as np
import pytest

from streamcodec.config import CodecConfig
from streamcodec.errors import WireCode
from streamcodec.protocol import (
    MAX_CONTROL_BYTES,
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    QUIET_EVERY_S,
    READ_BYTES,
    READ_CONTROL_BYTES,
    SUBPROTOCOL,
    End,
    Ended,
    Error,
    Gap,
    ListenHello,
    ModelInfo,
    Packet,
    PayloadLayout,
    Ping,
    Pong,
    PublishHello,
    Refuse,
    Report,
    Resume,
    Side,
    State,
    StreamEnd,
    StreamStart,
    Waiting,
    Welcome,
    pack_codes,
    parse,
    unpack_codes,
)
from streamcodec.protocol.fields import from_map
from streamcodec.protocol.transitions import TRANSITIONS
from streamcodec.protocol.unpacking import MAX_ELEMENTS, MAX_KEYS
from streamcodec.protocol.window import LITTLE_S, SendWindow
from streamcodec.server import DEFAULT_PORT, Limits
from streamcodec.server.ports.public import HANDSHAKE_S, PING_EVERY_S
from streamcodec.types import Chunk

DOCUMENT = importlib.resources.files("streamcodec.protocol").joinpath("PROTOCOL.md").read_text()
SECTIONS = {
    "Packet": Packet,
    "hello (publish)": PublishHello,
    "hello (listen)": ListenHello,
    "model": ModelInfo,
    "resume": Resume,
    **{cls.type: cls for cls in (Welcome, Refuse, Waiting, StreamStart, Gap, End, Ended, StreamEnd, Report, Ping, Pong, Error)},
}


def fenced(language):
    return re.findall(rf"^```{language}\n(.*?)\n```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def section(heading):
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


def rows(text):
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in cells}


def described(text):
    """The message that an example's JSON describes."""
    value = json.loads(text)
    if isinstance(value, list):
        return Packet(*value[:4], bytes.fromhex(value[4]))
    cls = SECTIONS[f"hello ({value['role']})" if value["type"] == "hello" else value["type"]]
    return from_map(cls, value)


@pytest.mark.parametrize("example", fenced("example"), ids=lambda example: example[:32])
def test_the_bytes_of_an_example_are_those_of_its_message(example):
    text, digits = example.split("\n", 1)
    data, message = bytes.fromhex(digits), described(text)
    assert parse(data) == message
    assert message.serialize() == data


def test_there_is_an_example_of_every_message():
    assert {type(described(example.split("\n")[0])) for example in fenced("example")} == set(SECTIONS.values()) - {ModelInfo, Resume}


def test_the_worked_packings_are_right():
    lines = [json.loads(line) for block in fenced("packing") for line in block.splitlines()]
    assert lines
    for line in lines:
        payload = bytes.fromhex(line["payload"])
        assert pack_codes(np.array(line["codes"]), line["bits"]) == payload
        np.testing.assert_array_equal(unpack_codes(payload, line["n_q"], line["bits"]), line["codes"])


def test_the_worked_packing_behind_a_scale_is_right():
    layout = PayloadLayout(10, chunked=True, scaled=True)
    lines = [json.loads(line) for block in fenced("scaled") for line in block.splitlines()]
    assert lines
    for line in lines:
        payload = bytes.fromhex(line["payload"])
        assert layout.pack(Chunk(np.array(line["codes"]), line["scale"])) == payload
        np.testing.assert_array_equal(layout.unpack(payload, line["n_q"]).codes, line["codes"])


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_field_is_in_its_table_in_order_with_its_default(heading):
    table = rows(section(heading))
    cls = SECTIONS[heading]
    assert list(table) == [field.name for field in fields(cls)]
    if cls is Packet:
        return
    for field in fields(cls):
        default = table[field.name][1].strip("`")
        if field.default is MISSING or field.name in ("version", "role"):
            assert default == "—", field.name
        else:
            expected = list(field.default) if isinstance(field.default, tuple) else field.default
            assert json.loads(default) == expected, field.name


def test_the_table_of_codes_is_that_of_the_errors():
    table = rows(section("Refusals and errors"))
    assert {word: (int(close), retry == "yes") for word, (close, retry, _) in table.items()} == {
        code.value: (code.close_code, code.retry) for code in WireCode
    }


def test_the_names_and_limits_are_those_of_the_code():
    assert f"subprotocol `{SUBPROTOCOL}`" in DOCUMENT
    assert f"{MAX_MESSAGE_BYTES:,} bytes" in DOCUMENT
    assert f"{READ_BYTES:,} bytes" in DOCUMENT
    assert f"the server up to {READ_CONTROL_BYTES:,} before" in DOCUMENT
    limits = section("Limits")
    assert f"| packet | {MAX_MESSAGE_BYTES:,} bytes |" in limits
    assert f"| any other message | {MAX_CONTROL_BYTES:,} bytes |" in limits
    assert f"| array | {MAX_ELEMENTS} elements |" in limits and f"more than {MAX_ELEMENTS} elements" in DOCUMENT
    assert f"| map | {MAX_KEYS} keys |" in limits and f"more than {MAX_KEYS} keys" in DOCUMENT
    assert SUBPROTOCOL.endswith(f".v{PROTOCOL_VERSION}")


STATES = {
    "before a hello": [State.HELLO],
    "hello sent": [State.PUBLISH_ASKED, State.LISTEN_ASKED],
    "publishing": [State.PUBLISHING],
    "draining": [State.DRAINING],
    "listening, no stream": [State.WAITING],
    "listening, a stream runs": [State.STREAMING],
}


def test_the_table_of_turns_is_that_of_the_sessions():
    lines = [line for line in section("The course of a connection").splitlines() if re.match(r"\| [a-z]", line)]
    table = {cells[0].partition(" (")[0]: cells[1:] for line in lines if (cells := [cell.strip() for cell in line.strip("|").split("|")])}
    assert table.pop("state") == ["the client may send", "the server may send"]
    assert list(table) == list(STATES)
    for row, states in STATES.items():
        for side, cell in zip((Side.CLIENT, Side.SERVER), table[row], strict=True):
            legal = {message.type for state, sender, message in TRANSITIONS if state in states and sender is side}
            assert set(re.findall(r"`([a-z_]+)`", cell)) == legal, (row, side)


def test_the_figures_of_this_repository_are_those_of_the_code():
    limits = Limits()
    timeouts = section("Transport")
    assert f"port {DEFAULT_PORT} by default" in timeouts
    assert f"| WebSocket handshake | {HANDSHAKE_S:g} s |" in timeouts
    assert f"| closing handshake | {HANDSHAKE_S:g} s |" in timeouts
    assert f"| hello | {limits.handshake_s:g} s |" in timeouts
    assert f"sent every {PING_EVERY_S:g} s, answered within {PING_EVERY_S:g} s" in timeouts
    for what in ("control_frames", "frames", "incoming_bytes"):
        rate = getattr(limits, what)
        assert f"| {rate.per_s:,} | {rate.burst:,} |" in timeouts
    assert f"behind its welcome | {limits.first_packet_s:g} s |" in timeouts and f"next packet or gap | {limits.silent_s:g} s |" in timeouts
    places = " ".join(timeouts.split())
    told = f"may have {limits.max_connections_per_address} connections, and {limits.max_publishers_per_address} publishers among them"
    assert (
        f"{told}, and make {limits.new_connections.per_s:g} new connections a second, or {limits.new_connections.burst:g} at once" in places
    )
    assert f"wait for it for {2 * PING_EVERY_S:g} s" in timeouts
    lag = " ".join(section("Lag").split())
    assert f"while more audio is sent and not yet reported than {limits.listener_window_s:g} s and a round trip" in lag
    assert f"has waited for a listener for more than {limits.listener_max_lag_s:g} s, it drops" in lag
    assert f"until none has waited for more than {limits.listener_max_lag_s / 2:g} s" in lag
    assert f"stays above {2 * limits.listener_max_lag_s:g} s for {limits.listener_give_up_s:g} s" in lag
    assert f"waits for them, for {limits.stall_s:g} s at most" in lag
    assert f"For {limits.resume_s:g} s from then on" in lag
    assert f"Only if more than {limits.listener_queue_s + limits.resume_s:g} s wait" in lag
    assert f"at most {round(LITTLE_S, 2):g} s more than the last trip that was alone, and {SendWindow(1.0).round_trip_s:g} s before" in lag
    assert f"`resume_ms` of `welcome` ({limits.resume_s:g} s; 0" in " ".join(section("Resuming").split())
    assert f"what it keeps (here {limits.history_s:g} s)" in section("hello (listen)")
    assert f"one about every {QUIET_EVERY_S:g} s" in " ".join(section("Silence").split())
    refusals = " ".join(section("Refusals and errors").split())
    assert f"5% of them wait more than {1000 * limits.max_wait_s:g} ms for the model" in refusals
    assert f"reads 5% of what comes more than {1000 * limits.max_loop_lag_s:g} ms late" in refusals
    assert f"it waits {limits.join_wait_s:g} s at most" in refusals


def test_the_formula_of_the_bandwidth_is_that_of_the_code():
    text, config = section("Codes"), CodecConfig()
    assert "kbps = n_q · b · sampling_rate / hop_length / 1000" in text
    for n_q in config.n_q_choices:
        assert n_q * config.bits_per_code * config.sampling_rate / config.hop_length / 1000 == config.bandwidth_of(n_q)
    bandwidths = [f"{bandwidth:g}" for bandwidth in config.target_bandwidths]
    said = "{}, {}, {}, {} and {} kbps are {}, {}, {}, {} and {} codebooks".format(*bandwidths, *config.n_q_choices)
    assert f"{config.kbps_per_codebook:g} kbps per codebook for the published model: {said}" in " ".join(text.split())


def test_every_word_that_refuses_a_hello_is_in_the_order_of_refusals():
    text = " ".join(section("Refusals and errors").split())
    order = re.findall(r"`([a-z_]+)`", text[text.index("the first of these: ") : text.index(" So a client never waits")])
    assert set(order) <= set(WireCode)
    assert order.index("unauthorized") < order.index("model_mismatch") < order.index("stream_taken") < order.index("server_full")


def test_every_file_of_vectors_is_told_of():
    files = {entry.name for entry in importlib.resources.files("streamcodec.protocol").joinpath("vectors").iterdir()}
    assert set(rows(section("Test vectors"))) == files


def test_the_names_of_states_in_the_vectors_are_told():
    assert {state.value for state in State} <= set(re.findall(r"`([a-z_]+)`", section("Test vectors")))


def test_the_client_in_the_document_is_a_program_and_speaks_the_protocol():
    (source,) = fenced("python")
    compile(source, "client.py", "exec")
    hello = re.search(r"hello = (\{.*\})", source)
    value = eval(hello[1], {"stream": "alice"})
    assert value.pop("type") == "hello"
    assert from_map(ListenHello, value).stream == "alice"


def test_every_link_within_the_document_has_a_heading():
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", DOCUMENT, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]*)\)", DOCUMENT)) <= anchors
