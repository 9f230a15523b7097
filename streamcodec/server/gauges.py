"""What the server says about its present state whenever somebody asks for `/metrics`: it is read then, and counted nowhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric

from streamcodec.protocol import now_us
from streamcodec.server.capacity.monitor import CapacityMonitor
from streamcodec.server.door import Door
from streamcodec.server.metrics import PREFIX, counter_family, gauge_family
from streamcodec.server.registry import Registry
from streamcodec.server.watchdog import Watchdog

__all__ = ["Gauges"]

_QUANTILES = (0.5, 0.95, 0.99)


class Gauges:
    """The families of gauges, and of counters that are kept elsewhere, for `Metrics.collect_from`."""

    def __init__(self, registry: Registry, capacity: CapacityMonitor, watchdog: Watchdog, door: Door) -> None:
        self._registry = registry
        self._capacity = capacity
        self._watchdog = watchdog
        self._door = door
        self._process = ProcessCollector(namespace=PREFIX.rstrip("_"), registry=None)

    def families(self) -> Iterator[Metric]:
        """All of them."""
        yield from self._people()
        yield from self._queues()
        yield from self._load()
        yield from self._work()
        yield from (family for family in self._process.collect() if not family.name.endswith("cpu_seconds"))  # that is counted as work
        yield gauge_family("threads", "Threads of the process that Python knows of.", threading.active_count())

    def _people(self) -> Iterator[Metric]:
        registry = self._registry
        well = self._watchdog.complaint is None and not registry.closing
        yield gauge_family("ready", "Whether /readyz says ok.", float(well))
        yield gauge_family("connections", "Connections there are, whoever they are from.", self._door.num_connections)
        yield gauge_family("connections_max", "Connections there may be.", self._door.most)
        yield gauge_family("newcomers_waiting", "Clients that wait for the answer to their hello.", registry.newcomers.num_waiting)
        yield gauge_family("publishers", "Streams there are.", len(registry.streams))
        yield gauge_family("listeners", "Listeners there are.", registry.num_listeners)

    def _queues(self) -> Iterator[Metric]:
        registry, now = self._registry, now_us()
        listeners = [one for group in registry.listeners.values() for one in group]
        lag_s = max((one.lag_s(now / 1e6) for one in listeners), default=0.0)
        yield gauge_family("listener_lag_seconds_max", "How far the listener that is most behind is behind.", lag_s)
        heard = (*registry.streams.values(), *registry.links.values())
        ages = {
            "encode": max((stream.encode_waited_s(now) for stream in registry.streams.values()), default=0.0),
            "decode": max((one.waited_s(now) for stream in heard if (one := stream.fan_out.pcm.decoder) is not None), default=0.0),
            "listener": max((now / 1e6 - item.put_at for one in listeners if (item := one.queue.oldest_packet) is not None), default=0.0),
        }
        yield gauge_family("queue_age_seconds_max", "The age of the oldest packet that waits, of all streams and listeners.", ages, "queue")

    def _load(self) -> Iterator[Metric]:
        registry, now_s = self._registry, now_us() / 1e6
        admission = registry.admission
        shares = admission.shares(registry.demand)
        yield gauge_family(
            "capacity_publishers", "Live publishers of PCM that there is room for in all; 0: not known.", admission.room() or 0
        )
        load = {"engine": shares.engine, "processors": shares.processors, "interpreter": shares.interpreter}
        yield gauge_family("predicted_load_ratio", "What the streams are expected to take of the machine; 1 is all.", load, "of")
        waits = dict(zip(map(str, _QUANTILES), admission.waits.quantiles(now_s, *_QUANTILES), strict=True))
        yield gauge_family("live_wait_seconds", "What live packets of the last two seconds waited for the model.", waits, "quantile")
        lags = dict(zip(map(str, _QUANTILES), admission.lags.quantiles(now_s, *_QUANTILES), strict=True))
        yield gauge_family(
            "loop_lag_seconds", "How late the event loop read what came in the last two seconds, whoever kept it busy.", lags, "quantile"
        )

    def _work(self) -> Iterator[Metric]:
        work = self._capacity.work()
        yield counter_family("engine_steps", "Steps that the engine ran.", work.steps)
        yield counter_family("engine_steps_abandoned", "Steps of the engine that hung and were given up.", self._watchdog.abandoned)
        yield counter_family("engine_rows", "Packets that were encoded or decoded in these steps.", work.rows)
        yield counter_family("engine_busy_seconds", "Time inside the engine's steps.", work.busy_s)
        yield counter_family("process_cpu_seconds", "Processor time of the whole process.", work.cpu_s)
        yield counter_family(
            "beside_engine_cpu_seconds", "Processor time of the loop, and of the model's threads between steps.", work.beside_s
        )
