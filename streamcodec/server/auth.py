"""Who may publish and who may listen: tokens that a hello carries, never a query string, compared in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Collection
from dataclasses import dataclass

__all__ = ["Tokens"]


@dataclass(frozen=True)
class Tokens:
    """The tokens that open each role; a role without tokens is open to everybody."""

    publish: Collection[str] = ()
    listen: Collection[str] = ()

    def allows(self, role: str, token: str | None) -> bool:
        """Whether `token` opens `role`, "publish" or "listen"."""
        wanted = self.publish if role == "publish" else self.listen
        if not wanted:
            return True
        given = (token or "").encode()
        # Every candidate is compared, so the time taken does not tell which one came close.
        return any([hmac.compare_digest(given, candidate.encode()) for candidate in wanted])  # noqa: C419
