"""Reads the settings, and knows where each came from: flags come first, then the environment, then the file, then the defaults."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, PydanticBaseSettingsSource, SettingsError

from streamcodec.errors import InputError, explain, printable, without_credentials
from streamcodec.protocol.fields import shown
from streamcodec.server.limits import Limits
from streamcodec.server.settings.model import SECRETS, Settings

__all__ = ["PREFIX", "Origins", "read_settings"]

PREFIX = "STREAMCODEC_"
_SEPARATOR = "__"
_OF_OTHERS = ("TOKEN", "CACHE", "CONFIG", "PRIVATE_URL")  # variables of this package that are no settings
_MOST_TOLD = 5

Nested = Mapping[str, Any]


@dataclass(frozen=True)
class Origins:
    """Which source gave which value, each as a tree of settings; the first one that has a key counts."""

    flags: Nested
    environment: Nested
    file: Nested
    file_name: str
    flag_names: Mapping[str, str]

    def of(self, key: str) -> str | None:
        """Where the value of `key`, as in "limits.max_listeners", came from, for people; None where it is the default."""
        if _has(self.flags, key):
            return self.flag_names.get(key, key)
        if _has(self.environment, key):
            return f"${PREFIX}{key.replace('.', _SEPARATOR).upper()}"
        return printable(self.file_name) if _has(self.file, key) else None

    def value(self, key: str) -> Any:
        """What the source said for `key`."""
        for source in (self.flags, self.environment, self.file):
            if _has(source, key):
                return _get(source, key)
        return None


def read_settings(
    flags: Mapping[str, Any], file: Path | None = None, flag_names: Mapping[str, str] | None = None
) -> tuple[Settings, Origins]:
    """The settings, from `flags` by key ("limits.max_listeners"), this process's environment and a TOML `file`, and where they came from.

    `flag_names` says what each flag is called, for errors. Paths in the file are relative to its folder. Raises `InputError`, which names
    what is wrong, where it came from and what was expected.
    """
    given: dict[str, Any] = {}
    for key, value in flags.items():
        _put(given, key, value)
    written = {} if file is None else _parse(file)
    environment: list[EnvSettingsSource] = []

    class _Read(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the variables have our prefix
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            found = EnvSettingsSource(settings_cls, env_prefix=PREFIX, env_nested_delimiter=_SEPARATOR, env_ignore_empty=True)
            environment.append(found)
            return init_settings, found, InitSettingsSource(settings_cls, written)

    _check_variables()
    try:
        settings, error = _Read(**given), None
    except SettingsError as exc:
        raise InputError(f"the environment: {printable(str(exc))}") from exc
    except ValidationError as exc:
        settings, error = None, exc
    origins = Origins(given, environment[0](), written, "" if file is None else str(file), flag_names or {})
    if settings is None:
        assert error is not None
        told = [_told(one, origins) for one in error.errors(include_url=False, include_context=False)]
        raise InputError("; ".join(dict.fromkeys(told[:_MOST_TOLD]))) from None
    return settings, origins


def _parse(file: Path) -> dict[str, Any]:
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise InputError(explain(exc)) from exc
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise InputError(f"{file}: is no TOML file: {exc}") from exc
    for name, field in Settings.model_fields.items():
        if field.annotation == Path | None and isinstance(path := found.get(name), str):
            found[name] = file.parent / path
    return found


def _check_variables() -> None:
    """Refuse what begins as our variables do and means nothing: a misspelt limit would not be noticed."""
    for name in os.environ:
        rest = name.upper().removeprefix(PREFIX)
        if rest != name.upper() and rest not in _OF_OTHERS:
            key, _, below = rest.partition(_SEPARATOR)
            known = [one.upper() for one in Settings.model_fields]
            if key not in known or (below and key != "LIMITS"):
                raise InputError(f"${printable(name)} is no setting{_meant(key, known, PREFIX)}")


def _told(error: ErrorDetails, origins: Origins) -> str:
    key, unknown = _split(error["loc"])
    if unknown is not None and error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{origins.of(unknown)}: {printable(unknown)} is no setting{_meant(unknown.rpartition('.')[2], _names(key), '')}"
    source = origins.of(key)
    if error["type"] == "value_error":
        return f"{source}: {key}: {error['msg'].removeprefix('Value error, ')}"
    value = "hidden" if key in SECRETS else shown(without_credentials(origins.value(key)))
    return f"{source}: {key} is {value}, expected {_expected(key, error)}"


def _expected(key: str, error: ErrorDetails) -> str:
    if key == "limits.capacity":
        return "auto, off or a whole number above 0"
    for lead in ("Input should be ", "Field required"):
        if error["msg"].startswith(lead):
            return error["msg"].removeprefix(lead) or "a value"
    return error["msg"][:1].lower() + error["msg"][1:]


def _split(loc: tuple[int | str, ...]) -> tuple[str, str | None]:
    """The setting, or the table, that an error is about, and the key in it that is unknown: pydantic also tells what it tried there."""
    key = ""
    for part in map(str, loc):
        below = f"{key}.{part}" if key else part
        if part not in _names(key):
            return key, below
        key = below
    return key, None


def _names(table: str) -> list[str]:
    """The keys that may stand in a table, "" for that of all settings; none where it is a setting and no table."""
    if not table:
        return list(Settings.model_fields)
    first, *below = table.split(".")
    value: Any = Limits() if first == "limits" else None
    for part in below:
        value = getattr(value, part, None)
    return [field.name for field in fields(value)] if is_dataclass(value) else []


def _meant(name: str, names: Sequence[str], prefix: str) -> str:
    close = difflib.get_close_matches(name, names, 1)
    return f" (did you mean {prefix}{close[0]}?)" if close else ""


def _has(tree: Nested, key: str) -> bool:
    for part in key.split("."):
        if not isinstance(tree, Mapping) or part not in tree:
            return False
        tree = tree[part]
    return True


def _get(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree[part]
    return tree


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    *above, last = key.split(".")
    for part in above:
        tree = tree.setdefault(part, {})
    tree[last] = value
