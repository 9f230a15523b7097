"""A file that is written takes the place of another only when there is something to replace it by."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from streamcodec.errors import InputError
from streamcodec.output_file import OutputFile, check_output, check_outputs, replacing, write_bytes, write_text


def alone(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_file_replaces_the_one_that_was_there(tmp_path):
    (tmp_path / "a").write_text("before")
    with replacing(tmp_path / "a") as file:
        file.write(b"after")
        assert (tmp_path / "a").read_text() == "before"
    assert (tmp_path / "a").read_text() == "after"
    assert alone(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_an_interrupted_write_leaves_what_was_there(tmp_path, error):
    (tmp_path / "a").write_text("before")
    for name in ("a", "b"):
        with pytest.raises(error), replacing(tmp_path / name) as file:
            file.write(b"half")
            raise error
    assert (tmp_path / "a").read_text() == "before"
    assert alone(tmp_path) == ["a"]


def test_a_full_disk_leaves_what_was_there_and_names_the_file(tmp_path, full_disk):
    (tmp_path / "a").write_text("before")
    with full_disk(1000), pytest.raises(OSError, match=r"File too large: '.*/a'"):
        write_bytes(tmp_path / "a", bytes(100_000))
    assert (tmp_path / "a").read_text() == "before"
    assert alone(tmp_path) == ["a"]


def test_a_file_that_grows_is_in_place_when_it_is_put_there(tmp_path):
    (tmp_path / "a").write_text("before")
    output = OutputFile(tmp_path / "a")
    output.file.write(b"one ")
    assert (tmp_path / "a").read_text() == "before" and not output.in_place
    output.put_in_place()
    output.file.write(b"two")
    assert (tmp_path / "a").read_text() == "one two" and output.in_place
    output.close()
    output.close()
    assert (tmp_path / "a").read_text() == "one two"


def test_a_file_that_was_never_put_in_place_is_gone(tmp_path):
    OutputFile(tmp_path / "a").close()
    assert alone(tmp_path) == []


def test_a_file_that_is_read_is_refused_by_whatever_name(tmp_path):
    (tmp_path / "in").write_text("precious")
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "twin").hardlink_to(tmp_path / "in")
    (tmp_path / "other").touch()
    for name in ("in", "link", "twin", "../" + tmp_path.name + "/in"):
        for call in (check_output, OutputFile, lambda path, inputs: replacing(path, inputs).__enter__()):
            with pytest.raises(InputError, match="is the same file as the input"):
                call(tmp_path / name, [tmp_path / "absent", tmp_path / "in"])
    with (tmp_path / "in").open() as opened, pytest.raises(InputError, match="same file as the input standard input"):
        check_output(tmp_path / "in", [opened.fileno()])
    assert check_output(tmp_path / "other", [tmp_path / "in"]) == tmp_path / "other"
    assert (tmp_path / "in").read_text() == "precious"


def test_one_file_for_two_outputs_is_refused(tmp_path):
    (tmp_path / "link").symlink_to("a")
    check_outputs([tmp_path / "a", None, None, tmp_path / "b"])
    for twice in ("a", "link"):
        with pytest.raises(InputError, match="is the same file as the output"):
            check_outputs([tmp_path / "a", None, tmp_path / twice])


def test_a_link_keeps_leading_to_its_target(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/a")
    for text in ("one", "two"):
        write_text(tmp_path / "link", text)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "folder" / "a").read_text() == text
    assert alone(tmp_path / "folder") == ["a"]


def test_permissions_are_those_of_the_file_that_was_there_or_the_usual_ones(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "a").chmod(0o640)
    before = os.umask(0o022)
    try:
        for name, mode in (("a", 0o640), ("b", 0o644)):
            write_bytes(tmp_path / name, b"x")
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == mode
    finally:
        os.umask(before)


def test_what_is_no_regular_file_is_written_directly():
    write_bytes("/dev/null", b"x")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "is a folder, expected a file"),
        ("absent/a", "cannot be written: there is no folder .*absent"),
        ("file/a", "cannot be written: Not a directory"),
        ("x" * 256, "cannot be written: File name too long"),
    ],
)
def test_a_path_that_cannot_be_a_file_is_refused_with_the_reason(tmp_path, name, message):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=message):
        check_output(tmp_path / name)


def test_a_name_of_the_greatest_length_is_written(tmp_path):
    write_bytes(tmp_path / ("x" * 255), b"x")
    assert alone(tmp_path) == ["x" * 255]
