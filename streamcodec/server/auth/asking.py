"""The authentication URL: a program of the operator's that is asked, when a client connects, what the client may do.

It gets a POST with a JSON object {"role", "stream", "token", "address"}, and answers with status 200 and a JSON object of the claims that a
signed token has, all of them optional, and `revalidate_s`; or with 401 or 403. Whatever else it does lets nobody in.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from prometheus_client.core import Metric

from streamcodec.errors import InputError, RemoteProtocolError, WireCode, printable
from streamcodec.protocol.fields import shown
from streamcodec.server.address import is_loopback
from streamcodec.server.auth.access import check_grant
from streamcodec.server.auth.credential import Basis, Credential
from streamcodec.server.auth.grant import NEVER, Grant
from streamcodec.server.auth.keys import LEEWAY_S
from streamcodec.server.auth.tokens import digest_of
from streamcodec.server.metrics import counter_family

if TYPE_CHECKING:
    import httpx2

__all__ = ["ASK_WITHIN_S", "MAX_ANSWER_BYTES", "MAX_ASKED_AT_ONCE", "AuthUrl", "checked_url", "parse_answer"]

ASK_WITHIN_S = 2.0
"""So long may an answer take, with the wait for its turn."""
MAX_ASKED_AT_ONCE = 32
MAX_ANSWER_BYTES = 16_384
_REFUSED = (401, 403)

log = logging.getLogger("streamcodec.server")


class AuthUrl:
    """Asks `url`, on connections of its own; `close` it at last. Raises `InputError` for a URL that would not keep a secret.

    `bearer` proves to the URL that it is this server that asks. `clock` tells seconds since 1970. `transport` is for tests: another way
    to the URL than the network.
    """

    def __init__(
        self, url: str, clock: Callable[[], float], *, bearer: str | None = None, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        import httpx2  # it takes a while to load, and most servers ask nobody

        self.url = checked_url(url, "the authentication URL")
        self.counts = {"granted": 0, "refused": 0, "failed": 0}
        self._clock = clock
        self._turns = asyncio.Semaphore(MAX_ASKED_AT_ONCE)
        self._client = httpx2.AsyncClient(
            timeout=ASK_WITHIN_S,
            limits=httpx2.Limits(max_connections=MAX_ASKED_AT_ONCE, max_keepalive_connections=MAX_ASKED_AT_ONCE),
            # A compressed answer could grow. What the environment says about proxies is not meant for tokens.
            headers={"Accept-Encoding": "identity", **({"Authorization": f"Bearer {bearer}"} if bearer else {})},
            trust_env=False,
            transport=transport,
        )

    async def ask(self, role: str, stream: str, token: str | None, address: str) -> Credential:
        """What the URL grants. Raises `RemoteProtocolError`: UNAUTHORIZED where it says no, INTERNAL where it says nothing that helps."""
        try:
            async with asyncio.timeout(ASK_WITHIN_S), self._turns:
                status, body = await self._post({"role": role, "stream": stream, "token": token, "address": address})
        except TimeoutError:
            raise self._failure(f"did not answer within {ASK_WITHIN_S:g} s") from None
        except Exception as exc:  # a library's own fault is no grant, either
            raise self._failure(f"could not be asked: {type(exc).__name__}") from exc
        if status in _REFUSED:
            self.counts["refused"] += 1
            raise RemoteProtocolError(WireCode.UNAUTHORIZED, f"the server's authentication URL does not allow to {role} {stream!r}")
        if status != HTTPStatus.OK:
            raise self._failure(f"answered with status {status}")
        try:
            grant, revalidate_s = parse_answer(body)
        except InputError as exc:
            raise self._failure(f"gave an answer that makes no sense: {exc}") from exc
        self.counts["granted"] += 1
        check_grant(grant, role, stream)
        if self._clock() > grant.expires + LEEWAY_S:
            raise RemoteProtocolError(WireCode.UNAUTHORIZED, "the server's authentication URL grants nothing any more")
        grant = replace(grant, expires=min(NEVER, grant.expires + LEEWAY_S))
        return Credential(Basis.ASKED, grant, digest_of(token) if token else None, revalidate_s=revalidate_s)

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    def families(self) -> Iterable[Metric]:
        """For `Metrics.collect_from`."""
        counts = {outcome: float(count) for outcome, count in self.counts.items()}
        yield counter_family("auth_url_answers", "What became of the questions to the authentication URL.", counts, "outcome")

    async def _post(self, question: dict[str, Any]) -> tuple[int, bytes]:
        async with self._client.stream("POST", self.url, json=question) as answer:
            body = b""
            if answer.status_code == HTTPStatus.OK:
                async for piece in answer.aiter_raw():
                    body += piece
                    if len(body) > MAX_ANSWER_BYTES:
                        break
            return answer.status_code, body

    def _failure(self, what: str) -> RemoteProtocolError:
        self.counts["failed"] += 1
        if self.counts["failed"].bit_count() == 1:  # told for the 1st, 2nd, 4th, 8th: a URL that is down must not fill the log
            log.error("the authentication URL %s (%d failures so far)", printable(what), self.counts["failed"])
        return RemoteProtocolError(WireCode.INTERNAL, "the server could not find out what you may do: try again later")


def parse_answer(body: bytes) -> tuple[Grant, float | None]:
    """The grant in an answer, which never expires where it has no `exp`, and when to ask again. Raises `InputError`."""
    if len(body) > MAX_ANSWER_BYTES:
        raise InputError(f"it has more than {MAX_ANSWER_BYTES} bytes")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise InputError("it is no JSON") from None
    if not isinstance(found, dict):
        raise InputError(f"it is {shown(found)}, expected an object")
    again = found.get("revalidate_s")
    if again is not None and (type(again) not in (int, float) or not 1 <= again <= 86_400):
        raise InputError(f"revalidate_s is {shown(again)}, expected 1 to 86400")
    return Grant.of({"exp": NEVER, **{name: value for name, value in found.items() if value is not None}}), again


def checked_url(url: str, what: str) -> str:
    """The URL itself, where nobody on the way can read what is sent to it and no secret stands in it. Raises `InputError`."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise InputError(f"{what} is malformed, expected for instance https://example.org/path") from None
    if parts.username is not None or parts.password is not None:
        raise InputError(f"{what} has a name or a password in it, which logs would keep: expected a secret in the environment instead")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))):
        raise InputError(f"{what} is {url!r}, expected https://..., or http:// on this machine")
    return url
