"""Sound in files that libsndfile does not know (M4A, WebM, video), through PyAV, which brings FFmpeg's decoders."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from streamcodec.errors import AudioError, MissingDependencyError

__all__ = ["MEDIA_KINDS", "MEDIA_SUFFIXES", "MediaFile"]

MEDIA_KINDS = frozenset(("MP4", "Matroska"))  # as `recognise` names them

MEDIA_SUFFIXES = frozenset(
    (
        *(".3gp", ".aac", ".ac3", ".amr", ".ape", ".avi", ".flv", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov", ".mp4", ".mpg"),
        *(".ts", ".weba", ".webm", ".wma", ".wmv", ".wv"),
    )
)

_UNKNOWN = 2**62
# A container's length is rounded, and the codec's padding counts in some.
_MISSING_S = 0.5


class MediaFile:
    """The first sound track of a media file, read forwards, with the interface that `AudioBlocks` uses of `soundfile.SoundFile`.

    `frames` is near 2**62, because containers tell lengths in rounded seconds only: `told_s`, or None. Raises `MissingDependencyError` if
    PyAV is not installed, `AudioError` if the file holds no sound that can be decoded.
    """

    frames = _UNKNOWN

    def __init__(self, path: Path, data: Any) -> None:
        try:
            import av
        except ImportError as exc:
            raise MissingDependencyError(
                f"{path} is nothing that libsndfile reads: pip install 'streamcodec[formats]', or convert it: "
                f"ffmpeg -i {path} {path.stem}.wav"
            ) from exc
        self._av: Any = av
        self._path = path
        try:
            self._container: Any = self._av.open(cast(BinaryIO, data))
        except (av.error.FFmpegError, ValueError) as exc:
            raise AudioError(f"{path} is not audio that can be read: {exc}") from exc
        if not self._container.streams.audio:
            self._container.close()
            raise AudioError(f"{path} holds no sound")
        stream = self._container.streams.audio[0]
        self.samplerate: int = stream.rate
        self.channels: int = stream.channels
        self.told_s = self._container.duration / 1e6 if self._container.duration else None
        self._held = np.empty((0, self.channels), np.float32)
        self._decoded = self._decode(stream)
        self._read_frames = 0

    def _decode(self, stream: Any) -> Iterator[npt.NDArray[np.float32]]:
        """Blocks [T, C]."""
        # Converts samples to floats, and rates and layouts that change midway to the first ones.
        converter = self._av.AudioResampler(format="flt", layout=stream.layout, rate=stream.rate)
        try:
            for frame in self._container.decode(stream):
                for converted in converter.resample(frame):
                    yield converted.to_ndarray().reshape(-1, self.channels)
            for converted in converter.resample(None):
                yield converted.to_ndarray().reshape(-1, self.channels)
        except self._av.error.FFmpegError as exc:
            raise AudioError(f"{self._path} was cut off or is damaged: {exc}") from exc

    def read(self, *, out: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Fill `out` [T, C] and return its part that was filled. Raises `AudioError` if the file ends too early."""
        done = 0
        while done < len(out):
            if not len(self._held):
                block = next(self._decoded, None)
                if block is None:
                    break
                self._held = block
            taken = self._held[: len(out) - done]
            out[done : done + len(taken)] = taken
            self._held = self._held[len(taken) :]
            done += len(taken)
        self._read_frames += done
        if done < len(out) and self.told_s is not None and self._read_frames / self.samplerate < self.told_s - _MISSING_S:
            raise AudioError(
                f"{self._path} was cut off or is damaged: it ends after {self._read_frames / self.samplerate:.1f} of {self.told_s:.1f} s"
            )
        return out[:done]

    def close(self) -> None:
        """Release the decoder."""
        self._container.close()
