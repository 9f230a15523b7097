"""What is fuzzed: each target takes bytes, and raises where something other than an answer or an error of ours comes of them."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import msgpack
import numpy as np
from bus_targets import BUS_TARGETS, bus_seeds, framed
from websockets.datastructures import Headers

from streamcodec.bitstream.codes_file import parse_codes
from streamcodec.bitstream.ecdc import PlainCoding, parse_ecdc
from streamcodec.config import CodecConfig
from streamcodec.errors import InputError, LocalProtocolError, RemoteProtocolError, StreamCodecError, WireCode
from streamcodec.protocol import ModelInfo, Packet, PublishHello, ServerSession, Welcome, is_packet, pack_codes, parse
from streamcodec.published import PUBLISHED
from streamcodec.server.auth.grant import Grant
from streamcodec.server.auth.keys import TokenKeys, unproved
from streamcodec.server.entrance import request_in
from streamcodec.server.page import Page
from streamcodec.server.sites import Sites

__all__ = ["CORPUS", "TARGETS", "corpus_of", "seeds_of", "store"]

CORPUS = Path(__file__).parent / "kept"

_MODEL = ModelInfo(
    name="m",
    fingerprint="f" * 32,
    sampling_rate=24_000,
    hop_length=320,
    codebook_size=1024,
    num_quantizers=32,
    bandwidths=(1.5, 3.0, 6.0, 12.0, 24.0),
    channels=1,
)
_KEYS = TokenKeys([{"kty": "oct", "k": base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("="), "alg": "HS256", "kid": "a"}])


def message(data: bytes) -> None:
    """One message: what is understood is the same after it is written again."""
    try:
        found = parse(data)
    except RemoteProtocolError as error:
        _one_line(error)
        return
    again = found.serialize()
    assert parse(again).serialize() == again
    assert is_packet(again) is isinstance(found, Packet)


def session(data: bytes) -> None:
    """Messages one after another, each behind its length in two bytes, to a server's session that lets everybody in."""
    session, at = ServerSession(), 0
    while at + 2 <= len(data) and session.close_code is None:
        size = int.from_bytes(data[at : at + 2], "big")
        one, at = data[at + 2 : at + 2 + size], at + 2 + size
        try:
            for found in session.feed(one):
                if found.type == "hello":
                    _answer(session, found)
        except RemoteProtocolError as error:
            _one_line(error)
            session.fail(error)
            assert session.close_code is not None
        for said in session.data_to_send():
            parse(said)


def _answer(session: ServerSession, hello: object) -> None:
    try:
        session.accept(_welcome(hello))
    except LocalProtocolError as error:  # it asks for another model, or for what this one lacks
        session.refuse(WireCode.MODEL_MISMATCH, str(error))


def _welcome(hello: object) -> Welcome:
    publishing = isinstance(hello, PublishHello)
    streaming = {"bandwidth": 6.0, "n_q": 8, "packet_frames": 6, "start": "exact", "epoch": 0, "next_seq": 0} if publishing else {}
    return Welcome(
        role=hello.role,  # type: ignore[attr-defined]
        stream=hello.stream,  # type: ignore[attr-defined]
        model=_MODEL,
        format=hello.format,  # type: ignore[attr-defined]
        **{**dict.fromkeys(("bandwidth", "n_q", "packet_frames", "start", "epoch", "next_seq")), **streaming},
        session="s" * 24 if publishing else None,
        resume_ms=10_000,
        time=7,
        server="fuzz",
    )


def codes_file(data: bytes) -> None:
    """A file of codes."""
    _ends_well(lambda: parse_codes(data))


def ecdc_file(data: bytes) -> None:
    """An `.ecdc` file without entropy coding, and its chunks."""

    def read() -> None:
        file = parse_ecdc(data)
        _ = file.samples, file.fingerprint
        file.chunks(PUBLISHED.get(file.header.model, CodecConfig()), PlainCoding(10, file.header.n_q))

    _ends_well(read)


def token(data: bytes) -> None:
    """A token, as it is and inside a signature that is good; and a file of keys."""
    text = data.decode("utf-8", "surrogateescape")
    for read in (lambda: _KEYS.prove(text, lambda: 1e9), lambda: unproved(text), lambda: TokenKeys.parse(text)):
        try:
            read()
        except InputError as error:
            _one_line(error)
            assert len(text) < 12 or text not in str(error), "a token or a key is told"
    try:
        claims = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(claims, dict):
        _ends_well(lambda: Grant.of(claims))


