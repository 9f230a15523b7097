"""A codec gives the same codes whatever torch is set to by the program around it, and it can be copied."""

from __future__ import annotations

import contextlib
import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest
import torch
from made_up_models import small_model

import streamcodec
from streamcodec.model.checkpoint import load_file, save
from streamcodec.model.modes import running


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


MODES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "autocast to float16": lambda: torch.autocast("cpu", torch.float16),
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "default dtype float64": lambda: default_dtype(torch.float64),
    "default dtype float16": lambda: default_dtype(torch.float16),
    "default device meta": lambda: default_device("meta"),
    "inference mode": torch.inference_mode,
    "gradients": torch.enable_grad,
    "deterministic": deterministic,
}


@pytest.fixture(scope="module")
def path() -> Path:
    return Path(small_model())


@pytest.fixture(scope="module", params=["torch", "openvino", "onnx"])
def codec(request, path) -> streamcodec.Codec:
    return streamcodec.load(path, engine=request.param)


def everything(codec: streamcodec.Codec) -> list[np.ndarray]:
    """What a codec makes of half a second: of a clip and of a stream, with the odd end that torch computes."""
    audio = np.random.default_rng(1).normal(0, 0.2, 12_077).astype(np.float32)
    codes = codec.encode(audio)
    encoder, decoder = codec.stream_encoder(), codec.stream_decoder()
    packets = [packet for at in range(0, audio.size, 2_000) for packet in encoder.feed(audio[at : at + 2_000])] + encoder.flush()
    heard = [decoder.feed(packet) for packet in packets] + [decoder.flush()]
    latents = codec.embed(codes)
    return [codes, codec.decode(codes), np.concatenate(packets, axis=1), np.concatenate(heard), latents, codec.decode_latents(latents)]


def same(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Equal codes, and floats within what sums in another order add: half precision is off by a hundred times as much."""
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=0 if ours.dtype == np.int32 else 2e-5)


# What torch computes beside OpenVINO, it computes as it does alone: few modes show it. ONNX Runtime knows nothing of them.
@pytest.mark.parametrize(
    ("codec", "mode"),
    [
        *(("torch", mode) for mode in MODES),
        *((engine, mode) for engine in ("openvino", "onnx") for mode in ("autocast to bfloat16", "default dtype float64")),
    ],
    indirect=["codec"],
)
def test_a_codec_runs_in_its_own_modes(codec, mode):
    expected = everything(codec)
    with MODES[mode]():
        got = everything(codec)
    for ours, theirs in zip(expected, got, strict=True):
        same(ours, theirs)


def test_torch_calls_no_python_for_each_operation_unless_the_caller_s_default_device_is_another():
    cpu = torch.device("cpu")
    with running(cpu):
        assert torch._C._len_torch_function_stack() == 0
    with default_device("meta"), running(cpu):
        assert torch.empty(1).device == cpu


@pytest.mark.parametrize("mode", MODES)
def test_a_model_is_loaded_and_saved_in_its_own_modes(path, tmp_path, mode):
    expected = streamcodec.load(path)
    with MODES[mode]():
        loaded = streamcodec.load(path)
        save(load_file(path), tmp_path / "again.safetensors")
        dtype = torch.get_default_dtype()
    assert loaded.fingerprint == expected.fingerprint == streamcodec.load(tmp_path / "again.safetensors").fingerprint
    assert "dtype" not in mode or dtype != torch.float32, "the caller's modes are its own"
    clip = np.random.default_rng(1).normal(0, 0.2, 3_077).astype(np.float32)
    same(expected.encode(clip), loaded.encode(clip))


def test_a_model_that_was_loaded_in_inference_mode_can_be_trained(path):
    with torch.inference_mode():
        model = load_file(path)
    model.requires_grad_(True)
    model.encoder(torch.zeros(1, 1, 4_480), None)[0].sum().backward()


def pickled(codec: streamcodec.Codec) -> streamcodec.Codec:
    again: streamcodec.Codec = pickle.loads(pickle.dumps(codec))
    return again


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_a_codec_can_be_copied(codec, copied):
    again = copied(codec)
    assert (again.name, again.fingerprint, again.engine.name) == (codec.name, codec.fingerprint, codec.engine.name)
    for ours, theirs in zip(everything(codec), everything(again), strict=True):
        same(ours, theirs)


def test_an_engine_that_still_compiles_says_why_it_cannot_be_copied(path):
    codec = streamcodec.load(path, engine="openvino", wait_for_compile=False)
    if type(codec.engine).__name__ == "SwitchingEngine":
        with pytest.raises(TypeError, match="load with wait_for_compile"):
            pickle.dumps(codec)
        codec.engine.preparing.join()
