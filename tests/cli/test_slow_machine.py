"""A microphone on a machine that cannot keep up: what is missing is the oldest, is counted, and is told to whoever listens."""

from __future__ import annotations

import asyncio
import re
import sys
from typing import Any

import numpy as np
import pytest
from fake_sound import FakeSound
from live_rig import Tap, a_server, command, run, started, tapped, tiny_codec, until, voice
from made_up_models import small_model
from parity import assert_same_codes

from streamcodec.client import pipeline, sources
from streamcodec.protocol import Gap, StreamStart

BLOCK = 120  # 5 ms


@pytest.mark.parametrize("encode", [(), ("--encode",)], ids=["pcm", "codes"])
def test_what_a_slow_machine_did_not_read_in_time_is_a_gap_and_is_said(monkeypatch, capsys, encode):
    sound, now = FakeSound(24_000.0, channels=1), [5_000_000]
    monkeypatch.setitem(sys.modules, "sounddevice", sound)
    monkeypatch.setattr(sources, "now_us", lambda: now[0])
    x = voice(1.1)

    def record(begin: int, end: int) -> None:
        for at in range(begin, end, BLOCK):
            now[0] += 5_000
            sound.streams[0].record(x[at : at + BLOCK, None], age_s=0.005)

    async def main() -> Tap:
        async with a_server() as server, tapped(server) as tap:
            args = ("mic", "--server", server.url, "--model", small_model(), "--quiet", *encode)
            read: list[int] = []
            feed = pipeline._EncodedPieces.feed if encode else pipeline._Pieces.feed

            async def counted(self: Any, mono: Any, captured: int) -> None:
                await feed(self, mono, captured)
                read.append(mono.size)

            monkeypatch.setattr(pipeline._EncodedPieces if encode else pipeline._Pieces, "feed", counted)
            async with started(command(*args)) as publishing:
                await until(lambda: sound.streams and sound.streams[0].active)
                record(0, 4_800)
                await until(lambda: sum(read) == 4_800)
                # 0.9 s in which the program does nothing: of that it gets the last quarter of a second.
                record(4_800, 26_400)
                await until(lambda: sum(read) == 4_800 + 6_000)
                publishing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await publishing
        return tap

    tap = run(main())
    [gap] = tap.of(Gap)
    assert (gap.count, gap.reason) == (8, "publisher")
    if encode:
        heard = np.concatenate([x[:4_800], x[20_400:]])
        encoder = tiny_codec("test").stream_encoder(start=tap.kind)
        expected = np.concatenate([*encoder.feed(heard), *encoder.flush()], axis=1)
        assert_same_codes(tiny_codec("test"), tap.codes, expected, heard, tap.kind)
    else:
        assert [start.reason for start in tap.of(StreamStart)] == ["published", "publisher"]
    said = capsys.readouterr().err
    assert said.count("this machine is too slow for microphone Mouth") == 1
    assert re.search(r"published \d+ packets as 'live', 0\.[67] s of microphone Mouth lost", said)
