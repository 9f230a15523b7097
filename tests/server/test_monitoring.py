"""What `/metrics` tells beside a real stream, and that the dashboard and the alert rules ask for nothing that it does not have."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.resources
import json
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import promql_parser
import pytest
import yaml
from certificates import make_pair
from server_rig import figures, listen_hello, pcm_hello, publish_all, raw, run, serving, voice
from test_private_port import ask

from streamcodec.errors import WireCode
from streamcodec.protocol import Report
from streamcodec.server import AuthUrl, ClusterOptions, Metrics, Operations, RecordingFolder, Webhooks
from streamcodec.server.cluster.memory import MemoryBus, MemoryHub
from streamcodec.server.processes.figures import rendered
from streamcodec.server.processes.front import Front
from streamcodec.server.refusals import Bound

FOLDER = importlib.resources.files("streamcodec.server").joinpath("monitoring")
DASHBOARD = json.loads(FOLDER.joinpath("dashboard.json").read_text(encoding="utf-8"))
ALERTS = yaml.safe_load(FOLDER.joinpath("alerts.yml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
ASKED = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]] + [rule["expr"] for rule in RULES]
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the process's memory and descriptors are told on Linux")


def of_processes() -> str:
    """What is told besides by the private port of several processes."""
    processes = [SimpleNamespace(number=number, told={}, restarts=SimpleNamespace(count=0)) for number in (1, 2)]
    front = Front(SimpleNamespace(processes=processes), None, None, lambda _: None)  # type: ignore[arg-type]
    return rendered(front._families(), "")[0]


def scraped(tmp_path: Path) -> dict[str, dict[str, set[str]]]:
    """Each sample that a server with all that can be configured tells, with its labels and their values."""
    pair = make_pair(tmp_path)
    found: dict[str, dict[str, set[str]]] = {}

    async def main() -> None:
        # Neither is asked or told anything here.
        auth_url = AuthUrl("https://auth.example", time.time)
        operations = Operations(auth_url, Webhooks("https://hooks.example", f"whsec_{'A' * 40}", time.time))
        ways = {"tls_certificate": pair.certificate, "tls_key": pair.key, "recordings": RecordingFolder(tmp_path / "recordings")}
        cluster = ClusterOptions(lambda: MemoryBus(MemoryHub()))
        async with serving(private_port=0, operations=operations, cluster=cluster, **ways) as server:
            _, _, text = await ask(server, "GET", "/metrics")
            text += of_processes()
            for name, labels in re.findall(r"^(streamcodec_\w+)(?:\{(.*)\})? ", text, re.M):
                of = found.setdefault(name, {})
                for label, value in re.findall(r'(\w+)="([^"]*)"', labels):
                    of.setdefault(label, set()).add(value)

    run(main())
    return found


@ON_LINUX
def test_every_metric_label_and_value_that_is_asked_for_is_there(tmp_path: Path) -> None:
    found = scraped(tmp_path)
    named = {name for expression in ASKED for name in re.findall(r"streamcodec_\w+", expression)}
    assert len(named) > 40 and named <= found.keys(), named - found.keys()
    for expression in ASKED:
        for name, conditions in re.findall(r"(streamcodec_\w+)\{([^}]*)\}", expression):
            for label, value in re.findall(r'(\w+)=~?"([^"]*)"', conditions):
                assert label == "instance" or set(value.split("|")) <= found[name][label], expression
        for by in re.findall(r"by \(([\w, ]+)\)", expression):
            of = {label for name in re.findall(r"streamcodec_\w+", expression) for label in found[name]}
            assert set(by.split(", ")) <= of | {"instance"}, expression


@ON_LINUX
def test_every_metric_of_the_page_is_there(tmp_path: Path) -> None:
    page = importlib.resources.files("streamcodec.docs").joinpath("server.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(streamcodec_\w+)`", page))
    there = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in scraped(tmp_path)} | set(scraped(tmp_path))
    assert len(named) > 25 and named <= there, named - there


@ON_LINUX
def test_every_metric_of_a_cluster_and_of_several_processes_is_on_its_page_and_watched(tmp_path: Path) -> None:
    page = importlib.resources.files("streamcodec.docs").joinpath("cluster.md").read_text(encoding="utf-8")
    found = {re.sub(r"_created$", "_total", name) for name in scraped(tmp_path)}
    of_cluster, of_processes = ({name for name in found if name.startswith(f"streamcodec_{of}_")} for of in ("cluster", "processes"))
    assert of_cluster == set(re.findall(r"`(streamcodec_cluster_\w+)`", page)) and len(of_cluster) > 10 and len(of_processes) == 2
    watched = {name for expression in ASKED for name in re.findall(r"streamcodec_\w+", expression)}
    assert of_cluster | of_processes <= watched, (of_cluster | of_processes) - watched


@pytest.mark.parametrize("expression", ASKED)
def test_every_expression_is_one_that_prometheus_takes(expression: str) -> None:
    read = promql_parser.parse(expression.replace("$__rate_interval", "5m"))
    assert isinstance(read, promql_parser.Expr)


def test_a_rule_has_only_what_prometheus_knows_and_waits_for_a_time_that_it_understands() -> None:
    assert len({group["name"] for group in ALERTS["groups"]}) == len(ALERTS["groups"]) and ALERTS.keys() == {"groups"}
    for group in ALERTS["groups"]:
        assert group.keys() == {"name", "rules"} and re.fullmatch(r"streamcodec(-[a-z]+)?", group["name"])
    for rule in RULES:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"} and re.fullmatch(r"Streamcodec[A-Za-z]+", rule["alert"])
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
        named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) - {"instance"}
        by = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"]))))
        assert named <= by | ({"process"} if "streamcodec_processes_" in rule["expr"] else set()), rule["alert"]


def test_the_dashboard_has_a_title_a_place_and_a_unit_for_each_panel() -> None:
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in DASHBOARD["panels"]})
    assert all(panel["title"] and panel["targets"] and panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in DASHBOARD["panels"])


def test_every_alert_says_what_is_wrong_and_how_bad_it_is() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warn", "page") and "{{ $labels.instance }}" in rule["annotations"]["summary"]


def test_a_stream_shows_in_bytes_stages_and_batches() -> None:
    async def main() -> None:
        async with serving() as server, raw(server.url) as listener:
            await listener.send(listen_hello("a"))
            await listener.receive()
            ended = await publish_all(server.url, "a", voice(1, 1.0))
            while not (isinstance(message := await listener.receive(), dict) and message["type"] == "stream_end"):
                pass
            seen = await figures(server)
            assert ended.emitted == 13
            for stage in ("arrival", "queue", "engine", "delivery"):
                assert seen[f"stage_seconds_count{{stage={stage}}}"] == 13
            assert seen["engine_step_rows_count"] == seen["engine_step_seconds_count"] > 0
            assert seen["engine_step_rows_sum"] <= seen["engine_rows_total"]
            assert seen["received_bytes_total"] > 2 * 24_000 and seen["sent_bytes_total"] > 2 * 24_000
            assert seen["ready"] == 1 and seen["connections"] == 2 and seen["connections_max"] == server._door.most

    run(main())


def test_codes_that_are_passed_on_have_no_time_in_the_engine() -> None:
    metrics = Metrics()
    metrics.stepped([(1.0, 2.0), (1.0, 2.0), (2.0, 2.5), (3.0, 3.0)])
    text = metrics.render()[0]
    assert "streamcodec_engine_step_rows_count 2.0" in text and "streamcodec_engine_step_rows_sum 3.0" in text
    assert "streamcodec_engine_step_seconds_sum 1.5" in text


def test_refusals_failures_and_gaps_are_told_by_their_codes_and_reasons() -> None:
    async def main() -> None:
        async with serving() as server:
            async with raw(server.url) as client:
                await client.send(listen_hello("a", format="codes", model="another"))
                await client.last_word()
            async with raw(server.url) as client:
                await client.send(pcm_hello("b"))
                await client.receive()
                await client.send({"type": "nonsense"})
                await client.last_word()
            seen = await figures(server)
            assert seen["connections_refused_by_code_total{code=model_mismatch}"] == seen["connections_refused_total"] == 1
            assert seen["connections_failed_by_code_total{code=bad_message}"] == seen["connections_failed_total"] == 1
            for code in WireCode:
                assert f"connections_refused_by_code_total{{code={code}}}" in seen
            for bound in Bound:
                assert f"connections_limited_total{{limit={bound}}}" in seen
            server.metrics.gap("overload")
            server.metrics.gap("a publisher's own words")
            seen = await figures(server)
            assert (seen["gaps_total{reason=overload}"], seen["gaps_total{reason=other}"]) == (1, 1)

    run(main())


def test_listeners_reports_are_told_as_jitter_margin_and_underruns() -> None:
    async def main() -> None:
        async with serving() as server:
            async with raw(server.url) as client:
                await client.send(listen_hello("a"))
                await client.receive()
                for margin_ms, late_ms in ((40, 12), (0, 30), (-20, 300), (None, None)):
                    await client.send({"type": "report", "received": 0, "margin_ms": margin_ms, "late_ms": late_ms})
                await client.send({"type": "ping", "time": 1})
                while (await client.receive())["type"] != "pong":
                    pass
                seen = await figures(server)
            assert seen["listener_underruns_total"] == 2
            assert seen["listener_late_seconds_count"] == seen["listener_margin_seconds_count"] == 3
            assert seen["listener_late_seconds_bucket{le=0.03}"] == 2 and seen["listener_margin_seconds_bucket{le=0.0}"] == 2

    run(main())


@ON_LINUX
def test_the_process_tells_its_memory_descriptors_and_threads() -> None:
    async def main() -> None:
        async with serving() as server:
            seen = await figures(server)
            assert seen["process_resident_memory_bytes"] > 1 << 20
            assert 0 < seen["process_open_fds"] < seen["process_max_fds"]
            assert seen["threads"] >= 1 and seen["process_cpu_seconds_total"] > 0

    run(main())


def test_what_waits_is_told_by_its_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            client = await stack.enter_async_context(raw(server.url))
            await client.send(pcm_hello("a"))
            await client.receive()
            [stream] = server.registry.streams.values()
            monkeypatch.setattr(stream._source, "waited_s", lambda _: 1.5)
            seen = await figures(server)
            assert (seen["queue_age_seconds_max{queue=encode}"], seen["queue_age_seconds_max{queue=listener}"]) == (1.5, 0.0)
            monkeypatch.undo()
            await asyncio.sleep(0)

    run(main())


def test_reports_that_a_session_would_not_take_say_nothing() -> None:
    metrics = Metrics()
    metrics.reported(Report(received=0))
    assert "streamcodec_listener_margin_seconds_count 0.0" in metrics.render()[0]
