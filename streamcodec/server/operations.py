"""What whoever runs a server gives it to run by: who is asked about tokens, who is told what happens, who may act, and how it stops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from streamcodec.server.admin import Admin, AdminRoutes, OperatorGuard
from streamcodec.server.auth import AuthUrl
from streamcodec.server.draining import DEFAULT_DRAIN_S, checked_address
from streamcodec.server.events import Observer
from streamcodec.server.metrics import Metrics
from streamcodec.server.ports.routes import Route
from streamcodec.server.refusals import Refusals
from streamcodec.server.webhooks import Webhooks

__all__ = ["Operations"]

_WEBHOOKS_S = 1.0  # how long a stop waits until the last events are told


@dataclass(frozen=True)
class Operations:
    """The authentication URL, the webhook, the admin token of the private port, and how long a stop may take and where clients go then.

    `several` says that this is one of several processes, which act as one.
    """

    auth_url: AuthUrl | None = None
    webhooks: Webhooks | None = None
    admin_token: str | None = field(default=None, repr=False)
    drain_s: float = DEFAULT_DRAIN_S
    drain_to: str | None = None
    several: bool = False

    def __post_init__(self) -> None:
        if self.drain_to is not None:
            checked_address(self.drain_to)
        if self.admin_token is not None:
            OperatorGuard.check_token(self.admin_token)

    @property
    def observer(self) -> Observer:
        """Who hears of what happens."""
        return (lambda _: None) if self.webhooks is None else self.webhooks.put

    def count_in(self, metrics: Metrics) -> None:
        """Let `metrics` tell what became of questions and events."""
        for one in (self.auth_url, self.webhooks):
            if one is not None:
                metrics.collect_from(one.families)

    def admin_routes(
        self, admin: Admin, drain: Callable[[float | None, str | None], None], refusals: Refusals, clock: Callable[[], float]
    ) -> list[Route]:
        """For the private port; none without an admin token."""
        if self.admin_token is None:
            return []
        return AdminRoutes(admin, OperatorGuard(self.admin_token, refusals, clock), drain, several=self.several).routes

    def start(self) -> None:
        """Begin to tell, on the running loop."""
        if self.webhooks is not None:
            self.webhooks.start()

    async def close(self) -> None:
        """Tell what waits, for a moment, and close the connections."""
        if self.webhooks is not None:
            await self.webhooks.close(_WEBHOOKS_S)
        if self.auth_url is not None:
            await self.auth_url.close()
