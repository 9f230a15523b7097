"""The grants of the sessions that run, and what ends such a session: its time, a narrower grant, a key that is not good any more.

Nothing here reads a clock by itself or knows a socket.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from streamcodec.errors import InputError, RemoteProtocolError, WireCode
from streamcodec.server.auth.access import Access, check_grant
from streamcodec.server.auth.credential import Credential
from streamcodec.server.auth.grant import NEVER, Grant

__all__ = ["MAX_NARROWED", "MAX_NARROWED_AGAIN", "Permit", "Permits"]

MAX_NARROWED = 4096
"""Tokens that may be narrowed at once. One more is refused: to forget one would let its holder in again."""
MAX_NARROWED_AGAIN = 16
"""How often one token may be narrowed."""


@dataclass(eq=False)
class Permit:
    """What one session may do as long as it holds: `role` for `stream`, by `credential`; `end` is called with the reason when it ends."""

    role: str
    stream: str
    credential: Credential
    end: Callable[[RemoteProtocolError], None]
    ended: bool = False


@dataclass(frozen=True)
class _Narrowed:
    """What a token was narrowed to: each of these holds. After `until` the token is not good by itself."""

    until: float
    to: tuple[Grant, ...] = ()


class Permits:
    """The permits of all sessions, and the tokens that were narrowed, for as long as this process lives. `clock`: seconds since 1970.

    A session that ends with its time may be resumed by a hello with another token, as if its connection had broken.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._held: set[Permit] = set()
        self._narrowed: dict[str, _Narrowed] = {}
        self._due = NEVER

    def __len__(self) -> int:
        return len(self._held)

    def check(self, role: str, stream: str, credential: Credential) -> None:
        """Raise `RemoteProtocolError` UNAUTHORIZED where `credential` is not enough now, or its token was narrowed too far."""
        if (fault := self._fault(role, stream, credential)) is not None:
            raise fault

    @contextlib.contextmanager
    def holding(self, permit: Permit) -> Iterator[Permit]:
        """Look after `permit` inside this block."""
        self._held.add(permit)
        self._due = min(self._due, self._expires(permit.credential))
        try:
            yield permit
        finally:
            self._held.discard(permit)

    def look(self) -> None:
        """End what has expired by now; to be called often."""
        if self.clock() > self._due:
            self._look_at_all()

    def replace(self, permit: Permit, credential: Credential) -> None:
        """The session rests on `credential` from now on, and ends where that is not enough."""
        permit.credential = credential
        self._look_at_all()

    def end(self, permit: Permit, reason: str, code: WireCode = WireCode.UNAUTHORIZED) -> None:
        """End one session, which may not be resumed."""
        self._end(permit, RemoteProtocolError(code, reason))

    def narrow(self, credential: Credential, to: Grant) -> None:
        """Let whoever shows the token of `credential` have no more than `to`, in sessions that run and in later ones.

        A token is never widened again: what it was narrowed to before holds on. Raises `InputError` where no token was shown, or where too
        much was narrowed already.
        """
        if credential.digest is None:
            raise InputError("this session has shown no token that could be narrowed: end it instead")
        now = self.clock()
        self._narrowed = {digest: kept for digest, kept in self._narrowed.items() if kept.until >= now}
        kept = self._narrowed.get(credential.digest, _Narrowed(credential.grant.expires))
        if len(kept.to) >= MAX_NARROWED_AGAIN:
            raise InputError(f"this token was narrowed {MAX_NARROWED_AGAIN} times already: end its sessions, and replace the keys")
        if credential.digest not in self._narrowed and len(self._narrowed) >= MAX_NARROWED:
            raise InputError(f"{MAX_NARROWED} tokens are narrowed already: replace the keys instead")
        self._narrowed[credential.digest] = _Narrowed(kept.until, (*kept.to, to))
        self._look_at_all()

    def reload(self, access: Access) -> None:
        """End what rests on a token or a key that `access` does not have."""
        for permit in list(self._held):
            if (reason := access.withdrawn(permit.role, permit.credential)) is not None:
                self.end(permit, reason)

    def _fault(self, role: str, stream: str, credential: Credential) -> RemoteProtocolError | None:
        for grant in self._grants(credential):
            try:
                check_grant(grant, role, stream)
            except RemoteProtocolError as exc:
                return exc
        if self.clock() > self._expires(credential):
            return RemoteProtocolError(WireCode.UNAUTHORIZED, "the token has expired", resumable=True)
        return None

    def _grants(self, credential: Credential) -> Iterable[Grant]:
        kept = self._narrowed.get(credential.digest or "")
        return (credential.grant,) if kept is None else (credential.grant, *kept.to)

    def _expires(self, credential: Credential) -> float:
        return min(grant.expires for grant in self._grants(credential))

    def _look_at_all(self) -> None:
        for permit in list(self._held):
            if (fault := self._fault(permit.role, permit.stream, permit.credential)) is not None:
                self._end(permit, fault)
        self._due = min((self._expires(permit.credential) for permit in self._held if not permit.ended), default=NEVER)

    def _end(self, permit: Permit, why: RemoteProtocolError) -> None:
        if not permit.ended:
            permit.ended = True
            permit.end(why)
