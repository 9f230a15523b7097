"""Finds models: by embedded name, as a file or folder, or in a repository of the Hugging Face hub."""

from __future__ import annotations

import contextlib
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from streamcodec.errors import CheckpointError, MissingDependencyError, ModelNotFoundError

if TYPE_CHECKING:
    from streamcodec.model.encodec import EncodecModel

__all__ = ["DEFAULT_MODEL", "FORMER_FINGERPRINTS", "embedded_language_models", "embedded_models", "load_model", "locate"]

DEFAULT_MODEL = "speech-24k"

FORMER_FINGERPRINTS = {"97353ceef41f88ef58b954905822c5ec": ("6e4dfc35667801a34f1cc3f235132847",)}
"""The weights that earlier versions embedded, by the fingerprint of their codes: files of codes from then name the model by these."""

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")
_HUB_FILES = ("config.json", "model.safetensors")


def embedded_models() -> dict[str, Path]:
    """The models that this package contains: their checkpoint files by name."""
    return _embedded("model.safetensors")


def embedded_language_models() -> dict[str, Path]:
    """The language models of whole numbers that this package contains: their files by the name of the model whose codes they predict."""
    return _embedded("language_model.safetensors")


def _embedded(file: str) -> dict[str, Path]:
    root = Path(str(resources.files("streamcodec.model") / "weights"))
    return {path.parent.name: path for path in sorted(root.glob(f"*/{file}"))}


def load_model(name_or_path: str | Path = DEFAULT_MODEL) -> EncodecModel:
    """Load a model by embedded name, path or hub id; see `locate` for the order of the search and the errors."""
    from streamcodec.model.checkpoint import load_file

    return load_file(locate(name_or_path))


def locate(name_or_path: str | Path) -> Path:
    """Find the checkpoint file or folder of a model.

    The search tries an embedded name first (only for text), then an existing path, then a hub id such as `facebook/encodec_24khz`. A hub
    model is downloaded once, with a progress bar. Later calls read it from the hub's cache without the network. Raises
    `ModelNotFoundError`.
    """
    embedded = embedded_models()
    if isinstance(name_or_path, str) and name_or_path in embedded:
        return embedded[name_or_path]
    path = Path(name_or_path)
    with contextlib.suppress(RuntimeError, OSError):  # an unknown user after "~", or a name that no file can have
        path = path.expanduser()
        if str(name_or_path) and path.exists():
            return path
    if isinstance(name_or_path, str) and _HUB_ID.match(name_or_path) and path.suffix not in (".th", ".pt", ".safetensors"):
        return _from_hub(name_or_path)
    raise ModelNotFoundError(
        f"{name_or_path}: no such file or folder, and neither an embedded model ({', '.join(embedded)}) "
        "nor a hub id such as facebook/encodec_24khz"
    )


def _from_hub(repo_id: str) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
        )
    except ImportError as exc:
        raise MissingDependencyError("loading from the hub needs huggingface_hub: pip install 'streamcodec[codec]'") from exc
    try:
        cached = [huggingface_hub.hf_hub_download(repo_id, name, local_files_only=True) for name in _HUB_FILES]
        return Path(cached[0]).parent
    except LocalEntryNotFoundError:
        pass
    except HFValidationError as exc:
        raise ModelNotFoundError(f"{repo_id}: not a hub id: {exc}") from exc
    try:
        # One request tells whether the hub can be reached. A download would retry six times, for 23 seconds, without a network.
        huggingface_hub.get_hf_file_metadata(huggingface_hub.hf_hub_url(repo_id, _HUB_FILES[0]))
        fetched = [huggingface_hub.hf_hub_download(repo_id, name) for name in _HUB_FILES]
        return Path(fetched[0]).parent
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as exc:
        raise ModelNotFoundError(f"{repo_id}: not in the hub's cache, and the hub cannot be reached ({_first_line(exc)})") from exc
    except EntryNotFoundError as exc:
        raise CheckpointError(f"{repo_id}: the repository has no {' and '.join(_HUB_FILES)}: {_first_line(exc)}") from exc
    except (HfHubHTTPError, PermissionError) as exc:
        raise ModelNotFoundError(f"{repo_id}: the hub refused or its cache cannot be written ({_first_line(exc)})") from exc
    except Exception as exc:  # errors of the HTTP library, which differs between versions of the hub's client
        raise ModelNotFoundError(f"{repo_id}: not in the hub's cache, and the hub cannot be reached ({_first_line(exc)})") from exc


def _first_line(exc: BaseException) -> str:
    return str(exc).strip().split("\n")[0][:200] or type(exc).__name__
