"""Made-up streams, and recordings of them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from streamcodec.protocol import Gap, ModelInfo, Packet, StreamEnd, StreamStart, pack_codes, payload_size
from streamcodec.recording import RecordedEvent, RecordingHeader, RecordingParser, RecordingSerializer

MODEL = ModelInfo(
    name="small",
    fingerprint="f00d",
    sampling_rate=24_000,
    hop_length=320,
    codebook_size=1024,
    num_quantizers=32,
    bandwidths=(1.5, 3.0, 6.0),
)
WORD = b"\x00word\xff"
HEADER = RecordingHeader(stream="live", model=MODEL, mark_word=WORD, begun_ms=1_764_486_000_000, program="test")
PACKET = 1920
NOW = 1_764_486_000_000


def start(epoch: int = 0, first: int = 0, live: int | None = None, session: str = "s0", kind: str = "primed", n_q: int = 8) -> StreamStart:
    return StreamStart(
        epoch=epoch,
        n_q=n_q,
        bandwidth=0.75 * n_q,
        packet_frames=6,
        start=kind,  # type: ignore[arg-type]
        first_seq=first,
        live_seq=first if live is None else live,
        format="codes",
        sample_rate=24_000,
        packet_samples=PACKET,
        session=session,
        reason="published",
    )


def packet(seq: int, epoch: int = 0, n_q: int = 8, fill: int = 0x5A, jitter: int = 0, frames: int = 6) -> Packet:
    payload = bytes([fill]) * payload_size(n_q, frames)
    if n_q % 2:  # its last bits are padding
        payload = payload[:-1] + bytes([fill & 0xF0])
    return Packet(seq, epoch, (3_000_000_000 + 80_000 * seq + jitter) % 2**32, n_q, payload)


@st.composite
def streams(draw: st.DrawFn, most: int = 25) -> list[RecordedEvent]:
    """The events of a few streams in a row: packets loud and quiet, gaps, epochs, history at a join, ends or none."""
    events: list[RecordedEvent] = []
    for number in range(draw(st.integers(1, 3))):
        seq = draw(st.sampled_from([0, 0, 7, 70_000]))
        live = seq + draw(st.sampled_from([0, 0, 3]))
        begun = start(first=seq, live=live, session=f"s{number}", kind="resumed" if seq else "primed")
        events.append(begun)
        for what in draw(st.lists(st.sampled_from("ppppppqqgse"), max_size=most)):
            if what in "pq":
                jitter = draw(st.sampled_from([0, 0, 3, -60, 5_000, -5_000_000]))
                events.append(packet(seq, begun.epoch, 8 if what == "p" else 1, draw(st.integers(0, 255)), jitter))
                seq += 1
            elif what in "gs":
                gap = Gap(first_seq=seq, count=draw(st.integers(1, 10)), reason="silence" if what == "s" else "overload")
                events.append(gap)
                seq = gap.next_seq
            else:
                begun = replace(begun, epoch=(begun.epoch + 1) % 256, first_seq=seq, live_seq=seq, start="primed")
                events.append(begun)
        if draw(st.booleans()):
            events.append(StreamEnd(next_seq=seq, reason="the publisher ended it"))
    return events


def recorded(events: list[RecordedEvent], mark_every_s: float = 1.0) -> tuple[bytes, list[int]]:
    """A file of these events, and where each one ends in it."""
    serializer = RecordingSerializer(HEADER, mark_every_s)
    data, ends = HEADER.serialize(), []
    for event in events:
        data += serializer.add(event, NOW)
        ends.append(len(data))
    return data + serializer.mark(NOW), ends


def read(data: bytes) -> tuple[list[RecordedEvent], RecordingParser]:
    parser = RecordingParser()
    return parser.feed(data) + parser.finish(), parser


def codes_packet(seq: int, codes: object, epoch: int = 0) -> Packet:
    return Packet(seq, epoch, (80_000 * seq) % 2**32, codes.shape[0], pack_codes(codes, 10))  # type: ignore[attr-defined,arg-type]
