"""Writes an `.ecdc` file as its stream grows. The file can be read at any time, up to what was written last."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from os import PathLike
from types import TracebackType
from typing import Self

from streamcodec.bitstream.ecdc import ChunkEncoder, Coding, EcdcHeader, chunk_frames, serialize_scale
from streamcodec.bitstream.files import writing
from streamcodec.config import CodecConfig
from streamcodec.errors import CodesError
from streamcodec.output_file import Input, OutputFile
from streamcodec.types import Codes

__all__ = ["EcdcWriter"]

_DIGITS = 15  # of the samples of a file


class EcdcWriter:
    """Writes the codes of a stream, or the chunks of a clip, as they come; `header.samples` is not used.

    The format has the number of samples in front. Each call of `write` writes it anew, as the samples that the whole frames stand for.
    Spaces fill the header for that, so the file is up to 14 bytes longer than one of known length; all else is equal, and the package
    `encodec` reads it. A killed program leaves a file with all that its calls wrote, but perhaps the last one's. The file appears with the
    first codes. What cannot be written twice, a pipe or a device, is refused.

    Raises `CodesError` if the file cannot be written, and if it is one of `inputs`.
    """

    def __init__(
        self, path: str | PathLike[str], config: CodecConfig, header: EcdcHeader, coding: Coding, *, inputs: Iterable[Input] = ()
    ) -> None:
        self._config, self._header, self._coding = config, header, coding
        self._json_size = len(replace(header, samples=10**_DIGITS - 1).json())
        self._frames: list[int] = []  # of each chunk
        self._encoder: ChunkEncoder | None = None
        self._end = len(header.serialize(self._json_size))  # of the bytes that are final
        self._path = path
        self._failed = False
        with self._told():
            self._output = OutputFile(path, inputs)
        if not self._output.is_regular:
            self._output.close()
            raise CodesError(f"{path} is a pipe or a device: an .ecdc file has its length in front, and can only grow in a regular file")

    def write(self, codes: Codes, scale: float | None = None) -> None:
        """Append codes [n_q, F] of a stream, or one chunk of a model that codes chunks, with its scale if the model normalises.

        Raises `CodesError` for codes and chunks that do not fit the file, and for a full disk.
        """
        config = self._config
        if self._output.file.closed:
            raise CodesError(f"{self._path} is closed, expected an open file")
        if self._failed:
            raise CodesError(f"{self._path} could not be written before, expected no more codes")
        if codes.ndim != 2 or codes.shape[0] != self._header.n_q or not codes.shape[1] or codes.dtype.kind not in "iu":
            raise CodesError(
                f"codes are {codes.dtype} {list(codes.shape)}, expected integers [{self._header.n_q}, frames] for {self._path}"
            )
        if codes.min() < 0 or codes.max() >= config.codebook_size:
            raise CodesError(f"codes range from {codes.min()} to {codes.max()}, expected 0 to {config.codebook_size - 1}")
        begins = self._encoder is None or config.chunk_length is not None
        if (scale is not None) != (begins and config.normalize):
            raise CodesError(f"scale is {scale}, expected {'a number' if begins and config.normalize else 'None'} with these codes")
        longest = None if config.chunk_length is None else config.frames_for(config.chunk_length)
        if longest is not None and (codes.shape[1] > longest or any(frames != longest for frames in self._frames)):
            raise CodesError(
                f"chunks have {[*self._frames, codes.shape[1]][-2:]} frames, expected {longest}, and at most so many in the last one"
            )
        with self._told():
            if begins:
                self._begin(scale)
            assert self._encoder is not None
            complete, tail = self._encoder.push(codes), self._encoder.tail()
            self._write(self._end, complete + tail)
            self._end += len(complete)
            self._frames[-1] += codes.shape[1]
            self._write(0, self._header_for(self._samples()))
            if sys.platform != "win32":  # Windows renames no open file
                self._output.put_in_place()

    def close(self, samples: int | None = None) -> None:
        """End the file, and keep it if it holds codes; further calls do nothing.

        `samples` are those of each channel, if they are known by now: the last frame may be filled in part. Raises `CodesError` if they
        are not as many as the frames written stand for.
        """
        if self._output.file.closed:
            return
        try:
            if samples is not None and (samples < 1 or chunk_frames(self._config, samples) != self._frames):
                raise CodesError(
                    f"{samples} samples are not the {sum(self._frames)} frames in {len(self._frames)} chunk(s) of {self._path}"
                )
            with self._told():
                if samples is not None:
                    self._write(0, self._header_for(samples))
                if self._frames:
                    self._output.put_in_place()
        finally:
            with self._told():
                self._output.close()

    def _begin(self, scale: float | None) -> None:
        if self._encoder is not None:
            self._end += len(self._encoder.tail())
        self._encoder = self._coding.encoder()
        self._frames.append(0)
        data = serialize_scale(scale)
        self._write(self._end, data)
        self._end += len(data)

    def _samples(self) -> int:
        """As many samples as the frames stand for; of a full last chunk, those that the next one does not change."""
        stride, before = self._config.chunk_stride, len(self._frames) - 1
        last = self._frames[-1] * self._config.hop_length
        return last if stride is None else before * stride + min(stride, last)

    def _header_for(self, samples: int) -> bytes:
        return replace(self._header, samples=samples).serialize(self._json_size)

    def _write(self, at: int, data: bytes) -> None:
        self._output.file.seek(at)
        left = memoryview(data)
        while left:
            left = left[self._output.file.write(left) :]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        with writing(self._path):
            try:
                yield
            except OSError:
                self._failed = True
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
