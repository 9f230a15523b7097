"""An exported model, run from its files alone, codes and decodes as the model does."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from made_up_models import save_made_up_model, small_model, stereo_model
from parity import assert_same_codes

import streamcodec
from streamcodec.codec.export import export_model
from streamcodec.config import Start
from streamcodec.engine.onnx.engine import OnnxEngine
from streamcodec.engine.onnx.export import MANIFEST
from streamcodec.errors import UnsupportedModelError
from streamcodec.model.hub import load_model
from streamcodec.model.stored_weights import load_weights

WITHIN = 1e-5
MODELS = {"the embedded voice": lambda: "speech-24k", "a random model that reflects": small_model}
STARTS: list[Start] = ["exact", "primed"]

Floats = npt.NDArray[np.float32]


class Exported:
    """What a program in another language does: it reads the manifest, and an ONNX runtime reads the rest."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        self.session = cache(lambda step: onnxruntime.InferenceSession(folder / step, providers=["CPUExecutionProvider"]))

    def start(self, half: str, kind: Start, n_q: int) -> Floats | None:
        states = self.manifest["states"]
        at, size = states[half][kind], states[half]["size"]
        at = at[str(n_q)] if isinstance(at, dict) else at
        if at is None:
            return None
        data = (self.folder / states["file"]).read_bytes()[at : at + 4 * size]
        return np.frombuffer(data, "<f4")[None]

    def encode(self, packets: Iterator[Floats], bandwidth: dict[str, Any], kind: Start) -> list[npt.NDArray[np.int32]]:
        states, codes = self.start("encoder", kind, bandwidth["n_q"]), []
        for samples in packets:
            found, states = self.session(bandwidth["encoder"]).run(None, {"samples": samples[None], "states": states})
            codes.append(found[0, : bandwidth["n_q"]])
        return codes

    def decode(self, packets: list[npt.NDArray[np.int32]], bandwidth: dict[str, Any], kind: Start) -> Floats:
        states, heard = self.start("decoder", kind, bandwidth["n_q"]), []
        for codes in packets:
            samples, states = self.session(bandwidth["decoder"]).run(None, {"codes": codes[None], "states": states})
            heard.append(samples[0])
        return np.concatenate(heard)


