"""What the server says about itself over plain HTTP: `/healthz`, `/readyz` and `/metrics`, on whichever port."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http import HTTPStatus

from prometheus_client.core import Metric

from streamcodec.protocol import now_us
from streamcodec.server.capacity.monitor import CapacityMonitor
from streamcodec.server.metrics import Metrics, counter_family, gauge_family
from streamcodec.server.ports.routes import HttpReply, HttpRequest, Route
from streamcodec.server.rate import TokenBucket
from streamcodec.server.registry import Registry
from streamcodec.server.watchdog import Watchdog

__all__ = ["HttpEndpoints"]


class HttpEndpoints:
    """The routes of health and figures; what is not counted is read when somebody asks for `/metrics`.

    `clock` tells seconds.
    """

    def __init__(
        self, metrics: Metrics, registry: Registry, capacity: CapacityMonitor, watchdog: Watchdog, clock: Callable[[], float]
    ) -> None:
        self._made = TokenBucket(registry.limits.metrics_made, clock)
        self._metrics = metrics
        self._registry = registry
        self._capacity = capacity
        self._watchdog = watchdog
        metrics.collect_from(self._gauges)
        metrics.collect_from(self._work)

    @property
    def health(self) -> list[Route]:
        """What either port answers."""
        return [Route("GET", "/healthz", self._healthz), Route("GET", "/readyz", self._readyz)]

    @property
    def figures(self) -> Route:
        """What tells whoever asks how the server does, and who is there."""
        return Route("GET", "/metrics", self._figures)

    @property
    def no_figures(self) -> Route:
        """What stands in the place of `figures` on a port that others reach."""
        return Route("GET", "/metrics", _elsewhere)

    async def _healthz(self, _: HttpRequest) -> HttpReply:
        return _verdict(self._watchdog.complaint)

    async def _readyz(self, _: HttpRequest) -> HttpReply:
        return _verdict(self._watchdog.complaint or ("the server is closing" if self._registry.closing else None))

    async def _figures(self, request: HttpRequest) -> HttpReply:
        text, media_type = self._metrics.render(", ".join(request.headers.get_all("Accept")), anew=self._made.takes())
        return HttpReply(HTTPStatus.OK, text, media_type)

    def _gauges(self) -> Iterator[Metric]:
        registry, now_s = self._registry, now_us() / 1e6
        admission = registry.admission
        shares = admission.shares(registry.demand)
        yield gauge_family(
            "capacity_publishers", "Live publishers of PCM that there is room for in all; 0: not known.", admission.room() or 0
        )
        load = {"engine": shares.engine, "processors": shares.processors, "interpreter": shares.interpreter}
        yield gauge_family("predicted_load_ratio", "What the streams are expected to take of the machine; 1 is all.", load, "of")
        quantiles = (0.5, 0.95, 0.99)
        waits = dict(zip(map(str, quantiles), admission.waits.quantiles(now_s, *quantiles), strict=True))
        yield gauge_family("live_wait_seconds", "What live packets of the last two seconds waited for the model.", waits, "quantile")
        lags = dict(zip(map(str, quantiles), admission.lags.quantiles(now_s, *quantiles), strict=True))
        yield gauge_family(
            "loop_lag_seconds", "How late the event loop read what came in the last two seconds, whoever kept it busy.", lags, "quantile"
        )
        yield gauge_family("newcomers_waiting", "Clients that wait for the answer to their hello.", registry.num_waiting)
        yield gauge_family("publishers", "Streams there are.", len(registry.streams))
        yield gauge_family("listeners", "Listeners there are.", registry.num_listeners)
        lag_s = max((one.lag_s(now_s) for group in registry.listeners.values() for one in group), default=0.0)
        yield gauge_family("listener_lag_seconds_max", "How far the listener that is most behind is behind.", lag_s)

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


def _verdict(complaint: str | None) -> HttpReply:
    return HttpReply(HTTPStatus.OK if complaint is None else HTTPStatus.SERVICE_UNAVAILABLE, f"{complaint or 'ok'}\n")


async def _elsewhere(_: HttpRequest) -> HttpReply:
    return HttpReply(HTTPStatus.NOT_FOUND, "The metrics are on the server's private port, if it has one.\n")
