"""The decision on a hello, as far as this server can take it by itself: which grant a token has, and whether that is enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from streamcodec.errors import InputError, RemoteProtocolError, WireCode
from streamcodec.server.address import is_loopback
from streamcodec.server.auth.credential import EVERYTHING, Basis, Credential
from streamcodec.server.auth.grant import NEVER, Grant
from streamcodec.server.auth.keys import LEEWAY_S, TokenKeys, check_time
from streamcodec.server.auth.tokens import Tokens, digest_of

__all__ = ["ROLES", "Access", "check_grant"]

ROLES = ("publish", "listen")


@dataclass(frozen=True)
class Access:
    """Shared tokens, and the keys of signed ones; `clock` tells seconds since 1970.

    With keys, or where somebody else `asks` an authentication URL, no role is open. Without, a role is open to everybody that has no shared
    tokens.
    """

    tokens: Tokens = field(default_factory=Tokens)
    keys: TokenKeys | None = None
    clock: Callable[[], float] = time.time
    asks: bool = False

    @property
    def open_roles(self) -> list[str]:
        """Those that need no token."""
        return [role for role in ROLES if self.keys is None and not self.asks and not self.tokens.guards(role)]

    def check_reach(self, host: str, *, insecure: bool) -> None:
        """Raise `InputError` where others reach a server on `host` and need no token, unless it is `insecure` on purpose."""
        if not (insecure or is_loopback(host)) and (open_roles := self.open_roles):
            raise InputError(
                f"everybody who reaches {host or 'this machine'} could {' and '.join(open_roles)} without a token. Expected --token-keys, "
                "--auth-url, or --publish-token-file and --listen-token-file; or --insecure, where that is meant"
            )

    def check(self, role: str, stream: str, token: str | None) -> Credential:
        """What lets the holder of `token` have `role` for `stream`. Raises `RemoteProtocolError` UNAUTHORIZED where nothing does."""
        found = self.find(role, token)
        if isinstance(found, str):
            raise RemoteProtocolError(WireCode.UNAUTHORIZED, found)
        check_grant(found.grant, role, stream)
        return found

    def find(self, role: str, token: str | None) -> Credential | str:
        """What `token` is here; where this server knows no such token, why not, in words.

        Raises `RemoteProtocolError` UNAUTHORIZED for one that a key of this server has signed and that is not good now.
        """
        if role in self.open_roles:
            return Credential(Basis.OPEN)
        if not token:
            return f"a token is needed to {role}"
        if self.tokens.allows(role, token):
            return Credential(Basis.SHARED, EVERYTHING, digest_of(token))
        if self.keys is None:
            return f"the token does not allow to {role}"
        try:
            key, grant = self.keys.find(token)
            check_time(grant, self.clock())
        except LookupError as exc:
            return str(exc)
        except InputError as exc:
            raise RemoteProtocolError(WireCode.UNAUTHORIZED, str(exc)) from None
        # A session ends when a hello with the same token would be refused.
        grant = replace(grant, expires=min(NEVER, grant.expires + LEEWAY_S))
        return Credential(Basis.SIGNED, grant, digest_of(token), key)

    def withdrawn(self, role: str, credential: Credential) -> str | None:
        """Why `credential`, which was good once, is not good any more, in words; None where it is. Times are not looked at."""
        match credential.basis:
            case Basis.OPEN if role not in self.open_roles:
                return f"a token is needed to {role} from now on"
            case Basis.SHARED if credential.digest not in self.tokens.digests(role):
                return "the token is not good any more"
            case Basis.SIGNED if self.keys is None or credential.key not in self.keys.thumbprints:
                return "the key that has signed the token is not good any more"
            case Basis.ASKED if not self.asks:
                return "the token is not good any more"
        return None


def check_grant(grant: Grant, role: str, stream: str) -> None:
    """Raise `RemoteProtocolError` UNAUTHORIZED unless `grant` is enough for `role` with `stream`, whatever the time is."""
    if not grant.allows(role, stream):
        told = f"the token does not allow to {role} {'to ' if role == 'listen' else ''}{stream!r}"
        raise RemoteProtocolError(WireCode.UNAUTHORIZED, told)
