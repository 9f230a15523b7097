"""Compiled code is stored by the version of everything that is compiled into it."""

from __future__ import annotations

import re
from pathlib import Path

import numba
import pytest

import streamcodec.engine.compiling as compiling
from streamcodec.engine import search_kernel, step_kernel
from streamcodec.engine.cache_root import source_hash

ENGINE = Path(compiling.__file__).parent


def test_every_file_with_compiled_functions_counts_for_the_version() -> None:
    named = {file.name for file in ENGINE.rglob("*.py") if re.search(r"^@(compiled|generated)\b", file.read_text(encoding="utf-8"), re.M)}
    assert named <= set(compiling._SOURCES) and named == {"search_kernel.py", "search_vectors.py", "step_kernel.py"}


def test_a_change_in_any_of_the_files_is_another_version(tmp_path: Path) -> None:
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    one.write_text("a = 1")
    other.write_text("b = 1")
    before = source_hash([one, other])
    assert source_hash([one, other]) == before
    other.write_text("b = 2")
    assert source_hash([one, other]) != before


@pytest.mark.parametrize("function", [search_kernel.search_paths, step_kernel.run_step], ids=["search", "step"])
def test_compiled_functions_are_stored_in_the_version_s_folder(function: object) -> None:
    assert Path(function._cache.cache_path).is_relative_to(compiling.storage_folder())  # type: ignore[attr-defined]


def test_numba_s_own_folder_is_left_to_other_programs() -> None:
    before = numba.config.CACHE_DIR
    compiling.compiled()(lambda x: x)
    assert before == numba.config.CACHE_DIR
