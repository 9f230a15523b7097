"""Every way in which no connection comes about, or one ends, has one clear error that says what to do."""

from __future__ import annotations

import asyncio
import socket

import pytest
from client_rig import MODEL, TIMEOUT_S, run, scripted, start
from patience import pass_time

from streamcodec.client import listen, publish
from streamcodec.client.connection import open_connection
from streamcodec.errors import ConnectionFailed, InputError, Refused, RemoteProtocolError
from streamcodec.protocol import Error, ListenHello, Packet, Ping, Pong, Refuse, StreamEnd, Waiting

HELLO = ListenHello(stream="alice", format="pcm_s16le")


def test_no_server_is_named_with_what_to_start():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{free.getsockname()[1]}"

        async def main():
            for connect in (listen(url, "alice", format="pcm_s16le"), publish(url, "alice")):
                with pytest.raises(ConnectionFailed, match=rf"cannot connect to {url}: .*streamcodec serve"):
                    async with connect:
                        pass

        run(main())


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b""])
def test_a_server_that_is_no_websocket_server_is_named(answer):
    async def main():
        async def handle(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            writer.close()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(ConnectionFailed, match=url):
                await open_connection(url, HELLO)

    run(main())


@pytest.mark.parametrize("subprotocol", [None, "mqtt"])
def test_a_websocket_server_of_another_protocol_is_named(subprotocol):
    async def main():
        async def script(server):
            await server.ws.wait_closed()

        async with scripted(script, subprotocol=subprotocol) as url:
            with pytest.raises(ConnectionFailed, match=url):
                await open_connection(url, HELLO)

    run(main())


def test_a_server_that_does_not_answer_is_given_up():
    async def main():
        async def handle(reader, writer):
            await reader.read()
            writer.close()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            with pytest.raises(ConnectionFailed, match=r"does not answer within 0\.05 s"):
                await open_connection(url, HELLO, timeout_s=0.05)

        greeted = asyncio.Event()

        async def silent(server):
            await server.receive()
            greeted.set()
            await server.ws.wait_closed()

        async with scripted(silent) as url:
            opening = asyncio.ensure_future(open_connection(url, HELLO, timeout_s=30.0))
            await greeted.wait()
            await pass_time(31.0)
            with pytest.raises(ConnectionFailed, match="does not answer the hello within 30 s"):
                await opening

    run(main())


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1",
        "127.0.0.1:8765",
        "",
        "ws://",
        "ws://127.0.0.1:99999",
        "ws://127.0.0.1:port",
        "ws://[::1",
        "ws://.:80",
        "ws://u@h",
    ],
)
def test_a_malformed_address_is_an_input_error_that_shows_a_good_one(url):
    async def main():
        with pytest.raises(InputError, match=r"expected for instance ws://127\.0\.0\.1:8765"):
            await open_connection(url, HELLO)

    run(main())


@pytest.mark.parametrize("retry", [True, False])
def test_a_refusal_carries_its_code_its_reason_and_whether_to_retry(retry):
    async def main():
        async def script(server):
            await server.receive()
            await server.send(Refuse(code="tea_time", reason="come back at five", retry=retry))
            await server.ws.close(4999)

        async with scripted(script) as url:
            with pytest.raises(Refused, match="come back at five") as caught:
                await open_connection(url, HELLO)
            assert (caught.value.code, caught.value.retry) == ("tea_time", retry)

    run(main())


@pytest.mark.parametrize(("code", "retry"), [("server_closing", True), ("internal", True), ("bad_payload", False), ("tea_time", False)])
def test_an_error_later_is_a_refusal_too(code, retry):
    async def main():
        async def script(server):
            await server.welcome()
            await server.send(Error(code=code, reason="enough"))
            await server.ws.close(4999)

        async with scripted(script) as url, listen(url, "alice", format="pcm_s16le") as listener:
            with pytest.raises(Refused) as caught:
                await anext(listener)
            assert (caught.value.code, caught.value.reason, caught.value.retry) == (code, "enough", retry)

    run(main())


