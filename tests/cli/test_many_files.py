"""`encode` and `decode` take folders and many files in one go: one that fails stops no other, and what is done is not done again."""

from __future__ import annotations

import functools
import itertools
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from cli_rig import Terminal, fails

from streamcodec.audio import read_audio
from streamcodec.bitstream.codes_file import read_codes
from streamcodec.cli import batch, main, status
from streamcodec.cli.batch import FileJob, plan
from streamcodec.errors import InputError

AUDIO = [".wav", ".flac"]


@pytest.fixture
def recordings(here: Path) -> Path:
    """Three recordings in two folders, and a text."""
    (here / "talks" / "old").mkdir(parents=True)
    for i, name in enumerate(("a.wav", "b.flac", "old/c.wav")):
        sf.write(here / "talks" / name, np.sin(np.arange(4_800 * (i + 1), dtype=np.float32) / 20) / 2, 24_000)
    (here / "talks" / "notes.txt").write_text("no audio")
    return here / "talks"


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_folder_is_encoded_and_decoded_and_keeps_its_shape(recordings, here, model, capsys):
    assert main(["encode", "talks", "--into", "codes", "--model", model]) == 0
    assert capsys.readouterr().out == "3 files done, 0 were done before, 0 failed\n"
    assert names(here / "codes") == ["a.codes", "b.codes", "old/c.codes"]
    assert main(["decode", "codes", "--into", "heard", "--model", model]) == 0
    assert names(here / "heard") == ["a.decoded.wav", "b.decoded.wav", "old/c.decoded.wav"]
    assert read_audio(here / "heard" / "old" / "c.decoded.wav")[0].shape == (1, 14_400)
    assert names(recordings) == ["a.wav", "b.flac", "notes.txt", "old/c.wav"], "and nothing beside them"


def test_what_is_done_is_not_done_again(recordings, model, capsys):
    files = [str(recordings / "a.wav"), str(recordings / "b.flac")]
    assert main(["encode", *files, "--model", model]) == 0
    before = (recordings / "a.codes").stat().st_mtime_ns
    os.utime(recordings / "b.flac", ns=(before + 10**9, before + 10**9))
    for more, told in (
        ([], "1 files done, 1 were done before, 0 failed"),
        (["--again"], "2 files done, 0 were done before, 0 failed"),
        (["--bandwidth", "1.5"], "2 files done, 0 were done before, 0 failed"),
    ):
        capsys.readouterr()
        assert main(["encode", *files, "--model", model, *more]) == 0
        assert capsys.readouterr().out == told + "\n"
    assert read_codes(recordings / "a.codes").codes.shape[0] == 2
    (recordings / "a.codes").write_bytes(b"damaged")
    capsys.readouterr()
    assert main(["encode", *files, "--model", model, "--bandwidth", "1.5"]) == 0
    assert read_codes(recordings / "a.codes").codes.shape[0] == 2


def test_a_file_that_fails_stops_no_other(recordings, model, capsys):
    (recordings / "a.wav").write_text("no audio")
    (recordings / "old" / "c.codes").mkdir()
    assert main(["encode", str(recordings), "--model", model]) == 1
    said = capsys.readouterr()
    assert said.out == "1 files done, 0 were done before, 2 failed\n"
    first, second = said.err.splitlines()
    assert "a.wav is not audio that can be read" in first and "c.codes is a folder, expected a file" in second
    assert read_codes(recordings / "b.codes").samples == 9_600


def test_all_files_share_one_bar(recordings, model, monkeypatch):
    screen, seconds = Terminal(), itertools.count(0.0, 1.5)
    monkeypatch.setattr(batch, "progress", functools.partial(status.progress, stream=screen, clock=lambda: next(seconds)))
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["encode", str(recordings), "--model", model]) == 0
    assert "encoding 3 files" in screen.getvalue() and "100%" in screen.getvalue() and "1/1 s" in screen.getvalue()


def test_what_arguments_stand_for(here):
    for name in ("a.wav", "b.wav", "b.flac", "x.codes", "folder/c.wav", "folder/deep/d.flac", "folder/c.codes"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).touch()
    os.mkfifo(here / "pipe")

    def jobs(*words: str, into: str | None = None) -> tuple[list[tuple[str, str]], bool]:
        planned, is_many = plan([Path(word) for word in words], into and Path(into), AUDIO, ".codes")
        return [(str(job.source), str(job.target)) for job in planned], is_many

    assert jobs("a.wav") == ([("a.wav", "a.codes")], False)
    assert jobs("a.wav", "x.codes") == ([("a.wav", "x.codes")], False)
    assert jobs("a.wav", "new.wav") == ([("a.wav", "new.wav")], False), "refused later, as it is named like audio"
    assert jobs("a.wav", "b.wav") == ([("a.wav", "a.codes"), ("b.wav", "b.codes")], True)
    assert jobs("a.wav", into="out") == ([("a.wav", "out/a.codes")], False)
    assert jobs("folder", into="out")[0] == [("folder/c.wav", "out/c.codes"), ("folder/deep/d.flac", "out/deep/d.codes")]
    assert jobs("a.wav", "folder")[0][1:] == [("folder/c.wav", "folder/c.codes"), ("folder/deep/d.flac", "folder/deep/d.codes")]
    assert jobs("pipe", "x.codes") == ([("pipe", "x.codes")], False)
    with pytest.raises(InputError, match=r"b\.wav and b\.flac would both become b\.codes"):
        jobs("b.wav", "b.flac")
    with pytest.raises(InputError, match=r"pipe is a pipe or a device: give the output's name as well"):
        jobs("pipe")


def test_what_was_decoded_is_not_taken_for_a_recording(here):
    for name in ("folder/a.wav", "folder/a.decoded.wav"):
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).touch()
    assert plan([Path("folder")], None, [".wav"], ".decoded.wav")[0] == [FileJob(Path("folder/a.wav"), Path("folder/a.decoded.wav"))]


def test_a_pipe_is_encoded(here, model, capsys):
    sf.write(here / "x.wav", np.zeros(4_800), 24_000)
    os.mkfifo(here / "pipe")
    feeding = threading.Thread(target=lambda: (here / "pipe").write_bytes((here / "x.wav").read_bytes()))
    feeding.start()
    assert main(["encode", "pipe", "x.codes", "--model", model]) == 0
    feeding.join()
    assert "x.codes: 0.20 s" in capsys.readouterr().out


def test_a_model_whose_name_is_no_utf_8_is_named_in_the_file(here, model):
    sf.write(here / "x.wav", np.zeros(4_800), 24_000)
    (here / "m\udcff").symlink_to(model)
    assert main(["encode", "x.wav", "--model", "m\udcff"]) == 0
    assert read_codes(here / "x.codes").model == r"m\udcff"


def test_an_output_that_is_a_folder_is_told(recordings, model, capsys):
    (recordings / "a.codes").mkdir()
    assert "a.codes is a folder, expected a file" in fails(capsys, "encode", recordings / "a.wav", "--model", model)[1]
