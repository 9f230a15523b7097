"""The two programs against a real server: what is recorded is the offline decode of the stream, whatever happens on the way."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from live_rig import Tap, a_server, command, free_port, run, started, tapped, tiny_codec, until, voice
from made_up_models import small_model
from parity import assert_same_codes
from patience import TIMEOUT_S

import streamcodec.client.reconnect
from streamcodec.audio import float_to_pcm, pcm_to_float, read_audio, write_audio
from streamcodec.cli import main
from streamcodec.cli.status import LiveLine
from streamcodec.client import PublishOptions, publish, sources
from streamcodec.errors import ConnectionFailed, InputError, LocalProtocolError, Refused
from streamcodec.protocol import ClockEstimate, Gap, Packet, StreamStart
from streamcodec.server import Server, Tokens

# One step of 16 bits, and what sums in another order may add.
STEP = 1.5 / 32_768


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs wait for a server no longer than the test takes anyway."""
    monkeypatch.setattr(streamcodec.client.reconnect, "backoff", lambda *_: iter(lambda: 0.01, None))


@pytest.fixture
def clip(tmp_path):
    """A file of 0.9 s, and its samples."""
    x = voice(0.9)
    write_audio(tmp_path / "talk.wav", x, 24_000)
    return tmp_path / "talk.wav", x


def play_to(path: Any, url: str, *more: str) -> Any:
    return command("play", "--server", url, "--output", path, "--model", small_model(), "--quiet", *more)


def publish_file(path: Any, url: str, *more: str) -> Any:
    return command("mic", "--server", url, "--input", path, "--model", small_model(), "--quiet", *more)


async def heard_by_server(server: Server) -> None:
    """Wait until whoever is to listen does: what is published before that is no part of what it hears."""
    await until(lambda: server.registry.num_listeners >= 2)


def recorded(path: Any) -> Any:
    samples, rate = read_audio(path)
    assert rate == 24_000
    return samples[0]


async def through(server: Server, input_: Any, output: Any, mic_options: tuple[str, ...], play_options: tuple[str, ...] = ()) -> Tap:
    """Publish `input_`, record it as `output`, and return what a listener of the test's own got."""
    async with tapped(server) as tap, started(play_to(output, server.url, *play_options)) as playing:
        await heard_by_server(server)
        assert await publish_file(input_, server.url, *mic_options) == 0
        assert await playing == 0
    return tap


@pytest.mark.parametrize(
    "options",
    [(), ("--fast",), ("--fast", "--encode"), ("--fast", "--encode", "--start", "exact"), ("--fast", "--packet-frames", "1")],
    ids=" ".join,
)
def test_a_recording_is_the_offline_decode_of_the_stream(tmp_path, clip, options):
    path, x = clip

    async def scene() -> Tap:
        async with a_server() as server:
            return await through(server, path, tmp_path / "heard.wav", options)

    tap = run(scene())
    heard = recorded(tmp_path / "heard.wav")
    assert len(x) <= len(heard) < len(x) + 320
    np.testing.assert_allclose(heard, tap.audio(), atol=STEP)
    # ... and the stream is what the codec makes of the file.
    encoder = tiny_codec("test").stream_encoder(start=tap.kind)
    expected = np.concatenate([*encoder.feed(x), *encoder.flush()], axis=1)
    assert_same_codes(tiny_codec("test"), tap.codes, expected, x, tap.kind)


def test_hardly_anything_is_sent_of_silence_where_that_is_asked_for_whoever_encodes(tmp_path, capsys):
    x = voice(2.4)
    x[24_000 : 24_000 + 19_200] *= 0.003
    x += 0.05 * (np.abs(np.arange(len(x)) - 33_600) >= 9_600) * np.sign(np.sin(np.arange(len(x)) / 20)).astype(np.float32)
    write_audio(tmp_path / "talk.wav", x, 24_000)

    async def scene() -> list[Tap]:
        async with a_server() as server:
            taps, heard = [], tmp_path / "heard.wav"
            for options in ((), ("--dtx",), ("--encode", "--dtx"), ("--dtx", "-90"), ("--encode", "--dtx", "-90"), ("--dtx", "0")):
                taps.append(await through(server, tmp_path / "talk.wav", heard, ("--fast", *options)))
                assert len(recorded(heard)) == len(x), "what was not sent is heard all the same"
            return taps

    every, *quiet, never, never_encoded, always = [[packet.n_q for packet in tap.of(Packet)] for tap in run(scene())]
    assert every == never == never_encoded == [8] * 30
    assert always == [1] * 3, "one every 0.8 s"
    # From 0.3 s after the last packet that is not silent, up to the next one that is not.
    assert quiet == [[8] * 17 + [1] + [8] * 8] * 2
    said = capsys.readouterr().err
    assert "packets lost" not in said
    assert "'live': 26 packets, 0 lost" in said


