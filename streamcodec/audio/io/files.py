"""Reads sound files as float32 [C, T] at their own rate.

It reads every format that libsndfile reads. It neither resamples nor mixes channels, and does not support pipes.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.resources import files
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import soundfile as sf

from streamcodec.errors import AudioError
from streamcodec.types import Samples

__all__ = ["AudioBlocks", "bundled_clip", "open_audio_blocks", "read_audio"]

# A FLAC whose recording was cut off has an unknown length, which libsndfile reports as a number near 2**63.
_UNKNOWN_FRAMES = 2**48


def read_audio(path: str | PathLike[str]) -> tuple[Samples, int]:
    """Read a whole sound file: samples [C, T] in [-1, 1] and the rate in Hz.

    Raises `AudioError` if the file does not exist, holds no samples or is not audio.
    """
    with AudioBlocks(path, None) as blocks:
        return next(iter(blocks)), blocks.rate


def open_audio_blocks(path: str | PathLike[str], block_s: float = 1.0) -> AudioBlocks:
    """Open a sound file to read it block by block, so that the whole file is never in memory.

    Raises `AudioError` as `read_audio` does, and if `block_s` is not above 0.
    """
    if not block_s > 0:
        raise AudioError(f"block_s is {block_s!r}, expected seconds above 0")
    return AudioBlocks(path, block_s)


class AudioBlocks:
    """An open sound file; iterating over it gives blocks [C, T] of `block_s` seconds (None: one block). The last block may be shorter.

    `rate` is in Hz; `channels` and `frames` are the size of the file. It is closed after its last block, by `close()`, and at the end of a
    `with` statement.
    """

    def __init__(self, path: str | PathLike[str], block_s: float | None) -> None:
        self._path = Path(path)
        self._file = _open(self._path)
        self.rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.frames: int = self._file.frames
        if not 0 < self.frames < _UNKNOWN_FRAMES:
            self._file.close()
            raise AudioError(f"{self._path} {'holds no samples' if self.frames <= 0 else 'gives no length: it was cut off while written'}")
        self._block = self.frames if block_s is None else max(1, round(block_s * self.rate))

    @property
    def duration_s(self) -> float:
        """The file's length in seconds."""
        return self.frames / self.rate

    def __iter__(self) -> Iterator[Samples]:
        with self:
            while not self._file.closed:
                try:
                    # libsndfile's layout is [T, C]
                    block = self._file.read(self._block, dtype="float32", always_2d=True)
                except sf.SoundFileError as error:
                    raise AudioError(f"{self._path} is damaged: {error}") from error
                if not len(block):
                    return
                yield np.ascontiguousarray(block.T)

    def close(self) -> None:
        """Close the file; blocks that were read stay valid."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def bundled_clip() -> tuple[Samples, int]:
    """Ten seconds of English speech from this package: samples [T] and the rate, 24,000 Hz.

    `clips/LICENCE.md` names the author and the licence (CC BY-SA 3.0).
    """
    data = files("streamcodec.audio").joinpath("clips", "speech.flac").read_bytes()
    samples, rate = sf.read(io.BytesIO(data), dtype="float32")
    return np.asarray(samples, np.float32), int(rate)


def _open(path: Path) -> sf.SoundFile:
    if path.is_dir():
        raise AudioError(f"{path} is a folder, expected a sound file")
    if not path.exists():
        raise AudioError(f"there is no file {path}")
    if path.stat().st_size == 0:
        raise AudioError(f"{path} is an empty file, expected audio")
    try:
        return sf.SoundFile(path)
    # soundfile raises TypeError for a file without a header, because it would need the rate and channels as arguments.
    except (sf.SoundFileError, TypeError) as error:
        raise AudioError(f"{path} is not audio that can be read, expected WAV, FLAC, OGG, MP3 or the like: {error}") from error
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error}") from error