def test_a_close_code_alone_says_why():
    async def main():
        async def script(server):
            await server.welcome()
            await server.ws.close(4501, "going home")

        async with scripted(script) as url, listen(url, "alice", format="pcm_s16le") as listener:
            with pytest.raises(Refused, match="going home") as caught:
                await anext(listener)
            assert (caught.value.code, caught.value.retry) == ("server_closing", True)

    run(main())


def test_a_server_that_dies_is_a_lost_connection():
    async def main():
        async def script(server):
            await server.welcome()
            await server.send(Waiting(stream="alice"))
            server.ws.transport.abort()

        async with scripted(script) as url, listen(url, "alice", format="pcm_s16le") as listener:
            with pytest.raises(ConnectionFailed, match=f"the connection to {url} was lost") as caught:
                async for event in listener:
                    assert isinstance(event, Waiting)
            assert not isinstance(caught.value, Refused)

    run(main())


BAD = {
    "garbage": b"\xc1",
    "text": "hello",
    "a packet without a start": Packet(0, 0, 0, 0, bytes(4)).serialize(),
    "an end without a start": StreamEnd(next_seq=0).serialize(),
    "a start of another format": start().serialize(),
}


@pytest.mark.parametrize("what", BAD)
def test_a_server_that_breaks_the_rules_is_told_and_left(what):
    async def main():
        told = asyncio.get_running_loop().create_future()

        async def script(server):
            await server.welcome()
            await server.send_raw(BAD[what])
            while not isinstance(message := await server.receive(), Error):
                pass
            told.set_result(message.code)
            await server.ws.wait_closed()

        async with scripted(script) as url, listen(url, "alice", format="pcm_s16le") as listener:
            with pytest.raises(RemoteProtocolError) as caught:
                await anext(listener)
            assert await asyncio.wait_for(told, TIMEOUT_S) == caught.value.code

    run(main())


def test_a_welcome_of_another_model_is_refused_by_the_client():
    async def main():
        async def script(server):
            await server.receive()
            model = {f: getattr(MODEL, f) for f in MODEL.__dataclass_fields__}
            welcome = {"type": "welcome", "version": 1, "role": "listen", "stream": "alice", "model": model, "format": "codes", "time": 0}
            await server.send_raw(welcome)
            await server.ws.wait_closed()

        async with scripted(script) as url:
            with pytest.raises(RemoteProtocolError, match="f00d"):
                await open_connection(url, ListenHello(stream="alice", format="codes", model="another"))

    run(main())


def test_the_clock_is_the_server_s_and_pongs_are_no_events():
    async def main():
        async def script(server):
            await server.welcome(time=10_000_000_000)
            for _ in range(3):
                ping = await server.receive()
                assert isinstance(ping, Ping)
                await server.send(Pong(time=ping.time, server_time=ping.time + 5_000_000))
            await server.send(Waiting(stream="alice"))
            await server.ws.wait_closed()

        async with scripted(script) as url, listen(url, "alice", format="pcm_s16le") as listener:
            assert await anext(listener) == Waiting(stream="alice")
            clock = listener._connection.clock
            assert len(clock.exchanges) == 4
            assert listener.round_trip_ms == clock.round_trip / 1000 >= 0

    run(main())


def test_leaving_in_the_middle_of_a_flood_does_not_wait_for_a_timeout():
    async def main():
        async def script(server):
            await server.welcome()
            await server.send(start(format="pcm_s16le", n_q=8))
            for seq in range(10_000):
                try:
                    await server.send(Packet(seq, 0, 0, 0, bytes(3_840)))
                except Exception:
                    return

        async with scripted(script) as url:
            listener = listen(url, "alice", format="pcm_s16le")
            await listener.__aenter__()
            await anext(listener)
            ws = listener._connection._ws
            ws.close_timeout = TIMEOUT_S * 10  # the handshake must come about, or this test times out
            await listener.__aexit__(None, None, None)
            assert ws.close_code == 1000

    run(main())
