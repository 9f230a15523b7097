"""`serve --cluster` as whoever runs a node uses it: what is wrong is told in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_rig import fails

from streamcodec.cli import main


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--replicate"], "expected --cluster URL"),
        (["--cluster-address", "wss://a.example.org"], "expected --cluster URL"),
        (["--cluster", "http://127.0.0.1"], "names no server of NATS, expected nats://HOST:PORT or tls://HOST:PORT"),
        (["--cluster", "nats://user:secret@127.0.0.1"], "expected a file of them: cluster_credentials"),
        (["--cluster", "nats://127.0.0.1", "--cluster-name", "a b"], "expected 1 to 128 of A-Z a-z 0-9 _ -"),
        (["--cluster", "nats://127.0.0.1", "--cluster-address", "voice.example.org"], "is no address of a server"),
        (
            ["--cluster", "nats://127.0.0.1", "--cluster-credentials", "no.creds"],
            "cluster_credentials: no.creds: No such file",
        ),
        (["--cluster-tls-ca", "ca.pem"], "cluster_tls_ca is for a node of a cluster: expected --cluster URL"),
        (["--cluster-replicas", "3"], "cluster_replicas is for a node of a cluster: expected --cluster URL"),
        (["--cluster-domain", "hub"], "cluster_domain is for a node of a cluster: expected --cluster URL"),
        (["--cluster-tls-key", "a.key"], "cluster_tls_key is for a node of a cluster: expected --cluster URL"),
        (["--cluster", "tls://127.0.0.1", "--cluster-tls-ca", "ca.pem"], "cluster_tls_ca: ca.pem: No such file or directory"),
        (["--cluster", "tls://127.0.0.1", "--cluster-tls-certificate", "a.pem"], "is given alone, expected cluster_tls_key with it"),
        (["--cluster", "nats://127.0.0.1", "--cluster-address", "wss://user:secret@a.example.org"], "which every client would be told"),
        (["--cluster", "nats://127.0.0.1", "--cluster-address", "user:secret@a.example.org"], "'***@a.example.org' is no address"),
    ],
)
def test_a_cluster_that_cannot_be_is_one_line(argv: list[str], told: str, capsys: Any) -> None:
    status, line = fails(capsys, "serve", *argv)
    assert status == 2 and told in line and "secret@" not in line


def test_settings_of_a_cluster_are_read_and_written_as_all_others(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMCODEC_CLUSTER", "nats://10.0.0.5:4222, nats://10.0.0.6:4222")
    assert main(["serve", "--print-config", "--cluster-name", "voices", "--replicate"]) == 0
    told = capsys.readouterr().out
    assert "nats://10.0.0.5:4222" in told and "nats://10.0.0.6:4222" in told and "from $STREAMCODEC_CLUSTER" in told
    assert 'cluster_name = "voices"  # from --cluster-name' in told and "replicate = true  # from --replicate" in told


@pytest.mark.parametrize(
    "text",
    ['cluster = ["nats://user:secret@host", 5]', 'cluster = { url = "nats://secret@host" }', 'webhook = ["https://user:secret@host"]'],
)
def test_a_url_of_the_wrong_type_is_told_without_its_credentials(text: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "server.toml").write_text(text)
    status, line = fails(capsys, "serve", "--config", tmp_path / "server.toml", "--print-config")
    assert status == 2 and "//***@host" in line and "secret" not in line
