"""Tokens that several people share: each opens a role, for every stream and for as long as the server has it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass, field

__all__ = ["Tokens", "digest_of"]


@dataclass(frozen=True)
class Tokens:
    """The tokens that allow each role."""

    publish: Collection[str] = field(default=(), repr=False)
    listen: Collection[str] = field(default=(), repr=False)

    def guards(self, role: str) -> bool:
        """Whether `role`, "publish" or "listen", has tokens here."""
        return bool(self._of(role))

    def allows(self, role: str, token: str | None) -> bool:
        """Whether `token` allows `role`; compared in constant time."""
        given = (token or "").encode()
        # Every candidate is compared, so that the time taken says nothing about which one nearly matched.
        return any([hmac.compare_digest(given, candidate.encode()) for candidate in self._of(role)])  # noqa: C419

    def digests(self, role: str) -> set[str]:
        """What tells the tokens of `role` from others, and tells nobody what they are."""
        return {digest_of(token) for token in self._of(role)}

    def _of(self, role: str) -> Collection[str]:
        return self.publish if role == "publish" else self.listen


def digest_of(token: str) -> str:
    """A name for a token by which it is known again, and which tells nobody what it is."""
    return hashlib.sha256(token.encode()).hexdigest()
