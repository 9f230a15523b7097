"""The engine onnx gives torch's results for every kind of call, and needs no torch."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from made_up_models import FEW_LAYERS, save_made_up_model, small_model
from parity import assert_same_codes

import streamcodec
from streamcodec.engine.choice import choose_engine
from streamcodec.errors import InputError, MissingDependencyError

ROOT = Path(__file__).resolve().parents[2]
WITHIN = 1e-5
ABSENT = ("torch", "numba", "llvmlite", "openvino", "transformers", "huggingface_hub", "sounddevice")


def without_torch(script: str, *argv: object) -> subprocess.CompletedProcess[str]:
    """Run a script where neither torch nor another package that the engine does without can be imported."""
    absent = f"import sys\nfor package in {ABSENT!r}: sys.modules[package] = None\n"
    command = [sys.executable, "-c", absent + textwrap.dedent(script), *map(str, argv)]
    environment = {name: value for name, value in os.environ.items() if name != "STREAMCODEC_ENGINE"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)


Pair = tuple[streamcodec.Codec, streamcodec.Codec]
Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def pair() -> Pair:
    """A model that reflects, on torch and on ONNX Runtime."""
    return streamcodec.load(small_model(), engine="torch"), streamcodec.load(small_model(), engine="onnx")


def test_the_traits_of_streams_are_torch_s(pair: Pair) -> None:
    theirs, ours = pair
    assert ours.engine.traits == theirs.engine.traits
    assert (ours.fingerprint, ours.former_fingerprints) == (theirs.fingerprint, theirs.former_fingerprints)
    assert ours.engine.name.startswith("ONNX Runtime ")


def test_rows_use_as_many_codebooks_as_each_asks_for(pair: Pair, speech: Floats) -> None:
    theirs, ours = pair
    rows = np.stack([speech[at : at + 12 * ours.hop_length] for at in (30_000, 40_000, 50_000, 60_000)])
    n_q = [4, 32, 2, 16]
    codes, _ = ours.engine.encode(rows, None, n_q)
    expected, _ = theirs.engine.encode(rows, None, n_q)
    assert codes.shape == (4, 32, 12)
    for row, found, wanted, used in zip(rows, codes, expected, n_q, strict=True):
        assert (found[used:] == ours.config.codebook_size).all()
        assert_same_codes(theirs, found[:used], wanted[:used], row)


def test_latents_are_looked_up_and_decoded_as_by_torch(pair: Pair, speech: Floats) -> None:
    theirs, ours = pair
    codes = theirs.encode(speech[:9_000])
    np.testing.assert_allclose(ours.embed(codes), theirs.embed(codes), atol=WITHIN)
    np.testing.assert_allclose(ours.decode_latents(ours.embed(codes)), theirs.decode_latents(theirs.embed(codes)), atol=WITHIN)


def test_copies_and_pickles_are_engines_of_their_own(tmp_path: Path, speech: Floats) -> None:
    codec = streamcodec.load(save_made_up_model(tmp_path, **FEW_LAYERS), engine="onnx", threads=2, workers=2)
    codes = codec.encode(speech[:5_000])
    for other in (copy.deepcopy(codec), pickle.loads(pickle.dumps(codec))):
        assert other.engine is not codec.engine and other.engine.name == codec.engine.name
        np.testing.assert_array_equal(other.encode(speech[:5_000]), codes)


def test_several_threads_may_open_and_run_streams_at_once(tmp_path: Path, speech: Floats) -> None:
    model = save_made_up_model(tmp_path, **FEW_LAYERS)
    expected = streamcodec.load(model, engine="onnx").stream_encoder(12.0).feed(speech[:24_000])
    engine = streamcodec.load(model, engine="onnx", threads=4, workers=4).engine

    def encode(_: int) -> list[npt.NDArray[np.int32]]:
        codec = streamcodec.Codec(engine, name=str(model), fingerprint="")
        return codec.stream_encoder(12.0).feed(speech[:24_000])

    with ThreadPoolExecutor(4) as pool:
        for packets in pool.map(encode, range(4)):
            np.testing.assert_array_equal(packets, expected)


def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="device is 'cuda': the engine onnx runs on cpu"):
        streamcodec.load(engine="onnx", device="cuda")
    with pytest.raises(InputError, match="precision bf16 needs the OpenVINO engine; onnx runs fp32"):
        streamcodec.load(engine="onnx", precision="bf16")


def test_the_engine_without_onnx_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"the engine onnx needs .*: pip install 'streamcodec\[play\]'"):
        streamcodec.load(engine="onnx")


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [
        ({"torch", "openvino", "onnxruntime"}, "openvino"),
        ({"torch", "onnxruntime"}, "torch"),
        ({"torch"}, "torch"),
        ({"onnxruntime"}, "onnx"),
        ({"openvino", "onnxruntime"}, "onnx"),
        (set(), "torch"),
    ],
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else value,
)
def test_auto_takes_what_is_installed(installed: set[str], chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAMCODEC_ENGINE")
    monkeypatch.setattr("streamcodec.engine.choice._is_installed", lambda package: package in installed)
    assert choose_engine("auto") == chosen


def test_a_codec_codes_and_decodes_where_torch_cannot_be_imported(tmp_path: Path, speech_codec: streamcodec.Codec, speech: Floats) -> None:
    script = """
        import numpy as np, streamcodec
        clip = np.load(sys.argv[1])
        codec = streamcodec.load()
        encoder, decoder = codec.stream_encoder(12.0), codec.stream_decoder(12.0)
        codes = np.concatenate([*encoder.feed(clip), *encoder.flush()], axis=1)
        heard = np.concatenate([decoder.feed(codes), decoder.flush()])
        np.savez(sys.argv[2], codes=codes, heard=heard)
        print(codec.engine.name, codec.fingerprint)
    """
    clip = speech[30_000:60_077]
    np.save(tmp_path / "clip.npy", clip)
    done = without_torch(script, tmp_path / "clip.npy", tmp_path / "done.npz")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ONNX Runtime ") and done.stdout.split()[-1] == speech_codec.fingerprint
    with np.load(tmp_path / "done.npz") as found:
        assert_same_codes(speech_codec, found["codes"], speech_codec.encode(clip, bandwidth=12.0), clip)
        np.testing.assert_allclose(found["heard"], speech_codec.decode(found["codes"]), atol=WITHIN)


def test_a_layout_that_torch_reads_says_so_where_torch_cannot_be_imported() -> None:
    done = without_torch("import streamcodec; streamcodec.load(sys.argv[1])", small_model())
    assert done.returncode == 1
    assert "reading this layout needs torch: pip install 'streamcodec[codec]', or convert the file where that is installed" in done.stderr
