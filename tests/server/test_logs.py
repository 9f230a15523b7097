"""The log's lines: whom they are about, in both forms, and that nobody forges one."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest
from server_rig import OURS, listen_hello, pcm_hello, raw, run, serving

from streamcodec.server import logs
from streamcodec.server.logs import SubjectLog, set_up_logs
from streamcodec.server.refusals import Bound, Refusals

NASTY = 'a\n12:00:00 203.0.113.7:1 publishes forged: codes\r\x1b[2J\u2028\u202e"}\n{"message": "forged"}'


@pytest.fixture(params=["text", "json"])
def lines(request, monkeypatch):
    """What set-up logs write to, and a function that gives the lines so far."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    ours = logging.getLogger("streamcodec")
    before = root.level, ours.level
    set_up_logs(request.param, logging.INFO)
    yield lambda: written.getvalue().removesuffix("\n").split("\n")
    root.setLevel(before[0])
    ours.setLevel(before[1])


@pytest.fixture
def form(request):
    return request.node.callspec.params["lines"]


def test_a_record_is_one_line_whatever_a_peer_has_written(lines, form):
    logging.getLogger("streamcodec.server").warning("%s gave up", NASTY, extra={"stream": NASTY, "connection": NASTY, "address": NASTY})
    [line] = lines()
    assert line.isprintable()
    if form == "json":
        assert line.isascii()
        made = json.loads(line)
        assert (made["level"], made["logger"], made["message"]) == ("warning", "streamcodec.server", f"{NASTY} gave up")
        assert made["stream"] == made["connection"] == made["address"] == NASTY
        assert made["time"].endswith("Z") and len(made["time"]) == 24
    else:
        assert line[8:].startswith(" WARNING: a\\n12:00:00 ")


def test_no_line_of_a_traceback_looks_like_a_record(lines, form):
    try:
        raise ValueError(NASTY)
    except ValueError:
        logging.getLogger("streamcodec.server").exception("it broke")
    first, *more = lines()
    if form == "json":
        assert not more and "ValueError: a\n12:00:00 " in json.loads(first)["traceback"]
    else:
        assert first.endswith(" ERROR: it broke") and len(more) > 3
        assert all(line.startswith("  | ") and line.isprintable() for line in more)


def test_what_a_record_is_about_stands_in_it(lines, form):
    about = SubjectLog(logging.getLogger("streamcodec.server"), connection="0123", address="203.0.113.7:1")
    about.info("first")
    about.concern(stream="live")
    about.info("second")
    logging.getLogger("streamcodec.elsewhere").info("third")
    if form == "json":
        found = [json.loads(line) for line in lines()]
        assert [one.get("connection") for one in found] == ["0123", "0123", None]
        assert [one.get("stream") for one in found] == [None, "live", None]
        assert [one.get("address") for one in found] == ["203.0.113.7:1", "203.0.113.7:1", None]
    else:
        assert [line[9:] for line in lines()] == ["first [connection=0123]", "second [connection=0123 stream=live]", "third"]


def test_libraries_are_heard_from_warnings_on(lines):
    """httpx2 tells each request with its whole URL at INFO."""
    for name in ("httpx2", "websockets.server"):
        logging.getLogger(name).info("HTTP Request: POST https://hooks.example/a-secret-path")
    assert lines() == [""]
    logging.getLogger("httpx2").warning("it went wrong")
    logging.getLogger("streamcodec.server").info("ours")
    assert len(lines()) == 2


def test_the_handlers_of_the_command_line_write_the_same_form(monkeypatch):
    handler = logging.StreamHandler(io.StringIO())
    engine = logging.getLogger("streamcodec.engine")
    monkeypatch.setattr(engine, "handlers", [handler])
    monkeypatch.setattr(logging.getLogger(), "handlers", [logging.NullHandler()])
    before = logging.getLogger("streamcodec").level
    set_up_logs("json", logging.INFO)
    logging.getLogger("streamcodec").setLevel(before)
    engine.handle(engine.makeRecord("streamcodec.engine", logging.INFO, "f", 1, "converting", (), None))
    assert json.loads(handler.stream.getvalue())["message"] == "converting"
    assert "streamcodec.engine" in logs._OWN_HANDLERS


def test_each_record_of_a_client_says_which_connection_and_stream_it_is_about(caplog):
    async def main():
        async with serving() as server:
            for hello in (pcm_hello("one"), listen_hello("two"), listen_hello("two", format="codes", model=OURS, bandwidth=7.0)):
                async with raw(server.url) as client:
                    await client.send(hello)
                    await client.receive()

    with caplog.at_level(logging.INFO, "streamcodec"):
        run(main())
    told = [(record.connection, record.stream, record.address) for record in caplog.records if hasattr(record, "connection")]
    assert [stream for _, stream, _ in told] == ["one", "one", "two", "two", "two"]
    assert len({connection for connection, _, _ in told}) == 3
    assert all(len(connection) == 12 and address.startswith("127.0.0.1:") for connection, _, address in told)
    assert len(told) == len([record for record in caplog.records if "127.0.0.1:" in record.getMessage()])


def test_a_refusal_is_about_its_connection(caplog):
    Refusals(lambda: 0.0).note(Bound.ORIGIN, "203.0.113.7:1", "Origin is 'x'", "0123")
    [record] = caplog.records
    assert (record.connection, record.address) == ("0123", "203.0.113.7:1")
