"""The attacks, by name: each sends what one core can send until it is time to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import count

import msgpack

from benchmarks.attacks.wire import BINARY, CONTINUATION, PING, PONG, TEXT, AttackTarget, Wire, frame, upgrade

__all__ = ["ATTACKS", "Attack"]

Attack = Callable[[AttackTarget], Awaitable[None]]

_CHUNK = 1 << 16
_ROUND = 20  # connections of one round of those that come and go
_MIB = 1 << 20
_WELCOME_S = 0.3  # what comes before the answer to a hello is out of turn


def _repeated(piece: bytes) -> bytes:
    return piece * max(1, _CHUNK // len(piece))


def _message(value: object) -> bytes:
    return frame(BINARY, msgpack.packb(value))


def _junk(element: bytes, times: int) -> bytes:
    """A ping with an array of so many elements under a key that nobody knows."""
    head = b"\x83" + msgpack.packb({"type": "ping", "time": 7})[1:] + msgpack.packb("junk")
    return frame(BINARY, head + b"\xdd" + times.to_bytes(4, "big") + element * times)


def flood(piece: bytes, *first: Callable[[AttackTarget], bytes], connections: int = 1, deaf: bool = False) -> Attack:
    """Send `piece` again and again over `connections`, behind `first`; where one is closed another is opened."""

    async def one(target: AttackTarget) -> None:
        data = _repeated(piece)
        while target.goes_on:
            wire = await Wire.open(target, *(make(target) for make in first), deaf=deaf)
            if wire is None:
                await asyncio.sleep(0.01)
                continue
            if first:
                await asyncio.sleep(_WELCOME_S)
            while target.goes_on and await wire.send(data):
                pass
            await wire.drop()

    async def attack(target: AttackTarget) -> None:
        await asyncio.gather(*(one(target) for _ in range(connections)))

    return attack


def numbered(make: Callable[[int], bytes], hello: Callable[[AttackTarget], bytes]) -> Attack:
    """Send messages with ascending numbers behind `hello`."""

    async def attack(target: AttackTarget) -> None:
        while target.goes_on:
            wire = await Wire.open(target, hello(target))
            if wire is None:
                await asyncio.sleep(0.01)
                continue
            await asyncio.sleep(_WELCOME_S)
            for at in count(0, 100):
                if not (target.goes_on and await wire.send(b"".join(make(seq) for seq in range(at, at + 100)))):
                    break
            await wire.drop()

    return attack


def storm(*first: Callable[[AttackTarget, int], bytes], websocket: bool = True, reset: bool = False, wait: bool = False) -> Attack:
    """Connect, send `first` and leave, again and again."""

    async def one(target: AttackTarget, at: int) -> None:
        wire = await Wire.open(target, *(make(target, at) for make in first), websocket=websocket)
        if wire is None:
            await asyncio.sleep(0.01)
            return
        if wait:
            await wire.over()
        await wire.drop(reset=reset)

    async def attack(target: AttackTarget) -> None:
        for at in count(0, _ROUND):
            if not target.goes_on:
                return
            await asyncio.gather(*(one(target, at + i) for i in range(_ROUND)))

    return attack


def hoard(first: Callable[[AttackTarget, int], Iterable[bytes]], most: int, *, websocket: bool = True) -> Attack:
    """Open connections that stay, as many as the server takes, up to `most`; those that it closes are opened again."""

    async def attack(target: AttackTarget) -> None:
        held: list[Wire] = []
        at = 0
        while target.goes_on:
            for wire in [wire for wire in held if wire.closed]:
                held.remove(wire)
                await wire.drop()
            if len(held) < most and (another := await Wire.open(target, *first(target, at), websocket=websocket)) is not None:
                held.append(another)
            else:
                await asyncio.sleep(0.01)
            at += 1
        for wire in held:
            await wire.drop()

    return attack


def _listening(target: AttackTarget) -> bytes:
    return target.hello()


def _publishing(target: AttackTarget) -> bytes:
    return target.hello("publish")


def _request(path: str, target: AttackTarget) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n\r\n".encode()


def _resume(target: AttackTarget, at: int) -> bytes:
    return target.hello("publish", f"gone-{at}", resume={"session": "5e55" * 8, "epoch": 0, "next_seq": 7})


def _gap(seq: int) -> bytes:
    return _message({"type": "gap", "first_seq": seq, "count": 1, "reason": "silence"})


ATTACKS: dict[str, Attack] = {
    "pings": flood(frame(PING)),
    "pings, 8 connections": flood(frame(PING), connections=8),
    "pongs": flood(frame(PONG)),
    "long pings whose answers nobody reads": flood(frame(PING, bytes(125)), _publishing, deaf=True),
    "empty messages": flood(frame(BINARY)),
    "text messages": flood(frame(TEXT, b"x"), _listening),
    "fragments of one byte": flood(frame(CONTINUATION, b"x", fin=False), lambda _: frame(BINARY, b"x", fin=False)),
    "compressed frames": flood(frame(BINARY, bytes(100), compressed=True)),
    "a million empty arrays": flood(_junk(b"\x90", 1_000_000), _listening),
    "ext values": flood(_junk(b"\xd4\x01\x00", 340_000), _listening),
    "maps": flood(_junk(b"\x81\xa1a\xc0", 250_000), _listening),
    "junk of 16 KiB": flood(_junk(b"\x90", 250), _listening),
    "messages that are never complete": hoard(lambda t, _: (t.hello("publish"), frame(BINARY, bytes(2 * _MIB))[:-1]), 256),
    "reports": flood(_message({"type": "report", "received": 0}), _listening),
    "reports, 8 connections": flood(_message({"type": "report", "received": 0}), _listening, connections=8),
    "clock pings": flood(_message({"type": "ping", "time": 7}), _listening),
    "PCM of one sample": numbered(lambda seq: _message([seq, 0, 0, 0, bytes(2)]), _publishing),
    "gaps": numbered(_gap, _publishing),
    "hello storm": storm(lambda t, at: t.hello(stream=f"storm-{at}")),
    "resume storm": storm(_resume),
    "wrong tokens": storm(lambda t, at: t.hello(token=f"guess-{at}")),
    "connections that come and go": storm(websocket=False),
    "connections that are reset": storm(lambda t, _: t.hello(), reset=True),
    "connections that say nothing": hoard(lambda *_: (), 4096, websocket=False),
    "WebSockets without a hello": hoard(lambda *_: (), 4096),
    "headers that come slowly": hoard(lambda *_: (b"GET / HTTP/1.1\r\nHost: ",), 4096, websocket=False),
    "floods of headers": storm(lambda t, _: upgrade(t.port, more="X: " + "x" * 8000 + "\r\n") * 100, websocket=False),
    "bodies": storm(
        lambda t, _: _request("/", t).replace(b"\r\n\r\n", b"\r\nContent-Length: 9999999\r\n\r\n") + bytes(_MIB), websocket=False
    ),
    "metrics": storm(lambda t, _: _request("/metrics", t), websocket=False, wait=True),
    "foreign origins": storm(lambda t, _: upgrade(t.port, more="Origin: https://evil.example\r\n"), websocket=False, wait=True),
    "listeners of nothing": hoard(lambda t, at: (t.hello(stream=f"nothing-{at}"),), 4096),
    "silent publishers": hoard(lambda t, at: (t.hello("publish", f"silent-{at}"),), 4096),
    "publishers under a name that is taken": storm(lambda t, at: t.hello("publish", f"ordinary-{at % 10}")),
}
