"""At the gate: what every hello is asked before anything else is done for it."""

from __future__ import annotations

from collections.abc import Callable

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello, PublishHello
from streamcodec.server.addresses import AddressRates, peer_key
from streamcodec.server.auth.access import Access
from streamcodec.server.echo import is_echo
from streamcodec.server.limits import Limits
from streamcodec.server.refusals import Bound, Refusals

__all__ = ["Gatekeeper", "bearer_of"]


_MAX_RETRY_AFTER_MS = 3_600_000


class Gatekeeper:
    """Lets a hello pass whose token allows what it asks for; an address that shows too many wrong ones has to wait.

    `clock` tells seconds.
    """

    def __init__(self, access: Access, limits: Limits, refusals: Refusals, clock: Callable[[], float]) -> None:
        self._access = access
        self._limits = limits
        self._refusals = refusals
        self._refused = AddressRates(limits.refused_tokens, clock)

    def check(self, hello: PublishHello | ListenHello, bearer: str | None, address: str) -> None:
        """Raise `RemoteProtocolError` UNAUTHORIZED or RATE_LIMITED where a peer from `address` may not have what it asks for.

        `bearer` is a token that came before the hello; one in the hello comes first.
        """
        if hello.role in self._access.open_roles or is_echo(hello.stream, self._limits):
            return
        token, key = hello.token or bearer, peer_key(address, self._limits.bound_loopback)
        if token and key is not None and (wait_s := self._refused.of(key).wait_s()):
            told = "too many tokens from this address were refused"
            self._refusals.note(Bound.TOKENS, address, told)
            raise RemoteProtocolError(WireCode.RATE_LIMITED, told, min(_MAX_RETRY_AFTER_MS, max(1000, round(1000 * wait_s))))
        try:
            self._access.check(hello.role, hello.stream, token)
        except RemoteProtocolError:
            if token and key is not None:
                self._refused.of(key).take()
            raise


def bearer_of(authorizations: list[str]) -> str | None:
    """The token in an `Authorization` header, given all there are."""
    if len(authorizations) != 1:
        return None
    scheme, _, token = authorizations[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
