"""The manifest of a folder of codes: which model made them, and what became of each source, one line of JSON each.

Lines are added as files are done, so a program that is killed loses nothing that was done. A line that it left incomplete is ignored.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self, TextIO, TypeVar

from streamcodec.codec import Codec
from streamcodec.errors import CodesError, InputError
from streamcodec.output_file import write_text

__all__ = ["MANIFEST", "Manifest", "ManifestEntry", "ManifestHeader", "header_of", "read_manifest"]

MANIFEST = "manifest.jsonl"
_FORMAT = "streamcodec tokens 1"

Line = TypeVar("Line", "ManifestHeader", "ManifestEntry")


@dataclass(frozen=True)
class ManifestHeader:
    """What all codes of a folder have in common; `fingerprint` says what they mean."""

    model: str
    fingerprint: str
    n_q: int
    codebook_size: int
    sampling_rate: int
    hop_length: int


def header_of(codec: Codec, bandwidth: float | None = None) -> ManifestHeader:
    """The header of codes that `codec` makes at `bandwidth` kbps (default: 6). Raises `CodesError` for one that it does not have."""
    config = codec.config
    name = codec.name.encode("utf-8", "backslashreplace").decode()  # a path may be no UTF-8
    return ManifestHeader(name, codec.fingerprint, config.n_q_for(bandwidth), config.codebook_size, config.sampling_rate, config.hop_length)


@dataclass(frozen=True)
class ManifestEntry:
    """A source and the file of its codes, both as paths below their folders, or the `error` that came instead (then `frames` is 0).

    `source_bytes` and `source_mtime_ns` are the source's size and time of change when it was read, and `codes_bytes` the size of the codes'
    file. `samples` is the clip's length at the codec's rate.
    """

    source: str
    codes: str
    source_bytes: int
    source_mtime_ns: int
    codes_bytes: int = 0
    frames: int = 0
    samples: int = 0
    error: str | None = None


def read_manifest(folder: Path) -> tuple[ManifestHeader, dict[str, ManifestEntry]]:
    """Read the manifest of a folder of codes: its header, and its entries by their sources, in the order of the file.

    Of several lines about a source the last one counts. Raises `CodesError` if there is none, or none that can be read.
    """
    path = folder / MANIFEST
    try:
        lines = path.read_text(encoding="utf-8", errors="strict").split("\n")[:-1]  # a line that was not finished counts for nothing
    except (OSError, UnicodeDecodeError) as exc:
        raise CodesError(f"{path}: {getattr(exc, 'strerror', None) or exc} (streamcodec tokenize writes it)") from exc
    entries: dict[str, ManifestEntry] = {}
    header: ManifestHeader | None = None
    for number, line in enumerate(lines, 1):
        values = _parse(line, f"{path}, line {number}")
        if header is None:
            if values.pop("format", None) != _FORMAT:
                raise CodesError(f"{path}: is no manifest of codes (streamcodec tokenize writes one)")
            header = _made(ManifestHeader, values, path, number)
        else:
            entry = _made(ManifestEntry, values, path, number)
            entries.pop(entry.source, None)
            entries[entry.source] = entry
    if header is None:
        raise CodesError(f"{path}: is no manifest of codes (streamcodec tokenize writes one)")
    return header, entries


class Manifest:
    """The manifest of `folder`, open to add to it, as a context manager: at its end the file is sorted and has one line for each source.

    `entries` are those of an earlier run, which `again` forgets. Raises `InputError` if the earlier run was of another model or bandwidth,
    and `CodesError` if its manifest cannot be read.
    """

    def __init__(self, folder: Path, header: ManifestHeader, *, again: bool = False) -> None:
        self._folder, self._header = folder, header
        self.entries: dict[str, ManifestEntry] = {}
        if not again and (folder / MANIFEST).exists():
            found, self.entries = read_manifest(folder)
            if (found.fingerprint, found.n_q) != (header.fingerprint, header.n_q):
                raise InputError(
                    f"{folder} holds codes of {found.model} ({found.fingerprint}) with {found.n_q} codebooks, "
                    f"and {header.model} ({header.fingerprint}) with {header.n_q} is asked for: expected another folder, or --again"
                )
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write_sorted()
        self._file = (self._folder / MANIFEST).open("a", encoding="utf-8")
        return self

    def add(self, entry: ManifestEntry) -> None:
        """Add what became of a source; it is in the file when this returns."""
        assert self._file is not None, "within the block"
        self.entries[entry.source] = entry
        self._file.write(_line(entry))
        self._file.flush()

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._write_sorted()

    def _write_sorted(self) -> None:
        lines = [json.dumps({"format": _FORMAT, **asdict(self._header)}) + "\n"]
        lines += [_line(self.entries[source]) for source in sorted(self.entries)]
        write_text(self._folder / MANIFEST, "".join(lines))


def _line(entry: ManifestEntry) -> str:
    """JSON in ASCII: a name may be no UTF-8."""
    return json.dumps({name: value for name, value in asdict(entry).items() if value is not None}) + "\n"


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise CodesError(f"{where}: is no JSON: {exc}") from exc
    if not isinstance(values, dict):
        raise CodesError(f"{where}: is a {type(values).__name__}, expected an object")
    return values


def _made(kind: type[Line], values: dict[str, Any], path: Path, number: int) -> Line:
    """A line as `kind`; fields of later versions are ignored."""
    types = {"str": str, "int": int, "str | None": str}
    known = {field.name: types[str(field.type)] for field in fields(kind)}
    for name, value in values.items():
        if name in known and (not isinstance(value, known[name]) or isinstance(value, bool)):
            raise CodesError(f"{path}, line {number}: {name} is {value!r}, expected {known[name].__name__}")
    try:
        return kind(**{name: value for name, value in values.items() if name in known})
    except TypeError as exc:
        raise CodesError(f"{path}, line {number}: a field is missing: {exc}") from exc
