"""What the server counts and times, and how Prometheus reads it; nothing here decides anything.

Each server has its own Prometheus registry. Events are counted in plain attributes, as the loop counts for every packet; they become
Prometheus' counters when somebody reads `/metrics`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

__all__ = ["Metrics", "PacketTrace", "counter_family", "gauge_family"]

_PREFIX = "streamcodec_"
_WAIT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.25, 0.5, 1.0, 2.5)


@dataclass(frozen=True, slots=True)
class PacketTrace:
    """One packet's times inside the server, all on its clock in microseconds.

    `captured` is when its last sample was captured, `received` when the message that completed it arrived, `started` and `done` bound the
    encoder's step, `emitted` is when it was queued for the listeners. For relayed codes the middle ones are equal.
    """

    stream: str
    seq: int
    captured: int
    received: int
    started: int
    done: int
    emitted: int


def _counter(help: str, name: str | None = None, **labels: str) -> int:
    """A count from 0: its help text, its family's name where that is not the attribute's, and its labels there."""
    count: int = field(default=0, metadata={"help": help, "name": name, "labels": labels})
    return count


def _dropped(reason: str) -> int:
    return _counter("Packets that the server dropped, by reason.", "packets_dropped", reason=reason)


@dataclass(eq=False)
class Metrics:
    """One server's counters since its start, a histogram of what packets waited, and a hook that sees every packet."""

    publishers_accepted: int = _counter("Publishers that were let in, without those that resumed.")
    listeners_accepted: int = _counter("Listeners that were let in.")
    publishers_resumed: int = _counter("Publishers that went on with their stream on another connection.")
    listeners_resumed: int = _counter("Listeners that went on without a break on another connection.")
    refused: int = _counter("Connections that were refused before they had a welcome.", "connections_refused")
    refused_for_capacity: int = _counter("Those of the refused that the machine had no room for.", "connections_refused_for_capacity")
    failed: int = _counter("Connections that ended in an error after their welcome.", "connections_failed")
    packets_received: int = _counter("Packets that came from publishers.")
    packets_emitted: int = _counter("Packets of codes that went out, each once however many listen.")
    packets_quiet: int = _counter("Those of the emitted packets that stand for silence.")
    packets_sent: int = _counter("Packets that were sent to listeners.")
    packets_thinned: int = _counter("Packets that were not sent to a listener because they stand for silence.")
    packets_dropped_overload: int = _dropped("overload")
    packets_dropped_decoder: int = _dropped("decoder")
    packets_dropped_listener: int = _dropped("slow_listener")
    packets_dropped_closing: int = _dropped("closing")
    bandwidth_steps_down: int = _counter("How often a listener that fell behind was given fewer codebooks.")
    epochs: int = _counter("Encoders that started afresh in the middle of a stream.")
    on_trace: Callable[[PacketTrace], None] | None = None

    def __post_init__(self) -> None:
        self.registry = CollectorRegistry()
        self._last: dict[str, str] = {}  # by media type, of which there are few
        self._waits = Histogram(
            "encode_wait_seconds",
            "From the arrival of the message that completed a packet until its codes were queued for the listeners.",
            namespace=_PREFIX.rstrip("_"),
            buckets=_WAIT_BUCKETS_S,
            registry=self.registry,
        )
        self.collect_from(self._families)

    @property
    def hellos(self) -> int:
        """Clients that were answered."""
        accepted = self.publishers_accepted + self.publishers_resumed + self.listeners_accepted
        return accepted + self.refused

    def collect_from(self, families: Callable[[], Iterable[Metric]]) -> None:
        """Let `families` say more whenever somebody reads."""
        self.registry.register(_Collected(families))

    def waited(self, seconds: float) -> None:
        """A packet was queued for the listeners so long after the message that completed it had arrived."""
        self._waits.observe(seconds)

    def listener_dropped(self, packets: int) -> None:
        """A listener is too slow for so many packets."""
        self.packets_dropped_listener += packets

    def listener_thinned(self, packets: int) -> None:
        """So many packets of silence were left out for a listener."""
        self.packets_thinned += packets

    def listener_stepped_down(self) -> None:
        """A listener is given fewer codebooks, as it falls behind."""
        self.bandwidth_steps_down += 1

    def render(self, accept: str = "", *, anew: bool = True) -> tuple[str, str]:
        """All figures and the media type they are in: OpenMetrics where the header `accept` asks for it, else Prometheus' own.

        Unless they are to be made `anew`, these are the ones that were made last in that type, if any were.
        """
        encode, media_type = choose_encoder(accept)
        if anew or media_type not in self._last:
            self._last[media_type] = encode(self.registry).decode()
        return self._last[media_type], media_type

    def _families(self) -> Iterable[Metric]:
        families: dict[str, CounterMetricFamily] = {}
        for one in fields(self):
            if "help" in one.metadata:
                name, labels = one.metadata["name"] or one.name, one.metadata["labels"]
                if name not in families:
                    families[name] = CounterMetricFamily(_PREFIX + name, one.metadata["help"], labels=list(labels))
                families[name].add_metric(list(labels.values()), getattr(self, one.name))
        return families.values()


def counter_family(name: str, help: str, value: float | dict[str, float], label: str = "") -> Metric:
    """One of this package's counters, for `Metrics.collect_from`; "_total" is added to its name, `label` names each of several values."""
    if not isinstance(value, dict):
        return CounterMetricFamily(_PREFIX + name, help, value=value)
    return _labelled(CounterMetricFamily(_PREFIX + name, help, labels=[label]), value)


def gauge_family(name: str, help: str, value: float | dict[str, float], label: str = "") -> Metric:
    """One of this package's gauges, for `Metrics.collect_from`; the label `label` names each of several values."""
    if not isinstance(value, dict):
        return GaugeMetricFamily(_PREFIX + name, help, value=value)
    return _labelled(GaugeMetricFamily(_PREFIX + name, help, labels=[label]), value)


def _labelled(family: CounterMetricFamily | GaugeMetricFamily, values: dict[str, float]) -> Metric:
    for which, one in values.items():
        family.add_metric([which], one)
    return family


class _Collected(Collector):
    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()
