"""Asks the processes of one server over their private ports, all at once, and takes what comes in time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

__all__ = ["AskedProcesses", "ProcessAnswer"]

_WITHIN_S = 3.0
_MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class ProcessAnswer:
    """What process `number` has answered; `status` is None where it has not."""

    number: int
    status: int | None
    text: str = ""

    @property
    def ok(self) -> bool:
        """Whether it answers with what was asked for."""
        return self.status == HTTPStatus.OK

    @property
    def value(self) -> dict[str, Any]:
        """The object of JSON in it; an empty one where there is none."""
        try:
            found = json.loads(self.text)
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


class AskedProcesses:
    """The processes whose private ports `urls` gives by their numbers; they take `token` for that of their operator. `close` it."""

    def __init__(self, urls: Callable[[], Mapping[int, str]], token: str) -> None:
        import httpx2

        self._urls = urls
        self._headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}
        self._client = httpx2.AsyncClient(timeout=_WITHIN_S, trust_env=False)

    async def ask(
        self, method: str, path: str, body: bytes = b"", *, accept: str = "*/*", without: Iterable[int] = ()
    ) -> list[ProcessAnswer]:
        """The answers of all processes but `without`, by their numbers."""
        left_out = set(without)
        asked = [(number, url) for number, url in sorted(self._urls().items()) if number not in left_out]
        headers = {**self._headers, "Accept": accept}
        return list(await asyncio.gather(*(self._ask(number, method, url + path, body, headers) for number, url in asked)))

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    async def _ask(self, number: int, method: str, url: str, body: bytes, headers: dict[str, str]) -> ProcessAnswer:
        from httpx2 import HTTPError

        try:
            async with asyncio.timeout(_WITHIN_S), self._client.stream(method, url, headers=headers, content=body) as answer:
                data = b""
                async for piece in answer.aiter_raw():
                    data += piece
                    if len(data) > _MOST_BYTES:
                        return ProcessAnswer(number, None)
                return ProcessAnswer(number, answer.status_code, data.decode("utf-8", errors="replace"))
        except (HTTPError, OSError):  # also a time that is over
            return ProcessAnswer(number, None)
