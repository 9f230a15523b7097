"""The private port: health and figures for whoever runs the server, and nothing for websites, slow clients and crowds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import socket
from http import HTTPStatus

import pytest
from patience import pass_time
from server_rig import http_get, run, samples, serving, tiny_codec, until

from streamcodec.errors import StreamCodecError
from streamcodec.server import Server, Sites
from streamcodec.server.ports import private
from streamcodec.server.ports.private import FAREWELL_S, MAX_CONNECTIONS, REQUEST_S
from streamcodec.server.ports.routes import MAX_BODY_BYTES, HttpReply, HttpRequest, Route, Routes


async def echo(request: HttpRequest) -> HttpReply:
    told = {"method": request.method, "body": request.body.decode(), **request.placeholders}
    return HttpReply(HTTPStatus.OK, json.dumps(told), "application/json")


async def broken(_: HttpRequest) -> HttpReply:
    raise RuntimeError("the handler broke")


def no_entry(request: HttpRequest) -> HttpReply | None:
    known = request.headers.get("Authorization") == "Bearer secret"
    return None if known else HttpReply(HTTPStatus.UNAUTHORIZED, "A token is needed.\n")


MORE = [
    Route("POST", "/echo/{name}", echo, guard=no_entry),
    Route("GET", "/open/{name}", echo),
    Route("DELETE", "/open/{name}", echo),
    Route("GET", "/broken", broken),
]


@contextlib.asynccontextmanager
async def asking(server, request: bytes):
    """A connection to the private port on which `request` was sent."""
    reader, writer = await asyncio.open_connection(server.private.host, server.private.port)
    try:
        writer.write(request)
        yield reader
    finally:
        writer.close()
        await writer.wait_closed()


async def ask(server, method: str, path: str, headers: str = "", body: bytes = b""):
    """Status, head and body of the answer to one request."""
    host = "" if "Host:" in headers else f"Host: 127.0.0.1:{server.private.port}\r\n"
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    async with asking(server, f"{method} {path} HTTP/1.1\r\n{host}{length}{headers}\r\n".encode() + body) as reader:
        head, _, answer = (await reader.read()).decode().partition("\r\n\r\n")
    return int(head.split()[1]), head, answer


def test_health_and_figures_are_on_the_private_port_and_figures_nowhere_else():
    async def main():
        async with serving(private_port=0) as server:
            assert server.private.url == f"http://127.0.0.1:{server.private.port}"
            for path in ("/healthz", "/readyz", "/readyz?now"):
                status, head, body = await ask(server, "GET", path)
                assert (status, body) == (200, "ok\n")
                assert "Content-Type: text/plain; charset=utf-8" in head and "Cache-Control: no-store" in head
            status, _, text = await ask(server, "GET", "/metrics")
            assert status == 200 and samples(text)["publishers"] == 0
            assert (await http_get(server, "/metrics"))[0] == 404
            assert await http_get(server, "/healthz") == (200, "ok\n")
            assert (await ask(server, "HEAD", "/healthz"))[2] == ""

    run(main())


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({}, 200),
        ({"host": "0.0.0.0", "insecure": True}, 404),
        ({"sites": Sites(hosts=["voice.example.org"])}, 404),
        ({"host": "0.0.0.0", "insecure": True, "private_port": 0}, 404),
    ],
    ids=["loopback", "public", "behind a proxy", "public with a private port"],
)
def test_figures_are_on_the_public_port_only_where_nobody_else_reaches_it(options, status, caplog):
    async def main():
        async with serving(**options) as server:
            server.host = "127.0.0.1"
            assert (await http_get(server, "/metrics"))[0] == status
            assert (await http_get(server, "/readyz"))[0] == 200

    with caplog.at_level(logging.INFO):
        run(main())
    told = [record for record in caplog.records if "/metrics is not answered" in record.getMessage()]
    assert len(told) == (status == 404 and "private_port" not in options)


def test_a_private_port_that_others_reach_is_told(caplog):
    async def main():
        async with serving(private_port=0, private_host="0.0.0.0") as server:
            assert (await ask(server, "GET", "/healthz"))[0] == 200

    with caplog.at_level(logging.WARNING):
        run(main())
    assert sum("the private port is open to other machines" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("option", ["--port", "--private-port"])
def test_a_port_that_is_taken_is_told_and_leaves_the_other_closed(option):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            server = Server(
                tiny_codec(), **({"port": port, "private_port": 0} if option == "--port" else {"port": 0, "private_port": port})
            )
            with pytest.raises(StreamCodecError, match=rf"in use.* {option} N, or 0"):
                await server.__aenter__()
            if option == "--port":
                with pytest.raises(ConnectionRefusedError):
                    await asyncio.open_connection(server.private.host, server.private.port)

    run(main())


def test_routes_are_told_apart_by_method_and_placeholders_are_decoded():
    async def main():
        async with serving(private_port=0) as server:
            server.private.routes.add(*MORE)
            status, _, body = await ask(server, "GET", "/open/a%2Fb%20c")
            assert (status, json.loads(body)) == (200, {"method": "GET", "body": "", "name": "a/b c"})
            assert json.loads((await ask(server, "DELETE", "/open/x"))[2])["method"] == "DELETE"
            status, head, _ = await ask(server, "POST", "/open/x")
            assert status == 405 and "Allow: DELETE, GET" in head
            assert (await ask(server, "GET", "/open/x/y"))[0] == (await ask(server, "GET", "/"))[0] == 404

    run(main())


def test_a_guard_is_asked_before_the_handler():
    async def main():
        async with serving(private_port=0) as server:
            server.private.routes.add(*MORE)
            assert (await ask(server, "POST", "/echo/a", body=b"hello"))[0] == 401
            status, _, body = await ask(server, "POST", "/echo/a", "Authorization: Bearer secret\r\n", b"hello")
            assert (status, json.loads(body)["body"]) == (200, "hello")

    run(main())


@pytest.mark.parametrize(
    ("path", "headers"), [("/healthz", "Host: evil.example\r\n"), ("/metrics", "Origin: https://evil.example\r\n")], ids=["host", "origin"]
)
def test_websites_get_nothing(path, headers):
    async def main():
        async with serving(private_port=0, sites=Sites(origins=["https://evil.example"])) as server:
            assert (await ask(server, "GET", path, headers))[0] == (421 if "Host" in headers else 403)
            assert sum(server.refusals.counts.values()) == 1

    run(main())


def test_a_body_has_its_bound_whether_its_length_is_told_or_not():
    async def main():
        async with serving(private_port=0) as server:
            server.private.routes.add(Route("POST", "/echo", echo))
            most = b"x" * MAX_BODY_BYTES
            assert (await ask(server, "POST", "/echo", body=most))[0] == 200
            assert (await ask(server, "POST", "/echo", body=most + b"x"))[0] == 413
            chunk = b"%x\r\n" % len(most) + most + b"\r\n"
            for chunks, status in ((chunk + b"0\r\n\r\n", 200), (2 * chunk, 413)):
                head = f"POST /echo HTTP/1.1\r\nHost: 127.0.0.1:{server.private.port}\r\nTransfer-Encoding: chunked\r\n\r\n"
                async with asking(server, head.encode() + chunks) as reader:
                    assert int((await reader.readline()).split()[1]) == status

    run(main())


def test_who_waits_for_a_hundred_is_told_to_go_on():
    async def main():
        async with serving(private_port=0) as server:
            server.private.routes.add(Route("POST", "/echo", echo))
            reader, writer = await asyncio.open_connection(server.private.host, server.private.port)
            head = f"POST /echo HTTP/1.1\r\nHost: 127.0.0.1:{server.private.port}\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
            writer.write(head.encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(b"hello")
            assert b'"hello"' in await reader.read()
            writer.close()
            await writer.wait_closed()

    run(main())


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [(b"\x16\x03\x01junk\r\n\r\n", 400), (b"GET /healthz HTTP/1.1\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000, 431)],
    ids=["no HTTP", "no host", "a long head"],
)
def test_what_is_no_request_is_told_so(request_bytes, status):
    async def main():
        async with serving(private_port=0) as server, asking(server, request_bytes) as reader:
            assert int((await reader.readline()).split()[1]) == status

    run(main())


def test_a_handler_that_fails_is_told_in_the_log_and_not_to_the_client(caplog):
    async def main():
        async with serving(private_port=0) as server:
            server.private.routes.add(*MORE)
            assert (await ask(server, "GET", "/broken"))[::2] == (500, "Internal error.\n")
            assert (await ask(server, "GET", "/healthz"))[0] == 200

    run(main(), errors_expected=True)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == ["GET /broken failed"]


def test_a_slow_request_is_answered_and_a_slow_reader_dropped():
    async def main():
        async with serving(private_port=0) as server, asking(server, b"GET /healthz HT") as reader:
            await until(lambda: server.private._tasks, "nobody came")
            await pass_time(REQUEST_S + 1)
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
            await reader.read()
            # It keeps its side open.
            await pass_time(FAREWELL_S + 1)
            await until(lambda: not server.private._tasks, "the connection is still there")

    run(main())


def test_so_many_may_ask_at_a_time():
    async def main():
        async with serving(private_port=0) as server, contextlib.AsyncExitStack() as stack:
            for _ in range(MAX_CONNECTIONS):
                await stack.enter_async_context(asking(server, b""))
            await until(lambda: len(server.private._tasks) == MAX_CONNECTIONS)
            assert (await ask(server, "GET", "/healthz"))[0] == 503
            await stack.aclose()
            await until(lambda: not server.private._tasks)
            assert (await ask(server, "GET", "/healthz"))[0] == 200

    run(main())


def test_who_comes_when_as_many_more_are_told_so_is_dropped():
    async def main():
        async with serving(private_port=0) as server:
            there = {asyncio.create_task(asyncio.Event().wait()) for _ in range(2 * MAX_CONNECTIONS)}
            server.private._tasks |= there
            reader, writer = await asyncio.open_connection(server.private.host, server.private.port)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            assert server.private._tasks == there

    run(main())


def test_a_peer_that_has_reset_its_connection_is_no_error():
    class Reset:
        def write_eof(self):
            raise OSError(errno.ENOTCONN, "not connected")

    async def main():
        reader = asyncio.StreamReader()
        reader.feed_eof()
        await private._Exchange(reader, Reset()).linger()
        assert reader.at_eof()

    asyncio.run(main())


def test_it_answers_until_the_server_has_stopped_and_leaves_nobody_waiting():
    asked: list[int] = []

    async def main():
        async with serving(private_port=0) as server:
            wait_closed = server._public.wait_closed

            async def late(within_s: float) -> None:
                asked.append((await ask(server, "GET", "/readyz"))[0])
                await wait_closed(within_s)

            server._public.wait_closed = late
            async with asking(server, b"GET ") as reader:
                await until(lambda: server.private._tasks)
                await server.stop()
                assert await reader.read() == b""
            with pytest.raises(ConnectionRefusedError):
                await ask(server, "GET", "/readyz")

    run(main())
    assert asked == [503]


def test_a_table_without_a_path_knows_it_not():
    routes = Routes([Route("GET", "/a/{b}", echo)])
    assert routes.knows("/a/1") and not routes.knows("/a") and not routes.knows("/a/1/2")
