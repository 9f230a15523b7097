"""Which websites may reach the server through the browser of somebody who visits them.

A browser lets any page open a WebSocket to any address, its user's own machine too, and says in `Origin` whose page it is. And a page
whose name was made to mean 127.0.0.1 (DNS rebinding) is of the same origin as what answers there, but asks for it by its own name, in
`Host`. Programs that are no browsers send no `Origin`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from websockets.datastructures import Headers

from streamcodec.errors import InputError
from streamcodec.protocol.fields import shown
from streamcodec.server.address import is_loopback
from streamcodec.server.refusals import Bound

__all__ = ["ForeignSite", "Sites"]


@dataclass(frozen=True)
class ForeignSite:
    """Why a request is refused: with which status, by which bound, and in words, in which what the peer wrote is escaped."""

    status: HTTPStatus
    bound: Bound
    reason: str


@dataclass(frozen=True)
class Sites:
    """The websites whose pages may connect.

    `origins` are those besides the server's own pages, as in "https://example.org"; "*" is all. `hosts` are names of a server on loopback
    besides "localhost" and the addresses of loopback: those that a proxy in front of it passes on. Raises `InputError`.
    """

    origins: Sequence[str] = ()
    hosts: Sequence[str] = ()

    def __post_init__(self) -> None:
        for origin in self.origins:
            parts = urlsplit(origin)
            if origin not in ("*", "null") and (not parts.scheme or not parts.netloc or parts.path or parts.query or parts.fragment):
                raise InputError(f"{origin!r} is no origin, expected for instance https://example.org, without a path")
        for host in self.hosts:
            if _name_of(host) != host.lower():
                raise InputError(f"{host!r} is no host's name, expected for instance voice.example.org, without a port")

    def refusal(self, headers: Headers, bound_to: str) -> ForeignSite | None:
        """Why a request with these `headers` is refused by a server that listens on `bound_to`; None where it is not."""
        hosts, origins = headers.get_all("Host"), headers.get_all("Origin")
        name = _name_of(hosts[0]) if len(hosts) == 1 else None
        if is_loopback(bound_to) and not (name is not None and self._is_here(name)):
            told = f"Host is {', '.join(map(shown, hosts)) or 'missing'}, expected localhost or an address of this machine"
            return ForeignSite(HTTPStatus.MISDIRECTED_REQUEST, Bound.HOST, told)
        if not origins or "*" in self.origins:
            return None
        origin = origins[0].lower()
        own = len(origins) == 1 and name is not None and origin.partition("://")[2] == hosts[0].lower()
        if own or (len(origins) == 1 and origin in (one.lower() for one in self.origins)):
            return None
        told = f"Origin is {', '.join(map(shown, origins))}, expected a page of this server or a site that it allows"
        return ForeignSite(HTTPStatus.FORBIDDEN, Bound.ORIGIN, told)

    def _is_here(self, name: str) -> bool:
        return is_loopback(name) or name in (host.lower() for host in self.hosts)


def _name_of(authority: str) -> str | None:
    """The host in "host", "host:port" or "[address]:port", in lower case; None where that is malformed."""
    try:
        parts = urlsplit(f"//{authority}")
        _ = parts.port
    except ValueError:
        return None
    return None if parts.netloc != authority or "@" in authority else parts.hostname
