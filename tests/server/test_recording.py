"""The server's own recordings: what is in them, what a slow or full disk costs, and which files a quota touches."""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_models import stereo_model
from patience import TIMEOUT_S, patient_limits
from server_rig import Heard, listening, offline_codec, publish_all, run, tiny_codec, until, voice

import streamcodec
from streamcodec.client import Player, PublishOptions, Replay, now_us, publish
from streamcodec.codec import Codec
from streamcodec.errors import InputError, Refused
from streamcodec.protocol import SILENCE, Gap, Packet, StreamEnd, StreamStart
from streamcodec.recording import RecordedEvent, RecordingFile, RecordingReader, recording_name
from streamcodec.server import RecordingFolder, Server
from streamcodec.server.admin import Admin
from streamcodec.server.recording.backlog import MISSED, Backlog


def a_server(folder: RecordingFolder, **limits: Any) -> Server:
    return Server(tiny_codec(), port=0, recordings=folder, limits=patient_limits(record_every_s=0.001, **limits))


def read(path: Path) -> list[RecordedEvent]:
    with RecordingReader(path) as reader:
        events = list(reader.events())
        assert reader.faults == []
    return events


def streamed(heard: Heard) -> list[Any]:
    return [event for event in heard.events if isinstance(event, (StreamStart, Packet, Gap, StreamEnd))]


def sound(codec: Codec, events: list[Any]) -> Any:
    player = Player(codec)
    return np.concatenate([*(player.feed(event) for event in events), player.finish()][1:-1], axis=-1)


def metric(server: Server, name: str) -> float:
    text = server.metrics.render()[0]
    [line] = [line for line in text.splitlines() if line.startswith(f"streamcodec_{name} ")]
    return float(line.split()[1])


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def finished(folder: Path) -> list[Path]:
    """The recordings whose stream is over."""
    files = []
    for path in sorted(folder.glob("*.rec")):
        with RecordingReader(path) as reader:
            files += [path] if any(isinstance(event, StreamEnd) for event in reader.events()) else []
    return files


def with_a_pause() -> Any:
    noise = np.random.default_rng(3).normal(0, 1e-4, 48_000).astype(np.float32)
    return np.concatenate([voice(1, 0.7), noise, voice(2, 0.61)])


def test_a_recording_is_what_a_listener_of_the_whole_stream_got(tmp_path: Path) -> None:
    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(a_server(RecordingFolder(tmp_path)))
            heard = await listening(stack, server.url, "alice", offline_codec())
            async with publish(server.url, "alice", PublishOptions(format="pcm_f32le", pace="fast")) as publisher:
                captured = now_us()
                await publisher.send(voice(1), captured)
                publisher.lose(0.5)
                await publisher.send(voice(2), captured + 1_500_000)
            await heard.to_end()
        [file] = files_in(tmp_path)
        assert file.name.endswith("Z_alice.rec")
        assert len(heard.of(StreamStart)) == 2 and heard.of(Gap)
        assert read(file) == streamed(heard)
        assert metric(server, "packets_recorded_total") == len(heard.of(Packet))
        assert metric(server, "recorded_bytes_total") == metric(server, "recordings_bytes") == file.stat().st_size
        assert metric(server, "recordings") == 0

    run(main())


def test_quiet_packets_are_kept_and_the_replay_is_heard_as_the_stream_was(tmp_path: Path) -> None:
    async def main() -> None:
        folder = tmp_path / "new" / "folder"
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(a_server(RecordingFolder(folder)))
            heard = await listening(stack, server.url, "alice", offline_codec())
            await publish_all(server.url, "alice", with_a_pause(), format="pcm_f32le", silence_db=-50)
            await heard.to_end()
            await until(lambda: finished(folder))
            [file] = finished(folder)
            again = await listening(stack, server.url, "again", offline_codec())
            with RecordingReader(file) as reader:
                assert reader.header.stream == "alice"
                await Replay(reader, server.url, "again", fast=True).run()
            await again.to_end()
        quiet = [event for event in read(file) if isinstance(event, Packet) and event.n_q == 1]
        assert len(quiet) > len([event for event in heard.of(Packet) if event.n_q == 1]) > 1
        assert not [event for event in read(file) if isinstance(event, Gap)]
        assert {gap.reason for gap in again.of(Gap)} == {SILENCE}
        codec = offline_codec()
        assert np.array_equal(again.audio(codec, fill_gaps=True), heard.audio(codec, fill_gaps=True))

    run(main())


