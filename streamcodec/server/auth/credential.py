"""What a peer has shown, and what follows from it: a grant, and what that rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from streamcodec.server.auth.grant import NEVER, Grant

__all__ = ["EVERYTHING", "Basis", "Credential"]

EVERYTHING = Grant(publish=("*",), listen=("*",), expires=NEVER)


class Basis(StrEnum):
    """What a grant rests on."""

    OPEN = "open"  # the role needs no token
    ECHO = "echo"  # the name of the stream, that of an echo test, which needs no token
    SHARED = "shared"  # a token that several people share
    SIGNED = "signed"  # a token that one of the server's keys has signed
    ASKED = "asked"  # the answer of the authentication URL


@dataclass(frozen=True)
class Credential:
    """A grant, whose `expires` is when a session ends that rests on it (s since 1970), and its basis.

    `digest` tells the token that was shown from others, None where none was. `key` is the thumbprint of the key that has signed it.
    `revalidate_s` says after how long the authentication URL is to be asked again, None: never.
    """

    basis: Basis
    grant: Grant = EVERYTHING
    digest: str | None = field(default=None, repr=False)
    key: str | None = None
    revalidate_s: float | None = None
