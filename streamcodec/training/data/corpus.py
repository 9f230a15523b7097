"""A corpus is one flat file of 24 kHz mono 16-bit samples and an index that says which stretch is whose.

Whole sources are held out, never single files: a voice that is evaluated on was never heard in training.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from streamcodec.errors import AudioError, InputError
from streamcodec.output_file import replacing, write_text
from streamcodec.training.data.audiofile import AUDIO_SUFFIXES, into_band, read_audio, without_silence
from streamcodec.training.data.sources import Kind
from streamcodec.types import Samples

__all__ = ["Corpus", "Folder", "Stretch", "build"]

log = logging.getLogger(__name__)

_SAMPLES = "corpus.i16"
_INDEX = "corpus.json"


@dataclass(frozen=True)
class Folder:
    """A folder of audio that becomes one source; `pattern` picks files by their path below it."""

    name: str
    path: Path
    kind: Kind = "speech"
    held_out: bool = False
    pattern: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Stretch:
    """One file's samples: `length` of them from `offset` on; `speaker` is the folder the file lay in."""

    source: str
    speaker: str
    kind: Kind
    held_out: bool
    offset: int
    length: int


def build(folders: Sequence[Folder], target: Path, *, rate: int = 24_000, minimum: float = 0.25, longest: float = 600.0) -> Corpus:
    """Read all folders' audio into a corpus at `target`.

    Files shorter than `minimum` seconds of sound are left out, longer ones than `longest` are cut. Raises `InputError` if nothing is left.
    """
    target.mkdir(parents=True, exist_ok=True)
    stretches: list[Stretch] = []
    offset = 0
    with replacing(target / _SAMPLES) as out, ThreadPoolExecutor() as pool:
        for folder in folders:
            files = _files(folder)
            before = offset
            for path, samples in zip(files, pool.map(lambda p: _tidy(p, rate), files), strict=True):
                samples = samples[: int(longest * rate)]
                if len(samples) < minimum * rate:
                    continue
                out.write(np.round(samples * 32767.0).astype("<i2").tobytes())
                speaker = path.relative_to(folder.path).parent.as_posix()
                stretches.append(Stretch(folder.name, speaker, folder.kind, folder.held_out, offset, len(samples)))
                offset += len(samples)
            side = "held out" if folder.held_out else "training"
            log.info("%-16s %6.2f h from %d files, %s", folder.name, (offset - before) / rate / 3600, len(files), side)
        if not stretches:
            looked = ", ".join(str(f.path) for f in folders) or "no folders"
            raise InputError(f"no audio in {looked}: expected files such as .wav, .flac or .ogg")
    licences = {f.name: f.licence for f in folders}
    index = {"rate": rate, "licences": licences, "stretches": [asdict(s) for s in stretches]}
    write_text(target / _INDEX, json.dumps(index))
    return Corpus(target)


def _files(folder: Folder) -> list[Path]:
    found = sorted(p for p in folder.path.rglob("*") if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file() and not p.is_symlink())
    return [p for p in found if re.search(folder.pattern, "/" + p.relative_to(folder.path).as_posix())]


def _tidy(path: Path, rate: int) -> Samples:
    try:
        return into_band(without_silence(read_audio(path, rate), rate), rate)
    except AudioError as error:
        log.warning("left out: %s", error)
        return np.zeros(0, np.float32)


class Corpus:
    """A built corpus; samples stay on disk and are mapped into memory."""

    def __init__(self, folder: Path) -> None:
        if not (folder / _INDEX).is_file():
            raise InputError(f"{folder} holds no corpus: build one first")
        index = json.loads((folder / _INDEX).read_text())
        self.rate: int = index["rate"]
        self.stretches = [Stretch(**s) for s in index["stretches"]]
        self._samples = np.memmap(folder / _SAMPLES, dtype="<i2", mode="r")

    def check_rate(self, rate: int) -> None:
        """Raise `InputError` unless a model at `rate` Hz can learn from this corpus."""
        if self.rate != rate:
            raise InputError(f"the corpus is at {self.rate} Hz and the model at {rate} Hz")

    def hours(self, source: str | None = None) -> float:
        """Hours of audio, of one source or of all."""
        return sum(s.length for s in self.stretches if source in (None, s.source)) / self.rate / 3600

    def spans(self, kind: Kind, *, held_out: bool) -> dict[str, tuple[int, int]]:
        """Each source's (start, end) in samples, of one kind and one side of the split; a source's files lie one after the other."""
        spans: dict[str, tuple[int, int]] = {}
        for s in self.stretches:
            if s.kind == kind and s.held_out == held_out:
                start, _ = spans.get(s.source, (s.offset, 0))
                spans[s.source] = (start, s.offset + s.length)
        return spans

    def read(self, start: int, length: int) -> Samples:
        """`length` samples from `start` on."""
        return self._samples[start : start + length].astype(np.float32) / 32768.0

    def clips(
        self, seconds: float, count: int, *, kind: Kind = "speech", held_out: bool = True, sources: Iterable[str] | None = None
    ) -> list[Samples]:
        """`count` clips, spread evenly over the sources and over each one: always the same ones for the same corpus."""
        wanted = None if sources is None else set(sources)
        spans = [span for name, span in self.spans(kind, held_out=held_out).items() if wanted is None or name in wanted]
        length = int(seconds * self.rate)
        spans = [(start, end) for start, end in spans if end - start >= length]
        clips = []
        for i in range(count if spans else 0):
            start, end = spans[i % len(spans)]
            turn, turns = i // len(spans), -(-count // len(spans))
            clips.append(self.read(start + (end - start - length) * turn // max(turns, 1), length))
        return clips
