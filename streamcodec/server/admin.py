"""What whoever runs the server may see and do: streams and listeners, ending one, narrowing what a token grants, draining.

Over HTTP these are routes of the private port, which ask for the admin token. All answers are JSON, whose text is escaped.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from streamcodec.errors import InputError, RemoteProtocolError, WireCode
from streamcodec.protocol import now_us
from streamcodec.protocol.fields import shown
from streamcodec.server.addresses import AddressRates, peer_key
from streamcodec.server.auth.credential import Basis, Credential
from streamcodec.server.auth.gatekeeper import bearer_of
from streamcodec.server.auth.grant import NEVER, Grant
from streamcodec.server.auth.permits import Permits
from streamcodec.server.connection import ClientHandler
from streamcodec.server.ports.routes import HttpReply, HttpRequest, Route
from streamcodec.server.rate import Rate
from streamcodec.server.refusals import Bound, Refusals
from streamcodec.server.registry import Registry
from streamcodec.server.stream import Stream

__all__ = ["ADMIN_GUESSES", "MIN_TOKEN", "NARROWED", "Admin", "AdminRoutes", "OperatorGuard", "asked_of", "done", "json_reply", "told"]

log = logging.getLogger("streamcodec.server")

MIN_TOKEN = 16
"""An admin token of fewer characters is refused when the server starts."""
ADMIN_GUESSES = Rate(0.2, 5)
"""Wrong admin tokens of one address, loopback too; then none of its tokens is looked at."""
ENDED = "the operator ended it"
NARROWED = "/admin/tokens/narrow"
"""Where one of several processes is told what a token was narrowed to at another one."""


class Admin:
    """Shows and ends what runs on one server. `connections` are those of clients that have said hello."""

    def __init__(self, registry: Registry, permits: Permits, connections: Callable[[], Iterable[ClientHandler]]) -> None:
        self._registry = registry
        self._permits = permits
        self._connections = connections

    def streams(self) -> list[dict[str, Any]]:
        """All streams, by name."""
        publishers = {client.peer: client for client in self._connections()}
        return [self._stream(stream, publishers) for _, stream in sorted(self._registry.streams.items())]

    def nodes(self) -> list[dict[str, Any]]:
        """All nodes of the server's cluster, the server first; none where it is alone."""
        return self._registry.cluster.listed()

    def listeners(self) -> list[dict[str, Any]]:
        """All listeners, by the names of their streams and in the order in which they came."""
        found = [(client, client.subscriber) for client in self._connections() if client.subscriber is not None]
        found.sort(key=lambda one: (one[1].options.stream, one[0].since))
        config, now_s = self._registry.worker.engine.config, now_us() / 1e6
        listed = []
        for client, subscriber in found:
            report, stream = subscriber.in_flight.report, self._registry.heard(subscriber.options.stream)
            coded = stream is not None and subscriber.format == "codes" and subscriber.n_q
            listed.append(
                {
                    **_session(client),
                    "stream": subscriber.options.stream,
                    "waits": stream is None,
                    "format": subscriber.format,
                    "bandwidth_kbps": config.bandwidth_of(subscriber.n_q) if coded else None,
                    "lag_ms": round(1000 * subscriber.lag_s(now_s)),
                    "jitter_ms": None if report is None else report.late_ms,
                    "margin_ms": None if report is None else report.margin_ms,
                }
            )
        return listed

    def end(self, session: str, *, bar: bool = False) -> dict[str, Any] | None:
        """End the session of that id; with `bar`, let nobody in any more with the token that it has shown. Raises `LookupError`.

        Returns what `narrow_token` takes, where the token was barred.
        """
        client = self._client(session)
        assert client.permit is not None
        narrowed = self._narrow(client.permit.credential, Grant(expires=NEVER)) if bar else None
        log.info("the operator ended the session of %s%s", client.peer.name, ", and barred its token" if bar else "")
        self._permits.end(client.permit, ENDED)
        return narrowed

    def end_stream(self, name: str) -> None:
        """End a stream: its publisher's session, if it has one now, and all that listeners would still get. Raises `LookupError`."""
        stream = self._registry.streams.get(name)
        if stream is None:
            raise LookupError(f"there is no stream {shown(name)}")
        log.info("the operator ended the stream %s", stream.info.name)
        stream.lease.fail(RemoteProtocolError(WireCode.UNAUTHORIZED, ENDED))
        stream.end(ENDED)

    def narrow(self, session: str, to: Grant) -> dict[str, Any]:
        """Let whoever shows the token of that session have no more than `to`. Raises `LookupError` and `InputError`.

        Returns what `narrow_token` takes.
        """
        client = self._client(session)
        assert client.permit is not None
        narrowed = self._narrow(client.permit.credential, to)
        log.info("the operator narrowed what the token of %s grants", client.peer.name)
        return narrowed

    def narrow_token(self, asked: dict[str, Any]) -> None:
        """Narrow a token as another process has: `asked` has its `digest`, `until` when it is good, and the claims `to`."""
        digest, to = asked.get("digest"), asked.get("to")
        if not isinstance(digest, str) or not isinstance(to, dict):
            raise InputError("expected digest, until and to")
        self._permits.narrow(Credential(Basis.SHARED, Grant(expires=asked.get("until", 0)), digest), Grant.of(to))

    def _narrow(self, credential: Credential, to: Grant) -> dict[str, Any]:
        self._permits.narrow(credential, to)
        return {"digest": credential.digest, "until": credential.grant.expires, "to": to.claims()}

    def _client(self, session: str) -> ClientHandler:
        for client in self._connections():
            if client.id == session and client.permit is not None:
                return client
        raise LookupError(f"there is no session {shown(session)}")

    def _stream(self, stream: Stream, publishers: dict[Any, ClientHandler]) -> dict[str, Any]:
        client, totals = publishers.get(stream.lease.holder), stream.totals
        return {
            **(_session(client) if client is not None else {"session": None, "address": None, "holder": None}),
            "stream": stream.info.name,
            "since": stream.since,
            "format": stream.info.format,
            "bandwidth_kbps": stream.info.bandwidth,
            "sent_kbps": totals.recent.kbps,
            "packets": totals.emitted,
            "dropped": totals.dropped,
            "late_ms": totals.recent.late_ms,
            "idle_s": None if totals.recent.at is None else round((now_us() - totals.recent.at) / 1e6, 1),
            "recorded": stream.recorded,
            "listeners": len(self._registry.listeners.get(stream.info.name, ())),
        }


