"""A model is found by an embedded name, a path or a hub id; what the hub's cache holds loads without a network."""

from __future__ import annotations

import shutil
import socket
import time
from pathlib import Path

import pytest
from made_up_models import save_made_up_model

import streamcodec
from streamcodec.errors import CheckpointError, ModelNotFoundError
from streamcodec.model.checkpoint import codes_fingerprint, load_file, weights_fingerprint
from streamcodec.model.hub import DEFAULT_MODEL, embedded_models, load_model, locate

MINI = {"num_filters": 2, "hidden_size": 4, "codebook_dim": 4, "num_lstm_layers": 1, "target_bandwidths": [1.5, 3.0]}
REVISION = "c1dbe2ae3f1de713481a3b3e7c47f357092ee040"


@pytest.fixture(scope="module")
def hf_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_made_up_model(tmp_path_factory.mktemp("folder"), **MINI)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Makes any use of the network fail at once; the list records the calls of `sleep` (seconds)."""
    naps: list[float] = []

    def down(*_: object, **__: object) -> None:
        raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "getaddrinfo", down)
    monkeypatch.setattr(socket.socket, "connect", down)
    monkeypatch.setattr(time, "sleep", naps.append)
    return naps


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, and a hub client that is not in offline mode."""
    import huggingface_hub.constants

    cache = tmp_path / "hub"
    cache.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return cache


def put_into_cache(cache: Path, repo_id: str, folder: Path) -> Path:
    """Lay out `folder` as the hub's client does after a download: blobs, and a snapshot of links to them."""
    repo = cache / f"models--{repo_id.replace('/', '--')}"
    snapshot = repo / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    (repo / "blobs").mkdir()
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(REVISION)
    for i, path in enumerate(sorted(folder.iterdir())):
        blob = repo / "blobs" / f"{i:040x}"
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(blob)
    return snapshot


def test_the_default_model_is_embedded_and_loads_by_its_name(no_network: list[float]) -> None:
    assert DEFAULT_MODEL in embedded_models()
    assert locate(DEFAULT_MODEL) == embedded_models()[DEFAULT_MODEL]
    assert weights_fingerprint(load_model()) == weights_fingerprint(load_file(embedded_models()[DEFAULT_MODEL]))
    assert no_network == []


def test_an_embedded_name_wins_over_a_file_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT_MODEL).write_text("something else")
    assert locate(DEFAULT_MODEL) == embedded_models()[DEFAULT_MODEL]


def test_a_file_and_a_folder_load_by_path_in_whatever_form(hf_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = weights_fingerprint(load_file(hf_folder))
    assert weights_fingerprint(load_model(hf_folder)) == expected
    assert weights_fingerprint(load_model(str(hf_folder))) == expected
    assert weights_fingerprint(load_model(hf_folder / "model.safetensors")) == expected
    monkeypatch.setenv("HOME", str(hf_folder.parent))
    assert weights_fingerprint(load_model(f"~/{hf_folder.name}")) == expected
    # A folder of two parts looks like a hub id: what exists wins.
    shutil.copytree(hf_folder, tmp_path / "some" / "model")
    monkeypatch.chdir(tmp_path)
    assert locate("some/model") == Path("some/model")


@pytest.mark.parametrize("name", ["nowhere.safetensors", "nowhere/model.th", "speech-48k", "a/b/c", "", "~nobody-at-all/model", "x" * 300])
def test_the_error_for_an_unknown_name_lists_the_valid_ones(
    name: str, no_network: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match=f"{name[:40]}.*no such file or folder.*speech-24k.*facebook/encodec_24khz"):
        locate(name)
    assert no_network == []


def test_a_missing_path_is_not_looked_up_on_the_hub(no_network: list[float], tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"absent: no such file or folder"):
        locate(tmp_path / "absent")
    assert no_network == []


def test_a_cached_hub_id_loads_without_a_network(hf_folder: Path, hub_cache: Path, no_network: list[float]) -> None:
    snapshot = put_into_cache(hub_cache, "facebook/encodec_24khz", hf_folder)
    assert locate("facebook/encodec_24khz") == snapshot
    codec = streamcodec.load("facebook/encodec_24khz")
    assert codec.fingerprint == codes_fingerprint(load_file(hf_folder))
    assert codec.name == "facebook/encodec_24khz"
    assert no_network == []


def test_a_hub_id_that_is_not_cached_says_so_when_the_network_is_down(hub_cache: Path, no_network: list[float]) -> None:
    with pytest.raises(ModelNotFoundError, match="facebook/encodec_24khz: not in the hub's cache, and the hub cannot be reached"):
        load_model("facebook/encodec_24khz")
    assert sum(no_network) < 10, "a person waits for this answer"
    assert list(hub_cache.rglob("*.safetensors")) == []


def test_a_half_cached_hub_id_says_so_when_the_network_is_down(hf_folder: Path, hub_cache: Path, no_network: list[float]) -> None:
    snapshot = put_into_cache(hub_cache, "some/model", hf_folder)
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match="some/model: not in the hub's cache, and the hub cannot be reached"):
        load_model("some/model")
    assert sum(no_network) < 10


def test_an_offline_hub_is_not_asked(hub_cache: Path, no_network: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    assert hub_cache.exists()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFoundError, match="some/model: not in the hub's cache"):
        load_model("some/model")
    assert no_network == []


def test_a_name_that_no_hub_would_take_is_refused_by_name(hub_cache: Path, no_network: list[float]) -> None:
    assert hub_cache.exists()
    with pytest.raises(ModelNotFoundError, match=r"some/two\.\.dots: not a hub id"):
        locate("some/two..dots")
    assert no_network == []


def test_a_damaged_file_in_the_cache_is_named(hf_folder: Path, hub_cache: Path, no_network: list[float]) -> None:
    snapshot = put_into_cache(hub_cache, "some/model", hf_folder)
    (snapshot / "model.safetensors").resolve().write_bytes(b"half a download")
    with pytest.raises(CheckpointError, match=r"model.safetensors: not a readable safetensors file"):
        load_model("some/model")
    assert no_network == []
