"""Clients behind proxies: those that are trusted are believed, and nobody else."""

from __future__ import annotations

import contextlib
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from server_rig import http_get, listen_hello, pcm_hello, raw, run, serving, small_limits, until
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus

from streamcodec.errors import InputError
from streamcodec.server import Limits, Page, Proxies, proxies
from streamcodec.server.door import Door
from streamcodec.server.proxies import MAX_VALUE, UNKNOWN
from streamcodec.server.rate import Rate
from streamcodec.server.refusals import Refusals

NEAR, FAR, CLIENT, OTHER = "10.0.0.1", "10.0.0.2", "203.0.113.7", "203.0.113.8"
TRUSTED = Proxies(["10.0.0.0/8", "2001:db8:1::/48"])
STANDARD = Proxies(["10.0.0.0/8", "2001:db8:1::/48"], "forwarded")


def forwarded(*values: str) -> Headers:
    return Headers([("X-Forwarded-For", value) for value in values])


@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([], NEAR),
        ([CLIENT], CLIENT),
        ([f"{OTHER}, {CLIENT}"], CLIENT),
        ([f"{CLIENT}, {FAR}"], CLIENT),
        ([f"{OTHER}, {CLIENT}, {FAR}"], CLIENT),
        ([OTHER, CLIENT], CLIENT),
        ([CLIENT, FAR], CLIENT),
        ([f"{CLIENT}:4711"], CLIENT),
        (["2001:db8::7"], "2001:db8::7"),
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        ([f"::ffff:{CLIENT}"], CLIENT),
        ([f"{FAR}"], FAR),
        ([f"{CLIENT}, unknown"], UNKNOWN),
        ([f"{CLIENT}, , {FAR}"], UNKNOWN),
        (["junk"], UNKNOWN),
        ([""], NEAR),
    ],
)
def test_the_client_is_the_last_address_that_is_no_trusted_proxy(values: list[str], client: str) -> None:
    assert TRUSTED.client(NEAR, forwarded(*values)) == client
    assert TRUSTED.client(f"::ffff:{NEAR}", forwarded(*values)) == client


@pytest.mark.parametrize("host", [CLIENT, "127.0.0.1", "", "::1", "peer"])
def test_who_is_no_trusted_proxy_is_not_believed(host: str) -> None:
    assert TRUSTED.client(host, forwarded(OTHER)) == host
    assert Proxies().client(host, forwarded(OTHER)) == host


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (f"for={CLIENT}", CLIENT),
        (f'For="{CLIENT}:4711"; proto=https;by={NEAR}', CLIENT),
        ('proto=https;for="[2001:db8::7]:4711"', "2001:db8::7"),
        (f"for={OTHER}, for={CLIENT}", CLIENT),
        (f"for={CLIENT}, for={FAR}", CLIENT),
        (f'for="{OTHER}, for={OTHER}", for={CLIENT}', CLIENT),
        (f'for={CLIENT};host="a, for={OTHER}"', CLIENT),
        (f"for={CLIENT}, for=_hidden", UNKNOWN),
        (f"for={CLIENT}, proto=http", UNKNOWN),
        (f'host="a;for={OTHER};b";for={CLIENT}', CLIENT),
        (f"for={OTHER};for={CLIENT}", UNKNOWN),
        (f'for={OTHER};host=", for={CLIENT}', UNKNOWN),
        (f'for={OTHER};host="\\', UNKNOWN),
        (f"xfor={CLIENT}", UNKNOWN),
        ("", NEAR),
    ],
)
def test_the_standard_header_is_read_as_the_standard_says(value: str, client: str) -> None:
    assert STANDARD.client(NEAR, Headers([("Forwarded", value)])) == client


def test_the_header_that_the_proxies_do_not_write_is_their_clients_and_ignored() -> None:
    both = Headers([("X-Forwarded-For", CLIENT), ("Forwarded", f"for={OTHER}")])
    assert (TRUSTED.client(NEAR, both), STANDARD.client(NEAR, both)) == (CLIENT, OTHER)


JUNK = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


@given(JUNK, st.sampled_from([CLIENT, f"{CLIENT}:4711"]))
def test_whatever_a_client_writes_its_address_is_what_the_proxy_adds(junk: str, added: str) -> None:
    assert TRUSTED.client(NEAR, forwarded(f"{junk}, {added}")) == CLIENT
    assert TRUSTED.client(NEAR, forwarded(junk, added)) == CLIENT


@given(JUNK, st.sampled_from([f"for={CLIENT}", f'for="{CLIENT}:4711"']))
def test_whatever_a_client_writes_in_the_standard_header_it_is_itself_or_unknown(junk: str, added: str) -> None:
    for values in ([f"{junk}, {added}"], [junk, added]):
        headers = Headers([("Forwarded", value) for value in values])
        assert STANDARD.client(NEAR, headers) in ((CLIENT, UNKNOWN) if '"' in junk else (CLIENT,))


def test_an_open_quote_is_read_once_and_not_from_each_of_its_characters_again() -> None:
    """A pattern that gives up on an open quote begins anew behind each quote: it then finds parts, and each search reads to the end."""
    for value in ('"\\' * 1000, '"' + '\\"' * 1000, "a" + '"\\"' * 667):
        assert len(list(proxies._ELEMENT.finditer(value))) == len(proxies._PAIR.findall(value)) == 1
        assert STANDARD.client(NEAR, Headers([("Forwarded", value)])) == UNKNOWN