def _session(client: ClientHandler) -> dict[str, Any]:
    holder = None if client.permit is None else client.permit.credential.grant.name
    return {"session": client.id, "address": client.peer.name, "since": client.since, "holder": holder or None}


class OperatorGuard:
    """Lets whoever shows `token` act, and slows down who guesses. `clock` tells seconds. Raises `InputError`."""

    def __init__(self, token: str, refusals: Refusals, clock: Callable[[], float]) -> None:
        self.check_token(token)
        self._token = token.encode()
        self._refusals = refusals
        self._refused = AddressRates(ADMIN_GUESSES, clock)

    @staticmethod
    def check_token(token: str) -> None:
        """Raise `InputError` for a token that could be guessed, or not be sent."""
        if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
            raise InputError(f"the admin token is too short or has other characters, expected {MIN_TOKEN} letters and digits or more")

    def __call__(self, request: HttpRequest) -> HttpReply | None:
        """A `Guard`."""
        bucket = self._refused.of(peer_key(request.host, bound_loopback=True) or request.host)
        if wait_s := bucket.wait_s():
            why = "too many admin tokens from this address were refused"
            self._refusals.note(Bound.ADMIN_TOKENS, request.host, why)
            return told(HTTPStatus.TOO_MANY_REQUESTS, why, {"Retry-After": str(int(wait_s) + 1)})
        given = bearer_of(request.headers.get_all("Authorization"))
        if given is not None and hmac.compare_digest(given.encode(errors="surrogateescape"), self._token):
            return None
        bucket.take()
        return told(HTTPStatus.UNAUTHORIZED, "expected the header Authorization: Bearer ADMIN-TOKEN", {"WWW-Authenticate": "Bearer"})


