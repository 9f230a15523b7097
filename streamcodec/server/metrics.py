"""What the server counts and times, and how Prometheus reads it; nothing here decides anything.

Each server has its own Prometheus registry. Events are counted in plain attributes, as the loop counts for every packet; they become
Prometheus' counters when somebody reads `/metrics`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from streamcodec.errors import WireCode
from streamcodec.protocol import Report

__all__ = ["PREFIX", "Metrics", "PacketTrace", "counter_family", "gauge_family"]

PREFIX = "streamcodec_"
_STAGES = ("arrival", "queue", "engine", "delivery")
_GAPS = ("overload", "uplink", "publisher", "silence", "internal", "closing", "slow_listener", "source", "link")
_ROWS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_LATE_BUCKETS_S = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.5, 1.0)
_MARGIN_BUCKETS_S = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.3, 0.6, 1.2)
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
    received_bytes: int = _counter("Bytes that clients sent over WebSockets, their handshakes included; those of TLS are not counted.")
    sent_bytes: int = _counter("Bytes of messages that clients were sent over WebSockets, in their frames.")
    underruns: int = _counter(
        "Reports of listeners whose playout buffer was empty, so that a packet came too late to be played in time.", "listener_underruns"
    )
    epochs: int = _counter("Encoders that started afresh in the middle of a stream.")
    on_trace: Callable[[PacketTrace], None] | None = None

    def __post_init__(self) -> None:
        self.registry = CollectorRegistry()
        self._last: dict[str, str] = {}  # by media type, of which there are few
        self.refused_by_code: Counter[WireCode] = Counter()
        self.failed_by_code: Counter[WireCode] = Counter()
        self._gaps = dict.fromkeys([*_GAPS, "other"], 0.0)
        self._waits = self._histogram(
            "encode_wait_seconds",
            "From the arrival of the message that completed a packet until its codes were queued for the listeners.",
            _WAIT_BUCKETS_S,
        )
        stages = self._histogram(
            "stage_seconds",
            "How long a packet took: from its last sample's capture to its arrival, in the model's queue, in the engine's step, and from "
            "there to its listeners' queues.",
            _WAIT_BUCKETS_S,
            "stage",
        )
        self._stages = {stage: stages.labels(stage) for stage in _STAGES}
        self._rows = self._histogram("engine_step_rows", "Packets that one step of the engine encoded or decoded together.", _ROWS)
        self._steps = self._histogram("engine_step_seconds", "How long a step of the engine took.", _WAIT_BUCKETS_S)
        self._late = self._histogram(
            "listener_late_seconds", "How late packets come, as listeners' playout buffers report it: their jitter.", _LATE_BUCKETS_S
        )
        self._margin = self._histogram(
            "listener_margin_seconds",
            "How much later a packet could come and still be played in time, as listeners report it; 0 where it came too late.",
            _MARGIN_BUCKETS_S,
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

    def came(self, stage: str, seconds: float) -> None:
        """A packet came through one stage of its way."""
        self._stages[stage].observe(seconds)

    def stepped(self, results: Sequence[tuple[float, float]]) -> None:
        """Rows came out of the engine, each with when its step began and was done (s); rows of one step have the same times."""
        for (started, done), rows in Counter(results).items():
            if done > started:
                self._rows.observe(rows)
                self._steps.observe(done - started)

    def gap(self, reason: str) -> None:
        """A gap goes to a stream's listeners; the reason may be a publisher's own words, which are not counted one by one."""
        self._gaps[reason if reason in self._gaps else "other"] += 1

    def reported(self, report: Report) -> None:
        """A listener says how it fares."""
        if report.late_ms is not None:
            self._late.observe(report.late_ms / 1000)
        if report.margin_ms is not None:
            self._margin.observe(max(0.0, report.margin_ms / 1000))
            self.underruns += report.margin_ms <= 0

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
                    families[name] = CounterMetricFamily(PREFIX + name, one.metadata["help"], labels=list(labels))
                families[name].add_metric(list(labels.values()), getattr(self, one.name))
        yield from families.values()
        told = ("Connections that were refused before they had a welcome, by the code that they got.", self.refused_by_code)
        yield counter_family("connections_refused_by_code", told[0], _by_code(told[1]), "code")
        told = ("Connections that ended in an error after their welcome, by its code.", self.failed_by_code)
        yield counter_family("connections_failed_by_code", told[0], _by_code(told[1]), "code")
        yield counter_family("gaps", "Gaps that streams told their listeners of, by reason.", self._gaps, "reason")

    def _histogram(self, name: str, help: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(name, help, labels, namespace=PREFIX.rstrip("_"), buckets=buckets, registry=self.registry)


def _by_code(counts: Mapping[WireCode, int]) -> dict[str, float]:
    return {code.value: float(counts.get(code, 0)) for code in WireCode}


def counter_family(name: str, help: str, value: float | dict[str, float], label: str = "") -> Metric:
    """One of this package's counters, for `Metrics.collect_from`; "_total" is added to its name, `label` names each of several values."""
    if not isinstance(value, dict):
        return CounterMetricFamily(PREFIX + name, help, value=value)
    return _labelled(CounterMetricFamily(PREFIX + name, help, labels=[label]), value)


def gauge_family(name: str, help: str, value: float | dict[str, float], label: str = "") -> Metric:
    """One of this package's gauges, for `Metrics.collect_from`; the label `label` names each of several values."""
    if not isinstance(value, dict):
        return GaugeMetricFamily(PREFIX + name, help, value=value)
    return _labelled(GaugeMetricFamily(PREFIX + name, help, labels=[label]), value)


def _labelled(family: CounterMetricFamily | GaugeMetricFamily, values: dict[str, float]) -> Metric:
    for which, one in values.items():
        family.add_metric([which], one)
    return family


class _Collected(Collector):
    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()
