"""Whatever a client does wrong ends its own connection with a code and a reason; the streams beside it never notice."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import msgpack
import numpy as np
import pytest
from patience import pass_time
from server_rig import (
    OURS,
    PACKET,
    beside_a_stream,
    gated,
    is_clean,
    listen_hello,
    listening,
    offline_audio,
    offline_codec,
    packet,
    pcm_hello,
    publish_all,
    publish_hello,
    raw,
    run,
    same_codes,
    serving,
    small_limits,
    tiny_codec,
    until,
    voice,
)
from websockets.exceptions import InvalidStatus

from streamcodec.client import PublishOptions, publish
from streamcodec.errors import Refused, WireCode
from streamcodec.protocol import READ_BYTES, READ_CONTROL_BYTES, Gap, Packet, StreamEnd, StreamStart
from streamcodec.server import Tokens

CODES = publish_hello()
PCM = pcm_hello()
LISTEN = listen_hello()
NAN = np.array([0.0, np.nan, 0.0], "<f4").tobytes()
LOUD = np.array([0.0, 30_000.0], "<f4").tobytes()
PADDED = bytes(14) + b"\x01"
GAP = {"type": "gap", "first_seq": 2, "count": 1}
END = {"type": "end", "last_seq": None}

# what: (hello, what follows the welcome, the code)
WRONG_HELLO = {
    "garbage": (b"\xc1\xff garbage", "bad_message"),
    "nothing at all": (b"", "bad_message"),
    "two messages in one": (b"\x80\x80", "bad_message"),
    "a text message": ("hello", "bad_message"),
    "a number": (7, "bad_message"),
    "a packet before the hello": (packet(), "out_of_turn"),
    "an end before the hello": (END, "out_of_turn"),
    "a server's message": ({"type": "pong", "time": 0, "server_time": 0}, "out_of_turn"),
    "an unknown type": ({"type": "hallo"}, "bad_message"),
    "no type": ({"role": "publish"}, "bad_message"),
    "another version": ({**CODES, "version": 2}, "bad_version"),
    "no version": ({k: v for k, v in CODES.items() if k != "version"}, "bad_version"),
    "another role": ({**CODES, "role": "spy"}, "bad_request"),
    "a stream name with a slash": ({**LISTEN, "stream": "a/b"}, "bad_request"),
    "an empty stream name": ({**LISTEN, "stream": ""}, "bad_request"),
    "a stream name that is too long": ({**PCM, "stream": "x" * 65}, "bad_request"),
    "an unknown format": ({**LISTEN, "format": "mp3"}, "bad_request"),
    "PCM without a rate": ({**PCM, "sample_rate": None}, "bad_request"),
    "PCM of an absurd rate": ({**PCM, "sample_rate": 10**9}, "bad_request"),
    "nine channels": ({**PCM, "channels": 9}, "bad_request"),
    "no channels": ({**PCM, "channels": 0}, "bad_request"),
    "26 frames a packet": ({**PCM, "packet_frames": 26}, "bad_request"),
    "codes without a model": ({**CODES, "model": None}, "bad_request"),
    "publishing another model's codes": ({**CODES, "model": "f00d"}, "model_mismatch"),
    "publishing PCM for another model": ({**PCM, "model": "f00d"}, "model_mismatch"),
    "listening with another model": ({**LISTEN, "format": "codes", "model": "f00d"}, "model_mismatch"),
    "publishing a bandwidth that the model lacks": ({**PCM, "bandwidth": 5.0}, "bad_request"),
    "listening to a bandwidth that the model lacks": ({**LISTEN, "format": "codes", "model": OURS, "bandwidth": 48.0}, "bad_request"),
    "a bandwidth that is no number": ({**PCM, "bandwidth": float("nan")}, "bad_request"),
}
WRONG_LATER = {
    "garbage": (CODES, [packet(0), b"\x93\x01"], "bad_message"),
    "a text message": (PCM, ["speech"], "bad_message"),
    "another hello": (CODES, [CODES], "out_of_turn"),
    "a server's message": (CODES, [{"type": "waiting", "stream": "bad"}], "out_of_turn"),
    "a listener that sends a packet": (LISTEN, [packet(0)], "out_of_turn"),
    "a listener that ends": (LISTEN, [END], "out_of_turn"),
    "a packet with a missing element": (CODES, [[0, 0, 0, 8]], "bad_message"),
    "a packet with a negative number": (CODES, [[-1, 0, 0, 8, bytes(60)]], "bad_message"),
    "a truncated payload": (CODES, [packet(0), packet(1, payload=bytes(59))], "bad_payload"),
    "an empty payload": (CODES, [packet(0, payload=b"")], "bad_payload"),
    "a payload that is too long": (CODES, [packet(0, frames=7)], "bad_payload"),
    "padding that is not zero": ({**CODES, "packet_frames": 1, "bandwidth": 1.5}, [packet(0, n_q=2, payload=b"\0\0\1")], "bad_payload"),
    "n_q that was not agreed": (CODES, [packet(0, n_q=16)], "bad_payload"),
    "n_q that the model lacks": (CODES, [packet(0, n_q=64)], "bad_payload"),
    "PCM with an n_q": (PCM, [packet(0, n_q=8)], "bad_payload"),
    "PCM that is no whole sample": (PCM, [packet(0, n_q=0, payload=bytes(7))], "bad_payload"),
    "stereo that is no whole frame": ({**PCM, "channels": 2}, [packet(0, n_q=0, payload=bytes(12))], "bad_payload"),
    "more than a second of PCM": (PCM, [packet(0, n_q=0, payload=bytes(4 * 24_001))], "bad_payload"),
    "NaN in float PCM": (PCM, [packet(0, n_q=0, payload=NAN)], "bad_payload"),
    "integers as floats": (PCM, [packet(0, n_q=0, payload=LOUD)], "bad_payload"),
    "NaN and then the end": (PCM, [packet(0, n_q=0, payload=NAN), {**END, "last_seq": 0}], "bad_payload"),
    "NaN from a fast publisher": ({**PCM, "pace": "fast"}, [packet(i, n_q=0, payload=NAN * 2000) for i in range(9)], "bad_payload"),
    "a short packet in the middle": (CODES, [packet(0, frames=3), packet(1)], "bad_payload"),
    "a duplicate number": (CODES, [packet(0), packet(1), packet(1)], "bad_sequence"),
    "a skipped number": (CODES, [packet(0), packet(2)], "bad_sequence"),
    "a skipped number of PCM": (PCM, [packet(0, n_q=0), packet(2, n_q=0)], "bad_sequence"),
    "a first number that is not 0": (CODES, [packet(1)], "bad_sequence"),
    "a gap over the wrong numbers": (CODES, [packet(0), GAP], "bad_sequence"),
    "a gap of nothing": (CODES, [packet(0), {**GAP, "first_seq": 1, "count": 0}], "bad_request"),
    "an epoch that jumps": (CODES, [packet(0), packet(1, epoch=2)], "bad_sequence"),
    "an end that forgets a packet": (CODES, [packet(0), END], "bad_sequence"),
}


@contextlib.asynccontextmanager
async def closed_as_it_came(server):
    """Somebody else's stream runs meanwhile, and the server is left clean."""
    inside = asyncio.Event()
    done = asyncio.Event()

    async def incident():
        inside.set()
        await done.wait()

    stream = asyncio.create_task(beside_a_stream(server, incident))
    await inside.wait()
    try:
        yield
    finally:
        done.set()
        await stream


