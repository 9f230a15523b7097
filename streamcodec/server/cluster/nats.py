"""NATS as the bus: core messages for audio and questions, JetStream's keys and values for the stores.

Each connection is a new client of nats-py's, and this file decides when to connect again: what a lost connection has not sent is
worthless and goes with it, and no error of a server's ends the attempts. All that is sent goes through one queue in order, so that
`publish` and `subscribe` never wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import MaxPayloadError, NoRespondersError, SlowConsumerError

from streamcodec.server.cluster.bus import Answering, BusError, NobodyAnswersError, Store, Subscription, Taking
from streamcodec.server.cluster.nats_client import CLIENT_ERRORS, connected_client, discard, reason_of
from streamcodec.server.cluster.nats_settings import NatsSettings
from streamcodec.server.cluster.nats_store import STORE_ERRORS, NatsStore
from streamcodec.server.cluster.nats_subscription import NatsSubscription
from streamcodec.server.cluster.outbox import Outbox, Outgoing

__all__ = ["NatsBus"]

T = TypeVar("T")
_Command = Callable[[Client], Coroutine[Any, Any, None]]

_MAX_QUESTIONS = 256
"""So many questions are answered at once; more are dropped."""
_FLUSH_WITHIN_S = 2.0
_CLOSE_WITHIN_S = 2.0
_LOOK_EVERY_S = 0.25
_AGAIN_S = (0.05, 0.5)
"""The wait before the first attempt to connect again, and the longest one."""

log = logging.getLogger("streamcodec.server")


class NatsBus:
    """One node's connection to NATS, as `Bus` describes it; needs the extra `cluster`."""

    def __init__(self, settings: NatsSettings) -> None:
        self.settings = settings
        self._calls: list[Callable[[bool], None]] = []
        self._subscriptions: set[NatsSubscription] = set()
        self._by_theirs: dict[object, NatsSubscription] = {}
        self._stores: dict[str, NatsStore] = {}
        self._out = Outbox[Client](lambda: asyncio.get_running_loop().time())
        self._client: Client | None = None
        self._told = True
        self._there = asyncio.Event()
        self._ended = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._gone: asyncio.Future[None] | None = None
        self._next_server = random.randrange(len(settings.servers))

    @property
    def connected(self) -> bool:
        return self._client is not None and self._client.is_connected

    def on_connected(self, call: Callable[[bool], None]) -> None:
        self._calls.append(call)

    async def open(self) -> None:
        client = await self._connect()
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runner = asyncio.get_running_loop().create_task(self._run(client, ready))
        await ready

    async def close(self) -> None:
        if self.connected:
            with contextlib.suppress(BusError, TimeoutError):
                async with asyncio.timeout(_CLOSE_WITHIN_S):
                    await self.flush()
        tasks = [task for task in (self._runner, *self._tasks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._subscriptions.clear()

    @property
    def lost(self) -> int:
        """Messages that were not sent: there was no connection, too many waited, or they were too old or too long."""
        return self._out.lost

    def publish(self, subject: str, data: bytes) -> None:
        if self.connected:
            self._out.publish(subject, data)
        else:
            self._out.lost += 1

    def subscribe(self, subject: str, take: Taking, *, max_waiting: int = 1000) -> Subscription:
        async def taken(message: Msg) -> None:
            if not subscription.closed:
                take(message.data)

        subscription = NatsSubscription(self, subject, taken, max_waiting)
        return self._new(subscription)

    async def flush(self) -> None:
        await self.call(lambda client: client.flush(timeout=int(_FLUSH_WITHIN_S)))

    def answer(self, subject: str, answering: Answering) -> Subscription:
        answers: set[asyncio.Task[None]] = set()

        async def asked(message: Msg) -> None:
            if subscription.closed:
                return
            if len(answers) >= _MAX_QUESTIONS:
                subscription.dropped += 1
                return
            task = self.start(self._answer(answering, message))
            answers.add(task)
            task.add_done_callback(answers.discard)

        subscription = NatsSubscription(self, subject, asked, 1000)
        return self._new(subscription)

    async def ask(self, subject: str, data: bytes, timeout_s: float) -> bytes:
        async def request(client: Client) -> bytes:
            message = await client.request(subject, data, timeout=timeout_s)
            return message.data

        try:
            return await self.call(request)
        except NoRespondersError:
            raise NobodyAnswersError("nobody answers") from None

    def store(self, name: str, *, ttl_s: float | None = None) -> Store:
        if name not in self._stores:
            bucket = f"streamcodec_{self.settings.cluster}_{name}"
            self._stores[name] = NatsStore(self, bucket, ttl_s, self.settings.replicas, self.settings.domain)
        return self._stores[name]

    # For the stores and the subscriptions ------------------------------------------------------------------------------------------

    async def call(self, what: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """What a client's call returns, made after all that was sent before. Raises `BusError`, also where the connection is lost then.

        `NoRespondersError` and errors of JetStream's own are the caller's.
        """
        client, gone = self._client, self._gone
        if client is None or gone is None or not self.connected:
            raise BusError("the connection to NATS is lost")
        if self._out:
            await self._sent(gone)
        task = asyncio.ensure_future(what(client))
        either: list[asyncio.Future[Any]] = [task, gone]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise BusError("the connection to NATS is lost")
            return task.result()
        except STORE_ERRORS:
            raise
        except CLIENT_ERRORS as exc:
            raise BusError(f"NATS: {reason_of(exc)}") from None
        finally:
            task.cancel()

    async def until_connected(self) -> None:
        """Wait until there is a connection."""
        await self._there.wait()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something until it ends or the bus is closed."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def begun(self, subscription: NatsSubscription) -> None:
        """Know to whom nats-py's subscription belongs."""
        self._by_theirs[subscription.theirs] = subscription
        if subscription.closed:
            self.forget(subscription)

    def forget(self, subscription: NatsSubscription) -> None:
        """Take no more for it."""
        self._subscriptions.discard(subscription)
        theirs, subscription.theirs = subscription.theirs, None
        if theirs is None:
            return
        self._by_theirs.pop(theirs, None)

        async def unsubscribe(_: Client) -> None:
            await theirs.unsubscribe()

        self._command(unsubscribe)

    # The connection ------------------------------------------------------------------------------------------------------------------

    async def _run(self, client: Client, ready: asyncio.Future[None]) -> None:
        """Serve one connection after the other, for ever."""
        while True:
            try:
                await self._serve(client, ready)
            except BusError as exc:  # it was lost before it could be used
                if not ready.done():
                    ready.set_exception(exc)
                    return
            finally:
                self._client = None
                if self._gone is not None and not self._gone.done():
                    self._gone.set_result(None)
                await discard(client)
            log.warning("the connection to NATS is lost; streams of this node go on, and it tries again")
            self._tell(False)
            client = await self._connect_again()

    async def _serve(self, client: Client, ready: asyncio.Future[None]) -> None:
        """Send what there is to send, until the connection is lost."""
        self._out.clear()
        self._by_theirs.clear()
        self._client, self._gone = client, asyncio.get_running_loop().create_future()
        for subscription in self._subscriptions:
            subscription.theirs = None
            self._command(subscription.begin)
        sending = asyncio.get_running_loop().create_task(self._send(client))
        try:
            await self.flush()
            self._there.set()
            if ready.done():
                log.info("the connection to NATS is there again")
                self._tell(True)
            else:
                ready.set_result(None)
            while client.is_connected:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_EVERY_S):
                        await self._ended.wait()
                        self._ended.clear()  # it may have been about a client of before
        finally:
            self._there.clear()
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _connect(self) -> Client:
        """A client on one of the servers, each tried once."""
        servers = self.settings.parsed()
        failures = []
        for _ in servers:
            server = servers[self._next_server % len(servers)]
            self._next_server += 1
            try:
                return await connected_client(server, self.settings, self._ended.set, self._slow)
            except BusError as exc:
                failures.append(str(exc))
        raise BusError("; ".join(failures))

    async def _connect_again(self) -> Client:
        wait_s, most_s = _AGAIN_S
        told = ""
        while True:
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(2 * wait_s, most_s)
            try:
                return await self._connect()
            except BusError as exc:
                if str(exc) != told:
                    told = str(exc)
                    log.warning("%s", told)

    async def _send(self, client: Client) -> None:
        while True:
            item = await self._out.take()
            try:
                if isinstance(item, Outgoing):
                    await client.publish(item.subject, item.data)
                else:
                    await item(client)
            except MaxPayloadError:
                self._out.lost += 1
                log.error("a message is too long for NATS, which takes %d bytes", client.max_payload)
            except CLIENT_ERRORS:
                self._out.lost += 1  # the connection is about to be over

    async def _sent(self, gone: asyncio.Future[None]) -> None:
        """Wait until all that waits now has been sent."""
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def mark(_: Client) -> None:
            if not sent.done():
                sent.set_result(None)

        self._command(mark)
        await asyncio.wait({sent, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not sent.done():
            raise BusError("the connection to NATS is lost")

    def _command(self, command: _Command) -> None:
        if self._client is not None:
            self._out.command(command)

    def _new(self, subscription: NatsSubscription) -> Subscription:
        self._subscriptions.add(subscription)
        self._command(subscription.begin)
        return subscription

    async def _answer(self, answering: Answering, message: Msg) -> None:
        try:
            answer = await answering(message.data)
        except Exception:
            log.exception("a question of another node could not be answered")
        else:
            self.publish(message.reply, answer)

    def _slow(self, error: SlowConsumerError) -> None:
        subscription = self._by_theirs.get(error.sub)
        if subscription is not None:
            subscription.dropped += 1

    def _tell(self, connected: bool) -> None:
        if connected is self._told:
            return
        self._told = connected
        for call in self._calls:
            try:
                call(connected)
            except Exception:
                log.exception("a part of this server could not be told of the connection to NATS")
