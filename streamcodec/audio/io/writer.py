"""Writes 16-bit or float WAV and 16-bit FLAC. A recording that is cut off, by a kill or a full disk, can be read to where it stopped."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import soundfile as sf

from streamcodec.audio.dsp.resample import check_rate
from streamcodec.audio.io.sound_bytes import SoundBytes
from streamcodec.audio.io.wav import WavBody
from streamcodec.audio.samples import MAX_CHANNELS, quantize16, to_float
from streamcodec.errors import AudioError, InputError
from streamcodec.output_file import Input, OutputFile
from streamcodec.types import Samples

__all__ = ["AudioWriter", "Encoding", "check_suffix", "write_audio"]

Encoding = Literal["pcm16", "float"]

_ENCODINGS: dict[str, tuple[Encoding, ...]] = {".wav": ("pcm16", "float"), ".flac": ("pcm16",)}


def check_suffix(path: str | PathLike[str]) -> str:
    """The suffix of a sound file that can be written, in small letters; raises `AudioError` for any other."""
    suffix = Path(path).suffix.lower()
    if suffix not in _ENCODINGS:
        raise AudioError(f"{path} has the suffix {suffix!r}, expected .wav or .flac")
    return suffix


class AudioWriter:
    """Writes a sound file block by block. The suffix determines the format: .wav, or .flac (16 bits only).

    The file appears with its first samples: until then, whatever stands at `path` is left alone. With `whole`, it appears only when the
    writer is closed without an exception. A WAV is valid and complete after every `write`, even if the program is killed; beyond 4 GiB
    it becomes an RF64. A FLAC of a killed program lacks its length and at most its last 4,096 samples.

    Raises `AudioError` for another suffix, encoding, rate or channel count, if the file cannot be created, and if it is the same file as
    one of `inputs`.
    """

    def __init__(
        self,
        path: str | PathLike[str],
        rate: int = 24_000,
        channels: int = 1,
        encoding: Encoding = "pcm16",
        *,
        inputs: Iterable[Input] = (),
        whole: bool = False,
    ) -> None:
        suffix = check_suffix(path)
        if encoding not in _ENCODINGS[suffix]:
            supported = " or ".join(map(repr, _ENCODINGS[suffix]))
            raise AudioError(f"encoding is {encoding!r} for a {suffix} file, expected {supported}")
        if check_rate(rate).denominator != 1:
            raise AudioError(f"sampling rate is {rate!r}, expected whole Hz in a file")
        if not 1 <= channels <= MAX_CHANNELS:
            raise AudioError(f"channels is {channels}, expected 1 to {MAX_CHANNELS}")
        self.rate = int(rate)
        self.channels = channels
        self.frames = 0
        self._whole = whole
        try:
            self._output = OutputFile(path, inputs)
        except InputError as error:
            raise AudioError(str(error)) from error
        except OSError as error:
            raise AudioError(f"{path} cannot be written: {error.strerror}") from error
        self._path = self._output.path
        self._is_float = encoding == "float"
        self._body: _Body
        if suffix == ".wav":
            self._body = WavBody(self._output.file, self.rate, channels, is_float=self._is_float)
        else:
            self._body = _FlacBody(self._output, self.rate, channels)

    def write(self, samples: Samples) -> None:
        """Append samples [T] (mono) or [C, T]; 16-bit files saturate.

        Raises `AudioError` for a shape that does not fit the file, for samples that are not finite, for a closed file and for a full disk.
        """
        block = to_float(samples)
        block = block[None] if block.ndim == 1 else block
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise AudioError(f"samples have shape {list(np.shape(samples))}, expected [{self.channels}, T] for {self._path}")
        if not np.isfinite(block).all():
            raise AudioError(f"samples for {self._path} hold NaN or infinity, expected finite samples")
        if self._output.file.closed:
            raise AudioError(f"{self._path} is closed, expected an open file")
        if not block.shape[1]:
            return
        with self._told():
            self._body.write(np.ascontiguousarray(block.T) if self._is_float else np.ascontiguousarray(quantize16(block.T)))
            if not self._whole and sys.platform != "win32":  # Windows renames no open file
                self._output.put_in_place()
        self.frames += block.shape[1]

    def close(self) -> None:
        """Finish the file; further calls do nothing. Raises `AudioError` if its last samples could not be written."""
        self._end(keep=self._whole or self.frames > 0)

    def _end(self, *, keep: bool) -> None:
        if self._output.file.closed:
            return
        try:
            with self._told():
                self._body.finish()
                if keep:
                    self._output.put_in_place()
        finally:
            with self._told():
                self._output.close()

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AudioError(f"{self._path} cannot be written: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and self._whole:
            with contextlib.suppress(AudioError):  # the exception that is under way is the one to tell
                self._end(keep=False)
        else:
            self.close()


class _Body(Protocol):
    """The samples of an open file in one format."""

    def write(self, frames: npt.NDArray[Any]) -> None: ...

    def finish(self) -> None: ...


class _FlacBody:
    """Writes 16-bit frames [T, C] as FLAC."""

    def __init__(self, output: OutputFile, rate: int, channels: int) -> None:
        self._bytes = SoundBytes(output.file)
        self._flac = sf.SoundFile(self._bytes, "w", rate, channels, "PCM_16", format="FLAC")

    def write(self, frames: npt.NDArray[Any]) -> None:
        with self._bytes.errors():
            self._flac.write(frames)
            self._flac.flush()

    def finish(self) -> None:
        with self._bytes.errors():
            self._flac.close()


def write_audio(path: str | PathLike[str], samples: Samples, rate: int, encoding: Encoding = "pcm16") -> None:
    """Write a whole clip [T] or [C, T] as .wav or .flac, according to the suffix.

    Raises `AudioError` as `AudioWriter` does; then nothing is written.
    """
    with AudioWriter(path, rate, 1 if np.ndim(samples) < 2 else len(samples), encoding, whole=True) as writer:
        writer.write(samples)
