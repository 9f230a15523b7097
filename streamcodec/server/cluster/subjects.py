"""The subjects of a cluster's messages. What a client has chosen goes into a subject and into a key only escaped, as one token.

Names of clusters, nodes and sessions come from this program and its operator; they are checked, not escaped.
"""

from __future__ import annotations

import re

from streamcodec.errors import InputError
from streamcodec.protocol.fields import shown

__all__ = ["CLUSTER_NAME", "Subjects", "escaped", "unescaped"]

CLUSTER_NAME = "default"
_PLAIN = re.compile(r"[A-Za-z0-9_-]")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")
_ESCAPED = re.compile(r"(?:[A-Za-z0-9_-]|=[0-9A-F]{2})+")


def escaped(name: str) -> str:
    """`name` as one token: A-Z a-z 0-9 _ - stay, each other byte of UTF-8 becomes =XX. Raises `InputError` for an empty name."""
    if not name:
        raise InputError("the name is empty, expected at least one character")
    return "".join(char if _PLAIN.fullmatch(char) else "".join(f"={byte:02X}" for byte in char.encode()) for char in name)


def unescaped(token: str) -> str:
    """The name that `escaped` made `token` of. Raises `InputError` for a token that it never makes."""
    if _ESCAPED.fullmatch(token):
        try:
            name = re.sub(rb"=(..)", lambda found: bytes.fromhex(found[1].decode()), token.encode()).decode()
        except UnicodeDecodeError:
            name = ""
        if name and escaped(name) == token:  # one name has one token
            return name
    raise InputError(f"{shown(token)} is no escaped name, expected A-Z a-z 0-9 _ - and =XX")


class Subjects:
    """The subjects of one cluster. Raises `InputError` for a cluster, a node or a session that is no token."""

    def __init__(self, cluster: str = CLUSTER_NAME) -> None:
        self._prefix = f"streamcodec.{_token(cluster, 'cluster')}"

    def live(self, session: str) -> str:
        """The messages of the stream with this session, from its origin."""
        return f"{self._prefix}.live.{_token(session, 'session')}"

    def began(self, name: str) -> str:
        """What is told when a stream of this name has begun."""
        return f"{self._prefix}.began.{escaped(name)}"

    def node(self, node: str) -> str:
        """The questions to a node."""
        return f"{self._prefix}.node.{_token(node, 'node')}"


def _token(text: str, what: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise InputError(f"the {what} is {shown(text)}, expected 1 to 128 of A-Z a-z 0-9 _ -")
    return text