@pytest.mark.parametrize("options", [(), ("--encode",)], ids=" ".join)
def test_a_publishers_ledger_has_every_packet_and_how_long_it_took_to_go(tmp_path, clip, options):
    path, _ = clip
    ledger = tmp_path / "sent.jsonl"

    async def scene() -> Tap:
        async with a_server() as server:
            return await through(server, path, tmp_path / "heard.wav", ("--ledger", ledger, *options))

    packets = run(scene()).of(Packet)
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    # A file's blocks are 20 ms; a packet of codes has four of them.
    packet_us = 80_000 if options else 20_000
    assert [line["seq"] for line in lines] == list(range(len(packets) if options else 45))
    steps = np.diff([line["captured_us"] for line in lines])[:-1]
    assert steps == pytest.approx(packet_us, abs=5_000)
    assert all(0.0 <= line["sent_ms"] < 1000 * TIMEOUT_S for line in lines[:-1])
    assert lines[-1]["round_trip_ms"] > 0


@pytest.mark.parametrize("value", ["1", "-121", "quiet"])
def test_a_silence_that_is_no_level_is_refused(value, capsys):
    assert main(["mic", "--dtx", value]) == 2
    assert f"'{value}' is no number from -120 to 0" in capsys.readouterr().err


def test_a_file_is_published_at_the_pace_of_a_microphone(tmp_path, clip, monkeypatch):
    path, x = clip
    paces: list[float] = []
    until_over = sources.RealTime.until_over

    async def measured(self: Any, duration_s: float) -> int:
        paces.append(duration_s)
        return await until_over(self, duration_s)

    monkeypatch.setattr(sources.RealTime, "until_over", measured)
    # Both ends read one clock here, and an estimate would be off by what the machine takes to answer a ping.
    monkeypatch.setattr(ClockEstimate, "offset", 0)

    async def scene() -> Tap:
        async with a_server() as server:
            return await through(server, path, tmp_path / "heard.wav", ())

    tap = run(scene())
    assert sum(paces) == pytest.approx(len(x) / 24_000)
    assert max(paces) <= 0.02
    stamps = [packet.timestamp for packet in tap.of(Packet)]
    np.testing.assert_allclose(np.diff(stamps), 80_000, atol=1_000)


def test_a_listener_may_take_less_of_the_stream(tmp_path, clip):
    path, _ = clip

    async def scene() -> Tap:
        async with a_server() as server:
            return await through(server, path, tmp_path / "heard.wav", ("--fast", "--bandwidth", "12"), ("--bandwidth", "1.5"))

    tap = run(scene())
    assert tap.codes.shape[0] == 16
    # A primed start depends on n_q: the silence before the stream had as many codebooks.
    decoder = tiny_codec("test").stream_decoder(1.5, start=tap.kind)
    expected = np.concatenate([decoder.feed(tap.codes[:2]), decoder.flush()])
    np.testing.assert_allclose(recorded(tmp_path / "heard.wav"), expected, atol=STEP)


def test_the_server_decodes_for_whoever_has_no_model(tmp_path, clip, monkeypatch):
    path, _ = clip

    def no_model(*_: Any, **__: Any) -> None:
        raise AssertionError("playing PCM must not load a model")

    async def scene() -> Tap:
        async with a_server() as server:
            monkeypatch.setattr("streamcodec.codec.load", no_model)
            return await through(server, path, tmp_path / "heard.wav", ("--fast",), ("--pcm",))

    tap = run(scene())
    np.testing.assert_allclose(recorded(tmp_path / "heard.wav"), tap.audio(), atol=STEP)


