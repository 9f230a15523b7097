"""Fuzzes a server over its socket, guided by the coverage that each input reaches, and keeps the inputs that reach something new.

    python tests/fuzz/fuzz_server.py --runs 100000

An input is a connection: its first byte says how it begins (nothing, a WebSocket, a hello), the rest is what it sends then, as it is or in
frames. A stream goes on beside it. It ends with 1 where the server logs an error, does not let go of a connection, or harms the stream.
It needs atheris, as `fuzz.py` does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgpack

sys.path.insert(0, str(Path(__file__).parents[1] / "rigs"))
_HANGS_S = 120
_LOOK_EVERY = 500
NAME = "server"


class FuzzedServer:
    """A server with a stream, and one connection after another."""

    def __init__(self) -> None:
        from made_up_models import small_model

        import streamcodec
        from streamcodec.server import Limits, Server
        from streamcodec.server.rate import Rate

        many = Rate(1e9, 1e9)
        limits = Limits(capacity=None, resume_s=0.0, handshake_s=60.0, handshakes=many, control_frames=Rate(1e9, 500), drain_s=60.0)
        self.complaints: list[str] = []
        self._patches = contextlib.ExitStack()
        self.loop = asyncio.new_event_loop()
        self.codec = streamcodec.load(small_model())
        self._server = Server(self.codec, port=0, limits=limits)
        self._handler = logging.Handler(logging.ERROR)
        self._handler.emit = lambda record: self.complaints.append(self._handler.format(record))  # type: ignore[method-assign]

    def open(self) -> None:
        """Serve, and begin the stream."""
        from streamcodec.server import websocket
        from streamcodec.server.ports import public

        # Nobody is cut off for being slow on a slow machine, and a peer that has gone without a word is not waited for.
        for module, name, seconds in ((public, "PING_EVERY_S", 3600.0), (public, "HANDSHAKE_S", 0.5), (websocket, "FAREWELL_S", 0.5)):
            self._patches.enter_context(patch.object(module, name, seconds))
        logging.getLogger().addHandler(self._handler)
        self.loop.run_until_complete(self._server.__aenter__())
        self._stream = self._beside()
        self.loop.run_until_complete(anext(self._stream))

    def close(self) -> None:
        """End both."""
        self.loop.run_until_complete(self._stream.aclose())
        self.loop.run_until_complete(self._server.stop())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self._patches.close()
        logging.getLogger().removeHandler(self._handler)

    def run(self, data: bytes) -> None:
        """One connection. Raises `AssertionError` where something is wrong after it."""
        self.loop.run_until_complete(asyncio.wait_for(self._connect(data), _HANGS_S))
        assert not self.complaints, self.complaints

    def look(self) -> None:
        """Nothing is left of those that have come, and the stream goes on."""
        self.loop.run_until_complete(asyncio.wait_for(self._look(), _HANGS_S))
        assert not self.complaints, self.complaints

    async def _connect(self, data: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._server.port)
        with contextlib.suppress(ConnectionError):
            writer.write(self.bytes_of(data))
            writer.write_eof()
            await reader.read(-1)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def bytes_of(self, data: bytes) -> bytes:
        """What a connection sends for this input."""
        from benchmarks.attacks.wire import BINARY, frame, upgrade

        how, sent = (data[0], data[1:]) if data else (0, b"")
        begin = b"" if how % 5 == 0 else upgrade(self._server.port)
        if hello := self._hellos().get(how % 5):
            begin += frame(BINARY, msgpack.packb(hello))
        if how & 64:  # messages, each behind its length
            pieces, at = [], 0
            while at < len(sent):
                size = sent[at]
                pieces.append(frame(BINARY, sent[at + 1 : at + 1 + size]))
                at += 1 + size
            sent = b"".join(pieces)
        return begin + sent

    def _hellos(self) -> dict[int, dict[str, Any]]:
        hello = {"type": "hello", "version": 1, "stream": "fuzzed"}
        codes = {"format": "codes", "model": self.codec.fingerprint, "bandwidth": 6.0, "packet_frames": 1}
        return {
            2: {**hello, "role": "listen", "stream": "beside", "format": "pcm_s16le"},
            3: {**hello, "role": "publish", **codes},
            4: {**hello, "role": "publish", "format": "pcm_s16le", "sample_rate": 24_000, "channels": 1},
        }

    async def _look(self) -> None:
        await anext(self._stream)
        server = self._server
        # Nothing tells when the last of them is gone.
        while len(server._connections) > 2 or set(server.registry.streams) != {"beside"} or server._public.entrances:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def _beside(self) -> AsyncGenerator[None, None]:
        import numpy as np

        from streamcodec.client import PublishOptions, listen, publish
        from streamcodec.protocol import Packet

        url, model = self._server.url, self.codec.fingerprint
        options = PublishOptions(format="codes", model=model, bandwidth=6.0, packet_frames=1, pace="fast")
        async with listen(url, "beside", model=model) as listener, publish(url, "beside", options) as publisher:
            seq = 0
            while True:
                await publisher.send(np.zeros((8, 1), np.int32))
                async for event in listener:
                    if isinstance(event, Packet):
                        assert event.seq == seq, f"packet {event.seq}, expected {seq}"
                        break
                seq += 1
                yield


def seeds() -> list[bytes]:
    """Connections that do what a client does."""
    packet = msgpack.packb([0, 0, 0, 8, bytes(10)])
    end, ping, report = (msgpack.packb(one) for one in ({"type": "end", "last_seq": 0}, {"type": "ping", "time": 1}, {"type": "report"}))
    counted = [bytes([len(one)]) + one for one in (packet, end, ping, report)]
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: br\r\n\r\n"
    pings = bytes([1]) + 3 * bytes([0x89, 0x80, 0, 0, 0, 0])
    return [b"\x00" + request, pings, bytes([64 + 4]) + counted[0] + counted[1], bytes([64 + 3]) + counted[2], bytes([64 + 1]) + counted[3]]


def _inside(arguments: list[str]) -> None:
    import atheris

    import streamcodec

    # What numba compiles must stay as it is, and atheris takes names of modules one by one.
    inside = Path(streamcodec.__file__).parent
    files = [file for room in ("engine", "model", "scheduler", "codec") for file in (inside / room).rglob("*.py")]
    plain = [".".join(["streamcodec", *file.relative_to(inside).with_suffix("").parts]) for file in files]
    with atheris.instrument_imports(include=["streamcodec", "websockets"], exclude=plain):
        server = FuzzedServer()
        server.open()
    count = 0

    def one_input(data: bytes) -> None:
        nonlocal count
        server.run(data)
        count += 1
        if count % _LOOK_EVERY == 0:
            server.look()

    atheris.Setup([sys.argv[0], *arguments], one_input)
    atheris.Fuzz()


def main() -> int:
    """Fuzz the server; 1 where something broke."""
    if sys.argv[1:2] == ["--inside"]:
        _inside(sys.argv[2:])
        return 0
    from fuzz_targets import corpus_of, store

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="connections")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for at, one in enumerate([*seeds(), *corpus_of(NAME)]):
            (Path(folder) / f"known-{at}").write_bytes(one)
        limits = [f"-runs={args.runs}", "-max_len=512", f"-timeout={2 * _HANGS_S}", "-verbosity=0", f"-artifact_prefix={folder}/broke-"]
        done = subprocess.run([sys.executable, __file__, "--inside", folder, *limits], check=False)
        broke = [file.read_bytes() for file in Path(folder).glob("broke-*")]
        found = sorted((file.read_bytes() for file in Path(folder).iterdir() if not file.name.startswith("broke-")), key=len)
    for one in broke:
        sys.stdout.write(f"an input breaks the server: {one!r}\n")
    if not done.returncode:
        kept = [one for at, one in enumerate(found) if sum(map(len, found[: at + 1])) <= 20_000]
        store(NAME, kept)
        sys.stdout.write(f"{NAME}: {args.runs} connections, {len(found)} inputs found, {len(kept)} kept\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
