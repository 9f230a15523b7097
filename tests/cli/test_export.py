"""`export` writes a model's steps for other programs, and replaces nothing unasked."""

from __future__ import annotations

import json

from cli_rig import contents, fails
from made_up_models import stereo_model

from streamcodec.cli import main


def test_export_names_the_files_that_it_has_written(here, model, codec, capsys):
    assert main(["export", model, "out"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == [f"out/{file}" for file in [*_manifest(here)["files"], "manifest.json"]]
    assert _manifest(here)["fingerprint"] == codec.fingerprint


def test_an_earlier_export_is_only_replaced_where_that_is_asked_for(here, model, capsys):
    assert main(["export", "speech-24k", "out"]) == 0
    before = contents(here)
    status, line = fails(capsys, "export", model, "out")
    assert status == 2 and line == "streamcodec: out/manifest.json is there already: give --overwrite to replace it"
    assert contents(here) == before
    assert main(["export", model, "out", "--overwrite"]) == 0
    assert contents(here) != before


def test_a_model_that_cannot_be_exported_and_a_folder_that_cannot_be_made_are_one_line_each(here, model, capsys):
    status, line = fails(capsys, "export", stereo_model(), "out")
    assert status == 2 and "only a model that codes frame by frame can be exported" in line
    (here / "taken").write_text("mine")
    status, line = fails(capsys, "export", model, "taken")
    assert status == 1 and "taken" in line


def test_a_full_disk_leaves_an_earlier_export_as_it_was(here, model, full_disk, capsys):
    assert main(["export", model, "out"]) == 0
    before = contents(here)
    capsys.readouterr()
    with full_disk(1_000_000):
        status, line = fails(capsys, "export", "speech-24k", "out", "--overwrite")
    assert status == 1 and "out/" in line
    assert contents(here) == before


def _manifest(here):
    return json.loads((here / "out" / "manifest.json").read_text())