def http_request(data: bytes) -> None:
    """What a browser or something else sends first: the request, whether its site may connect, and what the page answers."""
    request = request_in(data)
    if request is None:
        return
    headers: Headers = request.headers
    for bound_to in ("127.0.0.1", "0.0.0.0"):
        foreign = _sites().refusal(headers, bound_to)
        assert foreign is None or (foreign.reason.isprintable() and len(foreign.reason) < 2000), foreign
    if (answer := _page().answer(request.path.partition("?")[0], headers)) is not None:
        assert answer.head().endswith(b"\r\n\r\n")


TARGETS: dict[str, Callable[[bytes], None]] = {
    "message": message,
    "session": session,
    "codes_file": codes_file,
    "ecdc_file": ecdc_file,
    "token": token,
    "http_request": http_request,
    **BUS_TARGETS,
}


@functools.cache
def _sites() -> Sites:
    return Sites(["https://example.org"], ["voice.example.org"])


@functools.cache
def _page() -> Page:
    return Page("no such model")


def _ends_well(read: Callable[[], object]) -> None:
    try:
        read()
    except StreamCodecError as error:
        _one_line(error)


def _one_line(error: Exception) -> None:
    text = str(error)
    assert text and text.isprintable(), f"not one line: {text!r}"


def seeds_of(target: str) -> list[bytes]:
    """Inputs that are legal, from which the others grow."""
    if target in BUS_TARGETS:
        return bus_seeds(target)
    hello = {"type": "hello", "version": 1, "role": "publish", "stream": "a", "format": "codes", "model": "f" * 32, "bandwidth": 6.0}
    listen = {"type": "hello", "version": 1, "role": "listen", "stream": "a", "format": "pcm_s16le"}
    packet = msgpack.packb([0, 0, 0, 8, pack_codes(np.ones((8, 6), np.int32), 10)])
    controls = [
        hello,
        listen,
        {"type": "gap", "first_seq": 1, "count": 2, "reason": "silence"},
        {"type": "end", "last_seq": 2},
        {"type": "ping", "time": 7},
        {"type": "report", "received": 3, "bandwidth": 3.0},
        {"type": "error", "code": "internal", "reason": "x"},
    ]
    said = [msgpack.packb(one) for one in controls]
    match target:
        case "message":
            return [packet, *said]
        case "session":
            return [framed([said[0], packet, said[2], said[3]]), framed([said[1], said[5], said[4]])]
        case "codes_file":
            header = {"format": "streamcodec codes 1", "n_q": 2, "bits": 10, "frames": 2, "samples": 640, "model": "m", "fingerprint": "f"}
            return [msgpack.packb(header) + bytes(5)]
        case "ecdc_file":
            meta = json.dumps({"m": "encodec_24khz", "al": 640, "nc": 2, "lm": False}).encode()
            return [b"ECDC\x00" + len(meta).to_bytes(4, "big") + meta + bytes(5)]
        case "token":
            return [_KEYS.sign(Grant.of({"exp": 2_000_000_000, "publish": ["a"]})).encode(), _KEYS.serialize().encode()]
        case _:
            lines = ["Host: voice.example.org", "Origin: https://example.org", "Accept-Encoding: br;q=0.5", 'If-None-Match: "x"']
            return [
                "\r\n".join(["GET /model/manifest.json?x HTTP/1.1", *lines, "", ""]).encode(),
                b"GET / HTTP/1.1\r\nHost: [::1]:1\r\n\r\n",
            ]


def corpus_of(target: str) -> list[bytes]:
    """The inputs that were kept, each of which reaches what none before it does."""
    file = CORPUS / f"{target}.txt"
    return [base64.b64decode(line) for line in file.read_text().splitlines()] if file.exists() else []


def store(target: str, inputs: Iterable[bytes]) -> None:
    """Keep these inputs, one a line."""
    CORPUS.mkdir(exist_ok=True)
    lines = [base64.b64encode(one).decode() for one in inputs]
    (CORPUS / f"{target}.txt").write_text("".join(f"{line}\n" for line in lines))