@contextlib.asynccontextmanager
async def with_a_steady_stream(server):
    """As `closed_as_it_came`, where listeners of other streams stay on."""
    offline = offline_codec()
    async with contextlib.AsyncExitStack() as stack:
        heard = await listening(stack, server.url, "steady", offline)
        x = voice(8, 0.8)
        publisher = await stack.enter_async_context(publish(server.url, "steady", PublishOptions(pace="fast", bandwidth=12.0)))
        await publisher.send(x[:9_000])
        yield
        await publisher.send(x[9_000:])
        await publisher.end()
        await heard.to_end()
    same_codes(offline, heard.codes(offline), x, 12.0, "primed")


async def refused(server, hello, then=()):
    """Say hello and what follows; returns the server's last word and the close code."""
    async with raw(server.url) as client:
        await client.send(hello)
        if then:
            assert (await client.receive())["type"] == "welcome"
            for message in then:
                await client.send(message)
        return await client.last_word()


def check(word, close_code, code):
    assert word is not None
    assert word["code"] == code, word
    assert close_code == WireCode(code).close_code
    assert 0 < len(word["reason"]) <= 1000


def test_every_wrong_hello_is_refused_by_name():
    async def main():
        async with serving() as server, closed_as_it_came(server):
            for what, (hello, code) in WRONG_HELLO.items():
                word, close_code = await refused(server, hello)
                check(word, close_code, code)
                assert word["type"] == "refuse", what
                assert word["retry"] is False, what
            assert server.metrics.refused == len(WRONG_HELLO)
            assert server.metrics.failed == 0

    run(main())


