"""Finds the saved files of a model or of a feature extractor, and checks arguments that only say where they are."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from streamcodec.config import CodecConfig
from streamcodec.errors import CheckpointError, InputError, ModelNotFoundError, PretrainedNotFoundError
from streamcodec.model.checkpoint import load_file
from streamcodec.model.hub import locate
from streamcodec.output_file import write_text

__all__ = ["JsonStored", "find", "read_object", "refuse_others", "stored_config", "take_hub_arguments", "write_object"]

# How the hub is asked, with what says nothing in particular. The settings of the hub's own client decide all of this here.
_OF_THE_HUB: Mapping[str, Any] = {
    "cache_dir": None,
    "force_download": False,
    "local_files_only": False,
    "proxies": None,
    "revision": "main",
    "token": None,
}


def take_hub_arguments(name_or_path: Any, arguments: dict[str, Any]) -> str:
    """Remove from `arguments` what is for the hub alone, and return `subfolder`.

    A path has no use for it. Raises `InputError` where a model of the hub is asked for in another way than its client's settings say.
    """
    for name, plain in _OF_THE_HUB.items():
        value = arguments.pop(name, plain)
        if value != plain and value is not None and not Path(name_or_path).exists():
            raise InputError(f"{name} is {value!r}, expected {plain!r}: the environment's settings of the hub's client decide this")
    return str(arguments.pop("subfolder", ""))


def refuse_others(arguments: Mapping[str, Any]) -> None:
    """Raise `InputError` for arguments that are left, unless they ask for nothing: None or False."""
    if left := sorted(name for name, value in arguments.items() if value is not None and value is not False):
        raise InputError(f"unexpected argument(s): {', '.join(left)}")


def find(name_or_path: Any, subfolder: str = "") -> Path:
    """The file or folder of a model, by path, embedded name or hub id; raises `PretrainedNotFoundError`."""
    try:
        path = Path(name_or_path)
        if subfolder:
            name_or_path = path / subfolder if path.exists() else f"{name_or_path}/{subfolder}"
        return locate(name_or_path)
    except TypeError as exc:
        raise InputError(f"the model is a {type(name_or_path).__name__}, expected a name or a path") from exc
    except ModelNotFoundError as exc:
        raise PretrainedNotFoundError(str(exc)) from exc


class JsonStored(ABC):
    """What is made of the values in a JSON file and can be written to one."""

    @abstractmethod
    def to_json_string(self) -> str:
        """The values as JSON, sorted by name."""

    @classmethod
    def from_json_file(cls, json_file: str | Path) -> Self:
        """What `to_json_file` wrote."""
        return cls(**read_object(Path(json_file)))

    def to_json_file(self, json_file_path: str | Path) -> None:
        """Write `to_json_string` to a file."""
        path = Path(json_file_path)
        write_object(path.parent, path.name, self.to_json_string())

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"


def stored_config(path: Path) -> Mapping[str, Any]:
    """The configuration of the model at `path`: a folder, a JSON file or a checkpoint."""
    if path.suffix == ".json":
        return read_object(path)
    if path.is_dir() and (path / "config.json").exists():
        return read_object(path / "config.json")
    if path.is_dir():
        raise PretrainedNotFoundError(f"{path}: has no config.json")
    config: CodecConfig = load_file(path).config
    return config.to_dict()


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; raises `CheckpointError`."""
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as exc:
        raise CheckpointError(f"{path}: cannot be read: {exc}") from exc
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds a {type(values).__name__}, expected an object")
    return values


def write_object(folder: Any, name: str, text: str) -> Path:
    """Write JSON to a file of a folder, which is made if it is missing."""
    path = Path(folder)
    if path.is_file():
        raise InputError(f"{path} is a file, expected a folder")
    path.mkdir(parents=True, exist_ok=True)
    write_text(path / name, text)
    return path / name
