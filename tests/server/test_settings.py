"""The configuration: where a value comes from, what is refused and how it is told, and that what is written can be read again."""

from __future__ import annotations

import os
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamcodec.errors import InputError
from streamcodec.server import Limits
from streamcodec.server.rate import Rate
from streamcodec.server.settings import SECRETS, Settings, read_settings, written

NAMES = {"port": "--port", "limits.max_listeners": "--max-listeners"}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("STREAMCODEC_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "server.toml"


def complaint(flags: dict[str, Any], file: Path | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_settings(flags, file, NAMES)
    return str(caught.value)


def test_without_anything_the_defaults_hold() -> None:
    settings, origins = read_settings({})
    assert (settings.host, settings.port, settings.limits) == ("127.0.0.1", 8765, Limits())
    assert [origins.of(name) for name in Settings.model_fields] == [None] * len(Settings.model_fields)


def test_flags_come_before_the_environment_and_that_before_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('host = "::1"\nport = 1\ndevice = "x"\n[limits]\nmax_listeners = 1\nmax_publishers = 7\nresume_s = 1\n')
    monkeypatch.setenv("STREAMCODEC_PORT", "2")
    monkeypatch.setenv("STREAMCODEC_DEVICE", "y")
    monkeypatch.setenv("STREAMCODEC_LIMITS__MAX_LISTENERS", "2")
    monkeypatch.setenv("STREAMCODEC_LIMITS__RESUME_S", "2.5")
    settings, origins = read_settings({"port": 3, "limits.max_listeners": 3}, file, NAMES)
    assert (settings.port, settings.device, settings.host) == (3, "y", "::1")
    limits = settings.limits
    assert (limits.max_listeners, limits.resume_s, limits.max_publishers, limits.drain_s) == (3, 2.5, 7, Limits().drain_s)
    keys = ("port", "limits.max_listeners", "device", "limits.resume_s", "host", "limits.max_publishers", "limits.drain_s")
    assert [origins.of(key) for key in keys] == [
        "--port",
        "--max-listeners",
        "$STREAMCODEC_DEVICE",
        "$STREAMCODEC_LIMITS__RESUME_S",
        str(file),
        str(file),
        None,
    ]


def test_half_a_rate_may_be_set(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("[limits]\nnew_connections = { per_s = 3 }\nframes.burst = 9\n")
    monkeypatch.setenv("STREAMCODEC_LIMITS__NEW_CONNECTIONS__BURST", "4")
    limits = read_settings({}, file)[0].limits
    assert (limits.new_connections, limits.frames) == (Rate(3, 4), Rate(Limits().frames.per_s, 9))


def test_several_values_stand_in_a_list_or_between_commas(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('allow_host = ["a.example", "b.example"]\n')
    monkeypatch.setenv("STREAMCODEC_ALLOW_ORIGIN", "https://a.example, https://b.example")
    settings, _ = read_settings({}, file)
    assert settings.allow_host == ("a.example", "b.example")
    assert settings.allow_origin == ("https://a.example", "https://b.example")


def test_recordings_are_set_anywhere_and_sizes_have_units(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('record = "recordings"\nrecord_quota = "1.5GB"\n')
    monkeypatch.setenv("STREAMCODEC_RECORD_ROTATE", "true")
    settings, origins = read_settings({"echo": True}, file)
    assert settings.record == file.parent / "recordings"
    assert (settings.record_quota, settings.record_rotate, settings.echo) == (1_500_000_000, True, True)
    file.write_text(written(settings, origins))
    monkeypatch.delenv("STREAMCODEC_RECORD_ROTATE")
    assert dict(read_settings({}, file)[0]) == dict(settings)
    monkeypatch.setenv("STREAMCODEC_RECORD_QUOTA", "2 GiB")
    assert read_settings({}, file)[0].record_quota == 2 << 30


@pytest.mark.parametrize("said", ["off", 3, "3", "auto"])
def test_capacity_has_words_and_numbers(said: str | int) -> None:
    capacity = read_settings({"limits.capacity": said})[0].limits.capacity
    assert capacity == {"off": None, "3": 3}.get(str(said), said)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMCODEC_PUBLISH_TOKEN", "")
    assert read_settings({})[0].publish_token is None


def test_paths_in_a_file_are_relative_to_it(file: Path) -> None:
    file.write_text('token_keys_file = "keys.json"\nlisten_token_file = "/elsewhere/tokens"\n')
    settings, _ = read_settings({"publish_token_file": Path("here")}, file)
    assert settings.token_keys_file == file.parent / "keys.json"
    assert settings.listen_token_file == Path("/elsewhere/tokens")
    assert settings.publish_token_file == Path("here")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("port = 70000", "port is 70000, expected less than or equal to 65535"),
        ('port = "x"', "port is 'x', expected a valid integer"),
        ('insecure = "perhaps"', "insecure is 'perhaps', expected a valid boolean"),
        ('engine = "steam"', "engine is 'steam', expected 'auto', 'torch', 'openvino' or 'onnx'"),
        ("[limits]\nmax_listeners = 0", "limits.max_listeners is 0, expected greater than or equal to 1"),
        ("[limits]\nresume_s = -1", "limits.resume_s is -1, expected greater than or equal to 0"),
        ("[limits]\nresume_s = inf", "limits.resume_s is inf, expected a finite number"),
        ("[limits]\nhandshake_s = 0", "limits.handshake_s is 0, expected greater than 0"),
        ("[limits]\nhung_step_s = 0", "limits.hung_step_s is 0, expected greater than 0"),
        ("[limits]\nmax_load = 0", "limits.max_load is 0, expected greater than 0"),
        ("[limits]\nframes.per_s = nan", "limits.frames.per_s is nan, expected "),
        ("[limits]\nframes = 3", "limits.frames is 3, expected "),
        ('[limits]\ncapacity = "lots"', "limits.capacity is 'lots', expected auto, off or a whole number above 0"),
        ("[limits]\ncapacity = 0", "limits.capacity is 0, expected auto, off or a whole number above 0"),
        ("limits = 3", "limits is 3, expected "),
        ("prot = 1", "prot is no setting (did you mean port?)"),
        ("[limits]\nmax_listener = 1", "limits.max_listener is no setting (did you mean max_listeners?)"),
        ("[limits.frames]\nbursts = 1", "limits.frames.bursts is no setting (did you mean burst?)"),
        ('[entirely]\nother = "x"', "entirely is no setting"),
        ('"a\\u001bb" = 1', "a\\x1bb is no setting"),
        ('allow_origin = ["a"]', "allow_origin: 'a' is no origin, expected for instance https://example.org"),
        ('record_quota = "lots"', "record_quota: 'lots' is no size, expected for instance 500MB or 2GB"),
        ("record_quota = true", "record_quota: True is no size"),
        ("[limits]\nmax_echo_tests = 0", "limits.max_echo_tests is 0, expected greater than or equal to 1"),
        ("port = ", "is no TOML file: "),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_key_its_value_and_what_was_expected(file: Path, text: str, told: str) -> None:
    file.write_text(text)
    assert complaint({}, file).startswith(f"{file}: {told}")


def test_what_is_wrong_is_told_with_where_it_came_from(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("port = 1\n")
    monkeypatch.setenv("STREAMCODEC_LIMITS__DRAIN_S", "soon")
    told = complaint({"port": -1}, file)
    assert told.startswith("--port: port is -1, expected greater than or equal to 0; $STREAMCODEC_LIMITS__DRAIN_S: ")
    assert "limits.drain_s is 'soon', expected a valid number" in told


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("STREAMCODEC_PROT", "$STREAMCODEC_PROT is no setting (did you mean STREAMCODEC_PORT?)"),
        ("STREAMCODEC_LIMITS__MAX_LISTENER", "limits.max_listener is no setting (did you mean max_listeners?)"),
        ("STREAMCODEC_PORT__X", "$STREAMCODEC_PORT__X is no setting"),
    ],
)
def test_a_variable_that_means_nothing_is_refused(name: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert told in complaint({})


def test_variables_of_other_commands_are_none_of_its_business(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STREAMCODEC_TOKEN", "STREAMCODEC_CACHE", "STREAMCODEC_CONFIG", "OTHER_PORT"):
        monkeypatch.setenv(name, "x")
    assert read_settings({})[0].model_dump() == Settings.model_construct().model_dump()


def test_a_file_that_is_not_there_is_told(file: Path) -> None:
    assert complaint({}, file).startswith(f"{file}: No such file")


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_are_never_shown(name: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(f'{name} = ["hush", "hush"]\n')
    told = complaint({}, file)
    assert told == f"{file}: {name} is hidden, expected a valid string"
    file.unlink()
    monkeypatch.setenv(f"STREAMCODEC_{name.upper()}", "hush")
    settings, origins = read_settings({})
    assert getattr(settings, name).get_secret_value() == "hush"
    text = written(settings, origins)
    assert f"# {name} is secret, from $STREAMCODEC_{name.upper()}\n" in text
    assert "hush" not in text + repr(settings) + str(settings.model_dump())


WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(
    host=WORDS,
    port=st.integers(0, 65_535),
    listeners=st.integers(1, 10**6),
    seconds=st.floats(0, 1e6),
    rate=st.floats(0.001, 1e9),
    capacity=st.one_of(st.just("off"), st.integers(1, 99)),
    path=st.text("ab/ .\"'\\é\n", min_size=1, max_size=9),
)
def test_what_is_written_can_be_read_again(
    tmp_path: Path, host: str, port: int, listeners: int, seconds: float, rate: float, capacity: Any, path: str
) -> None:
    given = {"host": host, "port": port, "limits.max_listeners": listeners, "limits.resume_s": seconds, "token_keys_file": Path("/", path)}
    given |= {"limits.frames.per_s": rate, "limits.capacity": capacity, "allow_host": ("a.example", "b.example"), "insecure": True}
    settings, origins = read_settings(given, None, {"host": "--host"})
    file = tmp_path / "written\n.toml"
    file.write_text(written(settings, origins), newline="")
    again, origins = read_settings({}, file)
    assert again.model_dump() == settings.model_dump()
    file.write_text(written(again, origins), newline="")
    assert read_settings({}, file)[0].model_dump() == settings.model_dump()


def test_every_limit_can_be_set_in_the_file(file: Path) -> None:
    settings, origins = read_settings({})
    table = tomllib.loads(written(settings, origins))["limits"]
    assert list(table) == [field.name for field in fields(Limits)]
    changed = {name: "{ burst = 7 }" if isinstance(value, dict) else "7" for name, value in table.items()} | {"bound_loopback": "true"}
    lines = [f"{name} = {value}" for name, value in changed.items()]
    file.write_text("[limits]\n" + "\n".join(lines))
    limits = read_settings({}, file)[0].limits
    assert [field.name for field in fields(Limits) if getattr(limits, field.name) == getattr(Limits(), field.name)] == []
