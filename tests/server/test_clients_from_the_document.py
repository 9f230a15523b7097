"""Clients that stand in PROTOCOL.md, or follow it in another language, listen to a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from server_rig import packet, publish_hello, raw, run, serving, tiny_codec, until
from web_packages import bundled, needs_packages

from streamcodec.protocol import unpack_codes

DOCUMENT = Path(__file__).resolve().parents[2] / "streamcodec" / "protocol" / "PROTOCOL.md"
FRAMES = 6


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A program that listens, in TypeScript."""
    return bundled("protocol/examples/listen.ts", tmp_path_factory.mktemp("listen"))


async def output_of(*command):
    """Run a program to its end; returns what it printed."""
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    try:
        out, err = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 0, err.decode()
    return out


async def listen_by(client, *arguments):
    """Run the client; returns what it heard."""
    # Node 20 has WebSocket behind a flag, later ones take the flag as well.
    command = ["node", "--no-warnings", "--experimental-websocket", str(client), *arguments]
    return json.loads(await output_of(*command))


async def publish_with_gaps(publisher):
    """Twelve packets' worth of codes in two epochs, six of them missing; returns those that are sent."""
    await publisher.send(publish_hello("a", pace="fast"))
    await publisher.receive()
    sent = [packet(0), packet(1), packet(2), packet(7), packet(10, n_q=2), packet(11, epoch=1)]
    for one in sent:
        if one[0] == 7:
            await publisher.send({"type": "gap", "first_seq": 3, "count": 4, "reason": "silence"})
        if one[0] == 10:
            await publisher.send({"type": "gap", "first_seq": 8, "count": 2, "reason": "uplink"})
        await publisher.send(one)
    await publisher.send({"type": "end", "last_seq": 11})
    return sent


@needs_packages
@pytest.mark.parametrize("form", ["codes", "pcm_s16le", "pcm_f32le"])
def test_the_client_in_typescript_gets_every_packet_and_gap_of_a_stream_to_its_end(form, client):
    fingerprint = [tiny_codec().fingerprint] if form == "codes" else []

    async def main():
        async with serving() as server, raw(server.url) as publisher:
            listening = asyncio.create_task(listen_by(client, server.url, "a", form, *fingerprint))
            await until(lambda: server.registry.num_listeners == 1 or listening.done())
            sent = await publish_with_gaps(publisher)
            heard = await listening
            assert (await publisher.receive())["type"] == "ended"
        assert (heard["starts"], heard["packets"], heard["silent"], heard["lost"]) == (2, 6, 4, 2)
        assert heard["samples"] == 12 * FRAMES * 320
        assert heard["clock"]
        assert heard["close"] == 1000
        if form == "codes":
            for codes, (_, _, _, n_q, payload) in zip(heard["codes"], sent, strict=True):
                np.testing.assert_array_equal(codes, unpack_codes(payload, n_q))

    run(main())


@needs_packages
def test_the_client_in_typescript_is_told_why_it_is_refused(client):
    async def main():
        async with serving() as server:
            heard = await listen_by(client, server.url, "a", "codes", "f00d")
            assert (heard["code"], heard["retry"], heard["close"]) == ("model_mismatch", False, 4412)

    run(main())


def test_the_client_in_the_document_plays_a_stream_at_its_length_with_silence_for_what_is_missing(tmp_path):
    [source] = re.findall(r"^```python\n(.*?)\n```$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "client.py").write_text(source, encoding="utf-8")

    async def main():
        async with serving() as server, raw(server.url) as publisher:
            listening = asyncio.create_task(output_of(sys.executable, tmp_path / "client.py", server.url, "a"))
            await until(lambda: server.registry.num_listeners == 1 or listening.done())
            await publish_with_gaps(publisher)
            heard = np.frombuffer(await listening, "<i2").reshape(12, FRAMES * 320)
            assert (await publisher.receive())["type"] == "ended"
        assert [seq for seq in range(12) if not heard[seq].any()] == [3, 4, 5, 6, 8, 9]

    run(main())
