"""Reads sound files as float32 [C, T] at their own rate.

It reads every format that libsndfile reads. It neither resamples nor mixes channels.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from io import FileIO
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import soundfile as sf

from streamcodec.audio.io.containers import HEAD_BYTES, FilePart, recognise, split
from streamcodec.audio.io.media import MEDIA_KINDS, MEDIA_SUFFIXES, MediaFile
from streamcodec.audio.io.sound_bytes import ForwardSoundFile, SoundWindow, reason_of
from streamcodec.audio.samples import MAX_CHANNELS, check_values
from streamcodec.errors import AudioError
from streamcodec.types import Samples

__all__ = ["AUDIO_SUFFIXES", "AudioBlocks", "bundled_clip", "open_audio_blocks", "read_audio"]

AUDIO_SUFFIXES = MEDIA_SUFFIXES | {
    *(".aif", ".aifc", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".rf64", ".snd", ".w64", ".wav"),
}
"""What files that may hold audio end in. Any other name is read, too, where it is given."""

_Decoder = ForwardSoundFile | MediaFile

log = logging.getLogger("streamcodec.audio")

_READ_S = 10.0
# A damaged header may tell any rate: what is read at once is bounded, whatever it says.
_MAX_READ = 1 << 19

# A FLAC whose recording was cut off has an unknown length, which libsndfile reports as a number near 2**63.
_UNKNOWN_FRAMES = 2**48


def read_audio(path: str | PathLike[str]) -> tuple[Samples, int]:
    """Read a whole sound file: samples [C, T] in [-1, 1] and the rate in Hz.

    Raises `AudioError` if the file does not exist, holds no samples or is not audio.
    """
    with AudioBlocks(path, None) as blocks:
        return _joined(list(blocks)), blocks.rate


def open_audio_blocks(path: str | PathLike[str], block_s: float = 1.0) -> AudioBlocks:
    """Open a sound file to read it block by block, so that the whole file is never in memory.

    Raises `AudioError` as `read_audio` does, and if `block_s` is not above 0.
    """
    if not block_s > 0:
        raise AudioError(f"block_s is {block_s!r}, expected seconds above 0")
    return AudioBlocks(path, block_s)


class AudioBlocks:
    """An open sound file; iterating over it gives blocks [C, T] of `block_s` seconds (None: one block). The last block may be shorter.

    `rate` is in Hz; `channels` and `frames` are the size of the file, and `frames` is None if its header does not tell it. Files that
    were joined are read one after the other. It is closed after its last block, by `close()`, and at the end of a `with` statement.
    """

    def __init__(self, path: str | PathLike[str], block_s: float | None) -> None:
        self._path = Path(path)
        self._file = _open(self._path)
        try:
            self._parts = self._opened_parts()
        except BaseException:
            self._file.close()
            raise
        first = self._parts[0][0]
        self.rate: int = first.samplerate
        self.channels: int = first.channels
        known = [sound.frames for sound, _, _ in self._parts if sound.frames < _UNKNOWN_FRAMES]
        self.frames: int | None = sum(known) if len(known) == len(self._parts) else None
        self._block_s = block_s

    def _opened_parts(self) -> list[tuple[_Decoder, SoundWindow, FilePart]]:
        opened: list[tuple[_Decoder, SoundWindow, FilePart]] = []
        parts = split(self._file)
        for part in parts:
            if part.missing:
                raise AudioError(f"{self._path} was cut off or is damaged: {part.missing}")
            data = SoundWindow(self._file, part.start, part.end, part.patches)
            sound = _decoder(self._path, data)
            if not sound.frames:
                raise AudioError(f"{self._path} holds no samples")
            if sound.channels > MAX_CHANNELS:
                raise AudioError(f"{self._path} has {sound.channels} channels, expected at most {MAX_CHANNELS}")
            if opened and (sound.samplerate, sound.channels) != (opened[0][0].samplerate, opened[0][0].channels):
                raise AudioError(
                    f"{self._path} is {len(parts)} files in one: the first has {opened[0][0].samplerate} Hz and {opened[0][0].channels} "
                    f"channel(s), another {sound.samplerate} Hz and {sound.channels}: expected equal ones"
                )
            opened.append((sound, data, part))
        return opened

    @property
    def duration_s(self) -> float | None:
        """The file's length in seconds, or None if its header does not tell it."""
        lengths = [_length_s(sound) for sound, _, _ in self._parts]
        return None if None in lengths else sum(length for length in lengths if length is not None)

    def __iter__(self) -> Iterator[Samples]:
        with self:
            if not self._file.closed and any(not part.knows_length or _length_s(sound) is None for sound, _, part in self._parts):
                log.warning("%s does not say how long it is, as if it was cut off while it was written: what is there is read", self._path)
            position = 0
            for block in self._blocks():
                check_values(block, first=position, source=str(self._path))
                position += block.shape[1]
                yield block
            if not position and not self._file.closed:
                raise AudioError(f"{self._path} holds no samples")

    def _blocks(self) -> Iterator[Samples]:
        size = max(1, round((self._block_s or _READ_S) * self.rate))
        held: list[Samples] = []
        for sound, data, _ in self._parts:
            done = 0
            while not self._file.closed:
                wanted = size if self._block_s is None else size - sum(block.shape[1] for block in held)
                block = self._read(sound, data, min(wanted, _MAX_READ))
                if not block.shape[1]:
                    break
                done += block.shape[1]
                held.append(block)
                if self._block_s is not None and sum(block.shape[1] for block in held) == size:
                    yield _joined(held)
                    held = []
            if not self._file.closed and done < sound.frames < _UNKNOWN_FRAMES:
                raise AudioError(f"{self._path} was cut off or is damaged: it ends after {done} of {sound.frames} samples")
        if held and not self._file.closed:
            yield _joined(held)

    def _read(self, sound: _Decoder, data: SoundWindow, frames: int) -> Samples:
        """The next samples [C, T], none at the end of the part."""
        # libsndfile's layout is [T, C]. It fills the array up to an error; NaN marks what it did not reach.
        block = np.full((frames, self.channels), np.nan, np.float32)
        try:
            with data.errors():
                block = sound.read(out=block)
        except OSError as error:
            raise AudioError(f"{self._path} cannot be read: {error.strerror}") from error
        except sf.SoundFileError as error:
            # Where nobody knows the length, a last frame that is incomplete is the end.
            if sound.frames < _UNKNOWN_FRAMES or not data.at_end:
                raise AudioError(f"{self._path} is damaged: {reason_of(error)}") from error
            block = block[: int(np.isfinite(block).all(axis=1).argmin())]
        return np.ascontiguousarray(block.T)

    def close(self) -> None:
        """Close the file; blocks that were read stay valid."""
        for sound, _, _ in self._parts:
            sound.close()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _length_s(sound: _Decoder) -> float | None:
    if isinstance(sound, MediaFile):
        return sound.told_s
    return sound.frames / sound.samplerate if sound.frames < _UNKNOWN_FRAMES else None