def test_a_model_in_chunks_is_recorded_and_replayed_too(tmp_path: Path) -> None:
    served, heard_by = streamcodec.load(stereo_model()), streamcodec.load(stereo_model())

    async def main() -> None:
        limits = patient_limits(record_every_s=0.001)
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(Server(served, port=0, recordings=RecordingFolder(tmp_path), limits=limits))
            heard = await listening(stack, server.url, "alice", heard_by)
            stereo = voice(1, 2.5, rate=48_000, channels=2)
            await publish_all(server.url, "alice", stereo, sample_rate=48_000, channels=2, mix_down=False)
            await heard.to_end()
            await until(lambda: finished(tmp_path))
            [file] = finished(tmp_path)
            again = await listening(stack, server.url, "again", heard_by)
            with RecordingReader(file) as reader:
                await Replay(reader, server.url, "again", fast=True).run()
                assert reader.samples == 120_000
            await again.to_end()
        assert read(file) == streamed(heard) and len(heard.of(Packet)) > 3
        again_heard, first_heard = (sound(heard_by, streamed(one)) for one in (again, heard))
        assert again_heard.shape[0] == 2 and np.array_equal(again_heard, first_heard)

    run(main())


def test_a_stream_without_a_packet_leaves_no_file(tmp_path: Path) -> None:
    async def main() -> None:
        async with a_server(RecordingFolder(tmp_path)) as server:
            async with publish(server.url, "alice", PublishOptions(pace="fast")) as publisher:
                await publisher.end()
            await until(lambda: not server.registry.streams)
        assert files_in(tmp_path) == []

    run(main())


def test_a_full_disk_ends_the_recording_with_one_error_and_no_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = RecordingFile._write

    def write(self: RecordingFile, data: bytes) -> None:
        if self.size + len(data) > 2_000:
            self._file.close()  # as it is behind every error
            raise OSError(errno.ENOSPC, "No space left on device", str(self.path))
        real(self, data)

    monkeypatch.setattr(RecordingFile, "_write", write)

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(a_server(RecordingFolder(tmp_path)))
            heard = await listening(stack, server.url, "alice", offline_codec())
            ended = await publish_all(server.url, "alice", voice(1, 6.0))
            await heard.to_end()
            assert len(heard.of(Packet)) == ended.emitted and not heard.of(Gap)
            await until(lambda: metric(server, "recordings_failed_total") == 1)
        [file] = files_in(tmp_path)
        events = read(file)
        assert events == streamed(heard)[: len(events)]

    run(main(), errors_expected=True)
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 1 and "the recording of alice ends, the stream goes on" in errors[0] and "No space left" in errors[0]


def test_a_disk_that_hangs_costs_packets_of_the_recording_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, held = threading.Event(), threading.Event()
    real = RecordingFile.add

    def add(self: RecordingFile, *events: RecordedEvent) -> None:
        held.set()
        gate.wait()
        real(self, *events)

    monkeypatch.setattr(RecordingFile, "add", add)

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(a_server(RecordingFolder(tmp_path), record_backlog_s=1.0))
            heard = await listening(stack, server.url, "alice", offline_codec())
            async with publish(server.url, "alice", PublishOptions(pace="fast")) as publisher:
                await publisher.send(voice(1, 0.5))
                await until(held.is_set)
                for seed in range(8):
                    await publisher.send(voice(seed, 0.5))
                await heard.to(lambda heard: len(heard.of(Packet)) >= 50)
                gate.set()
                await until(lambda: metric(server, "packets_recorded_total") > 10)
                await publisher.send(voice(9, 0.5))
            await heard.to_end()
        assert not heard.of(Gap)
        [file] = files_in(tmp_path)
        [gap] = [event for event in read(file) if isinstance(event, Gap)]
        kept = [event for event in read(file) if isinstance(event, Packet)]
        assert gap.reason == MISSED and gap.count == metric(server, "packets_unrecorded_total") > 10
        assert len(kept) + gap.count == len(heard.of(Packet))
        assert {packet.seq: packet for packet in heard.of(Packet)}.items() >= {packet.seq: packet for packet in kept}.items()

    run(main())


