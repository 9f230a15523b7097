"""At the gate: what every hello is asked before anything else is done for it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable

from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello, PublishHello
from streamcodec.server.addresses import AddressRates, peer_key
from streamcodec.server.auth.access import Access
from streamcodec.server.auth.asking import AuthUrl
from streamcodec.server.auth.credential import Basis, Credential
from streamcodec.server.auth.permits import Permit, Permits
from streamcodec.server.echo import EchoTests
from streamcodec.server.limits import Limits
from streamcodec.server.refusals import Bound, LimitReached, Refusals

__all__ = ["MAX_ASKED_OF_ADDRESS", "Gatekeeper", "bearer_of"]


log = logging.getLogger("streamcodec.server")

_AT_ONCE_RETRY_MS = 2000
_MAX_RETRY_AFTER_MS = 3_600_000
_ASK_AGAIN_S = 5.0
MAX_ASKED_OF_ADDRESS = 8
"""So many questions to the authentication URL may be about clients of one address at a time: the others must get their turns."""


class Gatekeeper:
    """Lets a hello pass whose token allows what it asks for; an address that shows too many wrong ones has to wait.

    Names of `echo` tests need no token. `clock` tells seconds.
    """

    def __init__(
        self,
        access: Access,
        limits: Limits,
        refusals: Refusals,
        clock: Callable[[], float],
        permits: Permits,
        auth_url: AuthUrl | None = None,
        echo: EchoTests | None = None,
    ) -> None:
        self.access = access
        self._limits = limits
        self._refusals = refusals
        self._refused = AddressRates(limits.refused_tokens, clock)
        self._permits = permits
        self._auth_url = auth_url
        self._echo = echo
        self._asked: Counter[str | None] = Counter()

    async def admit(self, hello: PublishHello | ListenHello, bearer: str | None, address: str) -> Credential:
        """What lets a peer from `address` have what it asks for. Raises `RemoteProtocolError` UNAUTHORIZED, RATE_LIMITED or INTERNAL.

        `bearer` is a token that came before the hello; one in the hello comes first.
        """
        if self._echo is not None and self._echo.has(hello.stream):
            return Credential(Basis.ECHO)
        token, key = hello.token or bearer, peer_key(address, self._limits.bound_loopback)
        guesses = hello.role not in self.access.open_roles and bool(token or self._auth_url)
        if guesses and key is not None and (wait_s := self._refused.of(key).wait_s()):
            told = "too many tokens from this address were refused"
            self._refusals.note(Bound.TOKENS, address, told)
            raise LimitReached(WireCode.RATE_LIMITED, told, min(_MAX_RETRY_AFTER_MS, max(1000, round(1000 * wait_s))))
        try:
            return await self._admit(hello.role, hello.stream, token, address, key)
        except RemoteProtocolError as exc:
            if guesses and key is not None and exc.code is WireCode.UNAUTHORIZED:
                self._refused.of(key).take()
            raise

    async def stay(self, permit: Permit, token: str | None, address: str) -> None:
        """Ask the authentication URL again and again, as it wants to be asked, whether a session may go on; returns when it may not."""
        good, sleep_s = self._permits.clock(), permit.credential.revalidate_s
        while sleep_s is not None and self._auth_url is not None and not permit.ended:
            await asyncio.sleep(sleep_s * random.uniform(0.9, 1.0))  # those that came at once must not ask at once for ever
            every_s = permit.credential.revalidate_s or sleep_s
            try:
                credential = await self._auth_url.ask(permit.role, permit.stream, token, address)
            except Exception as exc:  # whatever goes wrong, nobody may stay because of it
                told = exc if isinstance(exc, RemoteProtocolError) else RemoteProtocolError(WireCode.INTERNAL, "internal error")
                if told is not exc:
                    log.exception("the authentication URL could not be asked again")
                if told.code is WireCode.UNAUTHORIZED or self._permits.clock() - good > 2 * every_s:
                    self._permits.end(permit, told.reason, told.code)
                sleep_s = min(every_s, _ASK_AGAIN_S)
            else:
                good, sleep_s = self._permits.clock(), credential.revalidate_s
                self._permits.replace(permit, credential)

    async def _admit(self, role: str, stream: str, token: str | None, address: str, key: str | None) -> Credential:
        found = self.access.find(role, token)
        if isinstance(found, str):
            if self._auth_url is None:
                raise RemoteProtocolError(WireCode.UNAUTHORIZED, found)
            if key is not None and self._asked[key] >= MAX_ASKED_OF_ADDRESS:
                raise RemoteProtocolError(WireCode.RATE_LIMITED, "too many clients of this address come at once", _AT_ONCE_RETRY_MS)
            self._asked[key] += 1
            try:
                found = await self._auth_url.ask(role, stream, token, address)
            finally:
                self._asked[key] -= 1
                if not self._asked[key]:
                    del self._asked[key]
            if (reason := self.access.withdrawn(role, found)) is not None:  # while the URL was asked
                raise RemoteProtocolError(WireCode.UNAUTHORIZED, reason)
        self._permits.check(role, stream, found)
        return found


def bearer_of(authorizations: list[str]) -> str | None:
    """The token in an `Authorization` header, given all there are."""
    if len(authorizations) != 1:
        return None
    scheme, _, token = authorizations[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None