class AdminRoutes:
    """The routes of `admin`, for whoever the `guard` lets act; `drain` begins to stop the server.

    One of `several` processes says what tokens it has narrowed, and is told what others have.
    """

    def __init__(
        self, admin: Admin, guard: OperatorGuard, drain: Callable[[float | None, str | None], None], *, several: bool = False
    ) -> None:
        self._admin = admin
        self._guard = guard
        self._drain = drain
        self._several = several

    @property
    def routes(self) -> list[Route]:
        """For the private port alone."""
        table = [
            ("GET", "/admin/streams", self._streams),
            ("GET", "/admin/listeners", self._listeners),
            ("GET", "/admin/nodes", self._nodes),
            ("POST", "/admin/streams/{name}/end", self._end_stream),
            ("POST", "/admin/sessions/{id}/end", self._end),
            ("POST", "/admin/sessions/{id}/grant", self._grant),
            ("POST", "/admin/drain", self._begin_drain),
        ]
        if self._several:
            table.append(("POST", NARROWED, self._narrow_token))
        return [Route(method, path, handler, guard=self._guard) for method, path, handler in table]

    async def _streams(self, _: HttpRequest) -> HttpReply:
        return json_reply({"streams": self._admin.streams()})

    async def _listeners(self, _: HttpRequest) -> HttpReply:
        return json_reply({"listeners": self._admin.listeners()})

    async def _nodes(self, _: HttpRequest) -> HttpReply:
        return json_reply({"nodes": self._admin.nodes()})

    async def _end_stream(self, request: HttpRequest) -> HttpReply:
        return done(lambda: self._admin.end_stream(request.placeholders["name"]))

    async def _end(self, request: HttpRequest) -> HttpReply:
        def end() -> dict[str, Any] | None:
            bar = asked_of(request, {"bar"}).get("bar", False)
            if not isinstance(bar, bool):
                raise InputError(f"bar is {shown(bar)}, expected true or false")
            return self._told_to_others(self._admin.end(request.placeholders["id"], bar=bar))

        return done(end)

    async def _grant(self, request: HttpRequest) -> HttpReply:
        def narrow() -> dict[str, Any] | None:
            to = Grant.of({"exp": NEVER, **asked_of(request, {"publish", "listen", "exp"})})
            return self._told_to_others(self._admin.narrow(request.placeholders["id"], to))

        return done(narrow)

    def _told_to_others(self, narrowed: dict[str, Any] | None) -> dict[str, Any] | None:
        return {"narrowed": narrowed} if self._several and narrowed is not None else None

    async def _narrow_token(self, request: HttpRequest) -> HttpReply:
        return done(lambda: self._admin.narrow_token(asked_of(request, {"digest", "until", "to"})))

    async def _begin_drain(self, request: HttpRequest) -> HttpReply:
        def drain() -> None:
            asked = asked_of(request, {"seconds", "to"})
            self._drain(asked.get("seconds"), asked.get("to"))

        return done(drain)


def asked_of(request: HttpRequest, known: set[str]) -> dict[str, Any]:
    """What a request's body asks for; nothing where it has none. Raises `InputError`: a misspelt key must not mean its default."""
    if not request.body:
        return {}
    try:
        found = json.loads(request.body)
    except (ValueError, RecursionError):
        raise InputError("the body is no JSON") from None
    if not isinstance(found, dict) or (unknown := next((name for name in found if name not in known), None)) is not None:
        what = shown(unknown) if isinstance(found, dict) else shown(found)
        raise InputError(f"the body has {what}, expected an object with {', '.join(sorted(known))}")
    return found


def done(act: Callable[[], dict[str, Any] | None]) -> HttpReply:
    """The answer when `act` is done, or says what is wrong with what was asked; it may return what the answer has besides."""
    try:
        more = act()
    except InputError as exc:
        return told(HTTPStatus.BAD_REQUEST, str(exc))
    except LookupError as exc:
        return told(HTTPStatus.NOT_FOUND, str(exc.args[0]))
    return json_reply({"done": True, **(more or {})})


def told(status: HTTPStatus, error: str, headers: dict[str, str] | None = None) -> HttpReply:
    """An answer that says why it is no other."""
    return json_reply({"error": error}, status, headers)


def json_reply(value: Any, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None) -> HttpReply:
    """An answer in JSON."""
    return HttpReply(status, json.dumps(value) + "\n", "application/json", headers or {})
