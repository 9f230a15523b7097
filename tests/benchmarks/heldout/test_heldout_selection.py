"""The held-out clips are the same ones every time, from held-out sources alone, and can be found again by what the results say."""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks import heldout
from streamcodec.audio import bundled_clip, write_audio
from streamcodec.errors import InputError
from streamcodec.training.data.corpus import Corpus, Folder, build


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Two held-out voices (one in many short files, one in a long one), a trained one, and music."""
    folder = tmp_path_factory.mktemp("audio")
    speech, rate = bundled_clip()
    for name in ("words", "book", "trained", "tune"):
        (folder / name).mkdir()
    for at in range(30):
        write_audio(folder / "words" / f"{at:02}.wav", speech[at * 7_000 :][: 30_000 + 500 * at], rate)
    for name in ("book", "trained", "tune"):
        write_audio(folder / name / "all.wav", np.tile(speech, 4), rate)
    folders = [
        Folder("trained", folder / "trained"),
        Folder("words", folder / "words", held_out=True),
        Folder("book", folder / "book", held_out=True),
        Folder("tune", folder / "tune", kind="music", held_out=True),
    ]
    return build(folders, folder / "corpus")


def test_a_selection_is_repeated_by_its_seed_and_shared_out_among_the_sources(corpus: Corpus) -> None:
    clips = heldout.select(corpus, "speech", 7, 0)
    assert [clip.source for clip in clips] == ["words"] * 4 + ["book"] * 3
    assert heldout.describe(clips) == heldout.describe(heldout.select(corpus, "speech", 7, 0))
    assert heldout.describe(clips) != heldout.describe(heldout.select(corpus, "speech", 7, 1))
    assert {clip.source for clip in heldout.select(corpus, "music", 2, 0)} == {"tune"}


def test_clips_last_four_to_eight_seconds_and_do_not_overlap(corpus: Corpus) -> None:
    clips = heldout.select(corpus, "speech", 100, 0)
    assert all(4 <= len(clip.samples) / corpus.rate <= 8 for clip in clips)
    ends: dict[str, int] = {}
    for clip in clips:
        assert clip.offset >= ends.get(clip.source, 0)
        ends[clip.source] = clip.offset + len(clip.samples)


def test_a_clip_begins_with_a_file_and_is_found_again_by_offset_and_checksum(corpus: Corpus) -> None:
    first, _ = corpus.spans("speech", held_out=True)["words"]
    begins = {stretch.offset - first for stretch in corpus.stretches if stretch.source == "words"}
    described = [clip for clip in heldout.describe(heldout.select(corpus, "speech", 8, 0)) if clip["source"] == "words"]
    assert described
    for clip in described:
        assert clip["offset"] in begins
        again = corpus.read(first + clip["offset"], clip["samples"])
        assert clip["crc32"] == f"{zlib.crc32((again * 32768).astype('<i2').tobytes()):08x}"


def test_a_folder_without_a_corpus_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    heldout.add_options(parser)
    with pytest.raises(InputError, match=r"python -m benchmarks\.heldout"):
        heldout.chosen(parser.parse_args(["--corpus", str(tmp_path)]), music=False)


def test_a_corpus_without_held_out_music_is_refused(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "stretches", [stretch for stretch in corpus.stretches if stretch.kind == "speech"])
    with pytest.raises(InputError, match="no held-out music"):
        heldout.select(corpus, "music", 1, 0)
