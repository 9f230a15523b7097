"""Recordings as files: a name that is taken, a disk that is full, a time that is looked for."""

from __future__ import annotations

import contextlib
import functools
import io
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_rig import MODEL, WORD, packet, recorded, start

from streamcodec.errors import CodesError, InputError, LocalProtocolError
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart
from streamcodec.recording import RecordedEvent, RecordingFile, RecordingReader
from streamcodec.recording.format import Mark, is_mark, read_record

MARKS = [24_000 * seconds for seconds in (10, 20, 30, 40, 60, 70, 80, 90, 100, 110, 120, 128)]


def read(path: Path) -> list[RecordedEvent]:
    with RecordingReader(path) as reader:
        return list(reader.events())


def test_an_event_is_in_the_file_when_it_was_added(tmp_path: Path) -> None:
    events = [start(), packet(0), packet(1), Gap(first_seq=2, count=3, reason="overload"), packet(5), StreamEnd(next_seq=6)]
    with RecordingFile(tmp_path / "a.rec", "live", MODEL) as file:
        for number, event in enumerate(events, 1):
            file.add(event)
            assert read(file.path) == events[:number]
            assert file.size == file.path.stat().st_size
        assert file.seconds == pytest.approx(6 * 0.08)
    assert read(file.path) == events


def test_nothing_that_is_there_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("there", "link"):
        with pytest.raises(InputError, match="exists already"):
            RecordingFile(tmp_path / name, "live", MODEL)
    with pytest.raises(InputError, match="is a folder"):
        RecordingFile(tmp_path, "live", MODEL)
    assert (tmp_path / "there").read_text() == "precious" and not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="bounds of POSIX")
def test_a_disk_that_takes_a_part_of_a_record_leaves_whole_ones(tmp_path: Path) -> None:
    import resource

    file = RecordingFile(tmp_path / "a.rec", "live", MODEL)
    file.add(start(), packet(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.size + 100, hard))
    try:
        with pytest.raises(OSError, match="too large") as failed:
            file.add(packet(1), packet(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert failed.value.filename == str(file.path)
    file.close()
    with RecordingReader(file.path) as reader:
        assert list(reader.events()) == [start(), packet(0)] and reader.faults == []


def test_an_event_that_cannot_come_now_costs_none_before_it(tmp_path: Path) -> None:
    with RecordingFile(tmp_path / "a.rec", "live", MODEL) as file:
        file.add(start(), packet(0))
        with pytest.raises(LocalProtocolError):
            file.add(packet(1), packet(3), packet(2))
        file.add(packet(2))
    assert read(file.path) == [start(), *map(packet, range(3))]


@functools.cache
def two_minutes() -> tuple[bytes, list[RecordedEvent]]:
    """Two streams, and a gap of 20 s in the first one."""
    events: list[RecordedEvent] = [start(), *map(packet, range(500))]
    events += [Gap(first_seq=500, count=250, reason="uplink"), *map(packet, range(750, 1000)), StreamEnd(next_seq=1000)]
    events += [start(session="s1"), *map(packet, range(600))]
    return recorded(events, mark_every_s=10.0)[0], events


def marks_in(data: bytes) -> list[int]:
    """The positions of all marks, found by looking at every byte."""
    found = []
    for at in range(len(data)):
        with contextlib.suppress(ValueError):
            record = read_record(data, at)
            if record is not None and is_mark(record, WORD):
                found.append(Mark.parse(record.body).position)
    return found


def test_every_ten_seconds_of_audio_there_is_a_mark() -> None:
    assert sorted(set(marks_in(two_minutes()[0]))) == MARKS


@given(st.floats(0, 200))
def test_a_time_is_found_at_the_last_mark_before_it(seconds: float) -> None:
    data, events = two_minutes()
    with RecordingReader(Path("a.rec"), io.BytesIO(data)) as reader:
        position = reader.seek(seconds)
        first, *rest = reader.events()
        assert reader.samples == 1600 * 1920 and reader.faults == []
    assert position == max((mark for mark in MARKS if mark <= seconds * 24_000), default=0)
    assert isinstance(first, StreamStart) and first.reason == ("joined" if position else "published")
    assert rest == events[len(events) - len(rest) :]
    packets = sum(event.count if isinstance(event, Gap) else isinstance(event, Packet) for event in rest)
    assert position == (1600 - packets) * 1920


def test_what_is_no_recording_is_refused_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(CodesError, match=r"nothing\.rec: No such file"):
        RecordingReader(tmp_path / "nothing.rec")
    for content, said in ((b"", "cut off in its header"), (b"\x89screc", "cut off in its header"), (b"RIFF", "not a recording")):
        (tmp_path / "a.rec").write_bytes(content)
        with pytest.raises(CodesError, match=rf"a\.rec: .*{said}"):
            RecordingReader(tmp_path / "a.rec")


def test_faults_are_told(tmp_path: Path) -> None:
    with RecordingFile(tmp_path / "a.rec", "live", MODEL) as file:
        file.add(start(), *map(packet, range(100)))
    data = bytearray(file.path.read_bytes())
    data[-1000] ^= 1
    file.path.write_bytes(data + b"\x7f")
    with RecordingReader(file.path) as reader:
        assert len(list(reader.events())) == 102 - 1
        assert reader.faults == ["1 damaged place(s)", "its last 1 bytes are no whole record"]
