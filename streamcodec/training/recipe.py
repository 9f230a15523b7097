"""A recipe is a file: the model to begin with, and the stages that make another of it, in order, each with all its numbers.

base = "speech-24k@6e4dfc35667801a34f1cc3f235132847"    # a model, and the fingerprint that it must have; or a table [model] instead

[[stages]]
kind = "adversarial"
steps = 40000
losses = { mel = 1.0, features = 3.0, adversarial = 3.0 }
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from streamcodec.config import CodecConfig
from streamcodec.errors import InputError
from streamcodec.training.stages.kinds import KINDS

__all__ = ["EMBEDDED", "Recipe", "Stage", "load_recipe", "shipped_recipes"]

EMBEDDED = CodecConfig(num_filters=16, pad_mode="constant", use_conv_shortcut=False, search_beam=4)
"""The embedded model's architecture: 342 MMAC per second of audio each way, and to search its codebooks 285 at 6 kbps."""


@dataclass(frozen=True)
class Stage:
    """One stage: its kind, a key of `KINDS`, and its settings, an instance of that kind's dataclass."""

    kind: str
    settings: Any

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {"kind": self.kind, **asdict(self.settings)}


@dataclass(frozen=True)
class Recipe:
    """Stages in order; `base` is the model to begin with, and `fingerprint` what it must have; without one, `config` is the model's."""

    name: str
    base: str | None
    fingerprint: str | None
    config: CodecConfig
    stages: tuple[Stage, ...]


def shipped_recipes() -> dict[str, Path]:
    """The recipes inside this package, by name."""
    root = Path(str(resources.files("streamcodec.training") / "recipes"))
    return {path.stem: path for path in sorted(root.glob("*.toml"))}


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe by its shipped name or from a file; raises `InputError` that names what is wrong and what was expected."""
    path = shipped_recipes().get(str(name_or_path), Path(name_or_path))
    if not path.is_file():
        raise InputError(f"{name_or_path}: no such recipe, expected a .toml file or one of {', '.join(shipped_recipes())}")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: {error}") from error
    try:
        return _parsed(path.stem, values)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _parsed(name: str, values: Mapping[str, Any]) -> Recipe:
    if unknown := sorted(values.keys() - {"base", "model", "stages"}):
        raise InputError(f"{', '.join(unknown)} is unknown, expected base or model, and stages")
    if "base" in values and "model" in values:
        raise InputError("both base and model are given, expected one: a base has its own architecture")
    base, _, fingerprint = str(values.get("base", "")).partition("@")
    stages = values.get("stages", [])
    if not isinstance(stages, list) or not stages:
        raise InputError("0 stages, expected at least one table [[stages]]")
    return Recipe(
        name, base or None, fingerprint or None, _config(values.get("model", {})), tuple(map(_stage, range(1, len(stages) + 1), stages))
    )


def _config(values: Mapping[str, Any]) -> CodecConfig:
    known = {f.name for f in fields(CodecConfig)}
    if unknown := sorted(values.keys() - known):
        raise InputError(f"model: {', '.join(unknown)} is unknown, expected some of {', '.join(sorted(known))}")
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    return replace(EMBEDDED, **given)


def _stage(number: int, values: Mapping[str, Any]) -> Stage:
    kind = values.get("kind")
    if kind not in KINDS:
        raise InputError(f"stage {number}: kind is {kind}, expected one of {', '.join(KINDS)}")
    rest = {k: v for k, v in values.items() if k != "kind"}
    try:
        return Stage(str(kind), _settings(KINDS[str(kind)].settings, rest))
    except InputError as error:
        raise InputError(f"stage {number} ({kind}): {error}") from error


def _settings(cls: type[Any], values: Mapping[str, Any]) -> Any:
    """An instance of the dataclass `cls`, whose values have the types of its defaults."""
    hints, known = get_type_hints(cls), {f.name: f for f in fields(cls)}
    if unknown := sorted(values.keys() - known.keys()):
        raise InputError(f"{', '.join(unknown)} is unknown, expected some of {', '.join(known)}")
    if lacking := [name for name, f in known.items() if f.default is MISSING and f.default_factory is MISSING and name not in values]:
        raise InputError(f"{', '.join(lacking)} is missing")
    return cls(**{name: _value(name, hints[name], value) for name, value in values.items()})


def _value(name: str, wanted: Any, value: Any) -> Any:
    if is_dataclass(wanted) and isinstance(wanted, type) and isinstance(value, Mapping):
        return _settings(wanted, value)
    origin = getattr(wanted, "__origin__", wanted)
    if origin is tuple and isinstance(value, list) and value:
        return tuple(value)
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if wanted is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if origin is Mapping and isinstance(value, Mapping):
        return {str(k): _value(f"{name}.{k}", float, v) for k, v in value.items()}
    expected = {float: "a number", int: "a whole number", tuple: "a list of numbers"}.get(origin, "a table")
    raise InputError(f"{name} is {value!r}, expected {expected}")
