"""A client in JavaScript that was written from PROTOCOL.md alone listens to a real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from server_rig import packet, publish_hello, raw, run, serving, tiny_codec, until

from streamcodec.protocol import unpack_codes

CLIENT = Path(__file__).resolve().parents[1] / "protocol" / "javascript" / "main.mjs"
FRAMES = 6

pytestmark = pytest.mark.skipif(shutil.which("node") is None and not os.environ.get("CI"), reason="Node is not installed")


async def javascript(*arguments):
    """Run the client; returns what it heard."""
    # Node 20 has WebSocket behind a flag, later ones take the flag as well.
    command = ["node", "--no-warnings", "--experimental-websocket", str(CLIENT), "listen", *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    try:
        out, err = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    assert process.returncode == 0, err.decode()
    return json.loads(out)


@pytest.mark.parametrize("form", ["codes", "pcm_s16le", "pcm_f32le"])
def test_it_hears_every_packet_and_gap_of_a_stream_to_its_end(form):
    fingerprint = [tiny_codec().fingerprint] if form == "codes" else []

    async def main():
        async with serving() as server, raw(server.url) as publisher:
            listening = asyncio.create_task(javascript(server.url, "a", form, *fingerprint))
            await until(lambda: server.registry.num_listeners == 1 or listening.done())
            await publisher.send(publish_hello("a", pace="fast"))
            await publisher.receive()
            for seq in (0, 1, 2):
                await publisher.send(packet(seq))
            await publisher.send({"type": "gap", "first_seq": 3, "count": 4, "reason": "silence"})
            await publisher.send(packet(7))
            await publisher.send({"type": "gap", "first_seq": 8, "count": 2, "reason": "uplink"})
            await publisher.send(packet(10, n_q=2))
            await publisher.send(packet(11, epoch=1))
            await publisher.send({"type": "end", "last_seq": 11})
            heard = await listening
            assert (await publisher.receive())["type"] == "ended"
        assert (heard["starts"], heard["packets"], heard["silent"], heard["lost"]) == (2, 6, 4, 2)
        assert heard["samples"] == 12 * FRAMES * 320
        assert heard["server_clock_seen"]
        assert heard["close"] == 1000
        if form == "codes":
            sent = [packet(0), packet(1), packet(2), packet(7), packet(10, n_q=2), packet(11, epoch=1)]
            for codes, (_, _, _, n_q, payload) in zip(heard["codes"], sent, strict=True):
                np.testing.assert_array_equal(codes, unpack_codes(payload, n_q))

    run(main())


def test_it_is_told_why_it_is_refused():
    async def main():
        async with serving() as server:
            heard = await javascript(server.url, "a", "codes", "f00d")
            assert (heard["code"], heard["retry"], heard["close"]) == ("model_mismatch", False, 4412)

    run(main())
