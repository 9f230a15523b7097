"""What a peer writes forges no line of the server's log, and none of another client's."""

from __future__ import annotations

import logging

import pytest
from server_rig import listen_hello, packet, publish_hello, raw, run, serving, until

from streamcodec.client import Player, listen, play

NASTY = "\x1b[2J\x1b]0;title\x07\n12:00:00 203.0.113.7:1 publishes forged: codes\r\x85\u2028\u202e"


def assert_clean(lines):
    assert lines
    for line in lines:
        assert line.isprintable(), repr(line)


def test_what_a_client_says_when_it_gives_up_is_one_escaped_line(caplog):
    async def main():
        async with serving() as server, raw(server.url) as client:
            await client.send(listen_hello())
            await client.receive()
            await client.send({"type": "error", "code": "internal", "reason": NASTY})
            await client.last_word()
            await until(lambda: "gave up" in caplog.text, "it was not told")

    with caplog.at_level(logging.DEBUG, "streamcodec"):
        run(main())
    lines = [record.getMessage() for record in caplog.records]
    assert_clean(lines)
    assert any("forged" in line and "\\x1b" in line for line in lines), "the reason is told, escaped"


@pytest.mark.parametrize(
    "hello",
    [
        listen_hello(format="codes", model=NASTY),
        listen_hello(stream=NASTY),
        listen_hello(role=NASTY),
        listen_hello(version=NASTY),
        {"type": NASTY},
        {NASTY: 1},
        NASTY,
        NASTY.encode(),
        listen_hello(format=NASTY),
        publish_hello(start=NASTY),
        publish_hello(resume={"session": NASTY, "epoch": NASTY, "next_seq": 0}),
        listen_hello(token=NASTY * 100),
    ],
    ids=repr,
)
def test_a_hello_that_is_wrong_is_one_escaped_line(hello, caplog):
    async def main():
        async with serving() as server, raw(server.url) as client:
            await client.send(hello)
            word, _ = await client.last_word()
            assert word is not None and word["reason"].isprintable()

    with caplog.at_level(logging.DEBUG, "streamcodec"):
        run(main())
    assert_clean([record.getMessage() for record in caplog.records])


def test_a_publishers_words_reach_its_listeners_escaped():
    class Nowhere:
        device_s = 0.0

        def write(self, *_, **__):
            return 0.0

    async def main():
        notes: list[str] = []
        async with serving() as server, raw(server.url) as client:
            await client.send(publish_hello("nasty"))
            await client.receive()
            async with listen(server.url, "nasty", format="pcm_s16le") as listener:
                await client.send(packet(0))
                await client.send({"type": "gap", "first_seq": 1, "count": 2, "reason": NASTY})
                await client.send(packet(3))
                await client.send({"type": "end", "last_seq": 3})
                await play(listener, Player(), Nowhere(), note=notes.append)
        assert_clean(notes)
        assert any("2 packets lost" in note and "forged" in note for note in notes)

    run(main())
