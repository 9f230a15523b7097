"""The page's files over HTTP: what a browser gets, how fast it may take it, and that WebSockets and figures go on beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from http import HTTPStatus
from importlib.resources import files

import brotli
import pytest
from made_up_models import FEW_LAYERS, save_made_up_model
from patience import TIMEOUT_S, pass_time
from server_rig import listen_hello, raw, run, serving, small_limits, until
from websockets.datastructures import Headers

from streamcodec.server import Page
from streamcodec.server.entrance import STALL_S

SHIPPED = files("streamcodec.server").joinpath("page")
HTML = b"<!doctype html><title>a page</title>"
LARGE = bytes(range(256)) * 40_000  # far more than sockets hold


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "page"
    made.mkdir()
    (made / "index.html.br").write_bytes(brotli.compress(HTML))
    (made / "main-0123.js.br").write_bytes(brotli.compress(b"export {};"))
    (made / "large-4567.wasm").write_bytes(LARGE)
    return made


@pytest.fixture
def page(folder):
    return Page("no such model", folder)


async def get(server, path, headers="", method="GET"):
    """The status, the headers and the body that a request gets, until the server closes the connection."""
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n{headers}\r\n".encode())
    head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
    writer.close()
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), Headers(line.split(": ", 1) for line in lines), body


def test_a_browser_gets_the_page_compressed_and_whoever_cannot_unpack_it_gets_it_as_it_is(page):
    async def main():
        async with serving(page=page) as server:
            status, headers, body = await get(server, "/?stream=a", "Accept-Encoding: gzip, br\r\n")
            assert (status, headers["Content-Encoding"], brotli.decompress(body)) == (200, "br", HTML)
            assert headers["Content-Type"] == "text/html; charset=utf-8"
            for accepted in ("", "Accept-Encoding: gzip\r\n", "Accept-Encoding: br;q=0\r\n"):
                status, headers, body = await get(server, "/", accepted)
                assert (status, "Content-Encoding" in headers, body) == (200, False, HTML)

    run(main())


def test_files_with_a_hash_in_their_name_are_kept_for_ever_and_the_page_itself_is_asked_for_again(page):
    async def main():
        async with serving(page=page) as server:
            _, headers, _ = await get(server, "/main-0123.js")
            assert headers["Cache-Control"] == "public, max-age=31536000, immutable"
            _, headers, _ = await get(server, "/")
            assert headers["Cache-Control"] == "no-cache"
            status, again, body = await get(server, "/", f"If-None-Match: {headers['ETag']}\r\n")
            assert (status, again["ETag"], body) == (304, headers["ETag"], b"")

    run(main())


def test_the_page_gets_nothing_from_elsewhere_and_may_share_memory_among_its_threads(page):
    async def main():
        async with serving(page=page) as server:
            for path in ("/", "/main-0123.js", "/model/manifest.json"):
                _, headers, _ = await get(server, path)
                policy = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
                assert policy["default-src"] == "'none'"
                assert (policy["script-src"], policy["connect-src"]) == ("'self' 'wasm-unsafe-eval'", "'self'")
                assert not any("*" in sources or "unsafe-inline" in sources or "http" in sources for sources in policy.values())
                assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
                assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
                assert headers["X-Content-Type-Options"] == "nosniff"

    run(main())


def test_streams_health_and_figures_go_on_beside_the_page(page):
    async def main():
        async with serving(page=page) as server, raw(server.url) as listener:
            await listener.send(listen_hello("a"))
            assert (await listener.receive())["type"] == "welcome"
            assert (await get(server, "/healthz"))[::2] == (200, b"ok\n")
            assert b"streamcodec_listeners" in (await get(server, "/metrics"))[2]
            assert (await get(server, "/nothing"))[0] == HTTPStatus.UPGRADE_REQUIRED
            assert (await get(server, "/", method="POST"))[2] != HTML

    run(main())


def test_without_a_page_nothing_is_served_and_a_page_that_was_not_built_counts_as_none(tmp_path):
    async def main():
        for page in (None, Page("no such model", tmp_path / "nothing")):
            async with serving(page=page) as server:
                assert server.page_url is None
                for path in ("/", "/model/manifest.json"):
                    assert (await get(server, path))[0] == HTTPStatus.UPGRADE_REQUIRED

    run(main())


def test_a_page_of_another_name_gets_nothing(page):
    async def main():
        async with serving(page=page) as server:
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: rebound.example\r\n\r\n")
            answer = await reader.read(-1)
            assert answer.startswith(b"HTTP/1.1 421 ")
            assert HTML not in answer
            writer.close()

    run(main())


def slow_reader(server):
    """A connection whose buffers hold little, and which has asked for a large file."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect((server.host, server.port))
    sock.setblocking(False)
    sock.send(f"GET /large-4567.wasm HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n\r\n".encode())
    return sock


