"""The test vectors in `streamcodec/protocol/vectors`, made by the code: `python tests/protocol/vector_files.py` writes them.

PROTOCOL.md says what is in each file and how another language checks itself by them. Messages are written as objects of their fields with
bytes as hexadecimal digits; a packet has the type "packet".
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from protocol_pair import LISTEN_CODES, LISTEN_PCM, MODEL, ONE_OF_EACH, PUBLISH_CODES, PUBLISH_PCM, START, WELCOME, welcome_to

from streamcodec.config import CodecConfig
from streamcodec.engine.chunking import OverlapAdd
from streamcodec.errors import InputError, RemoteProtocolError
from streamcodec.protocol import (
    ClientSession,
    ClockEstimate,
    DtxFilter,
    End,
    Ended,
    Error,
    Gap,
    Packet,
    PayloadLayout,
    Ping,
    Pong,
    Refuse,
    Report,
    Resume,
    ServerSession,
    Side,
    StreamEnd,
    Waiting,
    pack_codes,
    parse,
    payload_frames,
    truncate_payload,
    unpack_codes,
    unwrap_timestamp,
)
from streamcodec.protocol.window import SendWindow
from streamcodec.published import PUBLISHED
from streamcodec.types import Chunk

FOLDER = Path(__file__).resolve().parents[2] / "streamcodec" / "protocol" / "vectors"
MODEL_WITH_ALL = replace(MODEL, bandwidths=(1.5, 3.0, 6.0, 12.0, 24.0))


def as_json(message: Any) -> dict[str, Any]:
    """A message as an object of its fields."""
    if isinstance(message, Packet):
        return {"type": "packet", **asdict(message), "payload": message.payload.hex()}
    return {"type": message.type, **json.loads(json.dumps(asdict(message)))}


# Messages ----------------------------------------------------------------------------------------------------------------------------

_MORE = [
    replace(WELCOME, model=MODEL_WITH_ALL, session="s3cret", resume_ms=10_000, server="streamcodec/1"),
    replace(WELCOME, alternates=("wss://b.example", "ws://127.0.0.1:8765/c?d=e", "wss://[::1]", "wss://" + "x" * 1000)),
    replace(LISTEN_PCM, can_move=True),
    Packet(0, 0, 0, 0, b"\0"),
    Packet(127, 127, 127, 127, bytes(31)),
    Packet(128, 128, 128, 128, bytes(255)),
    Packet(255, 255, 255, 255, bytes(256)),
    Packet(256, 0, 256, 2, bytes(15)),
    Packet(65_535, 0, 65_535, 2, bytes(15)),
    Packet(65_536, 0, 65_536, 2, bytes(15)),
    Packet(2**32 - 1, 255, 2**32 - 1, 2, bytes(15)),
    Ping(time=2**53 - 1),
    Pong(time=0, server_time=2**32),
    Pong(time=0, server_time=2**32, closing_ms=4500, go_to="wss://b.example/voice?a=b"),
    Refuse(code="server_closing", reason="", retry=True, retry_after_ms=1000, go_to="ws://127.0.0.1:8765"),
    Error(code="server_closing", reason="", go_to="wss://b.example"),
    Refuse(code="moved", reason="", retry=True, go_to="wss://b.example"),
    Report(received=2**32, margin_ms=-3_600_000, late_ms=3_600_000),
    Report(received=1, margin_ms=-32, late_ms=-33),
    Report(received=1, margin_ms=-128, late_ms=-129),
    Report(received=1, margin_ms=-32_768, late_ms=-32_769),
    Gap(first_seq=0, count=2**32, reason="silence"),
    Error(code="internal", reason="x" * 31),
    Error(code="internal", reason="x" * 32),
    Error(code="internal", reason="x" * 255),
    Error(code="internal", reason="x" * 256),
    Error(code="internal", reason="Zürich, 東京 🎙"),
]
# Bytes that nobody needs to write and everybody reads.
_ALSO_READ = {
    "integers in longer forms": "95 ce 00 00 00 29 cd 00 00 cf 00 00 00 00 00 00 00 07 cc 02 c4 01 ff",
    "an array with a longer header": "dc 00 05 29 00 07 02 c4 01 ff",
    "an array and bytes with the longest headers": "dd 00 00 00 05 29 00 07 02 c6 00 00 00 01 ff",
    "a signed form of a positive integer": "82 a4 74 79 70 65 a4 70 69 6e 67 a4 74 69 6d 65 d3 00 00 00 00 00 00 00 07",
    "text with a longer header": "82 a4 74 79 70 65 d9 04 70 69 6e 67 a4 74 69 6d 65 07",
    "a map with a longer header": "de 00 02 a4 74 79 70 65 a4 70 69 6e 67 a4 74 69 6d 65 07",
}
_ALSO_READ_MAPS: dict[str, dict[str, Any]] = {
    "keys in another order": {"time": 7, "type": "ping"},
    "a key that nobody knows": {"type": "ping", "time": 7, "mood": {"of": ["the", "day"]}},
    "missing keys stand for their defaults": {"type": "report", "received": 5},
    "an integer where a number is meant": {"type": "report", "received": 5, "bandwidth": 6},
    "an array of 256 and a map of 64 under unknown keys": {
        "type": "ping",
        "time": 7,
        "array": [0] * 256,
        "map": {str(i): 0 for i in range(64)},
    },
    "a hello with what it needs": {"type": "hello", "version": 1, "role": "listen", "stream": "a", "format": "pcm_s16le"},
    "a welcome of a server that knows no alternates": {
        key: value for key, value in msgpack.unpackb(WELCOME.serialize()).items() if key != "alternates"
    },
}
_LISTEN: dict[str, Any] = {"type": "hello", "version": 1, "role": "listen", "stream": "a", "format": "pcm_s16le"}
_WELCOME: dict[str, Any] = msgpack.unpackb(WELCOME.serialize())
_REFUSED_BYTES = {
    "no bytes": "",
    "a byte that begins nothing": "c1",
    "a map that breaks off": "82 a4 74 79 70 65",
    "two values": "80 80",
    "a number": "07",
    "a map without a type": "80",
    "a packet of four": "94 00 00 00 02",
    "a packet of six": "96 00 00 00 02 c4 01 ff 00",
    "a packet with a float as its number": "95 cb 3f f0 00 00 00 00 00 00 00 00 02 c4 01 ff",
    "a packet with a negative number": "95 ff 00 00 02 c4 01 ff",
    "a packet with a number beyond 32 bits": "95 cf 00 00 00 01 00 00 00 00 00 00 02 c4 01 ff",
    "a packet with an epoch beyond 8 bits": "95 00 cd 01 00 00 02 c4 01 ff",
    "a packet whose payload is text": "95 00 00 00 02 a1 78",
    "a packet with true as its number": "95 c3 00 00 02 c4 01 ff",
    "a timestamp of msgpack's own": "82 a4 74 79 70 65 a4 70 69 6e 67 a4 74 69 6d 65 d6 ff 00 00 00 00",
}
_REFUSED_MAPS: dict[str, dict[str, Any]] = {
    "an unknown type": {"type": "hallo"},
    "a type that is no text": {"type": 7},
    "a hello of another version": {"type": "hello", "version": 2, "role": "listen", "stream": "a", "format": "pcm_s16le"},
    "a hello without a version": {"type": "hello", "role": "listen", "stream": "a", "format": "pcm_s16le"},
    "a hello of an unknown role": {"type": "hello", "version": 1, "role": "spy", "stream": "a", "format": "pcm_s16le"},
    "a hello without a stream": {"type": "hello", "version": 1, "role": "listen", "format": "pcm_s16le"},
    "a stream's name with a slash": {"type": "hello", "version": 1, "role": "listen", "stream": "a/b", "format": "pcm_s16le"},
    "codes without a model": {"type": "hello", "version": 1, "role": "listen", "stream": "a", "format": "codes"},
    "a bandwidth for PCM": {"type": "hello", "version": 1, "role": "listen", "stream": "a", "format": "pcm_s16le", "bandwidth": 6.0},
    "PCM without a rate": {"type": "hello", "version": 1, "role": "publish", "stream": "a", "format": "pcm_s16le", "channels": 1},
    "an empty gap": {"type": "gap", "first_seq": 0, "count": 0},
    "a gap beyond the last number": {"type": "gap", "first_seq": 2**32 - 1, "count": 2},
    "a float where an integer is meant": {"type": "ping", "time": 7.0},
    "true where an integer is meant": {"type": "ping", "time": True},
    "null where it is not allowed": {"type": "ping", "time": None},
    "text that is too long": {"type": "error", "code": "internal", "reason": "x" * 1001},
    "an address that is none of a WebSocket": {"type": "error", "code": "server_closing", "reason": "", "go_to": "http://b.example"},
    "an address with a space": {"type": "pong", "time": 7, "server_time": 7, "go_to": "ws://b.example/a b"},
    "five alternates": _WELCOME | {"alternates": ["wss://b.example"] * 5},
    "an alternate that is no address of a WebSocket": _WELCOME | {"alternates": ["wss://b.example", "b.example"]},
    "an alternate that is no text": _WELCOME | {"alternates": [7]},
    "alternates that are no array": _WELCOME | {"alternates": "wss://b.example"},
    "alternates that are null": _WELCOME | {"alternates": None},
    "a hello that can move by a number": _LISTEN | {"can_move": 1},
    "a bandwidth of nothing": {"type": "report", "received": 0, "bandwidth": 0},
    "an array of 257 under an unknown key": {"type": "ping", "time": 7, "more": [0] * 257},
    "a map of 65 under an unknown key": {"type": "ping", "time": 7, "more": {str(i): 0 for i in range(65)}},
}


def messages() -> dict[str, Any]:
    both = [{"message": as_json(one), "bytes": one.serialize().hex()} for one in [*ONE_OF_EACH, *_MORE]]
    read = {name: bytes.fromhex(digits) for name, digits in _ALSO_READ.items()}
    read |= {name: msgpack.packb(value) for name, value in _ALSO_READ_MAPS.items()}
    refused = {name: bytes.fromhex(digits) for name, digits in _REFUSED_BYTES.items()}
    refused |= {name: msgpack.packb(value) for name, value in _REFUSED_MAPS.items()}
    return {
        "both_ways": both,
        "read_only": [{"name": name, "bytes": data.hex(), "message": as_json(parse(data))} for name, data in read.items()],
        "refused": [{"name": name, "bytes": data.hex(), "code": _refusal(data)} for name, data in refused.items()],
    }


def _refusal(data: bytes) -> str:
    try:
        parse(data)
    except RemoteProtocolError as exc:
        return exc.code.value
    raise AssertionError(f"{data.hex()} is a message")


# Payloads ----------------------------------------------------------------------------------------------------------------------------


def payloads() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    packed, shapes = [], [(2, 10, 6), (4, 10, 6), (8, 10, 6), (16, 10, 6), (32, 10, 6)]
    shapes += [(1, 10, 6), (3, 10, 6), (8, 10, 1), (8, 10, 2), (2, 10, 25), (4, 4, 3), (3, 8, 5), (2, 11, 7), (5, 16, 2)]
    for n_q, bits, frames in shapes:
        codes = rng.integers(0, 1 << bits, (n_q, frames))
        payload = pack_codes(codes, bits)
        prefixes = {str(n): len(truncate_payload(payload, n_q, n, bits)) for n in range(2, n_q, 2)}
        packed.append({"n_q": n_q, "bits": bits, "frames": frames, "codes": codes.tolist(), "bytes": payload.hex(), "prefixes": prefixes})
    refused = [
        {"name": name, "n_q": n_q, "bits": bits, "bytes": payload.hex()}
        for name, n_q, bits, payload in (
            ("no bytes", 2, 10, b""),
            ("a byte too few", 8, 10, bytes(59)),
            ("a byte too many", 8, 10, bytes(61)),
            ("padding that is not zero", 2, 10, b"\0\0\1"),
            ("padding of an odd codebook that is not zero", 1, 10, b"\0\1"),
        )
    ]
    for one in refused:
        try:
            payload_frames(bytes.fromhex(str(one["bytes"])), int(str(one["n_q"])), 10)
        except InputError:
            continue
        raise AssertionError(one)
    for one in packed:
        np.testing.assert_array_equal(unpack_codes(bytes.fromhex(one["bytes"]), one["n_q"], one["bits"]), one["codes"])
    scaled, layout = [], PayloadLayout(10, chunked=True, scaled=True)
    for n_q, frames, scale in ((2, 150, 0.25), (16, 150, 1e-8), (4, 1, 1.5), (2, 7, 0.0)):
        codes = rng.integers(0, 1 << 10, (n_q, frames))
        payload = layout.pack(Chunk(codes, scale))
        prefixes = {str(n): len(layout.truncate(payload, n_q, n)) for n in range(2, n_q, 2)}
        one = {"n_q": n_q, "bits": 10, "frames": frames, "scale": layout.unpack(payload, n_q).scale, "codes": codes.tolist()}
        scaled.append({**one, "bytes": payload.hex(), "prefixes": prefixes})
    refused_scaled = [
        {"name": name, "n_q": 2, "bits": 10, "bytes": payload.hex()}
        for name, payload in (
            ("a scale alone", bytes(4)),
            ("less than a scale", bytes(3)),
            ("a scale below 0", struct.pack("<f", -1.0) + bytes(15)),
            ("an infinite scale", struct.pack("<f", math.inf) + bytes(15)),
            ("a scale that is no number", struct.pack("<f", math.nan) + bytes(15)),
            ("a byte too many behind the scale", struct.pack("<f", 1.0) + bytes(16)),
        )
    ]
    for one in refused_scaled:
        try:
            layout.unpack(bytes.fromhex(str(one["bytes"])), 2)
        except InputError:
            continue
        raise AssertionError(one)
    return {"packed": packed, "scaled": scaled, "refused": refused, "refused_scaled": refused_scaled}


# Arithmetic --------------------------------------------------------------------------------------------------------------------------


def clock() -> dict[str, Any]:
    wrap = 1 << 32
    unwrapped = [
        {"timestamp": timestamp, "now": now, "time": unwrap_timestamp(timestamp, now)}
        for timestamp, now in (
            (0, 0),
            (5, 0),
            (wrap - 5, 0),
            (5, wrap - 5),
            (wrap - 5, wrap + 5),
            (123, 7 * wrap + 1_000_000),
            (wrap // 2 - 1, 0),
            (wrap // 2, 0),
            (wrap // 2 + 1, 0),
            (2_876_543_210, 81_234_567_890),
        )
    ]
    estimate, exchanges = ClockEstimate(), []
    trips = [(0, 5_000_400, 900), (10_000, 5_010_300, 10_500), (20_000, 5_020_900, 21_900), (30_000, 4_000_000, 29_000)]
    trips += [(40_000 + 10_000 * i, 5_040_100 + 10_000 * i, 40_800 + 10_000 * i + i) for i in range(16)]
    for sent, server_time, received in trips:
        estimate = estimate.update(sent, server_time, received)
        exchanges.append(
            {"sent": sent, "server_time": server_time, "received": received}
            | {"round_trip": estimate.round_trip, "offset": estimate.offset, "server_time_at_1000000": estimate.to_server(1_000_000)}
        )
    return {"unwrapped": unwrapped, "exchanges": exchanges}


def numbers() -> dict[str, Any]:
    published = CodecConfig()
    small = CodecConfig(codebook_size=256, upsampling_ratios=(8, 5, 4), target_bandwidths=(3.0,))
    kbps = [
        {"n_q": n_q, "bits": config.bits_per_code, "sampling_rate": config.sampling_rate, "hop_length": config.hop_length}
        | {"kbps": config.bandwidth_of(n_q)}
        for config in (published, small)
        for n_q in (1, 2, 4, 8, 16, 32)
    ]
    gaps = [
        {"count": count, "packet_frames": frames, "hop_length": 320, "samples": count * frames * 320}
        for count, frames in ((1, 6), (2, 6), (10, 1), (3, 25))
    ]
    pairs = [("silence", "silence"), ("overload", "overload"), ("overload", "silence"), ("silence", "uplink"), ("uplink", "overload")]
    joined = []
    for first, second in pairs:
        before, behind = Gap(first_seq=7, count=2, reason=first), Gap(first_seq=9, count=3, reason=second)
        joined.append({"gaps": [as_json(before), as_json(behind)], "joined": as_json(before.joined(behind))})
    chunked = PUBLISHED["encodec_48khz"]
    chunks = [
        {"chunk_length": chunked.chunk_length, "chunk_stride": chunked.chunk_stride, "hop_length": chunked.hop_length, "samples": samples}
        | {"frames": [chunked.frames_for(size) for size in chunked.chunk_sizes(samples)]}
        for samples in (1, 320, 47_520, 47_521, 47_700, 48_000, 95_041, 480_000)
    ]
    overlap_add = [_joined_parts(lengths, stride) for lengths, stride in (([12, 12, 8], 8), ([5], 8), ([12, 4], 8), ([10, 10, 10], 3))]
    return {"kbps": kbps, "gap_samples": gaps, "joined_gaps": joined, "chunks": chunks, "overlap_add": overlap_add}


def _joined_parts(lengths: list[int], stride: int) -> dict[str, Any]:
    """Parts of a wave and what overlap-add makes of them, by the formula of the document in float64."""
    parts = [[round(math.sin(i + 0.3 * j), 4) for j in range(length)] for i, length in enumerate(lengths)]
    total = max(i * stride + length for i, length in enumerate(lengths))
    sums, weights = np.zeros(total), np.zeros(total)
    for i, part in enumerate(parts):
        for j, sample in enumerate(part):
            weight = 0.5 - abs((j + 1) / (lengths[0] + 1) - 0.5)
            sums[i * stride + j] += weight * sample
            weights[i * stride + j] += weight
    joined = (sums / weights).tolist()
    joining = OverlapAdd(stride)
    ours = np.concatenate([*(joining.add(np.array(part, np.float32)) for part in parts), joining.flush()])
    np.testing.assert_allclose(ours, joined, atol=1e-6)
    return {"stride": stride, "parts": parts, "joined": [round(sample, 6) for sample in joined]}


def window() -> dict[str, Any]:
    """Answers to what left with so much audio ahead of it: each trip, and what it makes of the round trip and the window."""
    steps: list[dict[str, Any]] = []
    now = [0.0]
    sender = SendWindow(0.5, clock=lambda: now[0])
    start = {"round_trip_s": sender.round_trip_s, "max_s": sender.max_s}
    course = [(0.0, 0.05)] * 3 + [(0.4, 0.30)] * 5 + [(0.0, 0.20)] + [(0.5, 0.75)] * 40 + [(0.1, 0.70)] + [(0.5, 0.9)] * 3
    for ahead_s, trip_s in course:
        departure = sender.depart(ahead_s)
        now[0] = round(now[0] + trip_s, 6)
        sender.answered(departure)
        steps.append({"ahead_s": ahead_s, "trip_s": trip_s, "round_trip_s": round(sender.round_trip_s, 5), "max_s": round(sender.max_s, 5)})
    assert {step["max_s"] for step in steps} >= {0.24}, "the course never runs into doubt"
    return {"seconds": 0.5, "trips": 16, "before_any": start, "steps": steps}


def dtx() -> dict[str, Any]:
    quiet = [
        {"n_q": n_q, "stream_n_q": of, "bits": bits, "quiet": PayloadLayout(bits).is_quiet(n_q, of)}
        for n_q, of, bits in ((1, 8, 10), (2, 8, 10), (8, 8, 10), (1, 1, 10), (0, 8, 10), (1, 2, 10), (2, 4, 4), (2, 2, 4), (4, 8, 4))
    ]
    runs = []
    for duration_s, course in (
        (0.08, "lqqqqqqqqqqqqqqqqqqqqqqqqllqqq"),
        (0.08, "qqqqRqqqqqq"),
        (320 / 24_000, "q" * 70 + "l" + "q" * 3),
        (1 / 3, "qqqqqq"),
    ):
        sender, packets = DtxFilter(), []
        for letter in course:
            if letter == "R":
                sender.restart()
                packets.append({"restart": True})
            else:
                packets.append({"quiet": letter == "q", "left_out": sender.leaves_out(letter == "q", duration_s)})
        runs.append({"packet_s": duration_s, "packets": packets})
    return {"quiet": quiet, "runs": runs}


# Whole connections -------------------------------------------------------------------------------------------------------------------


class _Script:
    """One connection, step by step: who sends what, and where it stands behind it."""

    def __init__(self, name: str, hello: Any) -> None:
        self.name = name
        self.client, self.server = ClientSession(hello), ServerSession()
        self.steps: list[dict[str, Any]] = []
        [data] = self.client.data_to_send()
        self.server.feed(data)
        self._note(Side.CLIENT, hello, data)

    def client_sends(self, *messages: Any) -> _Script:
        for message in messages:
            self.client._send(message)
            [data] = self.client.data_to_send()
            self.server.feed(data)
            self._note(Side.CLIENT, message, data)
        return self

    def server_sends(self, *messages: Any) -> _Script:
        for message in messages:
            self.server._send(message)
            [data] = self.server.data_to_send()
            self.client.feed(data)
            self._note(Side.SERVER, message, data)
        return self

    def breaks(self, side: Side, message: Any) -> _Script:
        """`side` sends what it may not: the other end answers with a code."""
        receiver = self.server if side is Side.CLIENT else self.client
        data = message.serialize()
        try:
            receiver.feed(data)
        except RemoteProtocolError as exc:
            fault = exc.code
        else:
            raise AssertionError(f"{self.name}: {message} is allowed")
        [answer] = receiver.data_to_send()
        step = {"from": side.value, "message": as_json(message), "bytes": data.hex(), "fault": fault.value, "close": fault.close_code}
        self.steps.append(step)
        said = as_json(parse(answer))
        self.steps.append({"from": ("server" if side is Side.CLIENT else "client"), "answer": {"type": said["type"], "code": said["code"]}})
        return self

    def _note(self, side: Side, message: Any, data: bytes) -> None:
        step: dict[str, Any] = {"from": side.value, "message": as_json(message), "bytes": data.hex(), "state": self.client.state.value}
        assert self.client.state is self.server.state
        if self.client.close_code is not None:
            step["close"] = self.client.close_code
        elif self.client.welcome is not None:
            assert (self.client.next_seq, self.client.epoch) == (self.server.next_seq, self.server.epoch)
            step |= {"next_seq": self.client.next_seq, "epoch": self.client.epoch}
        self.steps.append(step)

    def told(self) -> dict[str, Any]:
        return {"name": self.name, "steps": self.steps}


def _codes(seq: int, *, epoch: int = 0, n_q: int = 8, frames: int = 6) -> Packet:
    return Packet(seq, epoch, 80_000 * seq, n_q, pack_codes(np.full((n_q, frames), seq % 1024), 10))


def _publishing(name: str, hello: Any = PUBLISH_CODES, **changes: Any) -> _Script:
    return _Script(name, hello).server_sends(welcome_to(hello, **changes))


def _listening(name: str, hello: Any = LISTEN_CODES, **changes: Any) -> _Script:
    return _Script(name, hello).server_sends(welcome_to(hello), replace(START, format=hello.format, **changes))


CHUNKED = replace(MODEL, sampling_rate=48_000, channels=2, chunk_length=48_000, chunk_stride=47_520, normalize=True)


def _chunk(seq: int, *, n_q: int = 2, frames: int = 150) -> Packet:
    chunk = Chunk(np.full((n_q, frames), seq % 1024), 0.5)
    return Packet(seq, 0, 990_000 * seq, n_q, PayloadLayout(10, chunked=True, scaled=True).pack(chunk))


def _chunks(name: str, hello: Any = LISTEN_CODES) -> _Script:
    start = replace(START, format=hello.format, packet_frames=150, start="exact", sample_rate=48_000, channels=2, packet_samples=47_520)
    return _Script(name, hello).server_sends(welcome_to(hello, model=CHUNKED), start)


def sessions() -> dict[str, Any]:
    resume = Resume(session="5e55", epoch=2, next_seq=70)
    pcm, slow = replace(LISTEN_PCM, format="pcm_s16le"), replace(PUBLISH_PCM, sample_rate=1000)
    server, client = Side.SERVER, Side.CLIENT
    full = Refuse(code="server_full", reason="no room", retry=True, retry_after_ms=1000)
    continued = replace(START, start="continued", session="5e55", epoch=2, first_seq=70, live_seq=70)
    scripts = [
        _publishing("a publisher of codes, from its hello to its end")
        .client_sends(_codes(0), _codes(1), Ping(time=7))
        .server_sends(Pong(time=7, server_time=9))
        .client_sends(Gap(first_seq=2, count=3, reason="uplink"), _codes(5), _codes(6, frames=3), End(last_seq=6))
        .server_sends(Ended(received=4, emitted=4, dropped=0)),
        _publishing("a publisher of codes that leaves out silence and raises its epoch")
        .client_sends(_codes(0), _codes(1, n_q=1), Gap(first_seq=2, count=9, reason="silence"), _codes(11, n_q=1))
        .client_sends(_codes(12, epoch=1), End(last_seq=12))
        .server_sends(Ended(received=4, emitted=4, dropped=0)),
        _publishing("a publisher of PCM is told what was dropped", slow)
        .client_sends(*(Packet(seq, 0, 20_000 * seq, 0, bytes(4 * 20)) for seq in range(4)))
        .server_sends(Gap(first_seq=1, count=2, reason="overload"))
        .client_sends(End(last_seq=3), Ping(time=1))
        .server_sends(Pong(time=1, server_time=2), Ended(received=4, emitted=1, dropped=2)),
        _publishing("a publisher that has nothing to say").client_sends(End()).server_sends(Ended(received=0, emitted=0, dropped=0)),
        _publishing("a publisher goes on with its stream", replace(PUBLISH_CODES, resume=resume), next_seq=68, epoch=2)
        .client_sends(_codes(68, epoch=2), _codes(69, epoch=2), End(last_seq=69))
        .server_sends(Ended(received=70, emitted=70, dropped=0)),
        _publishing("a publisher is replaced by its own other connection").server_sends(
            Error(code="taken_over", reason="resumed elsewhere")
        ),
        _publishing("a publisher's session moves", replace(PUBLISH_CODES, can_move=True), session="5e55", resume_ms=10_000)
        .client_sends(_codes(0))
        .server_sends(Error(code="moved", reason="", go_to="wss://b.example")),
        _listening("a listener's session moves", replace(LISTEN_CODES, can_move=True), session="5e55")
        .server_sends(_codes(0))
        .server_sends(Error(code="moved", reason="", go_to="wss://b.example")),
        _Script("a hello that resumes is sent where the session is", replace(LISTEN_CODES, resume=resume, can_move=True)).server_sends(
            Refuse(code="moved", reason="", retry=True, go_to="wss://b.example")
        ),
        _publishing("an end whose answer comes from elsewhere", replace(PUBLISH_CODES, can_move=True), session="5e55", resume_ms=10_000)
        .client_sends(_codes(0), End(last_seq=0))
        .server_sends(Error(code="moved", reason="", go_to="wss://b.example")),
        _Script("a hello is refused", PUBLISH_PCM).server_sends(full),
        _Script("a listener waits, hears a stream and waits again", LISTEN_CODES)
        .server_sends(welcome_to(LISTEN_CODES), Waiting(stream="alice"), START, _codes(0))
        .client_sends(Report(received=1))
        .server_sends(_codes(1, n_q=2), _codes(2, n_q=1), Gap(first_seq=3, count=9, reason="silence"), _codes(12, n_q=1), _codes(13))
        .server_sends(StreamEnd(next_seq=14, reason="the publisher ended it")),
        _listening("a listener joins late and gets history", first_seq=29, live_seq=31, start="resumed")
        .server_sends(_codes(29), _codes(30), _codes(31), Gap(first_seq=32, count=2, reason="slow_listener"), _codes(34))
        .server_sends(replace(START, epoch=1, first_seq=35, live_seq=35, start="exact"), _codes(35, epoch=1)),
        _listening("a listener of PCM", pcm).server_sends(
            Packet(0, 0, 0, 0, bytes(12)), Gap(first_seq=1, count=1, reason="overload"), Packet(2, 0, 0, 0, bytes(4))
        ),
        _Script("a listener goes on without a break", replace(LISTEN_CODES, resume=resume)).server_sends(
            welcome_to(LISTEN_CODES), continued, _codes(70, epoch=2)
        ),
        _Script("a listener that wanted to go on has missed too much", replace(LISTEN_CODES, resume=resume))
        .server_sends(welcome_to(LISTEN_CODES), replace(START, session="5e55", epoch=3, first_seq=80, live_seq=82, start="resumed"))
        .server_sends(_codes(80, epoch=3)),
        _publishing("a publisher of chunks", model=CHUNKED, packet_frames=150, start="exact")
        .client_sends(_chunk(0), _chunk(1), _chunk(2, frames=149), _chunk(3, frames=1), End(last_seq=3))
        .server_sends(Ended(received=4, emitted=4, dropped=0)),
        _chunks("a listener to chunks").server_sends(_chunk(0), _chunk(1, n_q=4), _chunk(2, frames=149), _chunk(3, frames=2)),
        _chunks("a listener to stereo PCM", pcm).server_sends(Packet(0, 0, 0, 0, bytes(4 * 10))),
        _publishing("a chunk behind the last one of its epoch", model=CHUNKED, packet_frames=150, start="exact")
        .client_sends(_chunk(0, frames=148))
        .breaks(client, _chunk(1)),
        _publishing("a chunk without its scale", model=CHUNKED, packet_frames=150, start="exact").breaks(client, _codes(0, frames=150)),
        _publishing("more frames than a chunk has", model=CHUNKED, packet_frames=150, start="exact").breaks(client, _chunk(0, frames=151)),
        _chunks("half a sample of stereo PCM", pcm).breaks(server, Packet(0, 0, 0, 0, bytes(6))),
        _listening("a packet length that only chunks have").breaks(
            server, replace(START, packet_frames=26, epoch=1, first_seq=0, live_seq=0)
        ),
        _Script("a packet before the welcome", PUBLISH_CODES).breaks(client, _codes(0)),
        _Script("a packet before the welcome, to a client", LISTEN_CODES).breaks(server, _codes(0)),
        _publishing("a second hello").breaks(client, PUBLISH_CODES),
        _publishing("a packet behind the end").client_sends(End()).breaks(client, _codes(0)),
        _publishing("a number that was left out").client_sends(_codes(0)).breaks(client, _codes(2)),
        _publishing("a number that comes again").client_sends(_codes(0)).breaks(client, _codes(0)),
        _publishing("an epoch that jumps").client_sends(_codes(0)).breaks(client, _codes(1, epoch=2)),
        _publishing("more codebooks than agreed").breaks(client, _codes(0, n_q=16)),
        _publishing("more frames than agreed").breaks(client, _codes(0, frames=7)),
        _publishing("a short packet in the middle of an epoch").client_sends(_codes(0, frames=3)).breaks(client, _codes(1)),
        _publishing("an end that forgets a packet").client_sends(_codes(0)).breaks(client, End()),
        _publishing("more than a second of PCM", slow).breaks(client, Packet(0, 0, 0, 0, bytes(4 * 1001))),
        _publishing("PCM that is no whole sample of all channels", PUBLISH_PCM).breaks(client, Packet(0, 0, 0, 0, bytes(6))),
        _listening("a listener that sends a packet").breaks(client, _codes(0)),
        _Script("a packet without a start", LISTEN_CODES).server_sends(welcome_to(LISTEN_CODES)).breaks(server, _codes(0)),
        _listening("a gap over the wrong numbers").server_sends(_codes(0)).breaks(server, Gap(first_seq=2, count=1)),
        _listening("a number that was left out, to a listener").server_sends(_codes(0)).breaks(server, _codes(2)),
        _listening("an epoch without a start").breaks(server, _codes(0, epoch=1)),
        _listening("an end that forgets a packet, to a listener").server_sends(_codes(0)).breaks(server, StreamEnd(next_seq=2)),
        _listening("a start that leaves out numbers")
        .server_sends(_codes(0))
        .breaks(server, replace(START, epoch=1, first_seq=2, live_seq=2)),
        _Script("a start goes on with what nobody asked for", LISTEN_CODES)
        .server_sends(welcome_to(LISTEN_CODES))
        .breaks(server, replace(START, start="continued", session="5e55")),
        _Script("a welcome of another model", replace(LISTEN_CODES, model="0dd")).breaks(server, welcome_to(LISTEN_CODES)),
    ]
    return {"sessions": [script.told() for script in scripts]}


FILES = {
    "messages.json": messages,
    "payloads.json": payloads,
    "clock.json": clock,
    "numbers.json": numbers,
    "window.json": window,
    "dtx.json": dtx,
    "sessions.json": sessions,
}


def text_of(values: dict[str, Any]) -> str:
    """A file's text: one case a line."""
    parts = []
    for name, value in values.items():
        if isinstance(value, list):
            lines = ",\n".join(f"  {json.dumps(one, ensure_ascii=False)}" for one in value)
            parts.append(f"{json.dumps(name)}: [\n{lines}\n ]")
        else:
            parts.append(f"{json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}")
    return "{\n " + ",\n ".join(parts) + "\n}\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, make in FILES.items():
        (FOLDER / name).write_text(text_of(make()), encoding="utf-8")
