"""`serve --processes` as whoever runs a server uses it: what is wrong is told in a line, before anything is started."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from cli_rig import fails

from streamcodec.cli import main
from streamcodec.errors import MissingDependencyError
from streamcodec.server.processes import nats_server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="several processes need Linux")


@pytest.fixture(autouse=True)
def _nats_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started here, so that it does not matter whether it is there."""
    monkeypatch.setattr(nats_server, "find_nats_server", lambda: Path("nats-server"))


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--processes", "0"], "'0' is no whole number above 0"),
        (["--processes", "2", "--max-publishers", "1"], "max_publishers is 1, expected 2 or more: each of the 2 processes has its share"),
        (["--processes", "3", "--capacity", "2"], "capacity is 2, expected 3 or more"),
        (["--processes", "1", "--replicate"], "expected --cluster URL, or --processes N"),
        (
            ["--processes", "2", "--cluster-credentials", "a.creds"],
            "cluster_credentials is for a node of a cluster",
        ),
        (["--processes", "2", "--admin-token-file", "token"], "the admin token is for the private port, expected --private-port"),
        (["--processes", "2", "--token-keys", "none.json"], "none.json"),
    ],
)
def test_processes_that_cannot_be_are_one_line(
    argv: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("a-token-that-nobody-guesses\n")
    status, line = fails(capsys, "serve", *argv)
    assert status == 2 and told in line


def test_a_port_that_somebody_has_is_not_shared_with_him(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as taken:
        port = taken.getsockname()[1]
        status, line = fails(capsys, "serve", "--processes", "2", "--port", port)
    assert status == 1 and line.startswith(f"streamcodec: cannot listen on 127.0.0.1:{port}: ") and "in use" in line


def test_without_nats_server_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def missing() -> Any:
        raise MissingDependencyError("--processes needs nats-server")

    monkeypatch.setattr(nats_server, "find_nats_server", missing)
    status, line = fails(capsys, "serve", "--processes", "2")
    assert (status, line) == (1, "streamcodec: --processes needs nats-server")


def test_it_is_a_setting_like_all_others(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("STREAMCODEC_PROCESSES", "4")
    assert main(["serve", "--print-config"]) == 0
    assert "processes = 4  # from $STREAMCODEC_PROCESSES" in capsys.readouterr().out
    assert main(["--help"]) == 0
    assert "server-process" not in capsys.readouterr().out
