"""`mic` and `play` with a server of a stereo model in chunks: both channels go through, to files and to pipes."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from cli_rig import fails
from live_rig import a_server, command, run, until, voice
from made_up_models import stereo_model

import streamcodec
from streamcodec.audio import read_audio, write_audio
from streamcodec.codec import Codec
from streamcodec.server import Server


def stereo_codec() -> Codec:
    return streamcodec.load(stereo_model(), engine="torch")


def stereo_server() -> Server:
    return Server(stereo_codec(), port=0, limits=a_server().limits)


@pytest.mark.parametrize("encode", [False, True])
@pytest.mark.parametrize("pcm", [False, True])
def test_a_stereo_file_is_published_and_recorded_as_the_whole_clip(encode, pcm, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    clip = voice(0.5, rate=48_000, channels=2)
    write_audio("x.wav", clip, 48_000)
    model = ["--model", stereo_model()]

    async def main():
        async with stereo_server() as server:
            where = ["--server", server.url]
            play = asyncio.create_task(command("play", *where, "--output", "heard.wav", *(["--pcm"] if pcm else model), "--quiet"))
            await until(lambda: server.registry.num_listeners == 1 or play.done())
            assert (
                await command("mic", *where, "--input", "x.wav", "--fast", "--quiet", *(["--encode", *model] if encode else ["--stereo"]))
                == 0
            )
            assert await play == 0

    run(main())
    heard, rate = read_audio("heard.wav")
    codec = stereo_codec()
    expected = codec.decode(codec.encode(clip))
    length = min(heard.shape[1], expected.shape[1])
    assert (heard.shape[0], rate) == (2, 48_000) and length >= clip.shape[1]
    np.testing.assert_allclose(heard[:, :length], np.clip(expected[:, :length], -1, 1), atol=1e-4 + 2**-15)
    assert "120 frames a packet" in capsys.readouterr().err


def test_a_packet_length_that_the_model_cannot_have_is_refused(tmp_path, capsys):
    write_audio(tmp_path / "x.wav", voice(0.1), 24_000)
    arguments = ["mic", "--input", str(tmp_path / "x.wav"), "--encode", "--model", stereo_model(), "--packet-frames", "6"]
    status, line = fails(capsys, *arguments)
    assert status == 2 and line.endswith("packet_frames is 6, expected 120: this model codes chunks of 0.1 s")
