"""The decision on a hello: whether a token lets its holder publish or listen to that stream."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from streamcodec.errors import InputError, RemoteProtocolError, WireCode
from streamcodec.server.auth.keys import TokenKeys
from streamcodec.server.auth.tokens import Tokens

__all__ = ["ROLES", "Access"]

ROLES = ("publish", "listen")


@dataclass(frozen=True)
class Access:
    """Shared tokens, and the keys of signed ones; `clock` tells seconds since 1970.

    With keys, no role is open. Without, a role is open to everybody that has no shared tokens.
    """

    tokens: Tokens = field(default_factory=Tokens)
    keys: TokenKeys | None = None
    clock: Callable[[], float] = time.time

    @property
    def open_roles(self) -> list[str]:
        """Those that need no token."""
        return [role for role in ROLES if self.keys is None and not self.tokens.guards(role)]

    def check(self, role: str, stream: str, token: str | None) -> None:
        """Raise `RemoteProtocolError` UNAUTHORIZED unless `token` lets its holder have `role` for `stream`."""
        if role in self.open_roles or self.tokens.allows(role, token):
            return
        if not token:
            raise RemoteProtocolError(WireCode.UNAUTHORIZED, f"a token is needed to {role}")
        if self.keys is None:
            raise RemoteProtocolError(WireCode.UNAUTHORIZED, f"the token does not allow to {role}")
        try:
            grant = self.keys.prove(token, self.clock)
        except InputError as exc:
            raise RemoteProtocolError(WireCode.UNAUTHORIZED, str(exc)) from None
        if not grant.allows(role, stream):
            told = f"the token does not allow to {role} {'to ' if role == 'listen' else ''}{stream!r}"
            raise RemoteProtocolError(WireCode.UNAUTHORIZED, told)
