"""What is counted comes out as text that a Prometheus server reads, every digit of it, and each server counts for itself."""

from patience import pass_time
from prometheus_client import REGISTRY
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from server_rig import figures, run, samples, serving, small_limits

from streamcodec.server import Metrics
from streamcodec.server.metrics import counter_family, gauge_family
from streamcodec.server.rate import Rate


def test_every_counter_is_there_from_the_start():
    values = samples(Metrics().render()[0])
    assert {"publishers_accepted_total", "packets_emitted_total", "packets_quiet_total", "epochs_total"} <= values.keys()
    assert {f"packets_dropped_total{{reason={reason}}}" for reason in ("overload", "decoder", "slow_listener", "closing")} <= values.keys()
    assert {value for name, value in values.items() if "_created" not in name} == {0.0}


def test_counters_and_gauges_are_written_without_rounding():
    metrics = Metrics(packets_sent=123_456_789)
    metrics.collect_from(lambda: [gauge_family("listeners", "Listeners.", 3), counter_family("busy_seconds", "Time.", 1234567.25)])
    values = samples(metrics.render()[0])
    assert (values["packets_sent_total"], values["listeners"], values["busy_seconds_total"]) == (123_456_789, 3, 1234567.25)


def test_several_values_of_a_gauge_are_told_apart_by_a_label():
    metrics = Metrics()
    metrics.collect_from(lambda: [gauge_family("wait_seconds", "Waits.", {"0.5": 0.25, "0.99": 0.5}, "quantile")])
    values = samples(metrics.render()[0])
    assert (values["wait_seconds{quantile=0.5}"], values["wait_seconds{quantile=0.99}"]) == (0.25, 0.5)


def test_waits_are_a_histogram_in_seconds():
    metrics = Metrics()
    for wait_ms in (1, 9, 25, 25, 3_000):
        metrics.waited(wait_ms / 1_000)
    values = samples(metrics.render()[0])
    assert values["encode_wait_seconds_bucket{le=0.001}"] == 1
    assert values["encode_wait_seconds_bucket{le=0.01}"] == 2
    assert values["encode_wait_seconds_bucket{le=0.03}"] == 4
    assert values["encode_wait_seconds_bucket{le=2.5}"] == 4
    assert values["encode_wait_seconds_bucket{le=+Inf}"] == values["encode_wait_seconds_count"] == 5
    assert values["encode_wait_seconds_sum"] == 3.06


def test_two_servers_in_one_program_count_for_themselves():
    one, other = Metrics(packets_sent=1), Metrics(packets_sent=2)
    one.waited(0.001)
    assert samples(one.render()[0])["packets_sent_total"] == 1
    values = samples(other.render()[0])
    assert (values["packets_sent_total"], values["encode_wait_seconds_count"]) == (2, 0)
    assert not [family for family in REGISTRY.collect() if family.name.startswith("streamcodec")]


def test_a_client_that_asks_for_openmetrics_gets_it():
    metrics = Metrics(packets_sent=7)
    text, media_type = metrics.render("application/openmetrics-text; version=1.0.0, text/plain; q=0.5")
    assert media_type.startswith("application/openmetrics-text; version=1.0.0")
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert found["streamcodec_packets_sent"].samples[0].value == 7
    assert metrics.render("text/html")[1].startswith("text/plain; version=0.0.4")


def test_metrics_that_are_asked_for_too_often_are_not_made_anew():
    async def main():
        async with serving(limits=small_limits(metrics_made=Rate(0.01, 2))) as server:
            seen = []
            for _ in range(5):
                server.metrics.packets_sent += 1
                seen.append((await figures(server))["packets_sent_total"])
            assert seen == [1, 2, 2, 2, 2]
            await pass_time(101)
            assert (await figures(server))["packets_sent_total"] == 5

    run(main())
