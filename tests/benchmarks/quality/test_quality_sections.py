"""The sections on precision and quality run on two clips of bundled speech, and say what their figures say. No test looks at a time."""

from __future__ import annotations

import json
import struct
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import needs

from benchmarks.heldout import Clip
from benchmarks.peers import lyra
from benchmarks.precision import benchmark as precision
from benchmarks.quality import benchmark as quality
from benchmarks.quality import opus, render, spectra
from benchmarks.quality.page import write_page
from streamcodec.audio import bundled_clip, read_audio
from streamcodec.codec import load

NO_OPUS = opus.why_not()


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    speech, rate = bundled_clip()
    return [Clip("bundled", "speech", at * rate, speech[at * rate :][:rate]) for at in (1, 4)]


def test_a_stream_at_a_bandwidth_is_what_precision_measures(clips: list[Clip]) -> None:
    codec = load("speech-24k")
    packets = precision.encoded(codec, clips[0].samples, 3.0)
    assert all(packet.shape == (4, 6) for packet in packets[:-1])
    due = codec.decode(codec.encode(clips[0].samples, bandwidth=3.0))
    heard = precision.decoded(codec, packets, 3.0)
    assert abs(heard - due)[2000:].max() < 1e-3


def test_precision_tells_what_it_measured(clips: list[Clip], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(precision._LIMITS, "visqol")  # half a minute
    figures = json.loads(json.dumps(precision.measure_precision("speech-24k", clips, [6.0])))
    ways = {row["way"]: row for row in figures["rows"] if row["kbps"] == 6.0}
    assert ways["fp32"]["codes_differ"] == ways["bf16 decoder"]["codes_differ"] == 0
    assert ways["fp32"]["scores"]["sisdr"]["difference"]["mean"] == 0
    assert ways["torch fp32"]["codes_differ"] < 0.01
    assert ways["bf16"]["codes_differ"] == ways["bf16 encoder"]["codes_differ"]
    assert all(score["difference"]["count"] == 2 for row in figures["rows"] for score in row["scores"].values())
    text = precision.render(figures)
    assert "| 6 |" in text
    assert f"{100 * ways['bf16']['codes_differ']:.1f}%" in text
    precision.draw(figures, tmp_path)
    assert (tmp_path / "precision.png").read_bytes().startswith(b"\x89PNG")


def figures_of(difference: dict[str, float], undefined: list[dict[str, str]]) -> dict[str, Any]:
    """The least that the section of precision is made of: one bandwidth, one measure."""
    nothing = dict.fromkeys(("mean", "low", "high", "most"), 0.0)
    rows = [
        {"kbps": 6.0, "way": way, "codes_differ": 0.25, "scores": {"pesq": {"mean": 2.5, "difference": found}}, "undefined": undefined}
        for way, found in (("fp32", nothing), ("bf16", difference), ("torch fp32", nothing))
    ]
    clip = {"source": "voice", "kind": "speech", "offset": 0, "samples": 24_000, "crc32": "0"}
    return {
        "model": "some",
        "engines": {"fp32": "one", "bf16": "another", "torch": "a third"},
        "processor_has_bf16": False,
        "rate": 24_000,
        "packet_ms": 80,
        "limits": {"pesq": 0.02, "visqol": 0.02},
        "clips": [clip],
        "missing": {"visqol": "visqol-python not installed"},
        "scored_with": {"pesq": "1"},
        "rows": rows,
    }


@pytest.mark.parametrize(
    ("mean", "low", "high", "said"),
    [
        (0.001, -0.004, 0.005, "met in 1"),
        (0.015, 0.005, 0.025, "met in the mean, not over the interval in 1"),
        (-0.03, -0.04, -0.02, "missed in 1. Missed: PESQ-WB at 6 kbps with -0.0300 MOS-LQO"),
    ],
)
def test_the_verdict_comes_from_the_figures(mean: float, low: float, high: float, said: str) -> None:
    text = precision.render(figures_of({"mean": mean, "low": low, "high": high}, []))
    assert f"Of 1 targets (a measure at a bandwidth): {said}." in text


def test_what_was_not_measured_is_told() -> None:
    text = precision.render(
        figures_of(dict.fromkeys(("mean", "low", "high"), 0.0), [{"clip": "voice-0", "measure": "pesq", "why": "hush"}])
    )
    assert "ViSQOL speech was not measured: visqol-python not installed." in text
    assert "3 scores are not defined and count in no mean: voice-0 at 6 kbps, fp32: pesq (hush)" in text
    assert "no bf16 arithmetic" in text


def test_quality_tells_what_it_measured(clips: list[Clip], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in (quality, render):
        monkeypatch.setattr(module, "NAMES", ("pesq", "sisdr", "mel"))
    music = Clip("tune", "music", 0, clips[0].samples)
    figures, renditions = quality.measure_quality("speech-24k", [*clips, music], [1.5, 6.0], quality.Rivals(opus=[] if NO_OPUS else [12.0]))
    figures = json.loads(json.dumps(figures))
    rows = {row["label"]: row for row in figures["rows"]}
    low, high, recording = rows["speech-24k, 1.5 kbps"], rows["speech-24k, 6 kbps"], rows["the recording itself"]
    assert low["scores"]["sisdr"]["mean"] < high["scores"]["sisdr"]["mean"]
    assert recording["scores"]["pesq"]["mean"] > 4.5
    assert recording["scores"]["sisdr"] is None
    assert recording["level_db"]["music"]["mean"] == 0
    assert high["scores"]["pesq"]["count"] == 2, "music is not scored"
    assert len(figures["codebooks"]) == 8
    assert all(0 < book["used"] <= 1 <= book["perplexity"] <= 1024 * book["used"] + 0.01 for book in figures["codebooks"])
    assert low["bands"][0]["snr_db"] < high["bands"][0]["snr_db"]
    assert recording["bands"] is None
    text = render.render(figures)
    assert f"{high['bands'][0]['snr_db']:.1f}, {high['bands'][0]['level_db']:+.1f} |" in text
    assert ("Opus was not measured" in text) == (NO_OPUS is not None or "not asked for" in text)
    render.draw(figures, tmp_path)
    assert (tmp_path / "quality.png").read_bytes().startswith(b"\x89PNG")
    page = quality.listen(tmp_path / "page", figures, [*clips, music], renditions)
    assert (tmp_path / "page" / "spectra.png").read_bytes().startswith(b"\x89PNG")
    assert page.read_text(encoding="utf-8").count("<audio") == 3 * len(renditions) == len(list(page.parent.glob("*.wav")))


def test_a_band_that_is_not_coded_shows_in_its_snr_and_level_alone() -> None:
    low, high = (np.sin(2 * np.pi * hertz * np.arange(24_000) / 24_000).astype(np.float32) for hertz in (300, 3000))
    found = {band["from_hz"]: band for band in quality.bands([(low + high, 0.9 * low), (low, 0.9 * low)], 24_000)}
    assert (found[0]["snr_db"], found[0]["level_db"]) == (pytest.approx(20.0, abs=0.01), pytest.approx(-0.915, abs=0.01))
    assert found[2000]["snr_db"] == pytest.approx(0.0, abs=0.01)
    assert found[2000]["level_db"] < -60


@needs(without=NO_OPUS)
def test_opus_comes_back_in_step_and_its_packets_take_about_what_was_asked_for() -> None:
    speech, rate = bundled_clip()
    through = opus.through_opus(speech, rate, 24.0, opus.OpusWay("ffmpeg", 60))
    assert len(through.audio) == len(speech)
    assert abs(through.lag) < 0.002 * rate
    assert 12 < through.packets * 8 / 1000 / (len(speech) / rate) < 30
    assert through.packets < through.file
    assert np.corrcoef(through.audio, speech)[0, 1] > 0.8


@pytest.mark.skipif(find_spec("opuscodec") is None, reason="opuscodec is not installed: pip install 'streamcodec[quality]'")
def test_the_newest_opus_comes_back_in_step_too() -> None:
    speech, rate = bundled_clip()
    through = opus.through_opus(speech, rate, 24.0, opus.OpusWay("opuscodec", 20))
    assert len(through.audio) == len(speech) and abs(through.lag) < 0.002 * rate
    assert 20 < through.packets * 8 / 1000 / (len(speech) / rate) < 28
    assert np.corrcoef(through.audio, speech)[0, 1] > 0.95


def test_opus_is_measured_in_the_ways_that_are_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(opus, "find_spec", lambda _: None)
    monkeypatch.setattr(opus, "_ffmpeg_has_opus", lambda: True)
    assert [way.name for way in opus.ways(None)] == [way.name for way in opus.ways(tmp_path)] == ["60 ms"]
    (tmp_path / "node_modules/@wasm-audio-decoders/opus-ml").mkdir(parents=True)
    (tmp_path / "node_modules/@wasm-audio-decoders/opus-ml/package.json").write_text("{}", encoding="utf-8")
    monkeypatch.setattr(opus.shutil, "which", lambda tool: tool)
    assert [way.name for way in opus.ways(tmp_path)] == ["60 ms", "60 ms, NoLACE"]


def test_lyra_says_what_it_lacks(tmp_path: Path) -> None:
    assert lyra.why_not(None) == "no folder with its files was given"
    (tmp_path / "quantizer.tflite").touch()
    assert lyra.why_not(tmp_path) == f"soundstream_encoder.tflite, lyragan.tflite not in {tmp_path.name}"


def test_a_spectrogram_shows_a_tone_where_it_is() -> None:
    tone = np.sin(2 * np.pi * 3000 * np.arange(24_000) / 24_000).astype(np.float32)
    spectrum = spectra.spectrum_db(tone, 24_000)
    hertz = np.arange(len(spectrum)) * 12_000 / (len(spectrum) - 1)
    assert abs(hertz[spectrum[:, 40].argmax()] - 3000) < 50
    assert spectrum[:, 40].max() > spectrum[hertz > 4000, 40].max() + 60


def test_an_ogg_file_is_counted_without_its_pages_and_headers() -> None:
    def page(*packets: int) -> bytes:
        lacing = bytes(size for packet in packets for size in [255] * (packet // 255) + [packet % 255])
        return b"OggS" + struct.pack("<BBqIII", 0, 0, 0, 1, 0, 0) + bytes([len(lacing)]) + lacing + bytes(sum(packets))

    assert opus.payload_bytes(page(19) + page(300) + page(40, 260) + page(7)) == 307
    with pytest.raises(ValueError, match="no Ogg page at byte"):
        opus.payload_bytes(page(19) + b"noise" * 10)


def test_the_page_names_each_clip_and_plays_each_rendition(tmp_path: Path) -> None:
    tone = np.sin(np.arange(2400) / 10).astype(np.float32)
    page = write_page(tmp_path, "a <page>", ["one", "two"], {"as spoken": [tone, tone], "coded": [tone / 2, 3 * tone]}, 24_000)
    text = page.read_text(encoding="utf-8")
    assert "a &lt;page&gt;" in text
    assert "one-1.wav" in text
    samples, rate = read_audio(tmp_path / "two-1.wav")
    assert rate == 24_000
    assert np.abs(samples).max() <= 1
