"""Writes settings down as a file that can be read again. Secrets are left out, and it says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import tomli_w

from streamcodec.server.settings.model import SECRETS, Settings
from streamcodec.server.settings.reading import Origins

__all__ = ["written"]


def written(settings: Settings, origins: Origins) -> str:
    """All settings as TOML, each that is no default with where it came from. What is not set, and what is secret, is a comment."""
    lines = list(_lines(settings, origins))
    return "\n".join(lines) + "\n"


def _lines(settings: Settings, origins: Origins) -> Iterator[str]:
    for name in Settings.model_fields:
        if name != "limits":
            yield _line(name, name, getattr(settings, name), origins)
    yield ""
    yield "[limits]"
    for field in fields(settings.limits):
        value = getattr(settings.limits, field.name)
        if field.name == "capacity" and value is None:
            value = "off"
        key = f"limits.{field.name}"
        if hasattr(value, "per_s"):
            for part, one in asdict(value).items():
                yield _line(f"{field.name}.{part}", f"{key}.{part}", one, origins)
        else:
            yield _line(field.name, key, value, origins)


def _line(name: str, key: str, value: Any, origins: Origins) -> str:
    came_from = origins.of(key)
    told = "" if came_from is None else f"from {came_from}"
    if key in SECRETS and value is not None:
        return f"# {name} is secret, {told or 'as by default'}"
    if value is None:
        return f"# {name} is not set"
    text = _value(str(value.absolute()) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value)
    return f"{name} = {text}{told and f'  # {told}'}"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")
