"""The token that a client shows: one for good, or whatever a function gives when a connection is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from streamcodec.errors import ConnectionFailed, InputError, Refused, WireCode, explain
from streamcodec.protocol import ListenHello, PublishHello

__all__ = ["Token", "may_go_on", "read_secret", "token_file", "token_now", "with_token"]

_Hello = TypeVar("_Hello", PublishHello, ListenHello)

Token = str | Callable[[], str | None] | None
"""A function is asked for each connection, so that one that lasts longer than a token goes on with the next token."""


def token_now(token: Token) -> str | None:
    """The token to show now."""
    return token() if callable(token) else token


def with_token(hello: _Hello, token: Token) -> _Hello:
    """The hello with what `token` gives now; unchanged where that is no function."""
    return replace(hello, token=token()) if callable(token) else hello


def token_file(path: Path) -> Callable[[], str | None]:
    """The token in a file, which is read again for each connection. The function raises `InputError`."""

    return partial(read_secret, path)


def read_secret(path: Path) -> str:
    """The one line in a file. Raises `InputError`, which tells nothing of it."""
    try:
        found = path.read_text(encoding="utf-8-sig").strip()
    except OSError as exc:
        raise InputError(explain(exc)) from exc
    except UnicodeDecodeError as exc:
        raise InputError(f"{path}: is no text file, expected one line") from exc
    if len(found.splitlines()) != 1:
        raise InputError(f"{path}: expected one line")
    return found


def may_go_on(lost: Exception, shown: str | None, token: Token) -> bool:
    """Whether a session may be resumed whose connection ended with `lost`.

    It may where that broke without a goodbye, where the session has moved, and where there is another token now.
    """
    if isinstance(lost, Refused):
        return lost.code == WireCode.MOVED or (lost.code == WireCode.UNAUTHORIZED and callable(token) and token_now(token) != shown)
    return type(lost) is ConnectionFailed
