"""Publishers through WebSockets: the server is one process, the load another, on the same cores; this end only asks and notes."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.capacity.ledger import Sample
from benchmarks.capacity.websocket_load import WebSocketLoad, generate
from benchmarks.harness.models import Loading
from benchmarks.harness.processes import Process, Processes, Serving, serve
from streamcodec.server import Limits

__all__ = ["ThroughWebSockets"]


class ThroughWebSockets:
    """A server, of one process or several, and a load's process; without `admission` the server lets everybody in."""

    def __init__(self, loading: Loading, plan: Callable[[str, str], WebSocketLoad], *, admission: bool, processes: int = 1) -> None:
        everybody = Limits(max_publishers=100_000, max_listeners=100_000, max_waiting_listeners=100_000, capacity=None)
        self._serving = Serving(loading, limits=Limits() if admission else everybody, processes=processes)
        self._plan = plan
        self._processes = Processes()
        self._server: Process
        self._load: Process

    def start(self) -> None:
        """Start both processes, with nobody connected."""
        self._server = self._processes.start(serve, self._serving)
        address = self._server.receive()
        self._load = self._processes.start(generate, self._plan(address.url, address.fingerprint))
        self._load.ask("usage")

    def stop(self) -> None:
        """End both processes."""
        self._processes.stop()

    def want(self, streams: int) -> None:
        """From now on have so many publishers: they join one by one and leave at once, bringing what they said to an end."""
        self._load.send(("want", streams))

    def collect(self) -> Sample:
        """What happened since the last call."""
        sample: Sample = self._load.ask("collect")
        return sample

    def usage(self) -> dict[str, dict[str, float]]:
        """Processor seconds so far and resident memory of the server, and of the load."""
        return {"model": self._server.ask("usage"), "load": self._load.ask("usage")}