def test_every_wrong_message_later_ends_the_connection_by_name():
    async def main():
        async with serving() as server, closed_as_it_came(server):
            for what, (hello, then, code) in WRONG_LATER.items():
                word, close_code = await refused(server, hello, then)
                check(word, close_code, code)
                assert word["type"] == "error", what
                await until(lambda: "bad" not in server.registry.streams)
            assert server.metrics.failed == len(WRONG_LATER)
            assert server.metrics.refused == 0

    run(main())


def test_listeners_of_a_publisher_that_breaks_the_rules_get_all_that_came_before_and_an_end():
    offline = offline_codec()

    async def main():
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            as_codes = await listening(stack, server.url, "bad", offline)
            as_pcm = await listening(stack, server.url, "bad", format="pcm_f32le")
            x = voice(1, 0.32)
            pieces = [x[at : at + PACKET].tobytes() for at in range(0, x.size, PACKET)]
            packets = [packet(i, n_q=0, payload=piece) for i, piece in enumerate(pieces)]
            check(*await refused(server, PCM, [*packets, packet(4, n_q=0, payload=NAN)]), "bad_payload")
            await until(lambda: not server.registry.streams)
            check(*await refused(server, PCM, [*packets, packet(9, n_q=0)]), "bad_sequence")
            for heard in (as_codes, as_pcm):
                await heard.to_end(2)
                assert [end.next_seq for end in heard.of(StreamEnd)] == [4, 4]
            for codes in np.split(as_codes.codes(offline), 2, axis=1):
                same_codes(offline, codes, x, 6.0, "primed")

    run(main())


def test_a_second_publisher_of_a_name_is_refused_and_may_try_again_later():
    async def main():
        async with serving() as server:

            async def incident():
                with pytest.raises(Refused) as caught:
                    await publish_all(server.url, "steady", voice(1, 0.1))
                assert (caught.value.code, caught.value.retry) == ("stream_taken", True)

            await beside_a_stream(server, incident)
            await publish_all(server.url, "steady", voice(1))

    run(main())


def test_a_name_is_taken_until_the_last_of_its_audio_has_come_out():
    codec, engine = gated()

    async def main():
        async with serving(codec) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "a", format="pcm_s16le")
            engine.encoding.clear()
            first = asyncio.create_task(publish_all(server.url, "a", voice(1, 0.4)))
            await until(lambda: "a" in server.registry.streams and server.registry.streams["a"].ending)
            with pytest.raises(Refused, match="stream_taken"):
                await publish_all(server.url, "a", voice(1))
            late = await listening(stack, server.url, "a", format="pcm_s16le")
            engine.open()
            await first
            await publish_all(server.url, "a", voice(2, 0.4))
            await heard.to_end(2)
            await late.to_end()
            assert len(heard.of(Packet)) == 10
            assert len(late.of(Packet)) == 5

    run(main())


def test_a_client_that_says_nothing_is_disconnected():
    async def main():
        async with serving(limits=small_limits(handshake_s=0.05)) as server, raw(server.url) as client:
            word, close_code = await client.last_word()
            check(word, close_code, "timeout")
            assert word["retry"] is True

    run(main())


@pytest.mark.parametrize(("token", "allowed"), [("s3cret", True), ("wrong", False), (None, False)])
def test_a_token_opens_its_role_only(token, allowed):
    async def main():
        async with serving(tokens=Tokens(publish=["s3cret"], listen=["other"])) as server:
            for hello in (CODES, PCM, {**LISTEN, "token": "s3cret"}):
                hello = {"token": token, **hello}
                if hello["role"] == "publish" and allowed:
                    async with raw(server.url) as client:
                        await client.send(hello)
                        assert (await client.receive())["type"] == "welcome"
                else:
                    check(*await refused(server, hello), "unauthorized")
                await is_clean(server)

    run(main())