def _joined(blocks: list[Samples]) -> Samples:
    return blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)


def bundled_clip() -> tuple[Samples, int]:
    """Ten seconds of English speech from this package: samples [T] and the rate, 24,000 Hz.

    `clips/LICENCE.md` names the author and the licence (CC BY-SA 3.0).
    """
    data = files("streamcodec.audio").joinpath("clips", "speech.flac").read_bytes()
    samples, rate = sf.read(io.BytesIO(data), dtype="float32")
    return np.asarray(samples, np.float32), int(rate)


def _open(path: Path) -> FileIO:
    """Open a file. What comes through a pipe is copied to a temporary file, because libsndfile needs to seek."""
    try:
        if path.is_dir():
            raise AudioError(f"{path} is a folder, expected a sound file")
        file = FileIO(path)
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            if os.fstat(file.fileno()).st_size == 0:
                file.close()
                raise AudioError(f"{path} is an empty file, expected audio")
            return file
        with file:
            return _copied(path, file)
    except FileNotFoundError as error:
        raise AudioError(f"there is no file {path}") from error
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror or error}") from error


def _copied(path: Path, pipe: FileIO) -> FileIO:
    copy = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - it outlives this function
    try:
        shutil.copyfileobj(pipe, copy, 1 << 20)
        if copy.tell() == 0:
            raise AudioError(f"{path} gave nothing, expected audio")
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return copy


def _decoder(path: Path, data: SoundWindow) -> _Decoder:
    data.seek(0)
    kind = recognise(data.read(HEAD_BYTES))
    data.seek(0)
    if kind in MEDIA_KINDS:
        return MediaFile(path, data)
    try:
        with data.errors():
            return ForwardSoundFile(data)
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror or error}") from error
    # soundfile raises TypeError for a file without a header, because it would need the rate and channels as arguments.
    except (sf.SoundFileError, TypeError) as error:
        if path.suffix.lower() in MEDIA_SUFFIXES:
            data.seek(0)
            return MediaFile(path, data)
        raise AudioError(f"{path} is not audio that can be read, expected WAV, FLAC, OGG, MP3 or the like: {reason_of(error)}") from error
