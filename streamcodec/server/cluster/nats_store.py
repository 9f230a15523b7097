"""A store on JetStream: a bucket of keys and values, kept in memory, and a watch over all of its keys."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, KeyNotFoundError, KeyWrongLastSequenceError, NoStreamResponseError
from nats.js.errors import Error as JetStreamError
from nats.js.kv import KV_DEL, KV_OP, KV_PURGE, KeyValue

from streamcodec.server.cluster.bus import BusError, Entry, KeyChangedError, Subscription

__all__ = ["STORE_ERRORS", "NatsStore"]

T = TypeVar("T")

STORE_ERRORS = (NoRespondersError, JetStreamError)
"""What JetStream says of a call, while the connection is well."""

_WITHIN_S = 2.0
_TOMBSTONE_S = 10
"""A key that was deleted leaves a mark for those who watch, and the mark goes by itself."""
_HEARTBEAT_S = 1.0
_SILENCE_S = 4.0
_WATCH_AGAIN_S = 0.2
_WRONG_SEQUENCE = (10071, 10164)
_OTHER_SETTINGS = 10058

log = logging.getLogger("streamcodec.server")


class _NatsConnection(Protocol):
    """What a store needs of `NatsBus`."""

    async def call(self, what: Callable[[Client], Coroutine[Any, Any, T]]) -> T: ...

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...

    async def until_connected(self) -> None: ...


class NatsStore:
    """The keys of one bucket, as `Store` describes them. A bucket that is not there is made."""

    def __init__(self, connection: _NatsConnection, bucket: str, ttl_s: float | None, replicas: int, domain: str | None) -> None:
        self.connection = connection
        self.bucket = bucket
        self.ttl_s = ttl_s
        self._replicas = replicas
        self._domain = domain
        self._found: tuple[Client, KeyValue] | None = None

    async def get(self, key: str) -> Entry | None:
        async def get(client: Client) -> Entry | None:
            try:
                found = await (await self.keys(client)).get(key)
            except KeyNotFoundError:
                return None
            return Entry(found.value or b"", found.revision or 0)

        return await self._do(get)

    async def create(self, key: str, value: bytes) -> int:
        async def create(client: Client) -> int:
            try:
                return await (await self.keys(client)).create(key, value)
            except KeyNotFoundError:  # what was in the way has gone meanwhile
                return await (await self.keys(client)).create(key, value)

        return await self._do(create)

    async def update(self, key: str, value: bytes, revision: int) -> int:
        async def update(client: Client) -> int:
            return await (await self.keys(client)).update(key, value, last=revision)

        return await self._do(update)

    async def put(self, key: str, value: bytes) -> int:
        async def put(client: Client) -> int:
            return await (await self.keys(client)).put(key, value)

        return await self._do(put)

    async def delete(self, key: str, revision: int | None = None) -> None:
        headers = {KV_OP: KV_PURGE, api.Header.ROLLUP.value: "sub"}
        if revision is not None:
            headers[api.Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value] = str(revision)

        async def delete(client: Client) -> None:
            await self.keys(client)
            await self.jetstream(client).publish(f"$KV.{self.bucket}.{key}", headers=dict(headers), msg_ttl=_TOMBSTONE_S)

        await self._do(delete)

    def watch(self, changed: Callable[[str, Entry | None], None]) -> Subscription:
        return _NatsWatch(self, changed)

    async def keys(self, client: Client) -> KeyValue:
        """The bucket, made where it is not there."""
        if self._found is None or self._found[0] is not client:
            config = api.KeyValueConfig(self.bucket, ttl=self.ttl_s, replicas=self._replicas, storage=api.StorageType.MEMORY)
            self._found = client, await self.jetstream(client).create_key_value(config)
        return self._found[1]

    def jetstream(self, client: Client) -> JetStreamContext:
        """The JetStream that has the bucket."""
        return client.jetstream(timeout=_WITHIN_S) if self._domain is None else _JetStreamElsewhere(client, self._domain)

    async def _do(self, what: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        try:
            try:
                return await self.connection.call(what)
            except NoStreamResponseError:
                self._found = None  # the bucket has gone, as with the server that had it
                return await self.connection.call(what)
        except KeyWrongLastSequenceError:
            raise KeyChangedError("another node has changed the key") from None
        except STORE_ERRORS as exc:
            if isinstance(exc, APIError) and exc.err_code in _WRONG_SEQUENCE:
                raise KeyChangedError("another node has changed the key") from None
            raise BusError(f"the store {self.bucket!r}: {_told(exc)}") from None


class _JetStreamElsewhere(JetStreamContext):
    """The JetStream of a domain.

    What is stored there has to be published to the domain, too: `$KV` alone is the JetStream that is nearest (nats-py 2.16 asks elsewhere,
    and publishes here).
    """

    def __init__(self, client: Client, domain: str) -> None:
        self._published_to = f"$JS.{domain}.API."
        super().__init__(client, prefix=self._published_to.removesuffix("."), timeout=_WITHIN_S)

    async def publish(self, subject: str, *args: Any, **options: Any) -> api.PubAck:
        return await super().publish(self._published_to + subject, *args, **options)


class _NatsWatch:
    """Follows a store's keys, on one connection after the other.

    JetStream tells nobody of keys that expire: what has not been renewed for the store's time to live is told to be gone.
    """

    dropped = 0

    def __init__(self, store: NatsStore, changed: Callable[[str, Entry | None], None]) -> None:
        self._store = store
        self._changed = changed
        self._there: dict[str, tuple[Entry, float]] = {}  # with when they expire; those that expire first are first
        self._task = store.connection.start(self._run())

    def close(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            await self._store.connection.until_connected()
            with contextlib.suppress(BusError, *STORE_ERRORS):
                await self._store.connection.call(self._follow)
            await asyncio.sleep(_WATCH_AGAIN_S)

    async def _follow(self, client: Client) -> None:
        """Follow the keys until something is missed."""
        await self._store.keys(client)
        messages: asyncio.Queue[Msg] = asyncio.Queue()

        async def heard(message: Msg) -> None:
            messages.put_nowait(message)

        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=heard)
        try:
            info = await self._store.jetstream(client).add_consumer(
                f"KV_{self._store.bucket}",
                api.ConsumerConfig(
                    deliver_subject=inbox,
                    filter_subject=f"$KV.{self._store.bucket}.>",
                    deliver_policy=api.DeliverPolicy.LAST_PER_SUBJECT,
                    ack_policy=api.AckPolicy.NONE,
                    idle_heartbeat=_HEARTBEAT_S,
                    inactive_threshold=10 * _HEARTBEAT_S,
                    mem_storage=True,
                    num_replicas=1,
                ),
            )
            missing = set(self._there)
            initial = bool(info.num_pending)
            if not initial:
                self._gone(missing)
            expected = 1
            while (message := await self._next(messages)) is not None:
                if message.headers and api.Header.STATUS.value in message.headers:
                    continue  # a heartbeat
                meta = message.metadata
                if meta.sequence.consumer != expected:
                    return
                expected += 1
                key = message.subject.removeprefix(f"$KV.{self._store.bucket}.")
                missing.discard(key)
                deleted = message.headers is not None and message.headers.get(KV_OP) in (KV_DEL, KV_PURGE)
                self._tell(key, None if deleted else Entry(message.data, meta.sequence.stream))
                if initial and not meta.num_pending:
                    initial = False
                    self._gone(missing)
        finally:
            if client.is_connected:
                with contextlib.suppress(Exception):
                    await subscription.unsubscribe()

    async def _next(self, messages: asyncio.Queue[Msg]) -> Msg | None:
        """The next message, None after a silence; keys expire meanwhile."""
        loop = asyncio.get_running_loop()
        silent = loop.time() + _SILENCE_S
        while True:
            self._expire(loop.time())
            first = next(iter(self._there.values()))[1] if self._there else silent
            try:
                async with asyncio.timeout_at(min(silent, first)):
                    return await messages.get()
            except TimeoutError:
                if loop.time() >= silent:
                    return None

    def _gone(self, missing: set[str]) -> None:
        for key in missing:
            self._tell(key, None)

    def _expire(self, now: float) -> None:
        while self._there and (first := next(iter(self._there.items())))[1][1] <= now:
            self._tell(first[0], None)

    def _tell(self, key: str, entry: Entry | None) -> None:
        there = self._there.pop(key, None)
        if entry is not None:
            ttl_s = float("inf") if self._store.ttl_s is None else self._store.ttl_s
            self._there[key] = entry, asyncio.get_running_loop().time() + ttl_s
        if entry != (None if there is None else there[0]):
            try:
                self._changed(key, entry)
            except Exception:
                log.exception("a change of the store %r could not be taken", self._store.bucket)


def _told(error: Exception) -> str:
    if isinstance(error, APIError) and error.err_code == _OTHER_SETTINGS:
        return "NATS has it with other settings; delete it there, or give this cluster another name"
    if isinstance(error, NoRespondersError):
        return "this NATS has no JetStream"
    code = f" ({error.err_code})" if isinstance(error, APIError) else ""
    return f"{type(error).__name__}{code}"
