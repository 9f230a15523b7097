"""A manifest survives what may happen to a program, and says what is wrong with one that it cannot read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from streamcodec.errors import CodesError, InputError
from streamcodec.tokenizer import Manifest, ManifestEntry, ManifestHeader, read_manifest

HEADER = ManifestHeader("voice", "abc", 8, 1024, 24_000, 320)
ONE = ManifestEntry("b/one.wav", "b/one.codes", 100, 7, 50, 6, 1_900)
FAILED = ManifestEntry("a.wav", "a.codes", 3, 8, error="a.wav is not audio")


def test_what_was_added_is_read(tmp_path: Path) -> None:
    with Manifest(tmp_path / "new", HEADER) as manifest:
        manifest.add(ONE)
        assert read_manifest(tmp_path / "new") == (HEADER, {ONE.source: ONE}), "at once"
        manifest.add(FAILED)
        manifest.add(replace(ONE, frames=9))
    header, entries = read_manifest(tmp_path / "new")
    assert header == HEADER
    assert list(entries.values()) == [FAILED, replace(ONE, frames=9)], "sorted, and the last line about a source counts"
    assert len((tmp_path / "new" / "manifest.jsonl").read_text().splitlines()) == 3


def test_a_line_that_a_killed_program_left_incomplete_is_ignored_and_replaced(tmp_path: Path) -> None:
    with Manifest(tmp_path, HEADER) as manifest:
        manifest.add(ONE)
    path = tmp_path / "manifest.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"source": "c.wav", "co')
    assert read_manifest(tmp_path)[1] == {ONE.source: ONE}
    with Manifest(tmp_path, HEADER) as manifest:
        assert manifest.entries == {ONE.source: ONE}
        manifest.add(FAILED)
    assert list(read_manifest(tmp_path)[1].values()) == [FAILED, ONE]


def test_a_name_that_is_no_utf_8_is_kept(tmp_path: Path) -> None:
    odd = replace(ONE, source="\udcff.wav")
    with Manifest(tmp_path, HEADER) as manifest:
        manifest.add(odd)
    assert read_manifest(tmp_path)[1] == {odd.source: odd}


@pytest.mark.parametrize("other", [replace(HEADER, fingerprint="def"), replace(HEADER, n_q=4)])
def test_codes_of_another_kind_are_not_mixed_in(tmp_path: Path, other: ManifestHeader) -> None:
    with Manifest(tmp_path, HEADER) as manifest:
        manifest.add(ONE)
    with pytest.raises(InputError, match=r"holds codes of voice \(abc\) with 8 codebooks, .* expected another folder, or --again"):
        Manifest(tmp_path, other)
    with Manifest(tmp_path, other, again=True) as manifest:
        assert manifest.entries == {}
    assert read_manifest(tmp_path) == (other, {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "No such file or directory"),
        ("", "is no manifest of codes"),
        ('{"format": "another"}\n', "is no manifest of codes"),
        ("words\n", "line 1: is no JSON"),
        ("[1]\n", "line 1: is a list, expected an object"),
        ('{"format": "streamcodec tokens 1", "model": "m"}\n', "line 1: a field is missing"),
        ('{"format": "streamcodec tokens 1", "model": 3}\n', "line 1: model is 3, expected str"),
    ],
)
def test_what_is_no_manifest_says_so(tmp_path: Path, text: str | None, told: str) -> None:
    if text is not None:
        (tmp_path / "manifest.jsonl").write_text(text)
    with pytest.raises(CodesError, match=rf"manifest\.jsonl.*{told}"):
        read_manifest(tmp_path)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    with Manifest(tmp_path, HEADER) as manifest:
        manifest.add(ONE)
    path = tmp_path / "manifest.jsonl"
    path.write_text(path.read_text().replace('"frames": 6', '"frames": "six"'))
    with pytest.raises(CodesError, match="line 2: frames is 'six', expected int"):
        read_manifest(tmp_path)
