"""The unit and the container's recipe that the package brings: their commands are this program's, and systemd finds nothing wrong."""

from __future__ import annotations

import importlib.resources
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from streamcodec.cli.app import app as program

DEPLOY = importlib.resources.files("streamcodec.server").joinpath("deploy")
UNIT = DEPLOY.joinpath("streamcodec.service").read_text(encoding="utf-8")
RECIPE = DEPLOY.joinpath("Containerfile").read_text(encoding="utf-8")


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
