"""What a signed token grants: streams to publish and to listen to, by patterns of their names, until a time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Self

from streamcodec.errors import InputError
from streamcodec.protocol.fields import shown

__all__ = ["MAX_PATTERNS", "NEVER", "Grant"]

MAX_PATTERNS = 64
NEVER = 253_402_300_800.0
"""The end of the year 9999: what expires then never expires."""
_PATTERN = re.compile(r"[A-Za-z0-9._~*-]{1,64}")


@dataclass(frozen=True)
class Grant:
    """The claims of a token. In a pattern, `*` stands for any characters. Raises `InputError`.

    `expires` and `not_before` are in seconds since 1970, `name` says who holds the token.
    """

    publish: Sequence[str] = ()
    listen: Sequence[str] = ()
    expires: float = 0.0
    not_before: float = 0.0
    name: str = ""

    def __post_init__(self) -> None:
        for role, patterns in (("publish", self.publish), ("listen", self.listen)):
            if not isinstance(patterns, (list, tuple)) or len(patterns) > MAX_PATTERNS:
                raise InputError(f"{role} is {shown(patterns)}, expected at most {MAX_PATTERNS} patterns of streams' names")
            for pattern in patterns:
                if not isinstance(pattern, str) or _PATTERN.fullmatch(pattern) is None:
                    raise InputError(f"{role} has the pattern {shown(pattern)}, expected 1 to 64 of A-Z a-z 0-9 . _ ~ - and *")
        for name, value in (("exp", self.expires), ("nbf", self.not_before)):
            if type(value) not in (int, float) or not 0 <= value <= NEVER:
                raise InputError(f"{name} is {shown(value)}, expected seconds since 1970")
        if not isinstance(self.name, str) or len(self.name) > 200:
            raise InputError(f"sub is {shown(self.name)}, expected at most 200 characters")

    def allows(self, role: str, stream: str) -> bool:
        """Whether it grants `role`, "publish" or "listen", for the stream of that name."""
        return any(fnmatchcase(stream, pattern) for pattern in (self.publish if role == "publish" else self.listen))

    def claims(self) -> dict[str, Any]:
        """As a JSON Web Token has them."""
        told = {"sub": self.name, "publish": list(self.publish), "listen": list(self.listen), "nbf": self.not_before}
        return {"exp": self.expires, **{name: value for name, value in told.items() if value}}

    @classmethod
    def of(cls, claims: Mapping[str, Any]) -> Self:
        """The grant in a token's claims; those that it does not know are ignored. Raises `InputError`."""
        return cls(
            publish=claims.get("publish", ()),
            listen=claims.get("listen", ()),
            expires=claims.get("exp", 0),
            not_before=claims.get("nbf", 0),
            name=claims.get("sub", ""),
        )