def test_a_disk_that_hangs_does_not_keep_the_server_from_stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, held = threading.Event(), threading.Event()

    def add(*_: Any) -> None:
        held.set()
        gate.wait()

    monkeypatch.setattr(RecordingFile, "add", add)

    async def main() -> None:
        server = a_server(RecordingFolder(tmp_path))
        async with server:
            await publish_all(server.url, "alice", voice(1, 0.5))
            await until(held.is_set)
            server._recorder.stop = lambda _: type(server._recorder).stop(server._recorder, 0.01)  # type: ignore[union-attr,method-assign]
        gate.set()

    run(main(), errors_expected=True)


# The folder ------------------------------------------------------------------------------------------------------------------------------


def old(folder: Path, name: str, size: int = 1_000) -> Path:
    """A finished recording of some size."""
    path = folder / f"{name}.rec"
    path.write_bytes(b"\x89screc\r\n".ljust(size, b"\0"))
    return path


def test_a_server_that_drains_finishes_its_recordings_in_the_time_that_is_left(tmp_path: Path) -> None:
    async def main() -> None:
        waits: list[float] = []
        server = a_server(RecordingFolder(tmp_path))
        await server.__aenter__()
        recorder = server._recorder
        assert recorder is not None
        stop = recorder.stop
        recorder.stop = lambda timeout_s: (waits.append(timeout_s), stop(TIMEOUT_S))[1]  # type: ignore[method-assign]
        publisher = publish(server.url, "alice", PublishOptions(pace="fast"))
        await publisher.__aenter__()
        await publisher.send(voice(1))
        await until(lambda: bool(files_in(tmp_path)))
        [shown] = Admin(server.registry, server.permits, lambda: server._connections).streams()
        assert shown["recorded"] is True
        server.drain(60)
        await server.stop()
        with pytest.raises(Refused, match="closing"):
            await publisher.__aexit__(None, None, None)
        [file] = files_in(tmp_path)
        events = read(file)
        assert isinstance(events[-1], StreamEnd) and events[-1].next_seq == len([one for one in events if isinstance(one, Packet)]) > 0
        assert len(waits) == 1 and 0 < waits[0] <= min(30, server.limits.drain_s)

    run(main())


def test_where_the_quota_is_used_up_nothing_more_is_recorded(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept = old(tmp_path, "20200101T000000.000Z_old")

    async def main() -> None:
        async with a_server(RecordingFolder(tmp_path, 4_000)) as server:
            ended = await publish_all(server.url, "alice", voice(1, 6.0))
            assert ended.dropped == 0
            await until(lambda: metric(server, "recordings_failed_total") == 1)

    run(main(), errors_expected=True)
    assert kept.exists()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4_000
    assert [record for record in caplog.records if record.levelno >= logging.ERROR and "of 4000 bytes" in record.getMessage()]


def test_the_oldest_finished_recordings_make_room_where_that_is_wanted(tmp_path: Path) -> None:
    oldest, older = old(tmp_path, "20200101T000000.000Z_a"), old(tmp_path, "20200102T000000.000Z_b")
    foreign, notes = tmp_path / "20190101T000000.000Z_c.rec", tmp_path / "notes.txt"
    foreign.write_text("no recording")
    notes.write_text("precious")
    (tmp_path / "20180101T000000.000Z_d.rec").symlink_to(notes)
    folder = RecordingFolder(tmp_path, 2_500, rotate=True)
    folder.make_room(1_000)
    assert not oldest.exists() and older.exists() and folder.removed == 1
    folder.make_room(2_000)
    assert not older.exists()
    with pytest.raises(OSError, match="of 2500 bytes"):
        folder.make_room(2_500)
    assert foreign.exists() and notes.read_text() == "precious" and (tmp_path / "20180101T000000.000Z_d.rec").is_symlink()


def test_a_recording_that_a_server_writes_is_never_removed(tmp_path: Path) -> None:
    from streamcodec.server.handshake import model_info

    writing = RecordingFolder(tmp_path)
    file = writing.create("alice", model_info(tiny_codec()), "test")
    for folder in (writing, RecordingFolder(tmp_path, 10, rotate=True)):  # its own, and that of another server
        with contextlib.suppress(OSError):
            folder._quota, folder._rotate = 10, True
            folder.make_room(1)
        assert file.path.exists()
    writing.release(file)
    file.close()
    with pytest.raises(OSError, match="of 10 bytes"):
        RecordingFolder(tmp_path, 10, rotate=True).make_room(20)
    assert not file.path.exists()


def test_two_recordings_of_one_moment_have_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamcodec.server.handshake import model_info
    from streamcodec.server.recording import folder as module

    monkeypatch.setattr(module, "wall_ms", lambda: 1_764_486_000_123)
    folder = RecordingFolder(tmp_path)
    files = [folder.create("alice", model_info(tiny_codec()), "test") for _ in range(3)]
    assert [file.path.name for file in files] == [f"20251130T070000.123Z_alice{end}.rec" for end in ("", "-2", "-3")]
    for file in files:
        file.close()


def test_a_folder_that_cannot_be_one_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be used as a folder"):
        RecordingFolder(tmp_path / "file")
    with pytest.raises(InputError, match="to keep a quota"):
        RecordingFolder(tmp_path, rotate=True)


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        ("alice", "19700101T000001.005Z_alice.rec"),
        ("..", "19700101T000001.005Z_...rec"),
        ("-rf", "19700101T000001.005Z_-rf.rec"),
        ("~root", "19700101T000001.005Z_%7Eroot.rec"),
        ("../../etc/passwd", "19700101T000001.005Z_..%2F..%2Fetc%2Fpasswd.rec"),
        ("a\n\x1b[2Jb%", "19700101T000001.005Z_a%0A%1B%5B2Jb%25.rec"),
        ("\u00e9\ud800", "19700101T000001.005Z_%C3%A9%ED%A0%80.rec"),
        ("x" * 1_000, f"19700101T000001.005Z_{'x' * 200}.rec"),
    ],
)
def test_a_streams_name_decides_nothing_but_the_end_of_a_files_name(stream: str, name: str) -> None:
    assert recording_name(stream, 1_005) == name


