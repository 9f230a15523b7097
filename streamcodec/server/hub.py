"""All streams and all who listen, by name, and who is let in among them."""

from __future__ import annotations

from collections import Counter

from streamcodec.engine.worker import Worker
from streamcodec.errors import RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello, PublishHello, Waiting
from streamcodec.server.admission import Admission, Demand
from streamcodec.server.limits import Limits
from streamcodec.server.listeners import Listener
from streamcodec.server.metrics import Metrics, now_us
from streamcodec.server.streams import Failed, Stream

__all__ = ["Hub"]


class Hub:
    """All streams and all who listen, by name."""

    def __init__(self, worker: Worker, limits: Limits, metrics: Metrics, admission: Admission) -> None:
        self.worker = worker
        self.limits = limits
        self.metrics = metrics
        self.admission = admission
        self.streams: dict[str, Stream] = {}
        self.listeners: dict[str, set[Listener]] = {}
        self.closing = False

    @property
    def num_listeners(self) -> int:
        """Listeners of all names."""
        return sum(len(group) for group in self.listeners.values())

    @property
    def demand(self) -> Demand:
        """What all streams ask of the engine: a fast one counts as a live one does, as its rows share the steps."""
        return Counter(need for stream in self.streams.values() for need in stream.needs)

    def publish(self, hello: PublishHello, failed: Failed) -> Stream:
        """Open a stream; `failed` is called when it breaks. Raises `RemoteProtocolError` STREAM_TAKEN, SERVER_FULL or BAD_REQUEST."""
        if self.closing:
            raise RemoteProtocolError(WireCode.SERVER_CLOSING, "the server is closing")
        if hello.stream in self.streams:
            raise RemoteProtocolError(WireCode.STREAM_TAKEN, f"stream {hello.stream!r} has a publisher already")
        if len(self.streams) >= self.limits.max_publishers:
            raise RemoteProtocolError(WireCode.SERVER_FULL, f"the server has its {self.limits.max_publishers} publishers")
        wanted: Demand = Counter()
        if hello.format != "codes":
            wanted["encode", hello.packet_frames] += 1
        if any(listener.format != "codes" for listener in self.listeners.get(hello.stream, ())):
            wanted["decode", hello.packet_frames] += 1
        self._admit(wanted)
        stream = Stream(self, hello, failed)
        self.streams[hello.stream] = stream
        return stream

    def expect(self, hello: ListenHello) -> Stream | None:
        """The stream that `hello` wants to hear, if it is there. Raises `RemoteProtocolError` SERVER_FULL where there is no room to."""
        if self.num_listeners >= self.limits.max_listeners:
            raise RemoteProtocolError(WireCode.SERVER_FULL, f"the server has its {self.limits.max_listeners} listeners")
        stream = self.streams.get(hello.stream)
        if stream is not None and hello.format != "codes" and not stream.decoding:
            self._admit(Counter({("decode", stream.packet_frames): 1}))
        return stream

    def _admit(self, wanted: Demand) -> None:
        reason = self.admission.refusal(now_us() / 1e6, self.demand, wanted)
        if reason is not None:
            self.metrics.refused_for_capacity += 1
            raise RemoteProtocolError(WireCode.SERVER_FULL, reason)

    def subscribe(self, listener: Listener) -> None:
        """Let `listener` have what is published under its name from now on, and a history where there is one."""
        self.listeners.setdefault(listener.name, set()).add(listener)
        stream = self.streams.get(listener.name)
        if stream is None or stream.ending:
            listener.put(Waiting(stream=listener.name))
        else:
            stream.join(listener)

    def unsubscribe(self, listener: Listener) -> None:
        """Forget `listener`."""
        group = self.listeners.get(listener.name, set())
        group.discard(listener)
        if not group:
            self.listeners.pop(listener.name, None)
        if listener.name in self.streams:
            self.streams[listener.name].left(listener)
