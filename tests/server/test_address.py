"""A server has one port, on every address that its host stands for, and says what helps where it has none."""

from __future__ import annotations

import contextlib
import errno
import socket

import pytest
from live_rig import run

from streamcodec.server.address import explain_refusal, where_to_listen


def answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=10):
        return True
    return False


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("host", ["", "::"])
def test_every_address_is_listened_on_at_one_port(host):
    async def main() -> None:
        with (await where_to_listen(host, 0))["sock"] as listening:
            port = listening.getsockname()[1]
            assert answers("127.0.0.1", port) and answers("::1", port)

    run(main())


def test_a_machine_without_ipv6_listens_on_ipv4(monkeypatch):
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    assert run(where_to_listen("", 1234)) == {"host": "0.0.0.0", "port": 1234}


def test_a_name_with_two_addresses_gets_one_port(monkeypatch):
    both = [(socket.AF_INET, None, None, "", ("127.0.0.1", 0)), (socket.AF_INET, None, None, "", ("127.0.0.2", 0))]

    async def main() -> None:
        import asyncio

        async def found(*_: object, **__: object) -> list[object]:
            return both

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", found)
        where = await where_to_listen("twins", 0)
        assert where["host"] == "twins" and where["port"] > 0

    run(main())
    assert run(where_to_listen("127.0.0.1", 0)) == {"host": "127.0.0.1", "port": 0}


@pytest.mark.parametrize(
    ("error", "helps"),
    [
        (socket.gaierror(-2, "Name or service not known"), "Expected an address of this machine: 127.0.0.1"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), "Expected an address of this machine"),
        (UnicodeError("label too long"), "Expected an address of this machine"),
        (OSError(errno.EADDRINUSE, "Address already in use"), "Another port: --port N"),
        (PermissionError(errno.EACCES, "Permission denied"), "Another port: --port N"),
    ],
)
def test_a_refusal_says_what_would_help(error, helps):
    told = str(explain_refusal("there", 80, error))
    assert told.startswith(f"cannot listen on there:80: {getattr(error, 'strerror', error)}. {helps}")
