"""Which clients may publish and which may listen: a hello carries a token, never a query string does; it is compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["Tokens"]


@dataclass(frozen=True)
class Tokens:
    """The tokens that allow each role; a role without tokens is open to everybody."""

    publish: Collection[str] = ()
    listen: Collection[str] = ()

    def allows(self, role: str, token: str | None) -> bool:
        """Whether `token` allows `role`, "publish" or "listen"."""
        wanted = self.publish if role == "publish" else self.listen
        if not wanted:
            return True
        given = (token or "").encode()
        # Every candidate is compared, so that the time taken says nothing about which one nearly matched.
        return any([hmac.compare_digest(given, candidate.encode()) for candidate in wanted])  # noqa: C419
