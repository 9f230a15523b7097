"""`record`, `replay` and `decode` of recordings, against a real server: what comes back is what was heard, bit for bit."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_rig import fails
from live_rig import Tap, a_server, command, run, started, tapped, tiny_codec, until, voice
from made_up_models import small_model

from streamcodec.audio import read_audio
from streamcodec.cli.recorded import RecordedClip, decode_recording
from streamcodec.client import Player, Publisher, PublishOptions, now_us, publish
from streamcodec.codec import Codec
from streamcodec.protocol import SILENCE, Gap, Packet, StreamEnd, StreamStart, Waiting
from streamcodec.recording import RecordedEvent, RecordingReader
from streamcodec.server import Server


def read(path: Path) -> list[RecordedEvent]:
    with RecordingReader(path) as reader:
        events = list(reader.events())
        assert reader.faults == []
    return events


def streamed(tap: Tap) -> list[RecordedEvent]:
    """What a listener got of a stream: not that it waited for one."""
    return [event for event in tap.events if not isinstance(event, Waiting)]


def audio(codec: Codec, events: list[Any]) -> Any:
    """What a listener of these events hears, in the length of the stream."""
    player = Player(codec, fill_gaps=True)
    return np.concatenate([*(player.feed(event) for event in events), player.finish()], axis=-1)


def payloads(events: list[Any]) -> list[tuple[int, bytes]]:
    return [(event.n_q, event.payload) for event in events if isinstance(event, Packet)]


def speech_and_pause() -> Any:
    """Speech, 2 s of nearly nothing, speech."""
    noise = np.random.default_rng(3).normal(0, 1e-4, 48_000).astype(np.float32)
    return np.concatenate([voice(0.7), noise, voice(0.61)])


async def publish_pcm(publisher: Publisher) -> None:
    """Two epochs with a gap between them, and a pause in each."""
    captured = now_us()
    await publisher.send(speech_and_pause(), captured)
    publisher.lose(0.5)
    await publisher.send(speech_and_pause(), captured + 3_310_000 + 500_000)


async def publish_codes(publisher: Publisher) -> None:
    """Two epochs, a gap inside the first one, and a pause in each."""
    codec = tiny_codec("recording")
    for epoch in range(2):
        encoder = codec.stream_encoder(6.0, packet_frames=6, start=publisher.welcome.start, silence_db=-50)
        for number, codes in enumerate([*encoder.feed(speech_and_pause()), *encoder.flush()]):
            if (epoch, number) == (0, 4):
                publisher.lose(0.24)
            if epoch and not number:
                await publisher.pass_on(Packet(0, 0, 0, len(codes), codec_layout(codec).pack(codes)), now_us(), new_epoch=True)
            else:
                await publisher.send(codes)


def codec_layout(codec: Codec) -> Any:
    from streamcodec.protocol import PayloadLayout

    return PayloadLayout.of(codec.config)


async def listeners_of_codes(server: Server, count: int, stream: str = "live") -> None:
    """Wait until so many listen to codes."""
    await until(lambda: [one.format for one in server.registry.listeners.get(stream, ())].count("codes") == count)


PUBLISHERS = {
    "pcm": (publish_pcm, PublishOptions(format="pcm_f32le", pace="fast", silence_db=-50)),
    "codes": (publish_codes, PublishOptions(format="codes", model=tiny_codec("recording").fingerprint, bandwidth=6.0, pace="fast")),
}


@pytest.mark.parametrize("kind", PUBLISHERS)
def test_a_recording_is_what_a_listener_got_and_its_replay_is_heard_the_same(kind: str, tmp_path: Path) -> None:
    talk: Callable[[Publisher], Coroutine[Any, Any, None]]
    talk, options = PUBLISHERS[kind]
    file = tmp_path / "talk.rec"

    async def main() -> tuple[Tap, Tap]:
        async with a_server() as server:
            recording = command("record", "live", "--server", server.url, "--output", file, "--quiet")
            async with tapped(server) as heard, started(recording) as program:
                await listeners_of_codes(server, 2)
                async with publish(server.url, "live", options) as publisher:
                    await talk(publisher)
                assert await program == 0
            async with tapped(server, "again") as again:
                await listeners_of_codes(server, 1, "again")
                assert await command("replay", file, "--server", server.url, "--stream", "again", "--fast", "--quiet") == 0
        return heard, again

    heard, again = run(main())
    codec = tiny_codec("recording")
    assert len(heard.of(StreamStart)) == 2
    assert {gap.reason == SILENCE for gap in heard.of(Gap)} == {True, False}
    assert read(file) == streamed(heard)
    assert payloads(again.events) == payloads(heard.events)
    assert [gap.count for gap in again.of(Gap)] == [gap.count for gap in heard.of(Gap)]
    assert np.array_equal(audio(codec, again.events), audio(codec, heard.events))


def recorded(path: Path, more: Sequence[Gap] = (), bandwidth: float = 6.0) -> tuple[Path, list[RecordedEvent]]:
    """A recording of 25 s, made without a server; `more` comes behind its packets."""
    from streamcodec.protocol import ModelInfo
    from streamcodec.recording import RecordingFile

    codec = tiny_codec("recording")
    config = codec.config
    model = ModelInfo(
        name=codec.name,
        fingerprint=codec.fingerprint,
        sampling_rate=config.sampling_rate,
        hop_length=config.hop_length,
        codebook_size=1 << config.bits_per_code,
        num_quantizers=config.num_quantizers,
    )
    encoder = codec.stream_encoder(bandwidth, packet_frames=6, start="primed")
    packets = [*encoder.feed(voice(25.0)), *encoder.flush()]
    n_q = len(packets[0])
    begun = StreamStart(
        epoch=0,
        n_q=n_q,
        bandwidth=bandwidth,
        packet_frames=6,
        start="primed",
        first_seq=0,
        live_seq=0,
        format="codes",
        sample_rate=24_000,
        packet_samples=1920,
        session="s",
    )
    layout = codec_layout(codec)
    events: list[RecordedEvent] = [begun]
    events += [Packet(seq, 0, 80_000 * seq, n_q, layout.pack(codes)) for seq, codes in enumerate(packets)]
    events += more
    events.append(StreamEnd(next_seq=more[-1].next_seq if more else len(packets)))
    with RecordingFile(path, "live", model) as file:
        file.add(*events)
    return path, events


@pytest.mark.parametrize(("time", "first"), [("0", 0), ("0.08", 1), ("5.01", 62), ("0:12", 150), ("0:00:24.5", 306)])
def test_a_replay_begins_at_any_time(time: str, first: int, tmp_path: Path) -> None:
    file, events = recorded(tmp_path / "talk.rec")

    async def main() -> Tap:
        async with a_server() as server, tapped(server) as heard:
            await listeners_of_codes(server, 1)
            assert await command("replay", file, "--server", server.url, "--from", time, "--fast", "--quiet") == 0
        return heard

    assert payloads(run(main()).events) == payloads(events)[first:]


def test_a_replay_keeps_the_pace_of_its_audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamcodec.client import sources

    file, events = recorded(tmp_path / "talk.rec")
    waits: list[float] = []

    async def until_over(_: Any, duration_s: float) -> int:
        waits.append(duration_s)
        return now_us()

    monkeypatch.setattr(sources.RealTime, "until_over", until_over)

    async def main() -> None:
        async with a_server() as server:
            assert await command("replay", file, "--server", server.url, "--quiet") == 0

    run(main())
    assert len(waits) == len(payloads(events))
    assert sum(waits) == pytest.approx(25.0, abs=0.02)


def test_decode_makes_what_a_listener_hears_of_a_recording(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from streamcodec.cli import main

    file, events = recorded(tmp_path / "talk.rec")
    assert main(["decode", str(file), "--model", str(small_model())]) == 0
    assert "talk.decoded.wav: 25.00 s" in capsys.readouterr().out
    samples, rate = read_audio(tmp_path / "talk.decoded.wav")
    expected = audio(tiny_codec("recording"), events)
    assert rate == 24_000
    np.testing.assert_allclose(samples[0], np.clip(expected, -1, 1), atol=1 / 32_000)


def test_decode_reads_a_recording_that_was_cut_or_damaged_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from streamcodec.cli import main

    file, _ = recorded(tmp_path / "talk.rec")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "cut.rec").write_bytes(data[:-100])
    assert main(["decode", str(tmp_path / "cut.rec"), "--model", str(small_model())]) == 0
    said = capsys.readouterr().out
    assert "1 damaged place(s)" in said and "are no whole record" in said


def test_decode_at_a_lower_bandwidth_takes_fewer_codebooks(tmp_path: Path) -> None:
    from streamcodec.cli import main

    file, events = recorded(tmp_path / "talk.rec")
    assert main(["decode", str(file), "--model", str(small_model()), "--bandwidth", "1.5"]) == 0
    samples, _ = read_audio(tmp_path / "talk.decoded.wav")
    codec = tiny_codec("recording")
    decoder = codec.stream_decoder(1.5, start="primed")
    layout = codec_layout(codec)
    packets = [layout.unpack(payload, n_q)[:2] for n_q, payload in payloads(events)]
    expected = np.concatenate([*(decoder.feed(codes) for codes in packets), decoder.flush()])
    np.testing.assert_allclose(samples[0], np.clip(expected, -1, 1), atol=1 / 32_000)


def test_decode_refuses_a_recording_of_another_model_and_a_file_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, _ = recorded(tmp_path / "talk.rec")
    assert "give its model with --model" in fails(capsys, "decode", file)[1]
    data = bytearray(file.read_bytes())
    data[8] = 2
    (tmp_path / "newer.rec").write_bytes(data)
    assert "version 2, expected 1" in fails(capsys, "decode", tmp_path / "newer.rec")[1]
    (tmp_path / "foreign.rec").write_bytes(b"RIFF")
    assert "not a recording" in fails(capsys, "replay", tmp_path / "foreign.rec")[1]
    assert "holds no packet from 60 s on" in fails(capsys, "replay", file, "--from", "1:00", "--quiet")[1]


def test_a_gap_of_years_fills_no_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, _ = recorded(tmp_path / "talk.rec", [Gap(first_seq=313, count=2**32 - 400)])
    assert "a gap of 95444 hours, expected at most 24" in fails(capsys, "decode", file, "--model", small_model())[1]
    assert not file.with_suffix(".decoded.wav").exists()
    file, events = recorded(tmp_path / "short.rec", [Gap(first_seq=313, count=1_000)])
    clip = RecordedClip(file, file.read_bytes())
    assert decode_recording(tiny_codec("recording"), clip, tmp_path / "a.wav", None, lambda _: None).endswith("a.wav: 105.00 s")
    assert read_audio(tmp_path / "a.wav")[0].shape == (1, clip.samples) == (1, audio(tiny_codec("recording"), events).shape[-1])


def test_a_recording_never_takes_the_place_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "there.rec"
    there.write_text("precious")
    assert "exists already" in fails(capsys, "record", "live", "--output", there)[1]
    (tmp_path / "link.rec").symlink_to(tmp_path / "nowhere")
    assert "exists already" in fails(capsys, "record", "live", "--output", tmp_path / "link.rec")[1]
    assert there.read_text() == "precious"
    assert "is no folder" in fails(capsys, "record", "live", "--output", tmp_path / "none" / "a.rec")[1].replace(
        "there is no folder", "is no folder"
    )


def test_an_interrupt_ends_a_recording_in_order(tmp_path: Path) -> None:
    file = tmp_path / "talk.rec"

    async def main() -> Tap:
        async with a_server() as server, tapped(server) as heard:
            recording = command("record", "live", "--server", server.url, "--output", file, "--quiet")
            async with started(recording) as program:
                await listeners_of_codes(server, 2)
                async with publish(server.url, "live", PublishOptions(pace="fast")) as publisher:
                    await publisher.send(voice(1.0))
                    await until(lambda: file.exists() and len(payloads(read_growing(file))) >= 10)
                    program.cancel()
                    await asyncio.gather(program, return_exceptions=True)
        return heard

    heard = run(main())
    events = read(file)
    assert len(payloads(events)) >= 10
    assert events == streamed(heard)[: len(events)]


def read_growing(path: Path) -> list[RecordedEvent]:
    with RecordingReader(path) as reader:
        return list(reader.events())


def test_a_recording_is_read_while_it_grows(tmp_path: Path) -> None:
    file = tmp_path / "talk.rec"
    codec = tiny_codec("recording")

    async def main() -> tuple[Tap, list[RecordedEvent]]:
        got: list[RecordedEvent] = []
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(a_server())
            heard = await stack.enter_async_context(tapped(server))
            recording = command("record", "live", "--server", server.url, "--output", file, "--quiet")
            program = await stack.enter_async_context(started(recording))
            await listeners_of_codes(server, 2)
            publisher = await stack.enter_async_context(publish(server.url, "live", PublishOptions(pace="fast")))
            await publisher.send(voice(0.5))
            await until(lambda: file.exists() and file.stat().st_size > 500)
            reader = stack.enter_context(RecordingReader(file))
            await until(lambda: got.extend(reader.events()) or len(payloads(got)) >= 5)
            await publisher.send(voice(0.5))
            await publisher.end()
            await until(lambda: got.extend(reader.events()) or isinstance(got[-1], StreamEnd))
            assert await program == 0 and reader.faults == []
        return heard, got

    heard, got = run(main())
    assert got == streamed(heard)
    assert np.array_equal(audio(codec, got), audio(codec, heard.events))


def test_a_recorder_that_loses_its_connection_for_long_goes_on_in_the_same_file(tmp_path: Path) -> None:
    """The server is another one: what ran before is over."""
    file = tmp_path / "talk.rec"

    async def publish_half(server: Server) -> None:
        async with publish(server.url, "live", PublishOptions(pace="fast")) as publisher:
            await publisher.send(voice(0.5))

    async def main() -> None:
        async with a_server() as server:
            port = server.port
            recording = command("record", "live", "--follow", "--server", server.url, "--output", file, "--quiet")
            async with started(recording) as program:
                await listeners_of_codes(server, 1)
                await publish_half(server)
                await until(lambda: file.exists() and any(isinstance(event, StreamEnd) for event in read_growing(file)))
                await server.stop()
                async with a_server(port=port) as second:
                    await listeners_of_codes(second, 1)
                    await publish_half(second)
                    await until(lambda: len([event for event in read_growing(file) if isinstance(event, StreamEnd)]) == 2)
                program.cancel()
                await asyncio.gather(program, return_exceptions=True)

    run(main())
    starts = [event for event in read(file) if isinstance(event, StreamStart)]
    assert len(starts) == 2 and starts[0].session != starts[1].session
