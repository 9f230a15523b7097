"""Reads any audio file to 24 kHz mono and tidies it: silence cut short, level brought into a band.

Samples are float32 in [-1, 1], one axis.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from streamcodec.errors import AudioError, MissingDependencyError
from streamcodec.types import Samples

__all__ = ["AUDIO_SUFFIXES", "into_band", "read_audio", "without_silence"]


_LIBSNDFILE = {".wav", ".flac", ".ogg", ".oga", ".opus", ".aiff", ".aif", ".au", ".mp3"}
AUDIO_SUFFIXES = _LIBSNDFILE | {".g722", ".gsm", ".m4a", ".aac", ".wma", ".webm", ".mka", ".mp4"}


def read_audio(path: Path, rate: int) -> Samples:
    """The file's samples, mixed to mono and resampled to `rate`; libsndfile where it can, else ffmpeg.

    Raises `AudioError` for a file that holds no readable audio.
    """
    if path.suffix.lower() in _LIBSNDFILE:
        try:
            samples, file_rate = soundfile.read(path, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            return _through_ffmpeg(path, rate)
        mono = np.ascontiguousarray(samples.mean(axis=1))
        return _finite(path, mono if file_rate == rate else soxr.resample(mono, file_rate, rate, quality="HQ"))
    return _through_ffmpeg(path, rate)


def _through_ffmpeg(path: Path, rate: int) -> Samples:
    if shutil.which("ffmpeg") is None:
        raise MissingDependencyError(f"{path.name} needs ffmpeg, which is not on this machine (apt-get install ffmpeg)")
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-f", "f32le", "-ac", "1", "-ar", str(rate), "-"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode or not done.stdout:
        raise AudioError(f"{path.name} holds no readable audio: {done.stderr.decode(errors='replace').strip()[-200:] or 'no samples'}")
    return _finite(path, np.frombuffer(done.stdout, dtype="<f4"))


def _finite(path: Path, samples: Samples) -> Samples:
    if not np.isfinite(samples).all():
        raise AudioError(f"{path.name} holds samples that are not finite")
    return samples.astype(np.float32, copy=False)


def frame_levels(samples: Samples, frame: int) -> NDArray[np.float64]:
    """RMS of each whole frame of `frame` samples, in dB relative to full scale."""
    whole = samples[: len(samples) // frame * frame].reshape(-1, frame).astype(np.float64)
    return np.asarray(10.0 * np.log10(np.square(whole).mean(axis=1) + 1e-12))


def without_silence(samples: Samples, rate: int, *, keep: float = 0.2, below_peak: float = 45.0) -> Samples:
    """The samples with every silence cut to at most `keep` seconds on each side of the sound, and short fades at both ends.

    Silence is any 20 ms frame more than `below_peak` dB under the loudest one.
    """
    frame = rate // 50
    levels = frame_levels(samples, frame)
    if levels.size == 0 or levels.max() < -60.0:
        return samples[:0]
    reach = round(keep * 50)
    loud = np.convolve(levels > levels.max() - below_peak, np.ones(2 * reach + 1), mode="same")[: levels.size] > 0.5
    kept = samples[: levels.size * frame].reshape(-1, frame)[loud].reshape(-1).copy()
    fade = np.linspace(0.0, 1.0, min(rate // 200, kept.size // 2), dtype=np.float32)
    kept[: fade.size] *= fade
    kept[kept.size - fade.size :] *= fade[::-1]
    return kept


def into_band(samples: Samples, rate: int, *, low: float = -32.0, high: float = -20.0, peak: float = 0.95) -> Samples:
    """The samples scaled so that the active frames' level lies within [low, high] dBFS and no sample exceeds `peak`.

    A file inside the band keeps its level, so the corpus stays as varied as its sources are.
    """
    levels = frame_levels(samples, rate // 50)
    if levels.size == 0:
        return samples
    active = levels[levels > levels.max() - 25.0]
    level = 10.0 * np.log10(np.mean(10.0 ** (active / 10.0)))
    gain = 10.0 ** ((float(np.clip(level, low, high)) - level) / 20.0)
    loudest = float(np.abs(samples).max())
    return np.asarray(samples * np.float32(min(gain, peak / max(loudest, 1e-9))), dtype=np.float32)
