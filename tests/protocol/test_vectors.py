"""The test vectors that are shipped are those of the code, and a client that was written from the document alone passes them."""

from __future__ import annotations

import importlib.resources
import json
import subprocess
from pathlib import Path

import pytest
import vector_files
from programs import needs

from streamcodec.errors import RemoteProtocolError
from streamcodec.protocol import ClientSession, ServerSession, parse

FILES = vector_files.FILES
CLIENT = Path(__file__).parent / "javascript" / "main.mjs"
SHIPPED = importlib.resources.files("streamcodec.protocol").joinpath("vectors")

needs_node = needs("node")


def checked_by_javascript(folder):
    return subprocess.run(["node", str(CLIENT), "vectors", str(folder)], capture_output=True, text=True, timeout=1200, check=False)


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


@needs_node
def test_a_client_in_javascript_that_was_written_from_the_document_passes_every_vector():
    result = checked_by_javascript(SHIPPED)
    assert result.returncode == 0, result.stderr
    counts = json.loads(result.stdout)
    lists = [cases for name in FILES for cases in json.loads(SHIPPED.joinpath(name).read_text(encoding="utf-8")).values()]
    assert sum(counts.values()) == sum(len(cases) for cases in lists if isinstance(cases, list))


@needs_node
@pytest.mark.parametrize(
    ("name", "was", "wrong"),
    [
        ("messages.json", '"seq": 127', '"seq": 126'),
        ("payloads.json", '"n_q": 8, "bits": 10, "frames": 6, "codes": [[', '"n_q": 8, "bits": 10, "frames": 6, "codes": [[1'),
        ("clock.json", '"offset": 4999950', '"offset": 4999951'),
        ("numbers.json", '"kbps": 6.0', '"kbps": 6.1'),
        ("window.json", '"max_s": 0.24', '"max_s": 0.25'),
        ("dtx.json", '"left_out": true', '"left_out": false'),
        ("sessions.json", '"fault": "bad_sequence"', '"fault": "bad_payload"'),
    ],
)
def test_the_client_in_javascript_finds_a_vector_that_is_wrong(name, was, wrong, tmp_path):
    for entry in SHIPPED.iterdir():
        text = entry.read_text(encoding="utf-8")
        if entry.name == name:
            assert was in text
            text = text.replace(was, wrong, 1)
        (tmp_path / entry.name).write_text(text, encoding="utf-8")
    result = checked_by_javascript(tmp_path)
    assert result.returncode != 0
    assert "AssertionError" in result.stderr
