"""The metrics of several processes as those of one server: each sample says of which process it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

__all__ = ["OPEN_METRICS", "labelled_by_process", "rendered"]

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
"""How the processes are asked: this format says which samples belong together."""


def labelled_by_process(texts: Mapping[int, str]) -> list[Metric]:
    """The families of all processes, whose OpenMetrics `texts` are given by their numbers, with a label `process`.

    They are not summed: the sum of counters would fall when one process starts again, which Prometheus takes for a restart of all.
    Raises `ValueError` for what is no OpenMetrics.
    """
    found: dict[str, Metric] = {}
    for number, text in sorted(texts.items()):
        for family in text_string_to_metric_families(text):  # type: ignore[no-untyped-call]
            metric = found.setdefault(family.name, Metric(family.name, family.documentation, family.type, family.unit))
            metric.samples += [
                Sample(one.name, {**one.labels, "process": str(number)}, one.value, one.timestamp, one.exemplar) for one in family.samples
            ]
    return list(found.values())


def rendered(families: Iterable[Metric], accept: str) -> tuple[str, str]:
    """The text of all `families` and its media type: OpenMetrics where the header `accept` asks for it, else Prometheus' own."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(families))
    encode, media_type = choose_encoder(accept)
    return encode(registry).decode(), media_type


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        return self._families
