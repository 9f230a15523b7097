"""The page on threats names tests that exist, and its figures are the code's."""

from __future__ import annotations

import ast
import importlib.resources
import re
from pathlib import Path

import pytest

from streamcodec.protocol.unpacking import MAX_CONTROL_BYTES
from streamcodec.server import Limits
from streamcodec.server.door import RESERVED_DESCRIPTORS
from streamcodec.server.ports.private import MAX_CONNECTIONS, REQUEST_S
from streamcodec.server.ports.public import HANDSHAKE_S, PING_EVERY_S
from streamcodec.server.ports.routes import MAX_BODY_BYTES
from streamcodec.server.refusals import TELL_EVERY_S
from streamcodec.server.websocket import FAREWELL_S

ROOT = Path(__file__).parents[2]
PAGE = importlib.resources.files("streamcodec.docs").joinpath("threat_model.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
THREATS = [row for row in ROWS if len(row) == 3 and "tests/" in row[2]]


@pytest.mark.parametrize("row", THREATS, ids=[row[0] for row in THREATS])
def test_every_threat_has_a_bound_and_a_test_that_exists(row: list[str]) -> None:
    what, bound, tests = row
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", tests)
    assert what and bound and named, row
    for path, name in named:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert name in defined, f"{path} has no {name}"


def test_no_row_on_a_threat_is_without_a_test() -> None:
    rows = [row for row in ROWS if len(row) == 3 and row[0] not in ("what", "who")]
    people = PAGE.split("## Who")[1].split("## ")[0]
    assert len(THREATS) == len(rows) - people.count("\n| a ") > 5


@pytest.mark.parametrize("name", re.findall(r"`(\w+)`: ", PAGE))
def test_a_bound_that_is_named_is_a_limit_of_the_server(name: str) -> None:
    assert hasattr(Limits(), name), name


def test_the_figures_of_the_page_are_those_of_the_code() -> None:
    limits = Limits()
    assert f"{limits.control_frames.per_s:g} a second and {limits.control_frames.burst:g} at once" in PAGE
    assert f"{limits.frames.per_s:,} a second and {limits.frames.burst:g} at once" in PAGE
    assert f"{limits.metrics_made.per_s:g} a second and {limits.metrics_made.burst:g} at once are made anew" in PAGE
    assert f"it is dropped after {FAREWELL_S:g} s" in PAGE
    mib = 1 << 20
    assert f"{limits.incoming_bytes.per_s / mib:g} MiB a second and {limits.incoming_bytes.burst / mib:g} MiB at once" in PAGE
    assert (
        f"takes nothing for {2 * PING_EVERY_S:g} s is dropped, so at most {2 * PING_EVERY_S * limits.control_frames.per_s:g} answers"
        in PAGE
    )
    for name in ("max_connections_per_address", "max_other_connections", "max_waiting_listeners", "max_publishers_per_address"):
        assert f"`{name}`: {getattr(limits, name)}" in PAGE
    assert f"`first_packet_s`: {limits.first_packet_s:g} s, later `silent_s`: {limits.silent_s:g} s" in PAGE
    assert f"`new_connections`: {limits.new_connections.per_s:g} a second and {limits.new_connections.burst:g} at once" in PAGE
    assert f"`accepted`: {limits.accepted.per_s:g} a second and {limits.accepted.burst:g} at once" in PAGE
    assert f"`handshakes`: {limits.handshakes.per_s:g} a second in all and {limits.handshakes.burst:g} at once" in PAGE
    assert f"who has waited for {HANDSHAKE_S:g} s gets" in PAGE and f"no whole request after {HANDSHAKE_S:g} s is dropped" in PAGE
    guesses = limits.refused_tokens
    assert f"`refused_tokens`: {guesses.burst:g} at once and one every {1 / guesses.per_s:g} s" in PAGE
    assert f"the last {RESERVED_DESCRIPTORS} are kept" in PAGE
    assert "told once a minute" in PAGE and TELL_EVERY_S == 60
    assert f"{MAX_BODY_BYTES >> 10} KiB of a head and of a body, {REQUEST_S:g} s for each half" in PAGE
    assert f"{MAX_CONNECTIONS} at a time" in PAGE and 2 * MAX_CONNECTIONS < RESERVED_DESCRIPTORS
    assert f"a message beyond {MAX_CONTROL_BYTES >> 10} KiB" in PAGE
