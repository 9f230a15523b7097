"""What the server says about itself over plain HTTP: `/healthz`, `/readyz` and `/metrics`, on whichever port."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from streamcodec.server.metrics import Metrics
from streamcodec.server.ports.routes import HttpReply, HttpRequest, Route
from streamcodec.server.rate import TokenBucket
from streamcodec.server.registry import Registry
from streamcodec.server.watchdog import Watchdog

__all__ = ["HttpEndpoints"]


class HttpEndpoints:
    """The routes of health and figures. `clock` tells seconds."""

    def __init__(self, metrics: Metrics, registry: Registry, watchdog: Watchdog, clock: Callable[[], float]) -> None:
        self._made = TokenBucket(registry.limits.metrics_made, clock)
        self._metrics = metrics
        self._registry = registry
        self._watchdog = watchdog

    @property
    def health(self) -> list[Route]:
        """What either port answers."""
        return [Route("GET", "/healthz", self._healthz), Route("GET", "/readyz", self._readyz)]

    @property
    def figures(self) -> Route:
        """What tells whoever asks how the server does, and who is there."""
        return Route("GET", "/metrics", self._figures)

    @property
    def no_figures(self) -> Route:
        """What stands in the place of `figures` on a port that others reach."""
        return Route("GET", "/metrics", _elsewhere)

    async def _healthz(self, _: HttpRequest) -> HttpReply:
        return _verdict(self._watchdog.complaint)

    async def _readyz(self, _: HttpRequest) -> HttpReply:
        stops = self._registry.closing or self._registry.draining.begun
        return _verdict(self._watchdog.complaint or ("the server is closing" if stops else None))

    async def _figures(self, request: HttpRequest) -> HttpReply:
        text, media_type = self._metrics.render(", ".join(request.headers.get_all("Accept")), anew=self._made.takes())
        return HttpReply(HTTPStatus.OK, text, media_type)


def _verdict(complaint: str | None) -> HttpReply:
    return HttpReply(HTTPStatus.OK if complaint is None else HTTPStatus.SERVICE_UNAVAILABLE, f"{complaint or 'ok'}\n")


async def _elsewhere(_: HttpRequest) -> HttpReply:
    return HttpReply(HTTPStatus.NOT_FOUND, "The metrics are on the server's private port, if it has one.\n")