# The backlog -----------------------------------------------------------------------------------------------------------------------------


def a_packet(seq: int, epoch: int = 0) -> Packet:
    return Packet(seq, epoch, 0, 8, bytes(60))


def a_start(epoch: int, first: int) -> StreamStart:
    return StreamStart(
        epoch=epoch,
        n_q=8,
        bandwidth=6.0,
        packet_frames=6,
        start="exact",
        first_seq=first,
        live_seq=first,
        format="codes",
        sample_rate=24_000,
    )


def test_what_waits_is_bounded_in_time_and_a_gap_names_what_is_left_out() -> None:
    backlog = Backlog(1.0)
    for seq in range(20):
        backlog.put(a_packet(seq), 0.08)
    assert [event.seq for event in backlog.take() if isinstance(event, Packet)] == list(range(13))
    assert backlog.dropped == 7 and backlog.waiting_s == pytest.approx(0.0)
    backlog.put(a_packet(20), 0.08)
    backlog.put(StreamEnd(next_seq=21))
    assert backlog.take() == [Gap(first_seq=13, count=7, reason=MISSED), a_packet(20), StreamEnd(next_seq=21)]


def test_the_end_of_a_stream_is_kept_however_full_it_is() -> None:
    backlog = Backlog(0.1)
    for seq in range(5):
        backlog.put(a_packet(seq), 0.08)
    backlog.put(StreamEnd(next_seq=5))
    assert backlog.take() == [a_packet(0), a_packet(1), Gap(first_seq=2, count=3, reason=MISSED), StreamEnd(next_seq=5)]


def test_an_epoch_whose_beginning_is_left_out_begins_with_what_is_kept() -> None:
    backlog = Backlog(0.1)
    backlog.put(a_start(0, 0))
    for seq in range(4):
        backlog.put(a_packet(seq), 0.08)
    backlog.put(a_start(1, 4))
    backlog.put(a_packet(4, 1), 0.08)
    backlog.take()
    backlog.put(a_packet(5, 1), 0.08)
    gap, start, packet = backlog.take()
    assert gap == Gap(first_seq=2, count=3, reason=MISSED)
    assert isinstance(start, StreamStart) and (start.epoch, start.first_seq, start.start) == (1, 5, "resumed")
    assert packet == a_packet(5, 1)


def test_events_without_audio_are_bounded_in_number() -> None:
    backlog = Backlog(10.0)
    for seq in range(10_000):
        backlog.put(Gap(first_seq=seq, count=1, reason="uplink"))
    assert len(backlog.take()) <= 4_100
    backlog.put(a_packet(10_000), 0.08)
    gap, _ = backlog.take()
    assert isinstance(gap, Gap) and gap.next_seq == 10_000