@pytest.mark.parametrize(("trusted", "entry"), [(TRUSTED, CLIENT), (STANDARD, f"for={CLIENT}")], ids=["x-forwarded-for", "forwarded"])
def test_a_header_that_is_too_long_is_of_nobody_known(trusted: Proxies, entry: str) -> None:
    for extra, client in ((0, CLIENT), (1, UNKNOWN)):
        value = "a" * (MAX_VALUE - len(entry) - 2 + extra) + ", " + entry
        assert trusted.client(NEAR, Headers([(trusted.header, value)])) == client


def test_unknown_clients_share_the_limits_of_one() -> None:
    door = Door(Limits(max_connections_per_address=1), Refusals(lambda: 0.0), lambda: 0.0, None, TRUSTED)
    assert door.enter(NEAR) is door.know(NEAR, UNKNOWN) is None
    assert door.enter(NEAR) is None and door.know(NEAR, UNKNOWN) is not None


@pytest.mark.parametrize("text", ["example.org", "10.0.0.1/8", "10.0.0.0/33", "", "*"])
def test_what_is_no_network_is_refused_when_it_is_given(text: str) -> None:
    with pytest.raises(InputError, match="is no address and no network, expected for instance"):
        Proxies([text])


def test_a_proxys_connections_are_counted_by_their_clients() -> None:
    refusals = Refusals(lambda: 0.0)
    door = Door(Limits(max_connections_per_address=2, new_connections=Rate(1, 100)), refusals, lambda: 0.0, None, TRUSTED)
    for _ in range(2):
        assert door.enter(NEAR) is None and door.know(NEAR, CLIENT) is None
    assert door.enter(NEAR) is None
    away = door.know(NEAR, CLIENT)
    assert away is not None and (away.status, refusals.counts["connections_of_address"]) == (429, 1)
    door.leave(NEAR)  # who is turned away is not known as the client
    assert door.enter(NEAR) is None and door.know(NEAR, OTHER) is None
    door.leave(CLIENT)
    assert door.enter(NEAR) is None and door.know(NEAR, CLIENT) is None
    for client in (CLIENT, CLIENT, OTHER):
        door.leave(client)
    assert door.num_connections == 0 and not door._connections


def by(client: str) -> dict[str, object]:
    return {"additional_headers": {"X-Forwarded-For": client}}


def test_limits_and_the_log_know_clients_behind_a_trusted_proxy(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        limits = small_limits(bound_loopback=True, max_connections_per_address=2, max_publishers_per_address=1)
        async with serving(proxies=Proxies(["127.0.0.0/8"]), limits=limits) as server, contextlib.AsyncExitStack() as stack:
            first = await stack.enter_async_context(raw(server.url, **by(CLIENT)))
            await first.send(pcm_hello("one"))
            assert (await first.receive())["type"] == "welcome"
            second = await stack.enter_async_context(raw(server.url, **by(CLIENT)))
            await second.send(pcm_hello("two"))
            word, _ = await second.last_word()
            assert word is not None and (word["code"], word["reason"]) == ("server_full", "this address has its 1 publishers")
            await until(lambda: server._door.num_connections == 1)
            third = await stack.enter_async_context(raw(server.url, **by(CLIENT)))
            with pytest.raises(InvalidStatus, match="429"):
                async with raw(server.url, **by(CLIENT)):
                    pass
            async with raw(server.url, **by(OTHER)) as other:
                await other.send(listen_hello("three"))
                assert (await other.receive())["type"] == "welcome"
            await third.ws.close()
            await first.ws.close()
            await until(lambda: server._door.num_connections == 0, "a connection is still counted")
            assert not server._door._connections

    with caplog.at_level(logging.INFO, "streamcodec"):
        run(main())
    assert f"{CLIENT} publishes one: " in caplog.text and f"{OTHER} listens to three: " in caplog.text
    assert {record.address for record in caplog.records if hasattr(record, "stream")} == {CLIENT, OTHER}


def test_a_client_that_says_that_it_is_a_proxy_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        limits = small_limits(bound_loopback=True, max_connections_per_address=1)
        async with serving(proxies=Proxies(["10.0.0.0/8"]), limits=limits) as server, raw(server.url, **by(CLIENT)) as client:
            await client.send(listen_hello("one"))
            assert (await client.receive())["type"] == "welcome"
            with pytest.raises(InvalidStatus, match="429"):
                async with raw(server.url, **by(OTHER)):
                    pass

    with caplog.at_level(logging.INFO, "streamcodec"):
        run(main())
    assert "127.0.0.1:" in caplog.text and CLIENT not in caplog.text and OTHER not in caplog.text


def test_the_page_is_given_to_clients_within_their_limits(tmp_path) -> None:
    (tmp_path / "index.html").write_bytes(b"<title>a page</title>")

    async def main() -> None:
        limits = small_limits(new_connections=Rate(0.01, 2))
        async with serving(proxies=Proxies(["127.0.0.1"]), limits=limits, page=Page("none", tmp_path)) as server:
            asked = [(await http_get(server, "/", f"X-Forwarded-For: {who}\r\n"))[0] for who in (CLIENT, CLIENT, CLIENT, OTHER)]
            assert asked == [200, 200, 429, 200]
            assert (await http_get(server, "/metrics", f"X-Forwarded-For: {OTHER}\r\n"))[0] == 404
            await until(lambda: server._door.num_connections == 0, "a connection is still counted")
            assert not server._door._connections

    run(main())
