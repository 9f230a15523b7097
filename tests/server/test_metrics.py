"""What is counted comes out as text that a Prometheus server reads, every digit of it."""

import re

from streamcodec.server import Metrics, PacketTrace

LINE = re.compile(r'streamcodec_([a-z_]+)(\{quantile="0\.\d+"\})? (-?[0-9.]+(?:e[+-]?\d+)?)')


def parsed(text):
    assert text.endswith("\n")
    matches = [LINE.fullmatch(line) for line in text.splitlines()]
    assert all(matches), text
    values = {match[1] + (match[2] or ""): float(match[3]) for match in matches}
    assert len(values) == len(matches), "a name occurs twice"
    return values


def trace(seq, wait_us):
    return PacketTrace("alice", seq, captured=0, received=1_000, started=1_100, done=1_200, emitted=1_000 + wait_us)


def test_every_counter_is_there_from_the_start_and_no_percentile_of_nothing():
    values = parsed(Metrics().render({}))
    assert {"publishers_accepted_total", "packets_emitted_total", "packets_quiet_total", "epochs_total"} <= values.keys()
    assert set(values.values()) == {0.0}
    assert not any("quantile" in name for name in values)


def test_counters_and_gauges_keep_every_digit():
    metrics = Metrics(packets_sent=123_456_789)
    text = metrics.render({"listeners": 3, "engine_busy_seconds_total": 1234567.25})
    assert "streamcodec_packets_sent_total 123456789\n" in text
    assert parsed(text)["engine_busy_seconds_total"] == 1234567.25


def test_percentiles_are_of_the_waits_in_milliseconds():
    metrics = Metrics()
    for i in range(100):
        metrics.trace(trace(i, 1_000 * (i + 1)))
    values = parsed(metrics.render({}))
    assert values['encode_wait_ms{quantile="0.5"}'] == 51.0
    assert values['encode_wait_ms{quantile="0.99"}'] == 100.0


def test_the_window_is_bounded_and_a_hook_sees_every_packet():
    seen = []
    metrics = Metrics(on_trace=seen.append)
    for i in range(5_000):
        metrics.trace(trace(i, 9_000 if i < 2_000 else 1_000))
    assert [t.seq for t in seen] == list(range(5_000))
    assert parsed(metrics.render({}))['encode_wait_ms{quantile="0.99"}'] == 1.0