def test_a_slow_reader_gets_the_whole_file_however_long_it_takes(page):
    async def main():
        loop = asyncio.get_running_loop()
        async with serving(page=page) as server:
            with slow_reader(server) as sock:
                received, taken = bytearray(), 0
                while part := await loop.sock_recv(sock, 400_000):
                    received += part
                    if len(received) - taken > 400_000:
                        taken = len(received)
                        await pass_time(0.9 * STALL_S)
            assert received.partition(b"\r\n\r\n")[2] == LARGE

    run(main())


def test_who_takes_nothing_for_long_is_dropped(page):
    async def main():
        loop = asyncio.get_running_loop()
        async with serving(page=page) as server:
            with slow_reader(server) as sock:
                first = await loop.sock_recv(sock, 1)
                assert first == b"H"
                await until(lambda: any(one._paused for one in server._public.entrances), "the server still writes")
                await pass_time(STALL_S + 1)
                await until(lambda: not server._public.entrances, "the reader was not dropped")
                left = 0
                with contextlib.suppress(ConnectionResetError):
                    while part := await loop.sock_recv(sock, 1 << 20):
                        left += len(part)
                assert left < len(LARGE) // 2

    run(main())


def test_who_stops_the_server_waits_for_no_reader(page):
    async def main():
        async with serving(page=page) as server:
            with slow_reader(server) as sock:
                await asyncio.get_running_loop().sock_recv(sock, 1)
                await server.stop()
                assert not server._public.entrances

    run(main())


def test_a_stop_takes_bounded_time_although_the_model_is_still_being_exported(page, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(page, "export", lambda: gate.wait(TIMEOUT_S))

    async def main():
        try:
            async with serving(page=page, limits=small_limits(drain_s=30.0)) as server:
                stopping = asyncio.create_task(server.stop())
                while not stopping.done():
                    await pass_time(1.0)
                await stopping
                assert server.engine_hangs
        finally:
            gate.set()

    run(main())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("a library's own")])
def test_a_page_whose_model_cannot_be_exported_says_so_and_the_server_goes_on(page, monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(page, "_exported", fail)

    async def main():
        async with serving(page=page) as server:
            await server.page_is_ready()
            assert (await get(server, "/model/manifest.json"))[0] == HTTPStatus.NOT_FOUND
            assert (await get(server, "/healthz"))[0] == HTTPStatus.OK

    run(main(), errors_expected=isinstance(error, RuntimeError))


def test_who_asks_for_nothing_in_time_is_dropped(page):
    async def main():
        for served in (page, None):
            async with serving(page=served) as server:
                reader, writer = await asyncio.open_connection(server.host, server.port)
                writer.write(b"GET / HT")
                await until(lambda: server._public.entrances, "nobody opened")
                await pass_time(11)
                assert await reader.read(-1) == b""
                assert not server._public.entrances
                writer.close()

    run(main())


def test_the_model_is_there_once_it_is_exported_and_belongs_to_the_server_s(folder, tmp_path):
    path = save_made_up_model(tmp_path / "model", **FEW_LAYERS)
    page = Page(path, folder)

    async def main():
        async with serving(page=page) as server:
            await server.page_is_ready()
            status, headers, body = await get(server, "/model/manifest.json")
            assert (status, headers["Content-Type"]) == (200, "application/json")
            manifest = json.loads(body)
            for name, told in manifest["files"].items():
                status, headers, body = await get(server, f"/model/{manifest['weights_fingerprint']}/{name}")
                assert (status, len(body)) == (200, told["bytes"])
                assert "immutable" in headers["Cache-Control"]

    run(main())


def test_until_then_a_browser_is_told_to_ask_again_and_then_that_there_is_none(page):
    asked = Headers()
    coming = page.answer("/model/manifest.json", asked)
    page.export()
    gone = page.answer("/model/manifest.json", asked)
    assert coming is not None
    assert gone is not None
    assert (coming.status, coming.headers["Retry-After"], gone.status) == (503, "1", 404)


def test_the_page_that_ships_has_all_parts_that_it_names():
    shipped = {entry.name for entry in SHIPPED.iterdir()}
    text = {name: brotli.decompress(SHIPPED.joinpath(name).read_bytes()) for name in shipped if not name.endswith(".wasm.br")}
    parts = shipped - {"index.html.br"}
    assert len(parts) == 7
    for part in parts:
        assert any(part.removesuffix(".br").encode() in content for content in text.values()), f"nobody asks for {part}"
