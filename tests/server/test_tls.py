"""TLS: streams and page by one certificate, which is replaced while they run; and what a handshake may take."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl

import numpy as np
import pytest
from certificates import make_pair
from patience import pass_time
from server_rig import offline_codec, raw, run, samples, serving, small_limits, tiny_codec, until, voice

from streamcodec.client import PublishOptions, listen, publish
from streamcodec.errors import ConnectionFailed, InputError, UntrustedServerError
from streamcodec.protocol import Packet, StreamEnd
from streamcodec.server import Page, Server
from streamcodec.server.ports.certificates import Certificates
from streamcodec.server.ports.public import HANDSHAKE_S
from streamcodec.server.watched import LOOK_EVERY_S


@pytest.fixture
def pair(tmp_path):
    return make_pair(tmp_path)


@pytest.fixture
def page(tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_bytes(b"<title>a page</title>")
    (folder / "large-0123.wasm").write_bytes(bytes(300_000))
    return Page("no such model", folder)


def secure(pair, **options):
    return serving(tls_certificate=pair.certificate, tls_key=pair.key, **options)


def trusting(pair):
    return ssl.create_default_context(cafile=pair.certificate)


async def get(server, path, context):
    """The subject of the server's certificate, the status and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    # The request comes with the handshake's end.
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost:{server.port}\r\nConnection: close\r\n\r\n".encode())
    [[[_, name]]] = writer.get_extra_info("peercert")["subject"]
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        await writer.wait_closed()
    return name, int(head.split()[1]), body


@pytest.mark.parametrize("with_page", [True, False], ids=["page", "no page"])
def test_streams_the_page_and_health_go_by_tls_on_one_port(pair, page, with_page):
    async def main():
        async with secure(pair, page=page if with_page else None) as server:
            assert server.url == f"wss://127.0.0.1:{server.port}"
            assert server.page_url == (f"https://127.0.0.1:{server.port}/" if with_page else None)
            context = trusting(pair)
            assert await get(server, "/healthz", context) == ("server", 200, b"ok\n")
            if with_page:
                assert (await get(server, "/", context))[1:] == (200, b"<title>a page</title>")
                assert len((await get(server, "/large-0123.wasm", context))[2]) == 300_000
            codec = offline_codec()
            async with listen(server.url, "a", model=codec.fingerprint, tls_ca=pair.certificate) as listener:
                options = PublishOptions(pace="fast", tls_ca=pair.certificate)
                async with publish(server.url, "a", options) as publisher:
                    await publisher.send(voice(1, 1.0))
                heard = [event async for event in _to_end(listener)]
            assert sum(isinstance(event, Packet) for event in heard) == 13
            await until(lambda: server._door.num_connections == 0, "a connection is still counted")

    run(main())


async def _to_end(listener):
    async for event in listener:
        yield event
        if isinstance(event, StreamEnd):
            return


def test_a_connection_that_breaks_is_resumed_by_tls(pair):
    async def main():
        limits = small_limits(resume_s=600.0)
        async with secure(pair, limits=limits) as server:
            async with publish(server.url, "a", PublishOptions(pace="fast", tls_ca=pair.certificate)) as publisher:
                await publisher.send(voice(1, 0.5))
                await until(lambda: server.metrics.packets_received > 0)
                for handler in list(server._connections):
                    handler.peer.abort()
                await until(lambda: server.metrics.publishers_resumed == 1, "it was not resumed")
                await publisher.send(voice(2, 0.5))
            assert server.metrics.packets_dropped_closing == 0

    run(main())


def test_tls_is_1_2_or_newer(pair):
    async def main():
        async with secure(pair) as server:
            for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                context = trusting(pair)
                context.maximum_version = newest
                assert (await get(server, "/healthz", context))[1] == 200
            assert server._certificates.context.minimum_version is ssl.TLSVersion.TLSv1_2

    run(main())


def test_a_certificate_that_is_not_trusted_is_told_and_not_tried_again(pair, tmp_path):
    other = make_pair(tmp_path, "other", host="voice.example")

    async def main():
        async with secure(pair) as server:
            with pytest.raises(UntrustedServerError, match=r"not trusted: self-signed certificate.*--tls-ca FILE"):
                async with publish(server.url, "a"):
                    pass
        async with secure(other) as server:
            with pytest.raises(UntrustedServerError, match=r"not valid for '127\.0\.0\.1'"):
                async with listen(server.url, "a", format="pcm_s16le", tls_ca=other.certificate):
                    pass
        async with serving() as server:
            with pytest.raises(ConnectionFailed, match=r"serve --tls-certificate, or a proxy that speaks TLS|not by TLS as it should"):
                async with publish(server.url.replace("ws:", "wss:"), "a"):
                    pass

    run(main())


@pytest.mark.parametrize(
    ("url", "text", "told"),
    [
        ("ws://127.0.0.1:1", None, "has no TLS, so no certificate is looked at: expected a URL that begins with wss:"),
        ("wss://127.0.0.1:1", "junk", "is no certificate, expected one or more as PEM"),
        ("wss://127.0.0.1:1", None, "No such file or directory"),
    ],
)
def test_what_is_no_authority_is_told(tmp_path, url, text, told):
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    for made in (lambda: publish(url, "a", PublishOptions(tls_ca=file)), lambda: listen(url, "a", format="pcm_s16le", tls_ca=file)):
        with pytest.raises(InputError, match=told):
            made()


