"""Any audio becomes one tidy corpus, and no held-out voice leaks into training."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from programs import needs
from training_material import CROPS, RATE, voice, write_voices

from streamcodec.errors import AudioError, InputError, MissingDependencyError
from streamcodec.training.data.audiofile import frame_levels, into_band, read_audio, without_silence
from streamcodec.training.data.batches import Batches
from streamcodec.training.data.corpus import Corpus, Folder, build
from streamcodec.training.data.fetch import fetch
from streamcodec.training.data.sources import SOURCES


@pytest.mark.parametrize(("suffix", "rate"), [("wav", 8000), ("flac", 44_100), ("ogg", 22_050)])
def test_any_rate_and_format_becomes_mono_at_24_khz(tmp_path: Path, suffix: str, rate: int) -> None:
    x = voice(1.0, rate, 1)
    soundfile.write(tmp_path / f"x.{suffix}", np.stack([x, x], axis=1), rate)
    y = read_audio(tmp_path / f"x.{suffix}", RATE)
    assert y.dtype == np.float32 and abs(len(y) - RATE) <= 2
    assert np.sqrt(np.mean(y**2)) == pytest.approx(np.sqrt(np.mean(x**2)), rel=0.1)


@needs("ffmpeg")
def test_what_libsndfile_cannot_read_goes_through_ffmpeg(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", voice(1.0, 16_000, 1), 16_000)
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "x.wav", "-c:a", "g722", tmp_path / "x.g722"], check=True)
    assert abs(len(read_audio(tmp_path / "x.g722", RATE)) - RATE) <= 100


def test_a_file_without_audio_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(b"nothing")
    with pytest.raises((AudioError, MissingDependencyError), match=r"x\.wav"):
        read_audio(tmp_path / "x.wav", RATE)


def test_long_silences_are_cut_and_sound_is_not() -> None:
    sound = voice(1.0, RATE, 1)
    x = np.concatenate([np.zeros(2 * RATE, np.float32), sound, np.zeros(3 * RATE, np.float32), sound])
    y = without_silence(x, RATE)
    assert 2 * RATE < len(y) < 2.9 * RATE
    assert np.sum(y**2) == pytest.approx(np.sum(x**2), rel=0.01)


def test_pure_silence_leaves_nothing() -> None:
    assert len(without_silence(np.zeros(RATE, np.float32), RATE)) == 0
    assert len(without_silence(np.zeros(3, np.float32), RATE)) == 0


def test_levels_come_into_the_band_and_those_inside_stay() -> None:
    x = voice(1.0, RATE, 1)
    for gain in (1e-3, 30.0):
        y = into_band(gain * x, RATE)
        levels = frame_levels(y, RATE // 50)
        assert -34.0 < 10 * np.log10(np.mean(10 ** (levels[levels > levels.max() - 25] / 10))) < -18.0
        assert np.abs(y).max() <= 0.951
    inside = into_band(x, RATE)
    assert np.array_equal(into_band(inside, RATE), inside)


def test_the_index_says_whose_every_sample_is(tmp_path: Path) -> None:
    corpus = build(
        [Folder("a", write_voices(tmp_path / "a")), Folder("b", write_voices(tmp_path / "b"), held_out=True)], tmp_path / "corpus"
    )
    assert {(s.source, s.speaker) for s in corpus.stretches} == {(n, f"speaker{i}") for n in "ab" for i in (0, 1)}
    assert sum(s.length for s in corpus.stretches) * 2 == (tmp_path / "corpus" / "corpus.i16").stat().st_size
    assert corpus.hours() == pytest.approx(corpus.hours("a") + corpus.hours("b"))
    again = Corpus(tmp_path / "corpus")
    assert again.stretches == corpus.stretches
    assert np.abs(again.read(0, 4000)).max() > 0.0


def test_a_pattern_picks_files_by_their_path(tmp_path: Path) -> None:
    folder = Folder("one", write_voices(tmp_path / "a"), pattern=r"/speaker1/")
    assert {s.speaker for s in build([folder], tmp_path / "corpus").stretches} == {"speaker1"}


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no audio in"):
        build([Folder("none", tmp_path)], tmp_path / "corpus")
    with pytest.raises(InputError, match="build one first"):
        Corpus(tmp_path)


def test_training_never_hears_a_held_out_source(tmp_path: Path) -> None:
    loud, quiet = tmp_path / "loud", tmp_path / "quiet"
    write_voices(loud)
    write_voices(quiet)
    corpus = build([Folder("loud", loud, held_out=True), Folder("quiet", quiet)], tmp_path / "corpus")
    assert set(corpus.spans("speech", held_out=True)) == {"loud"} and set(corpus.spans("speech", held_out=False)) == {"quiet"}
    (start, end), heard = corpus.spans("speech", held_out=False)["quiet"], []
    read = corpus.read
    corpus.read = lambda at, n: heard.append((at, at + n)) or read(at, n)  # type: ignore[method-assign, func-returns-value]
    batches = Batches(corpus, CROPS, 320, 0)
    for step in range(20):
        batches(step)
    assert heard and all(start <= a and b <= end for a, b in heard)


def test_a_batch_is_a_function_of_its_step(tmp_path: Path) -> None:
    batches = Batches(build([Folder("a", write_voices(tmp_path / "a"))], tmp_path / "corpus"), CROPS, 320, 0)
    assert batches(3).shape == (4, 1, 24 * 320)
    assert bool((batches(3) == batches(3)).all()) and not bool((batches(3) == batches(4)).all())


def test_evaluation_clips_are_always_the_same(tmp_path: Path) -> None:
    corpus = build([Folder("a", write_voices(tmp_path / "a"), held_out=True)], tmp_path / "corpus")
    first, second = corpus.clips(0.5, 4), corpus.clips(0.5, 4)
    assert [len(c) for c in first] == [RATE // 2] * 4
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert corpus.clips(0.5, 4, kind="music") == []


def test_every_source_has_a_licence_and_english_is_held_out() -> None:
    assert all(s.licence and s.what for s in SOURCES)
    assert len({s.name for s in SOURCES}) == len(SOURCES)
    assert "English" in " ".join(s.what for s in SOURCES if s.held_out and s.kind == "speech")


def test_fetching_without_debian_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(MissingDependencyError, match="apt-get"):
        fetch(tmp_path / "packages")
    assert not (tmp_path / "packages").exists()


def test_packages_that_are_there_are_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: tool)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("something was run"))
    for source in SOURCES:
        (tmp_path / source.package).mkdir(exist_ok=True)
    fetch(tmp_path)