def test_a_stereo_file_of_another_rate_is_mixed_down_and_keeps_its_length(tmp_path):
    x = voice(0.7, 44_100, channels=2)
    write_audio(tmp_path / "stereo.wav", x, 44_100)

    async def scene() -> Tap:
        async with a_server() as server:
            return await through(server, tmp_path / "stereo.wav", tmp_path / "heard.wav", ("--fast",))

    tap = run(scene())
    heard = recorded(tmp_path / "heard.wav")
    assert 0 <= len(heard) - 0.7 * 24_000 < 320
    np.testing.assert_allclose(heard, tap.audio(), atol=STEP)
    encoder = tiny_codec("test").stream_encoder(start=tap.kind, sample_rate=44_100)
    wire = pcm_to_float(float_to_pcm(x.mean(axis=0), "pcm_s16le"), "pcm_s16le")
    expected = np.concatenate([*encoder.feed(wire), *encoder.flush()], axis=1)
    assert_same_codes(tiny_codec("test"), tap.codes, expected, wire, tap.kind, rate=44_100)


def test_pipes_carry_raw_samples_in_and_out(monkeypatch):
    x = voice(0.5, 16_000)
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(float_to_pcm(x, "pcm_s16le"))))
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=out))

    async def scene() -> Tap:
        async with a_server() as server:
            return await through(server, "-", "-", ("--fast", "--rate", "16000"))

    tap = run(scene())
    np.testing.assert_allclose(pcm_to_float(out.getvalue(), "pcm_s16le"), tap.audio(), atol=STEP)


def test_somebody_who_reads_no_more_ends_the_player(monkeypatch, clip):
    path, _ = clip
    reading, writing = os.pipe()
    os.close(reading)

    async def scene() -> None:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=pipe))
            async with a_server() as server:
                playing = asyncio.ensure_future(play_to("-", server.url))
                await until(lambda: server.registry.num_listeners)
                await publish_file(path, server.url, "--fast")
                with pytest.raises(BrokenPipeError):
                    await playing

    run(scene())


# What goes wrong ---------------------------------------------------------------------------------------------------------------------


def test_both_wait_for_a_server_that_is_not_there_yet(tmp_path, clip, capsys):
    path, x = clip
    port = free_port()
    url = f"ws://127.0.0.1:{port}"

    async def scene() -> None:
        async with started(play_to(tmp_path / "heard.wav", url)) as playing:
            said = ""

            def refused() -> bool:
                nonlocal said
                said += capsys.readouterr().err
                return "trying again in" in said

            await until(refused)
            assert f"cannot connect to {url}: " in said
            assert "Is the server running (streamcodec serve)?" in said
            async with a_server(port=port) as server:
                await until(lambda: server.registry.num_listeners)
                assert await publish_file(path, url, "--fast") == 0
                assert await playing == 0

    run(scene())
    assert 0 <= len(recorded(tmp_path / "heard.wav")) - len(x) < 320


def test_without_retry_a_missing_server_is_an_error(tmp_path, clip):
    path, _ = clip
    url = f"ws://127.0.0.1:{free_port()}"
    with pytest.raises(ConnectionFailed, match="cannot connect"):
        run(publish_file(path, url, "--no-retry"))
    with pytest.raises(ConnectionFailed, match="cannot connect"):
        run(play_to(tmp_path / "heard.wav", url, "--no-retry"))


def test_a_following_player_records_on_when_the_server_was_restarted(tmp_path, clip):
    _, x = clip
    port = free_port()
    url = f"ws://127.0.0.1:{port}"

    async def one_life(parts: int) -> None:
        async with a_server(port=port) as server:
            await until(lambda: server.registry.num_listeners)
            async with publish(url, "live", PublishOptions(pace="fast")) as publisher:
                for _ in range(parts):
                    await publisher.send(x)
            await until(lambda: not server.registry.streams)

    async def scene() -> None:
        heard = tmp_path / "heard.wav"
        async with started(play_to(heard, url, "--follow")) as playing:
            await one_life(1)
            await until(lambda: len(recorded(heard)) >= len(x))
            await one_life(2)
            await until(lambda: len(recorded(heard)) >= 3 * len(x))
            assert not playing.done()

    run(scene())