def test_a_message_that_is_too_big_ends_the_connection_that_sent_it():
    async def main():
        async with serving() as server:

            async def incident():
                for hello, most in ((None, READ_CONTROL_BYTES), (LISTEN, READ_CONTROL_BYTES), (CODES, READ_BYTES)):
                    for size in (most // 2 + 1, most, most + 1):
                        async with raw(server.url) as client:
                            if hello is not None:
                                await client.send(hello)
                                await client.receive()
                            await client.send(bytes(size))
                            word, close_code = await client.last_word()
                            if size > most:
                                assert (word, close_code) == (None, 1009), "nobody reads that much"
                            else:
                                check(word, close_code, "bad_message")
                                assert f"the message has {size} bytes" in word["reason"]

            await beside_a_stream(server, incident)

    run(main())


async def send_at_once(client, *messages):
    """Send messages without a look at what comes in between."""
    model = {"model": tiny_codec().fingerprint}
    for message in messages:
        value = {**message, **model} if isinstance(message, dict) and message.get("model") == OURS else message
        client.ws.protocol.send_binary(msgpack.packb(value))
    client.ws.send_data()


@pytest.mark.parametrize("early", [packet(0), END, CODES, {"type": "ping", "time": 0}], ids=["packet", "end", "hello", "ping"])
def test_any_message_right_after_a_hello_is_out_of_turn(early):
    async def main():
        async with serving() as server:
            for hello in (CODES, LISTEN):
                async with raw(server.url) as client:
                    await send_at_once(client, hello, early)
                    word, close_code = await client.last_word()
                    check(word, close_code, "out_of_turn")
                    assert word["type"] == "refuse"
                await is_clean(server)
            assert (server.metrics.publishers_accepted, server.metrics.listeners_accepted, server.metrics.refused) == (0, 0, 2)

    run(main())


def test_a_client_that_gives_up_before_it_has_an_answer_gets_none():
    async def main():
        async with serving() as server, raw(server.url) as client:
            await send_at_once(client, CODES, {"type": "error", "code": "internal", "reason": "no microphone"})
            assert await client.last_word() == (None, 4500)
            assert server.metrics.publishers_accepted == 0

    run(main())


@pytest.mark.parametrize("late", [packet(1, n_q=0), {**END, "last_seq": 0}, PCM], ids=["packet", "end", "hello"])
def test_any_message_after_the_end_is_out_of_turn_and_the_stream_comes_out_whole(late):
    codec, engine = gated()

    async def main():
        async with serving(codec) as server, contextlib.AsyncExitStack() as stack:
            heard = await listening(stack, server.url, "bad", offline_codec())
            engine.encoding.clear()
            client = await stack.enter_async_context(raw(server.url))
            await client.send(PCM)
            await client.receive()
            await client.send(packet(0, n_q=0))
            await client.send({**END, "last_seq": 0})
            await client.send({"type": "ping", "time": 7})
            pong = await client.receive()
            assert (pong["type"], pong["time"]) == ("pong", 7)
            await client.send(late)
            check(*await client.last_word(), "out_of_turn")
            engine.open()
            await heard.to_end()
            assert len(heard.of(Packet)) == 1
            assert heard.of(StreamEnd)[0].reason == "the publisher ended it"

    run(main())


def test_what_no_waiting_would_mend_is_refused_before_what_waiting_may():
    asked = {**PCM, "stream": "a", "token": "no", "model": "f00d", "bandwidth": 5.0, "sample_rate": 1, "version": 2}
    # Each mends what was refused before.
    steps = (
        ({}, "bad_version"),
        ({"version": 1}, "bad_request"),
        ({"sample_rate": 24_000}, "unauthorized"),
        ({"token": "yes"}, "model_mismatch"),
        ({"model": None}, "bad_request"),
        ({"bandwidth": None, "resume": {"session": "x", "epoch": 0, "next_seq": 0}}, "unknown_session"),
        ({"resume": None}, "stream_taken"),
        ({"stream": "b"}, "server_full"),
    )

    async def main():
        async with contextlib.AsyncExitStack() as stack:
            limits, tokens = small_limits(max_publishers=1, max_listeners=0), Tokens(publish=["yes"])
            server = await stack.enter_async_context(serving(limits=limits, tokens=tokens))
            await stack.enter_async_context(publish(server.url, "a", PublishOptions(pace="fast", token="yes")))
            for change, code in steps:
                asked.update(change)
                check(*await refused(server, asked), code)
            listen = {**LISTEN, "format": "codes", "model": OURS}
            check(*await refused(server, {**listen, "min_bandwidth": 5.0}), "bad_request")
            check(*await refused(server, listen), "server_full")

    run(main())


@pytest.mark.parametrize("subprotocols", [None, ["mqtt"]])
def test_a_client_of_another_protocol_is_turned_away(subprotocols):
    async def main():
        async with serving() as server:

            async def incident():
                with pytest.raises(InvalidStatus) as caught:
                    async with raw(server.url, subprotocols=subprotocols):
                        pass
                assert caught.value.response.status_code == 400

            await beside_a_stream(server, incident)

    run(main())


@pytest.mark.parametrize("headers", ["", "Origin: https://evil.example\r\n"], ids=["accepted", "refused"])
def test_who_sends_nonsense_behind_its_request_is_dropped_without_a_word_in_the_log(headers):
    async def main():
        async with serving() as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            asked = f"GET / HTTP/1.1\r\nHost: {server.host}:{server.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            asked += f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
            writer.write(2 * asked.encode())
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()

    run(main())  # which lets no error be logged


def test_a_full_server_says_so_and_has_room_again_later():
    async def main():
        async with serving(limits=small_limits(max_publishers=1, max_listeners=1)) as server, contextlib.AsyncExitStack() as stack:
            async with publish(server.url, "a", PublishOptions(pace="fast")):
                check(*await refused(server, pcm_hello("b")), "server_full")
                await listening(stack, server.url, "a", format="pcm_s16le")
                check(*await refused(server, LISTEN), "server_full")
            async with publish(server.url, "b", PublishOptions(pace="fast")):
                pass

    run(main())


# Clients that vanish ---------------------------------------------------------------------------------------------------------------------


def test_what_a_publisher_that_vanishes_had_sent_comes_out_and_its_name_is_free_again():
    offline = offline_codec()

    async def main():
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            as_codes = await listening(stack, server.url, "a", offline)
            as_pcm = await listening(stack, server.url, "a", format="pcm_f32le")
            x = voice(3, 0.5)

            async with with_a_steady_stream(server), raw(server.url) as client:
                await client.send({**PCM, "stream": "a"})
                await client.receive()
                for i, at in enumerate(range(0, x.size, 2_400)):
                    await client.send(packet(i, n_q=0, payload=x[at : at + 2_400].tobytes()))
                await until(lambda: server.registry.streams["a"].totals.received == 5)
                client.ws.transport.abort()
                for heard in (as_codes, as_pcm):
                    await heard.to_end()
                    assert heard.of(StreamEnd)[0].reason == "the publisher vanished"
            codes = as_codes.codes(offline)
            same_codes(offline, codes, x, 6.0, "primed")
            np.testing.assert_allclose(as_pcm.audio(), offline_audio(offline, codes, 6.0, "primed"), atol=1e-4)
            await publish_all(server.url, "a", voice(1, 0.1))

    run(main())


@pytest.mark.parametrize("when", ["before the hello", "behind the hello", "listening", "publishing", "draining"])
def test_a_client_may_vanish_at_any_moment(when):
    hellos = {"listening": LISTEN, "behind the hello": PCM, "publishing": PCM, "draining": {**PCM, "pace": "fast"}}
    audio = [packet(i, n_q=0, payload=voice(i, 0.5).tobytes()) for i in range(8)]

    async def main():
        async with serving() as server:

            async def incident():
                for _ in range(5):
                    async with raw(server.url) as client:
                        if when in hellos:
                            await client.send(hellos[when])
                        if when in ("listening", "publishing", "draining"):
                            await client.receive()
                        if when in ("publishing", "draining"):
                            for message in audio[: 2 if when == "publishing" else 8]:
                                await client.send(message)
                        if when == "draining":
                            await client.send({**END, "last_seq": 7})
                        client.ws.transport.abort()
                    await until(lambda: "bad" not in server.registry.streams)

            await beside_a_stream(server, incident)

    run(main())


def test_listeners_vanish_while_their_stream_ends():
    async def main():
        async with serving() as server:

            async def incident():
                for round in range(1, 6):
                    async with contextlib.AsyncExitStack() as stack:
                        clients = [await stack.enter_async_context(raw(server.url)) for _ in range(4)]
                        for i, client in enumerate(clients):
                            await client.send(LISTEN if i % 2 else {**LISTEN, "format": "codes", "model": OURS})
                            await client.receive()
                        publishing = asyncio.create_task(publish_all(server.url, "bad", voice(1, 0.3)))
                        await until(lambda: server.metrics.publishers_accepted == 1 + round)  # noqa: B023
                        await until(lambda: all(stream.ending for name, stream in server.registry.streams.items() if name == "bad"))
                        for client in clients:
                            client.ws.transport.abort()
                        await publishing

            await beside_a_stream(server, incident)

    run(main())


# Listeners that do not read --------------------------------------------------------------------------------------------------------------


def test_a_listener_that_does_not_read_loses_packets_and_is_told_while_the_others_lose_nothing():
    offline = offline_codec()
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 1024, (32, 25 * 1200))

    async def main():
        async with serving(limits=small_limits(stall_s=4.0)) as server, contextlib.AsyncExitStack() as stack:
            # Small buffers in the kernel, so that the test need not send megabytes.
            server._public._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            narrow = socket.socket()
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.setblocking(False)
            await asyncio.get_running_loop().sock_connect(narrow, (server.host, server.port))
            slow = await stack.enter_async_context(raw(server.url, sock=narrow, max_queue=1))
            await slow.send({**LISTEN, "format": "codes", "model": OURS, "stream": "a"})
            assert (await slow.receive())["type"] == "welcome"
            [behind] = server.registry.listeners["a"]
            fine = await listening(stack, server.url, "a", offline)
            [in_time] = server.registry.listeners["a"] - {behind}
            reading = asyncio.create_task(fine.to_end())
            options = {"format": "codes", "model": offline.fingerprint, "bandwidth": 24.0, "packet_frames": 25}
            publishing = asyncio.create_task(publish_all(server.url, "a", codes, block=25, **options))
            await until(lambda: behind.lagging and not in_time.lagging)
            # The publisher is held back until it has waited for the slow one for too long: each time for less than its own patience.
            await pass_time(0.0)
            assert not behind.given_up
            await pass_time(5.0)
            assert behind.given_up and not in_time.given_up
            ended = await publishing
            await reading
            assert (ended.received, ended.dropped) == (1200, 0)
            assert fine.of(Gap) == []
            np.testing.assert_array_equal(fine.codes(offline), codes)
            # It starts to read at last: what it lost is named, what is left is the newest.
            expected, gaps, last = 0, 0, None
            while not (isinstance(last, dict) and last["type"] == "stream_end"):
                last = await slow.receive()
                if isinstance(last, list):
                    assert last[0] == expected
                    expected += 1
                elif last["type"] == "gap":
                    assert (last["first_seq"], last["reason"]) == (expected, "slow_listener")
                    expected += last["count"]
                    gaps += last["count"]
            assert expected == last["next_seq"] == 1200
            assert gaps > 0

    run(main())


