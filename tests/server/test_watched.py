"""Files that change are told once, when they have settled."""

from __future__ import annotations

import os
import sys

import pytest

from streamcodec.server.watched import WatchedFiles


def test_a_change_is_told_once_when_nothing_changes_any_more(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("1")
    watched = WatchedFiles([first, second])
    assert not watched.changed()
    first.write_text("half")
    assert not watched.changed()
    first.write_text("half and half")
    assert not watched.changed()
    second.write_text("new")
    assert [watched.changed() for _ in range(3)] == [False, True, False]
    second.unlink()
    assert [watched.changed() for _ in range(3)] == [False, True, False]


@pytest.mark.skipif(sys.platform == "win32", reason="modes of POSIX")
def test_a_file_that_may_be_read_from_now_on_has_changed(tmp_path):
    file = tmp_path / "key"
    file.write_text("1")
    file.chmod(0)
    watched = WatchedFiles([file])
    made = file.stat()
    while file.stat().st_ctime_ns == made.st_ctime_ns:  # its clock is coarse
        file.chmod(0o600)
    assert file.stat().st_mtime_ns == made.st_mtime_ns
    assert [watched.changed() for _ in range(2)] == [False, True]


def test_a_file_that_is_replaced_by_one_of_its_size_and_time_has_changed(tmp_path):
    file, other = tmp_path / "key", tmp_path / "other"
    for path in (file, other):
        path.write_text("1")
        os.utime(path, ns=(1, 1))
    watched = WatchedFiles([file])
    other.replace(file)
    assert [watched.changed() for _ in range(2)] == [False, True]