def test_a_publisher_goes_on_behind_what_was_lost_when_the_server_was_restarted(capsys):
    port = free_port()
    url = f"ws://127.0.0.1:{port}"
    reading, writing = os.pipe()
    second = float_to_pcm(voice(1.0), "pcm_s16le")

    async def scene() -> Tap:
        with contextlib.ExitStack() as stack:
            pipe = stack.enter_context(os.fdopen(reading, "rb"))
            into = stack.enter_context(os.fdopen(writing, "wb", buffering=0))
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            patch.setattr(sys, "stdin", SimpleNamespace(buffer=pipe))
            args = ("--server", url, "--input", "-", "--rate", "24000", "--quiet")
            async with started(command("mic", *args)) as publishing:
                async with a_server(port=port) as server, tapped(server) as first:
                    # What comes on the pipe decides what it is: before that there is no stream.
                    await asyncio.to_thread(into.write, second)
                    await until(lambda: len(first.of(Packet)) >= 10)
                    await server.stop()  # in the middle of it
                assert not publishing.done()
                async with a_server(port=port) as server, tapped(server) as again:
                    await asyncio.to_thread(into.write, second)
                    await until(lambda: server.registry.streams)
                    into.close()
                    assert await publishing == 0
        return again

    tap = run(scene())
    assert not tap.of(Gap)
    # What waited in the pipe and what came later; a torn sample would sound like noise at full scale.
    assert 0.3 * 75 <= tap.codes.shape[1] <= 75 * 2
    assert "trying again" in capsys.readouterr().err


def test_a_file_whose_last_words_were_lost_is_an_error_and_no_empty_stream(clip, monkeypatch):
    path, _ = clip

    async def scene() -> None:
        async with a_server() as server:

            async def broken(_: Any) -> None:
                raise ConnectionFailed("the connection was lost")

            monkeypatch.setattr("streamcodec.client.Publisher.end", broken)
            with pytest.raises(ConnectionFailed, match="was lost"):
                await publish_file(path, server.url, "--fast")
            assert server.metrics.publishers_accepted == 1

    run(scene())


@pytest.fixture
def endless_pipe(monkeypatch) -> Iterator[None]:
    """Standard input as a microphone that never ends: silence, as fast as it is read."""
    reading, writing = os.pipe()

    def pour() -> None:
        with contextlib.suppress(OSError):
            while True:
                os.write(writing, bytes(4800))

    pipe = os.fdopen(reading, "rb")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=pipe))
    thread = threading.Thread(target=pour, daemon=True)
    thread.start()
    yield
    pipe.close()
    thread.join()
    os.close(writing)


@pytest.mark.usefixtures("endless_pipe")
def test_an_interrupted_publisher_ends_its_stream_politely(tmp_path, capsys):
    async def scene() -> Tap:
        async with (
            a_server() as server,
            tapped(server) as tap,
            started(play_to(tmp_path / "heard.wav", server.url)) as play,
        ):
            await heard_by_server(server)
            args = ("mic", "--server", server.url, "--input", "-", "--rate", "24000", "--fast", "--quiet")
            publishing = asyncio.ensure_future(command(*args))
            await until(lambda: len(tap.of(Packet)) >= 5)
            publishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await publishing
            assert await play == 0
        return tap

    tap = run(scene())
    assert tap.events[-1].reason == "the publisher ended it"
    assert f"published {len(tap.of(Packet))} packets as 'live'" in capsys.readouterr().err
    np.testing.assert_allclose(recorded(tmp_path / "heard.wav"), tap.audio(), atol=STEP)


@pytest.mark.usefixtures("endless_pipe")
def test_an_interrupt_is_obeyed_even_where_the_server_is_gone(monkeypatch):
    async def scene() -> None:
        async with a_server() as server:
            args = ("mic", "--server", server.url, "--input", "-", "--rate", "24000", "--fast", "--quiet")
            publishing = asyncio.ensure_future(command(*args))
            await until(lambda: server.metrics.packets_emitted)

            async def broken(_: Any) -> None:
                raise ConnectionFailed("the connection was lost")

            monkeypatch.setattr("streamcodec.client.Publisher.end", broken)
            publishing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await publishing

    run(scene())


def test_an_interrupted_player_leaves_a_whole_file(tmp_path, clip, capsys):
    _, x = clip
    heard = tmp_path / "heard.flac"

    async def scene() -> None:
        async with a_server() as server:
            playing = asyncio.ensure_future(play_to(heard, server.url))
            await until(lambda: server.registry.num_listeners)
            async with publish(server.url, "live", PublishOptions(pace="fast")) as publisher:
                await publisher.send(x)
                await until(heard.exists)
                playing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await playing

    run(scene())
    assert recorded(heard).size <= len(x)
    assert "'live': " in capsys.readouterr().err


@pytest.mark.parametrize("program", ["mic", "play"])
def test_what_the_server_refuses_for_good_is_not_tried_again(tmp_path, clip, program):
    path, _ = clip

    async def scene() -> None:
        tokens = Tokens(publish=("secret",), listen=("secret",))
        async with a_server(tokens=tokens) as server:
            with pytest.raises(Refused, match=r"a token is needed to .* \(unauthorized; do not retry unchanged\)"):
                await (publish_file(path, server.url) if program == "mic" else play_to(tmp_path / "heard.wav", server.url))
            assert server.metrics.refused == 1
            more = ("--token", "secret", "--fast")
            assert await publish_file(path, server.url, *more) == 0

    run(scene())


