"""Tells a program of the operator's what happens, over HTTP: signed as the specification Standard Webhooks says, and sent again if needed.

Each event is a POST of {"type", "timestamp", "data"}. Nobody waits for it: events are in a bounded queue. Gaps of one stream, and refusals
of one kind, are added up there, so that they never push out the others.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import datetime
import hashlib
import hmac
import json
import logging
import random
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import Metric

from streamcodec.errors import InputError
from streamcodec.server.auth.asking import checked_url
from streamcodec.server.events import ServerEvent
from streamcodec.server.metrics import counter_family

if TYPE_CHECKING:
    import httpx2

__all__ = ["MAX_WAITING", "RETRY_AFTER_S", "WebhookQueue", "Webhooks", "secret_of", "sign"]

MAX_WAITING = 1000
RETRY_AFTER_S = (1.0, 5.0, 15.0, 60.0)
"""An event is sent again after so long, each time; then it is given up."""
ANSWER_WITHIN_S = 5.0
_PREFIX = "whsec_"

log = logging.getLogger("streamcodec.server")


class WebhookQueue:
    """Events that wait to be told, `MAX_WAITING` at most: what comes when it is full is dropped and counted."""

    def __init__(self) -> None:
        self.dropped = 0
        self._waiting: OrderedDict[str, tuple[float, ServerEvent]] = OrderedDict()
        self._put = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, event: ServerEvent, now: float = 0.0) -> None:
        """Let `event`, which happened `now`, wait, or add it to one that waits and is about the same."""
        self._put += 1
        key = f"{event.kind} {event.about}" if event.about is not None else f"#{self._put}"
        if (there := self._waiting.get(key)) is not None:
            self._waiting[key] = there[0], there[1].and_also(event)
        elif len(self) < MAX_WAITING:
            self._waiting[key] = now, event
        else:
            self.dropped += 1

    def take(self) -> tuple[float, ServerEvent]:
        """The event that has waited longest, and when it happened, or when the first of several did."""
        return self._waiting.popitem(last=False)[1]


class Webhooks:
    """Sends what is put to `url`, one after the other, signed with `secret`, as "whsec_..." holds it; `start` it, then `close` it.

    `clock` tells seconds since 1970. `transport` is for tests: another way than the network. Raises `InputError`.
    """

    def __init__(self, url: str, secret: str, clock: Callable[[], float], *, transport: httpx2.AsyncBaseTransport | None = None) -> None:
        import httpx2  # it takes a while to load, and most servers tell nobody

        self.url = checked_url(url, "the webhook's URL")
        self.queue = WebhookQueue()
        self.counts = {"delivered": 0, "retried": 0, "failed": 0}
        self._secret = secret_of(secret)
        self._clock = clock
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._faulty = False
        self._task: asyncio.Task[None] | None = None
        self._fails = (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL, OSError)
        self._client = httpx2.AsyncClient(timeout=ANSWER_WITHIN_S, trust_env=False, transport=transport)

    def start(self) -> None:
        """Begin to send, on the running loop."""
        self._task = asyncio.create_task(self._run())

    async def close(self, within_s: float) -> None:
        """Send what waits, but for no longer than that; the rest is dropped."""
        if self._task is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await self._idle.wait()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if len(self.queue):
            self.queue.dropped += len(self.queue)
            log.warning("%d events were not told to the webhook", len(self.queue))
        await self._client.aclose()

    def put(self, event: ServerEvent) -> None:
        """Tell of `event` soon; waits for nothing."""
        self.queue.put(event, self._clock())
        self._idle.clear()
        self._changed.set()

    def families(self) -> Iterable[Metric]:
        """For `Metrics.collect_from`."""
        counts = {**self.counts, "dropped": self.queue.dropped}
        told = "Events for the webhook: delivered, sent again, given up, and dropped as too many waited."
        yield counter_family("webhook_events", told, {outcome: float(count) for outcome, count in counts.items()}, "outcome")

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            while self.queue:
                await self._tell(*self.queue.take())
            self._idle.set()
            await self._changed.wait()

    async def _tell(self, at: float, event: ServerEvent) -> None:
        # The same id whenever it is sent: the receiver knows again what it has got already.
        number = f"msg_{secrets.token_hex(12)}"
        happened = datetime.datetime.fromtimestamp(at, datetime.UTC).isoformat(timespec="milliseconds")
        body = json.dumps({"type": event.kind, "timestamp": happened, "data": event.data}).encode()
        for wait_s in _waits():
            if await self._sent(number, body):
                self.counts["delivered"] += 1
                return
            if wait_s is not None:
                self.counts["retried"] += 1
                await asyncio.sleep(wait_s)
        self.counts["failed"] += 1
        if self.counts["failed"].bit_count() == 1:
            log.error("the webhook takes no events (%d given up so far)", self.counts["failed"])

    async def _sent(self, number: str, body: bytes) -> bool:
        now = int(self._clock())
        headers = {
            "Content-Type": "application/json",
            "webhook-id": number,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(self._secret, number, now, body),
        }
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S), self._client.stream("POST", self.url, content=body, headers=headers) as answer:
                return answer.is_success  # whatever its body is, nobody reads it
        except self._fails:
            return False
        except Exception:
            # Whatever goes wrong, the events behind this one are still told.
            if not self._faulty:
                self._faulty = True
                log.exception("the webhook could not be asked (told once)")
            return False


def secret_of(text: str) -> bytes:
    """The key in "whsec_" and base64. Raises `InputError`, which tells no part of it."""
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(_PREFIX) or not 24 <= len(key) <= 64:
        raise InputError(f"the webhook's secret is malformed, expected {_PREFIX} and 24 to 64 bytes in base64")
    return key


def sign(secret: bytes, number: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: HMAC-SHA256 of the id, the time (s since 1970) and the body."""
    digest = hmac.digest(secret, f"{number}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(digest).decode()}"


def _waits() -> Iterator[float | None]:
    """How long to wait after each attempt; None after the last one."""
    yield from (wait_s * random.uniform(0.8, 1.2) for wait_s in RETRY_AFTER_S)
    yield None
