"""What a port answers to plain HTTP: a table of paths, each with its method and its handler. It knows requests, not sockets."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote

from websockets.datastructures import Headers

__all__ = ["MAX_BODY_BYTES", "Guard", "Handler", "HttpReply", "HttpRequest", "Route", "Routes"]

MAX_BODY_BYTES = 16_384
"""A request's body may be so long; no port reads more."""

log = logging.getLogger("streamcodec.server")


@dataclass(frozen=True)
class HttpRequest:
    """A whole request from `host`: its path without the query, and what stood in the path where the route has a placeholder."""

    method: str
    path: str
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    host: str = ""
    placeholders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HttpReply:
    """An answer; a `body` of text is sent as UTF-8."""

    status: HTTPStatus
    body: str | bytes = ""
    media_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)

    def payload(self) -> bytes:
        """The body's bytes."""
        return self.body.encode() if isinstance(self.body, str) else self.body


Handler = Callable[[HttpRequest], Awaitable[HttpReply]]
Guard = Callable[[HttpRequest], "HttpReply | None"]
"""Decides who may ask: gives the refusal, or None for whoever may."""


@dataclass(frozen=True)
class Route:
    """One entry of the table: who asks for `path` by `method` gets what `handler` gives, unless `guard` refuses it.

    A part of the path in braces is a placeholder, which stands for anything but a slash, as in "/streams/{name}".
    """

    method: str
    path: str
    handler: Handler
    guard: Guard | None = None

    def match(self, path: str) -> dict[str, str] | None:
        """What stands in the placeholders, decoded; None where `path` is another one."""
        own, asked = self.path.split("/"), path.split("/")
        if len(own) != len(asked):
            return None
        found = {}
        for part, given in zip(own, asked, strict=True):
            if part.startswith("{"):
                found[part[1:-1]] = unquote(given)
            elif part != given:
                return None
        return found


class Routes:
    """The table. HEAD is answered as GET is; the port leaves the body out."""

    def __init__(self, routes: Iterable[Route] = ()) -> None:
        self._routes = list(routes)

    def add(self, *routes: Route) -> None:
        """Answer more."""
        self._routes += routes

    def knows(self, path: str) -> bool:
        """Whether there is anything at `path`, by whatever method."""
        return any(route.match(path) is not None for route in self._routes)

    async def answer(self, request: HttpRequest) -> HttpReply:
        """The answer to `request`: 404 for an unknown path, 405 for another method, 500 where the handler fails, which the log tells."""
        there = [(route, found) for route in self._routes if (found := route.match(request.path)) is not None]
        if not there:
            return HttpReply(HTTPStatus.NOT_FOUND, "There is nothing here.\n")
        method = "GET" if request.method == "HEAD" else request.method
        for route, found in there:
            if route.method == method:
                return await self._answer(route, HttpRequest(**{**vars(request), "placeholders": found}))
        allowed = ", ".join(sorted({route.method for route, _ in there}))
        return HttpReply(HTTPStatus.METHOD_NOT_ALLOWED, f"Expected {allowed}.\n", headers={"Allow": allowed})

    async def _answer(self, route: Route, request: HttpRequest) -> HttpReply:
        try:
            refusal = None if route.guard is None else route.guard(request)
            return await route.handler(request) if refusal is None else refusal
        except Exception:
            log.exception("%s %s failed", route.method, route.path)
            return HttpReply(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error.\n")