def test_a_player_with_another_model_is_told_so(tmp_path, speech_codec):
    async def scene() -> None:
        async with a_server() as server:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("streamcodec.codec.load", lambda *_, **__: speech_codec)
                with pytest.raises(Refused, match="model_mismatch") as refusal:
                    await play_to(tmp_path / "heard.wav", server.url)
            assert speech_codec.fingerprint in str(refusal.value)
            assert tiny_codec().fingerprint in str(refusal.value)

    run(scene())


def test_a_name_that_is_taken_is_tried_again_until_it_is_free(clip, capsys):
    path, x = clip

    async def scene() -> None:
        async with a_server() as server:
            async with publish(server.url, "live", PublishOptions(pace="fast")) as first:
                await first.send(x)
                second = asyncio.ensure_future(publish_file(path, server.url, "--fast"))
                await until(lambda: server.metrics.refused >= 2)
            assert await second == 0

    run(scene())
    assert "stream 'live' has a publisher already (stream_taken; try again later); trying again in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bandwidth", "7"), "bandwidth is 7.0, this model has 1.5, 3, 6, 12, 24 kbps"),
        (("--packet-frames", "26"), "packet_frames is 26, expected"),
        (("--stream", "my stream"), "stream is 'my stream', expected 1 to 64 of A-Z a-z 0-9"),
        (("--server", "http://127.0.0.1:1"), "no WebSocket address, expected for instance ws://127.0.0.1:8765"),
        (("--server", "nonsense"), "no WebSocket address"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_published_is_said_at_once(clip, options, message):
    path, _ = clip

    async def scene() -> None:
        async with a_server() as server:
            with pytest.raises((InputError, LocalProtocolError, Refused)) as refusal:
                await publish_file(path, server.url, "--fast", *options)
            assert message in str(refusal.value)

    run(scene())


def test_a_recording_keeps_its_length_where_packets_were_lost(tmp_path, clip):
    _, x = clip

    async def scene() -> Tap:
        async with (
            a_server() as server,
            tapped(server) as tap,
            started(play_to(tmp_path / "heard.wav", server.url)) as play,
        ):
            await heard_by_server(server)
            codec = tiny_codec("test")
            encoder = codec.stream_encoder(start="primed")
            packets = encoder.feed(np.tile(x, 2))
            async with publish(
                server.url, "live", PublishOptions(format="codes", model=codec.fingerprint, pace="fast", start="primed")
            ) as publisher:
                for packet in packets[:8]:
                    await publisher.send(packet)
                await until(lambda: server.metrics.packets_emitted >= 8)
                publisher._uplink.queue.lose(3)
                for packet in packets[11:]:
                    await publisher.send(packet)
            assert await play == 0
            assert len(recorded(tmp_path / "heard.wav")) == len(packets) * 1920
        return tap

    tap = run(scene())
    assert [gap.count for gap in tap.of(Gap)] == [3]


def test_the_live_line_tells_level_latency_and_losses(tmp_path, clip, monkeypatch, capsys):
    path, _ = clip

    async def scene() -> None:
        monkeypatch.setattr("streamcodec.cli.status.LiveLine", lambda **_: LiveLine(log_every_s=0))
        async with a_server() as server:
            playing = asyncio.ensure_future(play_to(tmp_path / "heard.wav", server.url))
            await until(lambda: server.registry.num_listeners)
            assert await publish_file(path, server.url, "--fast") == 0
            assert await playing == 0
            [start] = [line for line in capsys.readouterr().err.splitlines() if "round trip" in line][:1]
            assert "dB" in start and "waiting" in start

    run(scene())


def test_a_player_says_what_happens(tmp_path, clip, capsys):
    path, _ = clip

    async def scene() -> Tap:
        async with a_server() as server:
            return await through(server, path, tmp_path / "heard.wav", ("--fast",))

    tap = run(scene())
    said = capsys.readouterr().err
    assert "nobody publishes 'live' yet: waiting" in said
    assert "'live' begins: 6 kbps, 6 frames a packet (published)" in said
    assert f"'live': {len(tap.of(Packet))} packets, 0 lost, 0 underruns" in said
    assert tap.of(StreamStart)
