"""Recordings as files: written record by record, read from the beginning or from a time on, also while they grow."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from streamcodec.errors import CodesError
from streamcodec.output_file import Input, create_file
from streamcodec.protocol import ModelInfo
from streamcodec.recording.cursor import Cursor
from streamcodec.recording.format import BEFORE_WORD, MARK_WORD_BYTES, Mark, RecordedEvent, RecordingHeader, is_mark, read_record
from streamcodec.recording.parser import RecordingParser
from streamcodec.recording.serializer import RecordingSerializer

__all__ = ["RecordingFile", "RecordingReader", "wall_ms"]

_PIECE_BYTES = 1 << 16


def wall_ms() -> int:
    """The time of day, in ms since 1970."""
    return time.time_ns() // 1_000_000


class RecordingFile:
    """A recording that is being written to a new file at `path`: each event is in the file when `add` returns.

    `size` bytes are written. Raises `InputError` where something stands at `path` already, and `OSError` where
    the file cannot be created.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        stream: str,
        model: ModelInfo,
        *,
        program: str = "streamcodec",
        inputs: Iterable[Input] = (),
        clock: Callable[[], int] = wall_ms,
    ) -> None:
        self.path = Path(path)
        self.size = 0
        self._clock = clock
        word = secrets.token_bytes(MARK_WORD_BYTES)
        header = RecordingHeader(stream=stream, model=model, mark_word=word, begun_ms=clock(), program=program)
        self._serializer = RecordingSerializer(header)
        self._file: FileIO = create_file(path, inputs)
        try:
            self._write(header.serialize())
        except OSError:
            with contextlib.suppress(OSError):
                self.path.unlink()  # it holds nothing
            raise

    @property
    def cursor(self) -> Cursor:
        """Where it is."""
        return self._serializer.cursor

    @property
    def seconds(self) -> float:
        """The audio that is recorded."""
        return self._serializer.samples / self._serializer.sampling_rate

    def fileno(self) -> int:
        """The number of the open file."""
        return self._file.fileno()

    def add(self, *events: RecordedEvent) -> None:
        """Write events. Raises `LocalProtocolError` for one that cannot come now: those before it are written.

        Raises `OSError` where the disk takes no more: the file ends with whole records then, and is closed.
        """
        now, data = self._clock(), bytearray()
        try:
            for event in events:
                data += self._serializer.add(event, now)
        finally:
            self._write(bytes(data))

    def close(self) -> None:
        """Write the last mark, and let the file be on the disk. Raises `OSError` where that fails; the file is closed all the same."""
        if self._file.closed:
            return
        try:
            self._write(self._serializer.mark(self._clock()))
            os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as exc:
            # What is behind the last whole record goes, and nothing comes behind that.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), self.size)
            with contextlib.suppress(OSError):
                self._file.close()
            if exc.filename is None:
                exc.filename = str(self.path)
            raise
        self.size += len(data)


class RecordingReader:
    """Reads the recording at `path`: `events` gives what is there, and when it is called again what has come since.

    A `file` is read instead of opening `path`, which then is its name in errors.

    `samples` of audio were read so far. Raises `CodesError` for a file that cannot be read, or is no recording that this version reads.
    """

    def __init__(self, path: Path, file: BinaryIO | None = None) -> None:
        self.path = path
        with self._named():
            self._file = path.open("rb") if file is None else file
        try:
            with self._named():
                found = RecordingHeader.parse(self._file.read(2 * _PIECE_BYTES))
                if found is None:
                    raise CodesError("a recording that was cut off in its header")
        except BaseException:
            self._file.close()
            raise
        self.header, self._begin = found
        self._parser = RecordingParser()
        self._file.seek(0)

    @property
    def samples(self) -> int:
        return self._parser.samples

    @property
    def faults(self) -> list[str]:
        """What was wrong with the file so far, in words."""
        told = [f"{self._parser.damaged} damaged place(s)"] if self._parser.damaged else []
        return told + ([f"its last {self._parser.unread} bytes are no whole record"] if self._parser.unread else [])

    def events(self) -> Iterator[RecordedEvent]:
        """The events that are in the file and were not given yet, in order."""
        while True:
            with self._named():
                piece = self._file.read(_PIECE_BYTES)
                found = self._parser.feed(piece) if piece else self._parser.finish()
            yield from found
            if not piece:
                return

    def seek(self, seconds: float) -> int:
        """Let `events` go on at the last mark before so much audio, or at the beginning, and return the audio before that, in samples."""
        wanted = round(seconds * self.header.model.sampling_rate)
        low, high = self._begin, self._file.seek(0, os.SEEK_END)
        found: tuple[int, Mark] | None = None
        while low < high:
            middle = (low + high) // 2
            marked = self._mark_from(middle, high)
            if marked is None or marked[1].position > wanted:
                high = middle
            else:
                found, low = marked, marked[0] + 1
        self._parser = RecordingParser(None if found is None else self.header)
        self._file.seek(0 if found is None else found[0])
        return 0 if found is None else found[1].position

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _mark_from(self, at: int, end: int) -> tuple[int, Mark] | None:
        """The first mark that begins in the file from `at` up to `end`, and where."""
        word, data = self.header.mark_word, b""
        self._file.seek(at)
        while piece := self._file.read(_PIECE_BYTES):
            data += piece
            place = data.find(word)
            while place >= 0:
                begin = place - BEFORE_WORD
                if at + begin >= end:
                    return None
                with contextlib.suppress(ValueError):
                    record = read_record(data, begin) if begin >= 0 else None
                    if record is not None and is_mark(record, word):
                        return at + begin, Mark.parse(record.body)
                place = data.find(word, place + 1)
            keep = len(data) - 256
            if keep > 0:
                data, at = data[keep:], at + keep
            if at >= end:
                return None
        return None

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise CodesError(f"{self.path}: {exc.strerror or exc}") from exc
        except CodesError as exc:
            raise CodesError(f"{self.path}: {exc}") from exc
