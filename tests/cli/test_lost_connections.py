"""What the programs do when a connection breaks or is refused: one line, and nothing lost that can be kept."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from live_rig import a_server, command, free_port, run, started, tapped, tiny_codec, until, voice
from made_up_models import small_model
from parity import assert_same_codes
from patience import patient_limits

import streamcodec.client.reconnect
from streamcodec.audio import read_audio, write_audio
from streamcodec.client import PublishOptions, publish
from streamcodec.errors import ConnectionFailed
from streamcodec.protocol import Gap, Packet

STEP = 1.5 / 32_768


def test_a_player_whose_connection_breaks_records_all_of_it_and_says_so_in_a_line(tmp_path, capsys):
    x = voice(1.6)
    heard = tmp_path / "heard.wav"

    async def main() -> Any:
        async with (
            a_server() as server,
            tapped(server) as tap,
            started(command("play", "--server", server.url, "--output", heard, "--model", small_model(), "--quiet")) as play,
        ):
            await until(lambda: server.registry.num_listeners >= 2)
            async with publish(server.url, "live", PublishOptions(pace="fast")) as publisher:
                await publisher.send(x[:19_200])
                await until(lambda: len(tap.of(Packet)) >= 9)
                # The tap's too: it is a listener like any other.
                for connection in list(server._connections):
                    if connection.peer.session.hello.role == "listen":
                        connection.peer.abort()
                await publisher.send(x[19_200:])
            assert await play == 0
        return tap

    tap = run(main())
    samples, _ = read_audio(heard)
    np.testing.assert_allclose(samples[0], tap.audio(), atol=STEP)
    said = capsys.readouterr().err
    assert said.count("resumed after") == 1
    assert "trying again" not in said


@pytest.mark.parametrize("encode", [(), ("--encode",)], ids=["pcm", "codes"])
def test_a_publisher_whose_connection_breaks_loses_nothing_and_says_so_in_a_line(tmp_path, capsys, encode):
    x = voice(2.0)
    write_audio(tmp_path / "talk.wav", x, 24_000)

    async def main() -> Any:
        async with a_server() as server, tapped(server) as tap:
            args = ("mic", "--server", server.url, "--input", tmp_path / "talk.wav", "--model", small_model(), "--quiet", *encode)
            async with started(command(*args)) as publishing:
                await until(lambda: len(tap.of(Packet)) >= 5)
                [connection] = [c for c in server._connections if c.peer.session.hello.role == "publish"]
                connection.peer.abort()
                assert await publishing == 0
            assert server.metrics.publishers_resumed == 1
        return tap

    tap = run(main())
    assert not tap.of(Gap)
    encoder = tiny_codec("test").stream_encoder(start=tap.kind)
    expected = np.concatenate([*encoder.feed(x), *encoder.flush()], axis=1)
    assert_same_codes(tiny_codec("test"), tap.codes, expected, x, tap.kind)
    said = capsys.readouterr().err
    assert said.count("resumed after") == 1
    assert "trying again" not in said


def test_behind_the_window_a_player_begins_anew(tmp_path, capsys):
    port = free_port()
    url = f"ws://127.0.0.1:{port}"
    heard = tmp_path / "heard.wav"

    async def main() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(streamcodec.client.reconnect, "backoff", lambda *_: iter(lambda: 0.01, None))
            async with started(command("play", "--server", url, "--output", heard, "--model", small_model(), "--quiet")) as playing:
                async with a_server(port=port, limits=patient_limits(resume_s=0.2)) as server:
                    await until(lambda: server.registry.num_listeners)
                    server.registry.closing = True
                    await server.stop()
                async with a_server(port=port) as server:
                    await until(lambda: server.registry.num_listeners)
                    async with publish(url, "live", PublishOptions(pace="fast")) as publisher:
                        await publisher.send(voice(0.4))
                    assert await playing == 0

    run(main())
    assert "trying again" in capsys.readouterr().err


def test_a_file_that_is_there_is_left_alone_until_there_is_a_connection(tmp_path):
    x = voice(0.5)
    heard = tmp_path / "heard.wav"
    write_audio(heard, x, 24_000)
    url = f"ws://127.0.0.1:{free_port()}"
    with pytest.raises(ConnectionFailed, match="cannot connect"):
        run(command("play", "--server", url, "--output", heard, "--model", small_model(), "--no-retry"))
    np.testing.assert_allclose(read_audio(heard)[0][0], x, atol=STEP)


class Endless:
    """A source that gives blocks of a third of a packet, then nothing more, and never ends."""

    label = "endless"
    sample_rate = 24_000
    channels = 1
    exhausted = False
    dropped_s = 0.0

    def __init__(self, samples: Any) -> None:
        self._samples = samples
        self.given = asyncio.Event()

    async def blocks(self) -> Any:
        for at in range(0, self._samples.size, 640):
            yield self._samples[None, at : at + 640], 1_000_000
            await asyncio.sleep(0)
        self.given.set()
        await asyncio.Event().wait()

    def close(self) -> None:
        pass


def test_an_interrupted_publisher_that_encodes_sends_its_last_packet_although_it_is_not_whole(monkeypatch, capsys):
    x = voice(0.8)[: 7 * 1920 + 1000]

    async def main() -> Any:
        source = Endless(x)
        monkeypatch.setattr("streamcodec.client.open_source", lambda *_, **__: source)
        async with a_server() as server, tapped(server) as tap:
            args = ("mic", "--server", server.url, "--model", small_model(), "--encode", "--quiet")
            publishing = asyncio.ensure_future(command(*args))
            await source.given.wait()
            publishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await publishing
        return tap

    tap = run(main())
    encoder = tiny_codec("test").stream_encoder(start=tap.kind)
    expected = np.concatenate([*encoder.feed(x), *encoder.flush()], axis=1)
    np.testing.assert_array_equal(tap.codes, expected)
    assert "published 8 packets" in capsys.readouterr().err
