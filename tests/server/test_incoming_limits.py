"""What one connection may send: what comes too fast is read later, and who floods or never reads is cut off; nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace

import pytest
from patience import pass_time, run_patiently
from server_rig import beside_a_stream, figures, listen_hello, packet, publish_hello, raw, run, serving, small_limits, until
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from streamcodec.errors import WireCode
from streamcodec.protocol import SUBPROTOCOL
from streamcodec.server.door import Door
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics
from streamcodec.server.rate import Rate
from streamcodec.server.refusals import Refusals
from streamcodec.server.websocket import FAREWELL_S, PIECE, MessageConnection

REQUEST = (
    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    f"Sec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
).encode()
LIMITS = Limits(control_frames=Rate(20, 60), frames=Rate(100, 50), incoming_bytes=Rate(100_000, 50_000))
PING_S = 10.0


def frame(opcode: Opcode, data: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


PING, PONG = frame(Opcode.PING), frame(Opcode.PONG)


class Wire(asyncio.Transport):
    """A transport that notes what is done to it."""

    def __init__(self):
        super().__init__()
        self.written, self.reading, self.aborted = bytearray(), True, False

    def write(self, data):
        self.written += data

    def pause_reading(self):
        assert self.reading, "reading was paused twice"
        self.reading = False

    def resume_reading(self):
        assert not self.reading, "reading was resumed twice"
        self.reading = True

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def can_write_eof(self):
        return True

    def write_eof(self):
        pass

    def is_closing(self):
        return self.aborted

    def abort(self):
        self.aborted = True


class Connected:
    """A connection behind its handshake; `heard` are the messages that somebody has received."""

    def __init__(self, limits=LIMITS, max_size=2**20):
        async def handler(_):
            pass

        self.cut_off = []
        self.wire = Wire()
        self.ws = MessageConnection(
            ServerProtocol(subprotocols=[SUBPROTOCOL], max_size=max_size),
            SimpleNamespace(handler=handler, handler_tasks=set(), is_serving=lambda: True),
            ping_interval=PING_S,
            ping_timeout=PING_S,
            max_queue=8,
            limits=limits,
            door=Door(limits, Refusals(lambda: 0.0), lambda: 0.0),
            cut_off_by=lambda _, reason: self.cut_off.append(reason),
            metrics=Metrics(),
        )
        self.heard = []

    async def __aenter__(self):
        self.ws.connection_made(self.wire)
        self.ws.data_received(REQUEST)
        await self.ws.handshake()
        assert self.ws.state is State.OPEN
        self.wire.written.clear()
        return self

    async def __aexit__(self, *_):
        if getattr(self, "reader", None):
            self.reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self.reader
        self.ws.connection_lost(None)

    def read(self):
        async def read():
            while True:
                self.heard.append(await self.ws.recv())

        self.reader = asyncio.create_task(read())

    def send(self, data):
        """As a transport does: at most what its buffer holds, and only while it is asked to read."""
        assert self.wire.reading
        self.ws.data_received(data)


@pytest.mark.parametrize("flood", [PING, PONG, frame(Opcode.PING, bytes(125))], ids=["pings", "pongs", "long pings"])
def test_who_sends_too_many_control_frames_is_cut_off_and_told_why(flood):
    async def main():
        async with Connected() as peer:
            peer.send(60 * flood)
            assert not peer.cut_off and peer.ws.state is State.OPEN
            peer.send(100_000 // len(flood) * flood)
            assert peer.cut_off == ["more than 20 pings and pongs a second"]
            assert peer.ws.state is State.CLOSING and not peer.wire.reading
            close = peer.wire.written[-2 - 2 - len(peer.cut_off[0]) :]
            assert close[0] == 0x88 and int.from_bytes(close[2:4], "big") == WireCode.RATE_LIMITED.close_code
            assert close[4:].decode() == peer.cut_off[0]
            # It answered no more of them than one piece holds.
            assert peer.wire.written.count(b"\x8a") <= 60 + PIECE // len(flood) + 1
            await pass_time(FAREWELL_S)
            assert peer.wire.aborted and peer.cut_off == peer.cut_off[:1]

    run_patiently(main())


def test_pings_at_the_rate_that_is_allowed_are_answered_for_ever():
    async def main():
        async with Connected() as peer:
            for _ in range(300):
                peer.send(20 * PING)
                await pass_time(1.0)
            assert peer.wire.written == 6_000 * b"\x8a\x00" and not peer.cut_off

    run_patiently(main())


def test_messages_that_come_too_fast_are_read_later_and_none_is_lost():
    async def main():
        async with Connected() as peer:
            peer.read()
            await asyncio.sleep(0)
            messages = [b"%04d" % i for i in range(1000)]
            peer.send(b"".join(frame(Opcode.BINARY, message) for message in messages))
            assert not peer.wire.reading
            seconds = 0
            while not peer.wire.reading:
                await pass_time(0.1)
                seconds += 0.1
                for _ in range(50):
                    await asyncio.sleep(0)
                # No more than the rate, one burst, and what one piece holds beyond.
                assert len(peer.heard) <= 50 + 100 * (seconds + 1) + PIECE // 10
                assert seconds < 100
            assert peer.heard == messages
            assert seconds > 5 and not peer.cut_off

    run_patiently(main())


@pytest.mark.parametrize(
    "pieces",
    [
        [frame(Opcode.BINARY, b"", fin=False), *3000 * [frame(Opcode.CONT, b"x", fin=False)], frame(Opcode.CONT, b"")],
        [frame(Opcode.BINARY, b"x", fin=False), *3000 * [frame(Opcode.CONT, b"", fin=False)], frame(Opcode.CONT, b"y")],
    ],
    ids=["of a byte each", "empty"],
)
def test_fragments_count_like_messages(pieces):
    async def main():
        async with Connected() as peer:
            peer.read()
            await asyncio.sleep(0)
            peer.send(b"".join(pieces))
            seconds = 0
            while not peer.heard:
                await pass_time(0.5)
                for _ in range(20):
                    await asyncio.sleep(0)
                seconds += 0.5
                assert seconds < 100
            assert seconds > 20, "3,000 fragments were read faster than 100 a second"
            assert len(peer.heard) == 1 and not peer.cut_off

    run_patiently(main())


def test_bytes_that_come_too_fast_are_read_later():
    async def main():
        async with Connected() as peer:
            peer.read()
            await asyncio.sleep(0)
            message = bytes(500_000)
            sent = frame(Opcode.BINARY, message)
            seconds = 0
            while sent or not peer.wire.reading:
                if peer.wire.reading:
                    peer.send(sent[:65_536])
                    sent = sent[65_536:]
                await pass_time(0.1)
                seconds += 0.1
                assert seconds < 60
            for _ in range(20):
                await asyncio.sleep(0)
            assert peer.heard == [message] and seconds > 4

    run_patiently(main())


def test_what_is_behind_a_full_queue_is_not_even_parsed():
    async def main():
        async with Connected(Limits(frames=Rate(1e9, 1e9))) as peer:
            peer.send(10_000 * frame(Opcode.BINARY))
            assert len(peer.ws.recv_messages.frames) <= 8 + PIECE // 6 + 1
            assert not peer.wire.reading
            peer.read()
            await until(lambda: len(peer.heard) == 10_000, "the rest never came")
            await until(lambda: peer.wire.reading, "it does not read again")
            assert set(peer.heard) == {b""}

    run_patiently(main())


def test_control_frames_between_fragments_count_and_fragments_go_on():
    async def main():
        async with Connected() as peer:
            peer.read()
            await asyncio.sleep(0)
            parts = [frame(Opcode.BINARY, b"a", fin=False), *20 * [PING, frame(Opcode.CONT, b"b", fin=False)], frame(Opcode.CONT, b"c")]
            peer.send(b"".join(parts))
            await until(lambda: peer.heard, "the message never came")
            assert peer.heard == [b"a" + 20 * b"b" + b"c"] and not peer.cut_off
            peer.send(50 * PING)
            assert peer.cut_off

    run_patiently(main())


def test_who_reads_nothing_for_long_is_dropped_though_pings_wait_for_it():
    async def main():
        async with Connected() as peer:
            peer.ws.pause_writing()
            before = len(peer.wire.written)
            seconds = 0
            while not peer.wire.aborted:
                peer.send(20 * frame(Opcode.PING, bytes(125)))
                await pass_time(1.0)
                seconds += 1
                assert seconds <= 2 * PING_S
            assert seconds >= 2 * PING_S - 1
            assert len(peer.wire.written) - before <= 2 * PING_S * 20 * 127

    run_patiently(main())


def test_who_reads_again_in_time_stays():
    async def main():
        async with Connected() as peer:
            for _ in range(5):
                peer.ws.pause_writing()
                await pass_time(2 * PING_S - 1)
                peer.ws.resume_writing()
            await pass_time(4 * PING_S)
            assert not peer.wire.aborted

    run_patiently(main())


def test_a_compressed_frame_is_a_protocol_error():
    async def main():
        async with serving() as server, raw(server.url) as client:
            # FIN, RSV1 and BINARY; masked, empty, with a mask of zeros.
            client.ws.transport.write(b"\xc2\x80" + bytes(4))
            assert (await client.last_word())[1] == 1002

    run(main())


@pytest.mark.parametrize("end", [frame(Opcode.CLOSE, b"\x03\xe8"), b"\xc2\x80" + bytes(4)], ids=["a close frame", "a wrong frame"])
def test_what_comes_behind_an_end_is_not_looked_at(end):
    async def main():
        async with Connected() as peer:
            parsed = []
            receive = peer.ws.protocol.receive_data
            peer.ws.protocol.receive_data = lambda data: (parsed.append(len(data)), receive(data))[1]
            peer.send(end)
            for _ in range(3):
                peer.send(50 * PIECE * b"x") if peer.wire.reading else await pass_time(0.5)
            assert parsed == [len(end)] and not peer.wire.aborted
            await pass_time(FAREWELL_S)
            assert peer.wire.aborted and not peer.cut_off

    run_patiently(main())


FLOODS = {
    "pings without a hello": (None, PING),
    "pings from a listener": (listen_hello("flood"), PING),
    "pings from a publisher": (publish_hello("flood"), PING),
    "pongs without a hello": (None, PONG),
}


@pytest.mark.parametrize("hello, flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_of_control_frames_harms_no_stream_beside_it(hello, flood):
    async def main():
        async with serving() as server:

            async def incident():
                async with raw(server.url) as client:
                    if hello is not None:
                        await client.send(hello)
                        assert (await client.receive())["type"] == "welcome"
                    with contextlib.suppress(OSError, RuntimeError):
                        client.ws.transport.write(200_000 * flood)
                    word, code = await client.last_word()
                    assert (word, code) == (None, WireCode.RATE_LIMITED.close_code)
                    assert client.ws.close_reason == "more than 20 pings and pongs a second"

            await beside_a_stream(server, incident)
            assert (await figures(server))["connections_limited_total{limit=control_frames}"] == 1

    run(main())


def test_a_publisher_that_sends_tiny_messages_as_fast_as_it_can_loses_none():
    async def main():
        limits = small_limits(frames=Rate(2000, 50))
        async with serving(limits=limits) as server, raw(server.url) as client:
            await client.send(publish_hello("many", packet_frames=1, pace="fast"))
            assert (await client.receive())["type"] == "welcome"
            for seq in range(400):
                await client.send(packet(seq, frames=1))
            await client.send({"type": "end", "last_seq": 399})
            while (message := await client.receive())["type"] != "ended":
                pass
            assert (message["received"], message["dropped"]) == (400, 0)

    run(main())
