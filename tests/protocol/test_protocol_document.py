import importlib.resources
import json
import re
from dataclasses import MISSING, fields

import numpy as np
import pytest

from streamcodec.errors import WireCode
from streamcodec.protocol import (
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    SUBPROTOCOL,
    End,
    Ended,
    Error,
    Gap,
    ListenHello,
    ModelInfo,
    Packet,
    Ping,
    Pong,
    PublishHello,
    Refuse,
    Report,
    Resume,
    StreamEnd,
    StreamStart,
    Waiting,
    Welcome,
    pack_codes,
    parse,
    unpack_codes,
)
from streamcodec.protocol.fields import from_map

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
    assert SUBPROTOCOL.endswith(f".v{PROTOCOL_VERSION}")


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
