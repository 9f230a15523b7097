"""Which newcomers are admitted among those who are there: there is a place for them, and the machine has room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Protocol

from streamcodec.config import CodecConfig
from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello, PublishHello, now_us
from streamcodec.server.capacity.admission import Admission, relays_only
from streamcodec.server.capacity.load_model import Demand
from streamcodec.server.cluster.cluster import Cluster
from streamcodec.server.echo import EchoTests
from streamcodec.server.fanout.subscriber import Subscriber
from streamcodec.server.feeder import Feeder
from streamcodec.server.info import packet_frames_of
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics

__all__ = ["Newcomers", "Present"]

_RECHECK_S = 0.1  # a newcomer that waits notices after so long at the latest that it need not wait any longer
_MIN_RETRY_AFTER_MS = 1000


class Present(Protocol):
    """Who is there already."""

    @property
    def closing(self) -> bool:
        """Whether nobody is let in any more."""

    @property
    def cluster(self) -> Cluster:
        """The other servers."""

    @property
    def streams(self) -> Mapping[str, Any]:
        """Those whose publishers are here, by name."""

    @property
    def listeners(self) -> Mapping[str, Collection[Subscriber]]:
        """All listeners, by name."""

    @property
    def demand(self) -> Demand:
        """What all streams ask of engine and loop."""

    @property
    def num_listeners(self) -> int:
        """Listeners of all names."""

    @property
    def num_waiting_listeners(self) -> int:
        """Listeners of names that nobody publishes."""

    def heard(self, name: str) -> Feeder | None:
        """What there is to hear under a name."""


class Newcomers:
    """Admits or refuses; `num_waiting` wait to be admitted."""

    def __init__(
        self,
        present: Present,
        config: CodecConfig,
        limits: Limits,
        metrics: Metrics,
        admission: Admission,
        echo: EchoTests,
    ) -> None:
        self.num_waiting = 0
        self._present = present
        self._config = config
        self._limits = limits
        self._metrics = metrics
        self._admission = admission
        self._echo = echo
        # Who brings packets to pass on does not wait behind those that the engine has no room for.
        self._queues = {relays: asyncio.Lock() for relays in (False, True)}

    async def wait_for_room(self, hello: PublishHello | ListenHello, gone: Callable[[], bool]) -> None:
        """Wait where `hello` would be refused now and may be admitted in a moment: in the order of arrival, for `join_wait_s` at most.

        `gone` says whether the client is gone. Call `admit` directly after this.
        """
        if not (wanted := self._wanted(hello)):
            return
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._limits.join_wait_s
        self.num_waiting += 1
        try:
            async with self._queues[relays_only(wanted)]:  # a lock wakes those that wait in the order in which they came
                while not self._present.closing and not gone() and self._no_place(hello) is None:
                    left_s = give_up - loop.time()
                    refusal = self._admission.refusal(now_us() / 1e6, self._present.demand, self._wanted(hello))
                    if refusal is None or refusal.again_s is None or left_s <= 0:
                        return
                    await asyncio.sleep(min(refusal.again_s, _RECHECK_S, left_s))
        finally:
            self.num_waiting -= 1

    def admit(self, hello: PublishHello | ListenHello) -> None:
        """Raise `RemoteProtocolError` SERVER_FULL where there is no room; it names a node that has some, if there is one."""
        if (reason := self._no_place(hello)) is not None:
            raise RemoteProtocolError(WireCode.SERVER_FULL, reason, go_to=self._present.cluster.better(hello.role))
        now, wanted = now_us() / 1e6, self._wanted(hello)
        refusal = self._admission.refusal(now, self._present.demand, wanted)
        if refusal is not None:
            self._metrics.refused_for_capacity += 1
            retry_after_ms = None if refusal.again_s is None else max(_MIN_RETRY_AFTER_MS, round(1000 * refusal.again_s))
            raise RemoteProtocolError(WireCode.SERVER_FULL, refusal.reason, retry_after_ms, go_to=self._present.cluster.better(hello.role))
        self._admission.joined(now, wanted, hello.stream)

    def admit_moved(self, hello: PublishHello) -> None:
        """As `admit`, for a publisher whose stream another node has."""
        self.admit(replace(hello, resume=None))

    def _wanted(self, hello: PublishHello | ListenHello) -> Demand:
        """What `hello` asks of engine and loop beyond what is there."""
        present, wanted = self._present, Demand()
        if isinstance(hello, ListenHello):
            if (heard := present.heard(hello.stream)) is not None:
                wanted["relay", heard.info.packet_frames] += 1
                if hello.format != "codes" and not heard.decoding:
                    wanted["decode", heard.info.packet_frames] += 1
        elif hello.stream not in present.streams and hello.resume is None:
            waiting = present.listeners.get(hello.stream, ())
            frames = packet_frames_of(hello, self._config)
            if hello.format != "codes":
                wanted["encode", frames] += 1
            if any(listener.format != "codes" for listener in waiting):
                wanted["decode", frames] += 1
            if waiting:
                wanted["relay", frames] += len(waiting)
        return wanted

    def _no_place(self, hello: PublishHello | ListenHello) -> str | None:
        """Why there is no place for `hello`, however idle the machine is."""
        present, limits = self._present, self._limits
        if (reason := self._echo.no_place(hello, lambda: list(present.streams), self._listened)) is not None:
            return reason
        publishing = isinstance(hello, PublishHello)
        there, most = (len(present.streams), limits.max_publishers) if publishing else (present.num_listeners, limits.max_listeners)
        if there >= most:
            return f"the server has its {most} {'publishers' if publishing else 'listeners'}"
        if publishing or present.heard(hello.stream) is not None or present.num_waiting_listeners < (most := limits.max_waiting_listeners):
            return None
        return f"the server has its {most} listeners that wait for a publisher"

    def _listened(self) -> list[str]:
        """The name that each listener listens to."""
        groups = self._present.listeners
        return [name for name, group in groups.items() for _ in group]
