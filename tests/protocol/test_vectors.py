"""The test vectors that are shipped are those of the code, and a client in another language that shares none of it passes them."""

from __future__ import annotations

import importlib.resources
import json
import re

import pytest
import vector_files
from web_packages import needs_packages, vitest

from streamcodec.errors import RemoteProtocolError
from streamcodec.protocol import ClientSession, ServerSession, parse

FILES = vector_files.FILES
SHIPPED = importlib.resources.files("streamcodec.protocol").joinpath("vectors")

IN_TYPESCRIPT = "protocol/tests/vectors.test.ts"  # tests/clients runs it on the vectors that are shipped


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_vectors_is_what_the_code_makes(name):
    text = SHIPPED.joinpath(name).read_text(encoding="utf-8")
    assert text == vector_files.text_of(FILES[name]()), "run `python tests/protocol/vector_files.py` and read what has changed"


def test_no_file_of_vectors_is_left_over():
    assert {entry.name for entry in SHIPPED.iterdir()} == set(FILES)


def test_the_messages_are_of_every_kind():
    both = json.loads(SHIPPED.joinpath("messages.json").read_text(encoding="utf-8"))["both_ways"]
    assert {type(parse(bytes.fromhex(one["bytes"]))) for one in both} == {type(message) for message in vector_files.ONE_OF_EACH}


def test_a_session_s_script_runs_on_both_ends():
    scripts = json.loads(SHIPPED.joinpath("sessions.json").read_text(encoding="utf-8"))["sessions"]
    for script in scripts:
        hello, *steps = script["steps"]
        client, server = ClientSession(parse(bytes.fromhex(hello["bytes"]))), ServerSession()
        ends = {"client": client, "server": server}
        [data] = client.data_to_send()
        assert data.hex() == hello["bytes"]
        server.feed(data)
        for step in steps:
            other = ends["server" if step["from"] == "client" else "client"]
            if "answer" in step:
                [said] = ends[step["from"]].data_to_send()
                message = parse(said)
                assert (message.type, message.code) == (step["answer"]["type"], step["answer"]["code"])
            elif "fault" in step:
                with pytest.raises(RemoteProtocolError) as caught:
                    other.feed(bytes.fromhex(step["bytes"]))
                assert (caught.value.code, other.close_code) == (step["fault"], step["close"])
            else:
                ends[step["from"]]._send(parse(bytes.fromhex(step["bytes"])))
                [data] = ends[step["from"]].data_to_send()
                other.feed(data)
                assert (client.state, server.state) == (step["state"], step["state"]), script["name"]
                assert client.close_code == step.get("close")


WRONG = {
    "messages.json": ('"seq": 127', '"seq": 126'),
    "payloads.json": ('"n_q": 8, "bits": 10, "frames": 6, "codes": [[', '"n_q": 8, "bits": 10, "frames": 6, "codes": [[1'),
    "clock.json": ('"offset": 4999950', '"offset": 4999951'),
    "numbers.json": ('"kbps": 6.0', '"kbps": 6.1'),
    "window.json": ('"max_s": 0.24', '"max_s": 0.25'),
    "dtx.json": ('"left_out": true', '"left_out": false'),
    "sessions.json": ('"fault": "bad_sequence"', '"fault": "bad_payload"'),
}


@needs_packages
def test_the_client_in_typescript_finds_the_one_vector_of_each_file_that_is_wrong(tmp_path):
    for entry in SHIPPED.iterdir():
        text = entry.read_text(encoding="utf-8")
        was, wrong = WRONG[entry.name]
        assert was in text
        (tmp_path / entry.name).write_text(text.replace(was, wrong, 1), encoding="utf-8")
    result = vitest(IN_TYPESCRIPT, STREAMCODEC_VECTORS=str(tmp_path))
    assert result.returncode != 0
    assert re.findall(r"^ *Tests +(\d+) failed", result.stdout, re.MULTILINE) == [str(len(WRONG))], result.stdout
    assert result.stderr.count("AssertionError") == len(WRONG), result.stderr
