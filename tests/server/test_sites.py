"""A page of another website reaches the server only where that is allowed, whatever name it has made its own."""

from __future__ import annotations

import pytest
from server_rig import figures, http_get, listen_hello, raw, run, serving
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus

from streamcodec.errors import InputError
from streamcodec.server import Sites
from streamcodec.server.address import is_loopback

HERE = "127.0.0.1"


def asked(host: str | None = "127.0.0.1:8765", origin: str | None = None, *more: tuple[str, str]) -> Headers:
    headers = Headers(more)
    if host is not None:
        headers["Host"] = host
    if origin is not None:
        headers["Origin"] = origin
    return headers


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost", "LocalHost", "voice.localhost", "::ffff:127.0.0.1"])
def test_loopback_is_told_from_its_name(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["", "::", "0.0.0.0", "192.168.1.7", "example.org", "localhost.example.org", "127.0.0.1.example.org", "*"])
def test_what_others_reach_is_no_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "127.0.0.1", "localhost:8765", "LOCALHOST", "[::1]:8765", "[::1]", "voice.localhost:1"])
def test_a_server_on_loopback_answers_by_the_names_of_loopback(host: str) -> None:
    assert Sites().refusal(asked(host), HERE) is None


REBOUND = ["evil.example:8765", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.7:8765", "", " ", "a b"]
MALFORMED = ["127.0.0.1:port", "127.0.0.1:99999999", "user@127.0.0.1", "127.0.0.1/x", "[::1", "evil.example#127.0.0.1", "[127.0.0.1]"]


@pytest.mark.parametrize("host", [*REBOUND, *MALFORMED, None])
def test_a_server_on_loopback_answers_by_no_other_name(host: str | None) -> None:
    found = Sites().refusal(asked(host), HERE)
    assert found is not None and (found.status, found.bound) == (421, "host")


def test_two_hosts_are_none() -> None:
    assert Sites().refusal(asked("127.0.0.1", None, ("Host", "evil.example")), HERE) is not None


def test_a_name_that_a_proxy_passes_on_can_be_allowed() -> None:
    sites = Sites(hosts=["voice.example.org"])
    assert sites.refusal(asked("Voice.example.org"), HERE) is None
    assert sites.refusal(asked("voice.example.org", "https://voice.example.org"), HERE) is None
    assert sites.refusal(asked("evil.example"), HERE) is not None


def test_a_server_for_others_answers_by_any_name() -> None:
    assert Sites().refusal(asked("voice.example.org"), "0.0.0.0") is None
    assert Sites().refusal(asked(None), "0.0.0.0") is None


@pytest.mark.parametrize("origin", ["http://127.0.0.1:8765", "HTTP://127.0.0.1:8765", None])
@pytest.mark.parametrize("bound_to", [HERE, "0.0.0.0"])
def test_the_servers_own_pages_and_programs_that_are_no_browsers_connect(origin: str | None, bound_to: str) -> None:
    assert Sites().refusal(asked(origin=origin), bound_to) is None


FOREIGN = [
    "https://evil.example",
    "http://127.0.0.1",
    "http://127.0.0.1:8766",
    "http://localhost:8765",
    "null",
    "",
    "127.0.0.1:8765",
    "file://",
]


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("bound_to", [HERE, "0.0.0.0"])
def test_a_foreign_page_does_not_connect(origin: str, bound_to: str) -> None:
    found = Sites(origins=["https://good.example"]).refusal(asked(origin=origin), bound_to)
    assert found is not None and (found.status, found.bound) == (403, "origin")


def test_two_origins_are_foreign_even_where_one_is_allowed() -> None:
    two = asked(None, None, ("Host", "127.0.0.1"), ("Origin", "https://good.example"), ("Origin", "https://evil.example"))
    assert Sites(origins=["https://good.example"]).refusal(two, HERE) is not None


def test_a_site_that_is_allowed_connects() -> None:
    sites = Sites(origins=["https://good.example", "null"])
    assert sites.refusal(asked(origin="https://good.example"), HERE) is None
    assert sites.refusal(asked(origin="null"), HERE) is None
    assert sites.refusal(asked(origin="https://good.example.evil.example"), HERE) is not None
    assert sites.refusal(asked(origin="http://good.example"), HERE) is not None


def test_every_site_may_be_allowed_but_no_host_by_that() -> None:
    sites = Sites(origins=["*"])
    assert sites.refusal(asked(origin="https://any.example"), HERE) is None
    assert sites.refusal(asked("evil.example", "https://evil.example"), HERE) is not None


@pytest.mark.parametrize("origin", ["example.org", "https://example.org/", "https://example.org/page", "https://", "", "https://a?b"])
def test_what_is_no_origin_is_refused_when_it_is_given(origin: str) -> None:
    with pytest.raises(InputError, match="is no origin, expected"):
        Sites(origins=[origin])


@pytest.mark.parametrize("host", ["example.org:80", "http://example.org", "a b/c", "", "user@example.org"])
def test_what_is_no_hosts_name_is_refused_when_it_is_given(host: str) -> None:
    with pytest.raises(InputError, match="is no host's name, expected"):
        Sites(hosts=[host])


def test_the_reason_escapes_what_the_peer_wrote() -> None:
    headers = asked()
    headers.set_insecure("Origin", "https://\x1b[31m\u202e\x85evil" + "x" * 500)
    found = Sites().refusal(headers, "0.0.0.0")
    assert found is not None and found.reason.isprintable() and len(found.reason) < 200


def test_neither_a_stream_nor_a_figure_reaches_a_foreign_page_or_a_rebound_name() -> None:
    async def main() -> None:
        async with serving() as server:
            for headers, status in (
                ("Origin: https://evil.example\r\n", 403),
                ("Host: evil.example\r\n", 421),
                (f"Host: evil.example:{server.port}\r\nOrigin: http://evil.example:{server.port}\r\n", 421),
            ):
                for path in ("/healthz", "/metrics", "/", "/anything?token=x"):
                    assert (await http_get(server, path, headers))[0] == status
            for options in ({"origin": "https://evil.example"}, {"additional_headers": {"Host": "evil.example"}}):
                with pytest.raises(InvalidStatus):
                    async with raw(server.url, **options):
                        pass
            async with raw(server.url, origin=server.url.replace("ws:", "http:")) as client:
                await client.send(listen_hello())
                assert (await client.receive())["type"] == "welcome"
            seen = await figures(server)
            assert seen["connections_limited_total{limit=origin}"] == 5
            assert seen["connections_limited_total{limit=host}"] >= 8

    run(main())