# The certificate ----------------------------------------------------------------------------------------------------------------------


def test_a_new_certificate_is_for_new_connections_and_drops_no_old_one(pair, tmp_path, caplog):
    new = make_pair(tmp_path, "new")

    async def main():
        async with secure(pair) as server:
            async with raw(server.url, ssl=trusting(pair)) as client:
                assert (await get(server, "/healthz", trusting(pair)))[0] == "server"
                pair.replace_by(new)
                for _ in range(2):
                    await pass_time(LOOK_EVERY_S)
                assert (await get(server, "/healthz", trusting(new)))[0] == "new"
                await client.send({"type": "hello", "version": 1, "role": "listen", "stream": "a", "format": "pcm_s16le"})
                assert (await client.receive())["type"] == "welcome"
            text = (await get(server, "/metrics", trusting(new)))[2].decode()
            assert samples(text)["tls_certificate_reloads_total"] == 1

    with caplog.at_level(logging.INFO):
        run(main())
    assert "the certificate was replaced: new connections get the new one" in caplog.messages


def test_new_files_that_cannot_be_used_leave_the_old_certificate_and_are_told_once(pair, tmp_path, caplog):
    new = make_pair(tmp_path, "new")
    certificates = Certificates(pair.certificate, pair.key)
    context = certificates.context
    pair.certificate.write_bytes(new.certificate.read_bytes())  # without its key
    for _ in range(5):
        certificates.check()
    assert certificates.context is context and (certificates.failed, certificates.reloads) == (1, 0)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert f"the old one stays: {pair.key}: belongs to another certificate" in caplog.text
    pair.certificate.unlink()
    for _ in range(2):
        certificates.check()
    assert f"{pair.certificate}: No such file" in caplog.text
    pair.replace_by(new)
    for _ in range(3):
        certificates.check()
    assert certificates.context is not context and (certificates.failed, certificates.reloads) == (2, 1)


def test_files_that_are_being_replaced_are_not_read_yet(pair, tmp_path, caplog):
    new = make_pair(tmp_path, "new")
    certificates = Certificates(pair.certificate, pair.key)
    pair.certificate.write_bytes(new.certificate.read_bytes())
    certificates.check()
    pair.key.write_bytes(new.key.read_bytes())
    certificates.check()
    assert certificates.reloads == 0
    certificates.check()
    assert certificates.reloads == 1 and not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_files_that_are_no_certificate_and_its_key_are_told_at_the_start(pair, tmp_path):
    other, locked = make_pair(tmp_path, "other"), make_pair(tmp_path, "locked", password=b"hush")
    junk = tmp_path / "junk"
    junk.write_text("junk")
    for certificate, key, told in (
        (tmp_path / "none", pair.key, "none: No such file"),
        (pair.certificate, tmp_path / "none", "none: No such file"),
        (junk, pair.key, "junk: is no certificate, expected one or a chain of them as PEM"),
        (pair.certificate, junk, "junk: is no private key, expected one as PEM"),
        (pair.certificate, other.key, "other.key: belongs to another certificate"),
        (locked.certificate, locked.key, "locked.key: needs a password, expected a key without one"),
    ):
        with pytest.raises(InputError, match=told):
            Server(tiny_codec(), tls_certificate=certificate, tls_key=key)
    with pytest.raises(InputError, match="TLS needs a certificate and its key"):
        Server(tiny_codec(), tls_certificate=pair.certificate)


# The handshake ------------------------------------------------------------------------------------------------------------------------


def test_a_handshake_that_is_not_done_counts_as_a_connection_and_ends(pair):
    async def main():
        limits = small_limits(bound_loopback=True, max_connections_per_address=3)
        async with secure(pair, limits=limits) as server, contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                stack.push_async_callback(_closed, writer)
            await until(lambda: server._door.num_connections == 3)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await get(server, "/healthz", trusting(pair))
            assert server.refusals.counts["connections_of_address"] == 1
            await pass_time(HANDSHAKE_S + 1)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            await until(lambda: server._door.num_connections == 0, "a handshake is still counted")
            assert server.refusals.counts["tls"] == 3
            assert (await get(server, "/healthz", trusting(pair)))[1] == 200

    run(main())


async def _closed(writer):
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


def test_what_is_no_handshake_is_dropped_and_counted(pair):
    async def main():
        async with secure(pair) as server:
            for junk in (b"GET / HTTP/1.1\r\n\r\n", bytes(300), np.random.default_rng(1).bytes(70_000)):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(junk)
                with contextlib.suppress(ConnectionError):
                    await reader.read()
                await _closed(writer)
            await until(lambda: server._door.num_connections == 0, "a connection is still counted")
            assert server.refusals.counts["tls"] >= 2
            assert (await get(server, "/healthz", trusting(pair)))[1] == 200

    run(main())


def test_a_stop_does_not_wait_for_handshakes(pair):
    async def main():
        async with secure(pair) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await until(lambda: server._public._handshakes, "nobody came")
            await server.stop()
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            await _closed(writer)

    run(main())
