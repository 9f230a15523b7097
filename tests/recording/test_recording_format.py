"""A recording on bytes: what is written is read, a cut and a flipped byte cost what they must and no more."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from recording_rig import HEADER, MODEL, NOW, PACKET, WORD, packet, read, recorded, start, streams

from streamcodec.errors import CodesError, LocalProtocolError, PayloadError
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart
from streamcodec.recording import RecordedEvent, RecordingHeader, RecordingParser, RecordingSerializer, is_recording
from streamcodec.recording.cursor import Cursor
from streamcodec.recording.format import from_zigzag, pack_record, read_varint, varint, zigzag


@given(streams(), st.sampled_from([0.1, 1.0, 10.0]), st.data())
def test_what_is_written_is_read_in_pieces_of_any_size(events: list[RecordedEvent], mark_every_s: float, data: st.DataObject) -> None:
    file, _ = recorded(events, mark_every_s)
    parser, got, at = RecordingParser(), list[RecordedEvent](), 0
    while at < len(file):
        size = data.draw(st.sampled_from([1, 2, 7, 100, 10_000]))
        got += parser.feed(file[at : at + size])
        at += size
    assert got + parser.finish() == events
    assert parser.header == HEADER
    assert (parser.damaged, parser.unread) == (0, 0)


@given(streams(), st.data())
def test_a_cut_at_any_byte_loses_nothing_that_was_whole_before_it(events: list[RecordedEvent], data: st.DataObject) -> None:
    file, ends = recorded(events)
    cut = data.draw(st.integers(len(HEADER.serialize()), len(file)))
    got, parser = read(file[:cut])
    assert got == [event for event, end in zip(events, ends, strict=True) if end <= cut]
    assert parser.damaged == 0


@given(streams(), st.data())
def test_a_reader_goes_on_where_it_was_while_the_file_grows(events: list[RecordedEvent], data: st.DataObject) -> None:
    file, ends = recorded(events)
    parser, at, got = RecordingParser(), 0, list[RecordedEvent]()
    while at < len(file):
        more = data.draw(st.integers(1, 400))
        # The reader has come to the end of the file for now: it finishes with what is there, and later goes on.
        got += parser.feed(file[at : at + more]) + parser.finish()
        at += more
        assert got == [event for event, end in zip(events, ends, strict=True) if end <= at]
    assert got == events


@given(streams(), st.integers(1, 255), st.data())
def test_a_flipped_byte_costs_its_surroundings_and_is_named(events: list[RecordedEvent], flip: int, data: st.DataObject) -> None:
    file, ends = recorded(events)
    begin = len(HEADER.serialize())
    assume(len(file) > begin)
    where = data.draw(st.integers(begin, len(file) - 1))
    broken = bytearray(file)
    broken[where] ^= flip
    got, parser = read(bytes(broken))
    whole = [event for event, end in zip(events, ends, strict=True) if end <= where]
    assert got[: len(whole)] == whole
    # Whatever comes behind is true: each packet was in the stream under its own number.
    written = {(event.seq, event.payload, event.timestamp, event.epoch) for event in events if isinstance(event, Packet)}
    assert all((event.seq, event.payload, event.timestamp, event.epoch) in written for event in got if isinstance(event, Packet))
    assert parser.damaged or parser.unread
    # It is a recording still: a cursor takes what came, up to the end.
    cursor = Cursor(MODEL)
    for event in got:
        cursor.take(event)


def an_hour_of_packets(count: int) -> list[RecordedEvent]:
    return [start(), *(packet(seq, fill=seq % 251) for seq in range(count))]


def test_a_flipped_byte_in_a_packet_loses_this_packet_alone() -> None:
    events = an_hour_of_packets(200)
    file, ends = recorded(events)
    broken = bytearray(file)
    broken[ends[100] - 30] ^= 1
    got, parser = read(bytes(broken))
    assert got == [*events[:100], Gap(first_seq=99, count=1, reason="damaged"), *events[101:]]
    assert parser.damaged == 1


def test_a_length_that_is_wrong_loses_this_packet_alone() -> None:
    events = an_hour_of_packets(200)
    file, ends = recorded(events)
    for wrong in (0x00, 0x01, 0x85, 0xFF):
        broken = bytearray(file)
        broken[ends[99]] = wrong
        got, _ = read(bytes(broken))
        assert got == [*events[:100], Gap(first_seq=99, count=1, reason="damaged"), *events[101:]]


def test_two_damaged_places_between_two_marks_lose_what_lies_between_them() -> None:
    events = an_hour_of_packets(200)
    file, ends = recorded(events, mark_every_s=10.0)
    broken = bytearray(file)
    broken[ends[20] - 30] ^= 1
    broken[ends[40] - 30] ^= 1
    got, _ = read(bytes(broken))
    assert got == [*events[:20], Gap(first_seq=19, count=21, reason="damaged"), *events[41:]]


def test_a_stretch_of_zeros_loses_what_it_covers() -> None:
    events = an_hour_of_packets(600)
    file, ends = recorded(events)
    got, parser = read(file[: ends[100]] + bytes(ends[400] - ends[100]) + file[ends[400] :])
    assert got == [*events[:101], Gap(first_seq=100, count=300, reason="damaged"), *events[401:]]
    assert parser.damaged == 1


def test_behind_a_lost_start_the_next_mark_says_what_runs() -> None:
    first, second = start(), start(epoch=1, first=30)
    events = [first, *map(packet, range(30)), second, *(packet(seq, 1) for seq in range(30, 100))]
    file, ends = recorded(events)
    broken = bytearray(file)
    broken[ends[31] - 20] ^= 1
    got, _ = read(bytes(broken))
    assert got[:31] == events[:31]
    begun = got[31]
    assert isinstance(begun, StreamStart)
    assert (begun.first_seq, begun.epoch, begun.start, begun.reason) == (30, 1, "resumed", "damaged")
    assert got[32:] == events[32:]


def test_behind_a_lost_beginning_the_first_mark_says_what_runs() -> None:
    events = an_hour_of_packets(60)
    file, ends = recorded(events)
    broken = bytearray(file)
    broken[ends[0] - 5] ^= 1
    got, _ = read(bytes(broken))
    assert isinstance(got[0], StreamStart) and got[0].bandwidth == 6.0 and got[0].packet_samples == PACKET
    # The packets before the first mark are whole, and are counted from there backwards.
    assert got[1:] == events[1:]


def test_an_error_that_no_record_shows_is_found_by_the_next_mark() -> None:
    events = an_hour_of_packets(40)
    file, ends = recorded(events)
    other = pack_record(b"\x00" + b"\x77" * 60, plain=True)
    assert ends[10] - ends[9] == len(other)
    _, parser = read(file[: ends[9]] + other + file[ends[10] :])
    assert parser.damaged == 1


def test_what_a_later_version_adds_to_this_one_is_passed_over() -> None:
    events = an_hour_of_packets(5)
    file, ends = recorded(events)
    strange = pack_record(b"\x09of a kind that nobody knows")
    got, parser = read(file[: ends[2]] + strange + file[ends[2] : ends[-1]])
    assert got == events and parser.damaged == 0


def test_a_publisher_cannot_write_a_mark() -> None:
    """Its word is random: a payload that looks like a mark of another file is a payload."""
    serializer = RecordingSerializer(HEADER)
    serializer.add(start(), NOW)
    forged = serializer.mark(NOW).replace(WORD, b"guess!")
    payload = (forged * 3)[:60]
    events = [start(), Packet(0, 0, 0, 8, payload), *map(packet, range(1, 20))]
    file, ends = recorded(events)
    broken = bytearray(file)
    broken[ends[1] - 61] ^= 1
    got, _ = read(bytes(broken))
    assert got == [events[0], Gap(first_seq=0, count=1, reason="damaged"), *events[2:]]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"RIFF" + bytes(100), "not a recording"),
        (HEADER.serialize()[:8] + b"\x02" + HEADER.serialize()[9:], "version 2, expected 1"),
        (HEADER.serialize()[:60] + b"!" + HEADER.serialize()[61:], "damaged header"),
    ],
)
def test_a_foreign_file_a_newer_version_and_a_damaged_header_are_told_apart(data: bytes, said: str) -> None:
    with pytest.raises(CodesError, match=said):
        RecordingParser().feed(data)


def test_a_header_that_lacks_a_field_is_refused_by_its_name() -> None:
    import msgpack

    packed = msgpack.packb({"stream": "live", "mark_word": WORD})
    data = HEADER.serialize()[:9] + len(packed).to_bytes(2, "big") + packed
    with pytest.raises(CodesError, match="model is missing"):
        RecordingParser().feed(data + zlib.crc32(data).to_bytes(4, "big"))


@given(st.binary(max_size=300))
def test_any_bytes_behind_a_header_are_damage_and_no_exception(junk: bytes) -> None:
    got, parser = read(HEADER.serialize() + junk)
    assert all(not isinstance(event, Packet) for event in got)
    assert parser.header == HEADER


@given(st.binary(max_size=300))
def test_any_bytes_are_no_recording_or_the_beginning_of_one(junk: bytes) -> None:
    try:
        header = RecordingParser().feed(junk)
    except CodesError:
        assert not is_recording(junk) or len(junk) > 8
    else:
        assert header == []


def test_events_out_of_order_are_refused_and_leave_the_recording_as_it_was() -> None:
    serializer = RecordingSerializer(HEADER, mark_every_s=0.1)
    data = HEADER.serialize()
    with pytest.raises(LocalProtocolError, match="expected a start"):
        serializer.add(packet(0), NOW)
    for event in (start(), packet(0), packet(1), packet(2)):
        data += serializer.add(event, NOW)
    for wrong in (packet(4), Gap(first_seq=4, count=1), StreamEnd(next_seq=4), packet(3, epoch=1), packet(3, n_q=9)):
        with pytest.raises(LocalProtocolError, match="expected"):
            serializer.add(wrong, NOW)
    with pytest.raises(PayloadError):
        serializer.add(Packet(3, 0, 0, 8, b"short"), NOW)
    data += serializer.add(packet(3), NOW) + serializer.mark(NOW)
    got, parser = read(data)
    assert got == [start(), *map(packet, range(4))] and parser.damaged == 0


@given(st.integers(0, 2**53))
def test_numbers_come_back(value: int) -> None:
    assert read_varint(varint(value) + b"rest", 0) == (value, len(varint(value)))
    assert from_zigzag(zigzag(value)) == value
    assert from_zigzag(zigzag(-value)) == -value


def test_an_hour_at_6_kbps_takes_at_most_2_9_megabytes() -> None:
    """Of which the codes are 2.7 MB."""
    serializer = RecordingSerializer(HEADER)
    size = len(HEADER.serialize()) + len(serializer.add(start(), NOW))
    for seq in range(45_000):
        size += len(serializer.add(packet(seq, fill=seq % 256, jitter=seq % 31), NOW + 80 * seq))
    assert serializer.samples == 3600 * 24_000
    assert 45_000 * 60 < size <= 2_900_000


def test_the_header_is_what_the_page_says() -> None:
    found = RecordingHeader.parse(HEADER.serialize() + b"more")
    assert found == (HEADER, len(HEADER.serialize()))
    assert RecordingHeader.parse(HEADER.serialize()[:-1]) is None
