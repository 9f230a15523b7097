"""What every test room shares: models, real speech, and the reference packages."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, settings
from package_codecs import Reference, encodec_reference, transformers_reference

import streamcodec
from streamcodec.audio import bundled_clip, write_audio

# Models take tens of milliseconds a call on a busy machine: deadlines would assert a speed.
settings.register_profile(
    "house", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("house")

# A shell's background job ignores SIGINT, and so would all programs that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _plain_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Torch on one thread unless a test asks for another engine: converting each test's own small model would take most of the time."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STREAMCODEC_ENGINE", "torch")
        patch.setenv("STREAMCODEC_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True, scope="module")
def _loaded() -> None:
    """What was loaded before a module begins is left out of its collections: through torch alone one takes a fifth of a second."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _collecting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command takes what is loaded out of collections for as long as its program lasts, which would be beyond the end of a test here.

    To bring it back, a collection of all that is loaded would follow each test of a command: a quarter of a second.
    """
    monkeypatch.setattr(gc, "freeze", lambda: None)


@pytest.fixture(scope="session")
def speech_codec() -> streamcodec.Codec:
    """The embedded model."""
    return streamcodec.load()


@pytest.fixture(scope="session", params=["torch", "openvino", "onnx"])
def either_codec(request: pytest.FixtureRequest) -> streamcodec.Codec:
    """The embedded model on each engine."""
    return streamcodec.load(engine=request.param)


@pytest.fixture(scope="session")
def speech() -> npt.NDArray[np.float32]:
    """The bundled clip [T] at 24 kHz."""
    samples, rate = bundled_clip()
    assert rate == 24_000
    return samples


@pytest.fixture(scope="session")
def _full_size_models() -> dict[object, Any]:
    """What is made once, although tests ask for packages and engines by turns."""
    return {}


@pytest.fixture(scope="session", params=["encodec", "transformers"])
def full_size_checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, _full_size_models: dict[object, Any]
) -> tuple[Reference, Path]:
    """A reference package's full-size model and the checkpoint that the package wrote."""
    if request.param not in _full_size_models:
        reference = encodec_reference() if request.param == "encodec" else transformers_reference()
        _full_size_models[request.param] = reference, reference.save(tmp_path_factory.mktemp(request.param))
    made: tuple[Reference, Path] = _full_size_models[request.param]
    return made


@pytest.fixture(scope="session", params=["torch", "openvino", "onnx"])
def full_size(
    request: pytest.FixtureRequest, full_size_checkpoint: tuple[Reference, Path], _full_size_models: dict[object, Any]
) -> tuple[Reference, streamcodec.Codec]:
    """A reference package's full-size model and our codec, loaded from the package's checkpoint, on each engine."""
    reference, checkpoint = full_size_checkpoint
    if (checkpoint, request.param) not in _full_size_models:
        _full_size_models[checkpoint, request.param] = streamcodec.load(checkpoint, engine=request.param)
    return reference, _full_size_models[checkpoint, request.param]


# For the command line, and for programs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def model() -> str:
    """A folder with a model of the published rates and bandwidths, and few channels and layers: a step takes a few milliseconds."""
    from made_up_models import small_model

    return small_model()


@pytest.fixture(scope="module")
def codec(model: str) -> streamcodec.Codec:
    """The codec of `model`."""
    return streamcodec.load(model, engine="torch")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, empty but for what the test writes."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def full_disk() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """Within the block no file of this process can grow beyond so many bytes: writes fail as on a full disk, with another reason."""
    resource = pytest.importorskip("resource", reason="this system has no such limit")

    @contextlib.contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture
def speech_file(tmp_path: Path, speech: npt.NDArray[np.float32]) -> Path:
    """Two seconds of real speech, and 77 samples."""
    path = tmp_path / "talk.wav"
    write_audio(path, speech[10_000:58_077], 24_000)
    return path


def _sound_system(devices: list[dict[str, object]]) -> types.SimpleNamespace:
    """Stands in for the module `sounddevice`, to be listed only."""
    default = types.SimpleNamespace(device=[0, 1] if devices else [-1, -1])
    return types.SimpleNamespace(
        PortAudioError=RuntimeError, default=default, query_devices=lambda: devices, query_hostapis=lambda: ({"name": "ALSA"},)
    )


@pytest.fixture
def no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without sound devices."""
    monkeypatch.setitem(sys.modules, "sounddevice", _sound_system([]))


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a microphone and a speaker."""
    found = [
        {
            "name": name,
            "hostapi": 0,
            "max_input_channels": inputs,
            "max_output_channels": outputs,
            "default_samplerate": 44_100.0,
            "default_low_output_latency": 0.01,
        }
        for name, inputs, outputs in [("Mouth", 1, 0), ("Ear", 0, 2)]
    ]
    monkeypatch.setitem(sys.modules, "sounddevice", _sound_system(found))