@pytest.fixture(scope="module", params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return MODELS[request.param]()


@pytest.fixture(scope="module")
def exported(name: str, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    export_model(name, folder)
    return Exported(folder)


@pytest.fixture(scope="module")
def codec(name: str) -> streamcodec.Codec:
    return streamcodec.load(name, engine="torch")


def packets_of(samples: Floats, hop: int) -> Iterator[Floats]:
    """Packets of 1 to 25 frames, most of them of six."""
    at = 0
    for frames in itertools.cycle([6, 6, 1, 6, 25, 6, 7]):
        if at + frames * hop > len(samples):
            return
        yield samples[at : at + frames * hop]
        at += frames * hop


@pytest.mark.parametrize("start", STARTS)
def test_the_exported_encoder_gives_the_codes_of_the_model_at_every_bandwidth(
    exported: Exported, codec: streamcodec.Codec, speech: Floats, start: Start
) -> None:
    if exported.start("encoder", start, 2) is None:
        assert start == "exact" and codec.config.pad_mode == "reflect"
        return
    samples = np.concatenate(list(packets_of(speech[24_000:72_000], codec.hop_length)))
    for bandwidth in exported.manifest["bandwidths"]:
        encoder = codec.stream_encoder(bandwidth["kbps"], start=start)
        expected = np.concatenate([*encoder.feed(samples), *encoder.flush()], axis=1)
        codes = np.concatenate(exported.encode(packets_of(samples, codec.hop_length), bandwidth, start), axis=1)
        assert_same_codes(codec, codes, expected, samples, start)


def decoded(codec: streamcodec.Codec, packets: list[npt.NDArray[np.int32]], states: Floats) -> Floats:
    """What the model's own steps make of packets, from states [1, S]."""
    heard = []
    for codes in packets:
        samples, states = codec.engine.decode(codes[None], states)
        heard.append(samples[0])
    return np.concatenate(heard)


@pytest.mark.parametrize("start", STARTS)
def test_the_exported_decoder_gives_the_audio_of_the_model_at_every_bandwidth(
    exported: Exported, codec: streamcodec.Codec, speech: Floats, start: Start
) -> None:
    for bandwidth in exported.manifest["bandwidths"]:
        states = exported.start("decoder", start, bandwidth["n_q"])
        if states is None:
            assert start == "exact" and codec.config.pad_mode == "reflect"
            return
        codes = codec.encode(speech[24_000:72_000], bandwidth=bandwidth["kbps"])
        packets = [codes[:, at : at + 6] for at in range(0, codes.shape[1], 6)]
        expected = decoded(codec, packets, states)
        assert np.abs(exported.decode(packets, bandwidth, start) - expected).max() <= WITHIN
        assert np.abs(expected).max() > 0.01


def test_decoders_start_from_the_codes_of_a_second_of_silence(exported: Exported, codec: streamcodec.Codec) -> None:
    # Silence has near-ties, too: the codes that the states were made of are another's, so the rule is asked about each.
    engine = OnnxEngine(codec.config, load_weights(codec.name).tensors)
    silence = np.zeros((1, 24_000), np.float32)
    for n_q in codec.config.n_q_choices:
        codes, _ = engine.encode(silence, None, [n_q])
        expected, _ = codec.engine.encode(silence, None, [n_q])
        assert_same_codes(codec, codes[0], expected[0], silence[0])
        _, states = codec.engine.decode(codes, None)
        np.testing.assert_allclose(exported.start("decoder", "primed", n_q), states, atol=WITHIN)


def test_a_decoder_takes_packets_of_fewer_codebooks_than_it_has(exported: Exported, codec: streamcodec.Codec, speech: Floats) -> None:
    *_, most = exported.manifest["bandwidths"]
    codes = codec.encode(speech[24_000:48_000], bandwidth=most["kbps"])
    packets = [codes[: 2 ** (1 + i % 5), 6 * i : 6 * i + 6] for i in range(codes.shape[1] // 6)]
    states = exported.start("decoder", "primed", most["n_q"])
    assert states is not None
    assert np.abs(exported.decode(packets, most, "primed") - decoded(codec, packets, states)).max() <= WITHIN


def test_streams_run_side_by_side_in_one_step(exported: Exported, codec: streamcodec.Codec, speech: Floats) -> None:
    [bandwidth, *_] = exported.manifest["bandwidths"]
    session, states = exported.session(bandwidth["encoder"]), exported.start("encoder", "primed", 2)
    assert states is not None
    rows = np.stack([speech[at : at + 6 * codec.hop_length] for at in (0, 30_000, 60_000)])
    together, after = session.run(None, {"samples": rows, "states": states.repeat(3, axis=0)})
    for row, codes, state in zip(rows, together, after, strict=True):
        [alone, state_alone] = session.run(None, {"samples": row[None], "states": states})
        assert_same_codes(codec, codes[:2], alone[0, :2], row, "primed")
        np.testing.assert_allclose(state, state_alone[0], atol=WITHIN)


def test_the_graphs_are_standard_onnx_without_loops_and_branches(exported: Exported) -> None:
    for step in exported.manifest["steps"]:
        onnx.checker.check_model(exported.folder / step, full_check=True)
        model = onnx.load(exported.folder / step, load_external_data=False)
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", exported.manifest["opset"])]
        assert {node.domain for node in model.graph.node} == {""}
        assert not {"Loop", "Scan", "If"} & {node.op_type for node in model.graph.node}


def test_the_manifest_tells_every_file_and_every_port(exported: Exported, codec: streamcodec.Codec) -> None:
    manifest = exported.manifest
    assert {path.name for path in exported.folder.iterdir()} == {MANIFEST, *manifest["files"]}
    for file, facts in manifest["files"].items():
        data = (exported.folder / file).read_bytes()
        assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    for step, facts in manifest["steps"].items():
        session = exported.session(step)
        for ports, told in ((session.get_inputs(), facts["inputs"]), (session.get_outputs(), facts["outputs"])):
            assert [(port.name, port.type, port.shape) for port in ports] == [
                (each["name"], {"float32": "tensor(float)", "int32": "tensor(int32)"}[each["type"]], each["shape"]) for each in told
            ]
    assert manifest["fingerprint"] == codec.fingerprint
    assert [each["n_q"] for each in manifest["bandwidths"]] == codec.config.n_q_choices
    assert [each["kbps"] for each in manifest["bandwidths"]] == sorted(codec.config.target_bandwidths)
    assert manifest["start"] == codec.engine.traits.default_live_start


def test_weights_take_half_the_room_where_that_is_exact_and_are_shared_by_all_steps(tmp_path: Path) -> None:
    model = load_model("speech-24k")
    files = {path.name: path.stat().st_size for path in export_model("speech-24k", tmp_path)}
    parameters = sum(p.numel() for p in (*model.encoder.parameters(), *model.decoder.parameters()))
    assert sum(size for file, size in files.items() if file.endswith(".weights")) < 2 * (parameters + model.quantizer.embed.numel()) + 2_000
    listener = files["decoder-8.onnx"] + files["decoder.weights"] + files["codebooks-1-8.weights"]
    assert listener < 6.1e6


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (None, "is not causal: each frame depends on later samples"),
        ({"num_filters": 4, "chunk_length_s": 1.0, "overlap": 0.01}, "codes overlapping chunks of 1 s"),
    ],
)
def test_a_model_whose_steps_have_no_state_is_refused_in_words(tmp_path: Path, overrides: dict[str, Any] | None, said: str) -> None:
    name = stereo_model() if overrides is None else save_made_up_model(tmp_path / "model", **overrides)
    with pytest.raises(UnsupportedModelError, match=f"only a model that codes frame by frame can be exported: this model {said}"):
        export_model(name, tmp_path / "out")
    assert not (tmp_path / "out").exists()
