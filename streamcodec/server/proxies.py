"""Who is behind a proxy: the client's address, as the proxies that are trusted have passed it on. Nobody else is believed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from websockets.datastructures import Headers

from streamcodec.errors import InputError

__all__ = ["UNKNOWN", "ForwardedHeader", "Proxies"]

UNKNOWN = "unknown"

ForwardedHeader = Literal["x-forwarded-for", "forwarded"]
"""A proxy writes one of them and passes the other on as its client has written it, so only one is looked at."""

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
MAX_VALUE = 2048
"""Characters of the header that are looked at: a longer one is of nobody known, as reading it takes the loop's time."""
# Parts of a list, and pairs of a part. A quote that nothing closes takes the rest, and group 1 then says so: nothing is read twice.
_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*(?:"|(\\?\Z)))+', re.DOTALL)
_PAIR = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.)*(?:"|\\?\Z))+', re.DOTALL)
_NODE = re.compile(r"\[([^\]]*)\](?::\w+)?|([^:]*)(?::\w+)?")


@dataclass(frozen=True)
class Proxies:
    """Proxies by their addresses or networks, as in "10.0.0.0/8", and the header in which they write whom they pass on.

    RFC 7239 defines "forwarded". Raises `InputError` for what is no network.
    """

    trusted: Sequence[str] = ()
    header: ForwardedHeader = "x-forwarded-for"
    _networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = field(init=False, repr=False, compare=False, default_factory=list)

    def __post_init__(self) -> None:
        for text in self.trusted:
            try:
                self._networks.append(ipaddress.ip_network(text))
            except ValueError as exc:
                raise InputError(f"{text!r} is no address and no network, expected for instance 10.0.0.0/8 ({exc})") from exc

    def trusts(self, host: str) -> bool:
        """Whether a peer from `host` is such a proxy."""
        return bool(self._networks) and self._trusted(_parsed(host))

    def client(self, host: str, headers: Headers) -> str:
        """The address of whoever a request with `headers`, which came from `host`, is from.

        Each proxy adds at the end whom it got the request from. So the list is read from its end for as long as what it names is trusted,
        too. Clients behind an entry that is no address are all one, `UNKNOWN`, and so are those whose list is malformed or longer than
        `MAX_VALUE`.
        """
        address = _parsed(host)
        if not self._networks or not self._trusted(address):
            return host
        value = ", ".join(headers.get_all(self.header))
        if len(value) > MAX_VALUE:
            return UNKNOWN
        for entry in reversed(list(self._entries(value))):
            if (named := _parsed(entry)) is None:
                return UNKNOWN
            address = named
            if not self._trusted(named):
                break
        return str(address)

    def _trusted(self, address: _Address | None) -> bool:
        return address is not None and any(address in network for network in self._networks)

    def _entries(self, value: str) -> Iterator[str]:
        if not value:
            return
        if self.header == "x-forwarded-for":
            yield from map(_node, value.split(","))
            return
        for element in _ELEMENT.finditer(value):
            pairs = [pair.partition("=") for pair in _PAIR.findall(element[0])]
            found = [named.strip() for name, _, named in pairs if name.strip().lower() == "for"]
            closed = element[1] is None
            yield _node(re.sub(r"\\(.)", r"\1", found[0].strip('"'))) if closed and len(found) == 1 else ""


def _node(text: str) -> str:
    """The address in "address", "address:port", "[address]" or "[address]:port"."""
    text = text.strip()
    if text.count(":") > 1 and not text.startswith("["):
        return text
    found = _NODE.fullmatch(text)
    return "" if found is None else found[1] or found[2] or ""


def _parsed(host: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