def test_a_listener_that_never_reads_cannot_hold_up_the_end_of_the_server():
    offline = offline_codec()
    codes = np.zeros((32, 25 * 600), np.int32)

    async def main():
        async with serving(limits=small_limits(drain_s=0.2, stall_s=0.05)) as server, contextlib.AsyncExitStack() as stack:
            server._public._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            slow = await stack.enter_async_context(raw(server.url, max_queue=1, close_timeout=0.1))
            await slow.send({**LISTEN, "format": "codes", "model": OURS, "stream": "a"})
            assert (await slow.receive())["type"] == "welcome"
            slow.ws.transport.pause_reading()
            options = {"format": "codes", "model": offline.fingerprint, "bandwidth": 24.0, "packet_frames": 25}
            await publish_all(server.url, "a", codes, block=25, **options)
            await server.stop()
            assert not server._connections

    run(main())


# What is the server's own fault ----------------------------------------------------------------------------------------------------------


def test_an_engine_that_breaks_ends_the_streams_of_that_step_and_the_next_ones_are_served():
    codec, engine = gated()

    async def main():
        async with serving(codec) as server, contextlib.AsyncExitStack() as stack:
            as_pcm = await listening(stack, server.url, "a", format="pcm_f32le")
            as_codes = await listening(stack, server.url, "a", offline_codec())
            engine.break_decoding = True
            with pytest.raises(Refused) as caught:
                async with publish(server.url, "a", PublishOptions(pace="fast")) as publisher:
                    while True:
                        await publisher.send(voice(1, 0.16))
            assert (caught.value.code, caught.value.retry) == ("internal", True)
            for heard in (as_pcm, as_codes):
                await heard.to_end()
            assert as_pcm.of(Packet) == []
            assert {gap.reason for gap in as_pcm.of(Gap)} <= {"internal"}
            assert as_codes.of(Gap) == []
            engine.break_decoding = False
            await publish_all(server.url, "a", voice(1, 0.4))
            for heard in (as_pcm, as_codes):
                await heard.to_end(2)
            assert len(as_pcm.of(Packet)) == 5
            assert len(as_pcm.of(StreamStart)) == 2

    run(main(), errors_expected=True)
