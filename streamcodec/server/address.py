"""The address that a server listens on: one port, on IPv4 and IPv6 alike where an address stands for both."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import socket
from typing import Any

from streamcodec.errors import StreamCodecError

__all__ = ["explain_refusal", "is_loopback", "listening_sockets", "reserved_port", "url_of", "where_to_listen"]

_EVERYWHERE = ("", "::", "*")


async def where_to_listen(host: str, port: int, *, shared: bool = False) -> dict[str, Any]:
    """The arguments of `websockets.serve` that say where: {sock}, or {host, port}.

    "" and "::" are every address of this machine, IPv4 and IPv6, on one socket. A name with several addresses (localhost) gets one port
    for all of them, also if `port` is 0, which takes any free one. A `shared` port other processes of this user may have, too, if they
    share it as well. Raises `OSError`.
    """
    if host in _EVERYWHERE and socket.has_dualstack_ipv6():
        return {"sock": socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, reuse_port=shared)}
    host = "0.0.0.0" if host in _EVERYWHERE else host
    if port == 0:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        port = _free_port({(family, address[:2][0]) for family, *_, address in found})
    return {"host": host, "port": port}


async def listening_sockets(host: str, port: int, backlog: int, *, shared: bool = False) -> list[socket.socket]:
    """Sockets that listen as `where_to_listen` says, each with room for `backlog` connections before they are taken. Raises `OSError`."""
    where = await where_to_listen(host, port, shared=shared)
    if "sock" in where:
        sockets: list[socket.socket] = [where["sock"]]
    else:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(where["host"], where["port"], type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        sockets = []
        try:
            for family, address in dict.fromkeys((family, address) for family, *_, address in found):
                sockets.append(socket.create_server(address[:2], family=family, reuse_port=shared))
        except OSError:
            for one in sockets:
                one.close()
            raise
    for one in sockets:
        one.listen(backlog)
    return sockets


async def reserved_port(host: str, port: int) -> tuple[int, list[socket.socket]]:
    """The port that several processes are to share, 0 for any free one, and sockets that keep it for them until they are closed.

    These do not listen, so they get no clients. Raises `OSError` where somebody else listens: each would get some of the other's clients.
    """
    sockets = await listening_sockets(host, port, 1)
    kept = []
    for one in sockets:
        keeper = socket.socket(one.family, socket.SOCK_STREAM)
        kept.append(keeper)
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            keeper.setsockopt(socket.SOL_SOCKET, option, 1)
        if one.family == socket.AF_INET6:
            keeper.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, one.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))
        address = one.getsockname()[:2]
        one.close()
        keeper.bind(address)
    return kept[0].getsockname()[1], kept


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine and nobody else reaches it; names are told by what they are, not looked up."""
    if host.lower() == "localhost" or host.lower().endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _free_port(addresses: set[tuple[int, Any]]) -> int:
    """A port that is free on all addresses; with one address the system finds it by itself: 0."""
    if len(addresses) == 1:
        return 0
    (family, address), *others = sorted(addresses)
    for _ in range(20):
        with socket.create_server((address, 0), family=family) as first:
            port: int = first.getsockname()[1]
            with contextlib.suppress(OSError):
                for other_family, other in others:
                    socket.create_server((other, port), family=other_family).close()
                return port
    raise OSError(errno.EADDRINUSE, "no port is free on all its addresses")


def url_of(scheme: str, host: str, port: int) -> str:
    """The address of a port as a URL, without a slash behind it."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host or 'localhost'}:{port}"


def explain_refusal(host: str, port: int, error: OSError | UnicodeError, option: str = "--port") -> StreamCodecError:
    """The error to raise for an address that cannot be listened on (`UnicodeError`: it is no name of a host), with what helps.

    `option` is the one that sets the port.
    """
    reason = f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}"
    if isinstance(error, (socket.gaierror, UnicodeError)) or error.errno == errno.EADDRNOTAVAIL:
        return StreamCodecError(f"{reason}. Expected an address of this machine: 127.0.0.1 for itself, 0.0.0.0 or :: for every network")
    return StreamCodecError(f"{reason}. Another port: {option} N, or 0 for any free one")
