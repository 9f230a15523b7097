"""`serve` as it is configured: its flags, its file, what it prints, and the page that lists all of it."""

from __future__ import annotations

import ast
import importlib.resources
import inspect
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
import typer.main
from cli_rig import fails

from streamcodec.cli import main
from streamcodec.cli.app import app
from streamcodec.cli.serve import OTHER_NAMES
from streamcodec.server import Limits, limits
from streamcodec.server.rate import Rate
from streamcodec.server.settings import SECRETS, Settings, read_settings

PAGE = importlib.resources.files("streamcodec.docs").joinpath("server.md").read_text(encoding="utf-8")
FLAGS = {param.name: param for param in typer.main.get_command(app).commands["serve"].params}  # type: ignore[attr-defined]


def test_every_setting_but_secrets_has_a_flag_and_every_flag_is_a_setting() -> None:
    settings = set(Settings.model_fields) - {"limits", *SECRETS}
    assert set(FLAGS) - set(OTHER_NAMES) - {"config", "print_config", "help"} == settings
    assert {key.removeprefix("limits.") for key in OTHER_NAMES.values()} <= {field.name for field in fields(Limits)}


def test_the_help_tells_the_settings_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    for said in ("--port PORT The port; 0 takes any free one. [default: 8765]", "of one address, but for this machine. [default: 64]"):
        assert said in told


@pytest.mark.usefixtures("here")
def test_the_effective_configuration_is_printed_and_can_be_read_again(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Any) -> None:
    (tmp_path / "server.toml").write_text('host = "::1"\nport = 1\nallow_host = ["a.example"]\npage = false\n')
    monkeypatch.setenv("STREAMCODEC_LISTEN_TOKEN", "hush")
    monkeypatch.setenv("STREAMCODEC_LIMITS__DRAIN_S", "9")
    flags = ["--port", "0", "--capacity", "off", "--page", "--max-per-address", "5", "--token-keys", "keys.json", "--insecure"]
    assert main(["serve", "--config", "server.toml", *flags, "--print-config"]) == 0
    told = capsys.readouterr().out
    for line in (
        'host = "::1"  # from server.toml',
        "port = 0  # from --port",
        "# listen_token is secret, from $STREAMCODEC_LISTEN_TOKEN",
        "page = true  # from --page",
        "insecure = true  # from --insecure",
        f'token_keys_file = "{tmp_path / "keys.json"}"  # from --token-keys-file',
        'capacity = "off"  # from --capacity',
        "max_connections_per_address = 5  # from --max-per-address",
        "drain_s = 9.0  # from $STREAMCODEC_LIMITS__DRAIN_S",
        "# private_port is not set",
        "verbose = false",
    ):
        assert f"\n{line}\n" in f"\n{told}", line
    assert "hush" not in told
    (tmp_path / "again.toml").write_text(told)
    monkeypatch.setenv("STREAMCODEC_CONFIG", "again.toml")
    assert main(["serve", "--print-config"]) == 0
    values = [line.partition("  # ")[0] for line in told.splitlines()]
    assert [line.partition("  # ")[0] for line in capsys.readouterr().out.splitlines()] == values


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("port = -1", "server.toml: port is -1, expected greater than or equal to 0"),
        ("[limits]\nmax_publisher = 1", "server.toml: limits.max_publisher is no setting (did you mean max_publishers?)"),
        ('host = "0.0.0.0"', "everybody who reaches 0.0.0.0 could publish and listen without a token"),
    ],
)
def test_a_configuration_that_is_wrong_is_one_line(text: str, told: str, tmp_path: Any, capsys: Any) -> None:
    (tmp_path / "server.toml").write_text(text)
    status, line = fails(capsys, "serve", "--config", "server.toml")
    assert status == 2 and told in line


# The page -----------------------------------------------------------------------------------------------------------------------------


def comments() -> Iterator[tuple[str, str]]:
    """Each limit with the comment beside it, or above it."""
    source = inspect.getsource(limits.Limits)
    waiting: list[str] = []
    by_line: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            by_line[token.start[0]] = token.string.removeprefix("# ")
    [definition] = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    above = definition.lineno
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            waiting = [by_line[line] for line in range(above + 1, node.lineno + 1) if line in by_line]
            yield node.target.id, " ".join(waiting)
        above = node.end_lineno or node.lineno


def told(value: Any) -> str:
    if isinstance(value, Rate):
        return f"{value.per_s:,.10g} a second and {value.burst:,.10g} at once"
    if value is None or value == ():
        return "-"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"`{value}`"


def settings_table() -> str:
    defaults = Settings.model_construct()
    lines = ["| setting | flag | default | what it does |", "|---|---|---|---|"]
    for name in Settings.model_fields:
        if name in FLAGS:
            param = FLAGS[name]
            flag = "/".join([min(param.opts, key=len), *param.secondary_opts])
            lines.append(f"| `{name}` | `{flag}` | {told(getattr(defaults, name))} | {param.help} |")
        elif name in SECRETS:
            lines.append(f"| `{name}` | none, as it is secret | - | What `{name}_file` names a file for. |")
    return "\n".join(lines)


def limits_table() -> str:
    flags = {key.removeprefix("limits."): f"`--{name.replace('_', '-')}`" for name, key in OTHER_NAMES.items()}
    lines = ["| limit | flag | default | what it bounds, and what happens beyond it |", "|---|---|---|---|"]
    for name, comment in comments():
        if name in {field.name for field in fields(Limits)}:
            lines.append(f"| `{name}` | {flags.get(name, '-')} | {told(getattr(Limits(), name))} | {comment[:1].upper()}{comment[1:]} |")
    return "\n".join(lines)


@pytest.mark.parametrize("table", [settings_table(), limits_table()], ids=["settings", "limits"])
def test_the_page_lists_all_settings_as_they_are(table: str) -> None:
    assert table in PAGE, f"server.md must have this table:\n{table}"


def test_every_limit_says_what_it_bounds() -> None:
    found = dict(comments())
    assert all(found[field.name] for field in fields(Limits))


@pytest.mark.usefixtures("here")
def test_the_pages_example_is_a_configuration(tmp_path: Any) -> None:
    [example] = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    (tmp_path / "server.toml").write_text(example)
    settings, origins = read_settings({}, tmp_path / "server.toml")
    assert settings.token_keys_file == tmp_path / "keys.json" and origins.of("limits.max_listeners") is not None
