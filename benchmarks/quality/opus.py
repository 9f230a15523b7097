"""A clip through Opus, as ffmpeg's libopus codes speech: the rival that every quality figure is read beside."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.quality.measures import align
from streamcodec.audio import write_audio
from streamcodec.types import Samples

__all__ = ["FRAME_MS", "ThroughOpus", "payload_bytes", "through_opus", "why_not"]


FRAME_MS = 60
_PAGE_HEADER = 27


@dataclass(frozen=True)
class ThroughOpus:
    """What came out, as long as what went in; bytes of the Opus packets and of the Ogg file; samples by which the output came late."""

    audio: Samples
    packets: int
    file: int
    lag: int


def why_not() -> str | None:
    """Why Opus cannot be measured here; None where it can."""
    if shutil.which("ffmpeg") is None:
        return "ffmpeg is not on this machine"
    listed = subprocess.run(["ffmpeg", "-v", "error", "-encoders"], capture_output=True, text=True, check=False).stdout
    return None if " libopus " in listed else "this ffmpeg has no libopus"


def through_opus(clip: Samples, rate: int, kbps: float) -> ThroughOpus:
    """Encode for speech (`voip`) at a target bitrate, in frames as long as ffmpeg's encoder allows for speech, and decode."""
    with tempfile.TemporaryDirectory() as folder:
        plain, coded = Path(folder) / "clip.wav", Path(folder) / "clip.opus"
        write_audio(plain, clip, rate)
        options = ["-c:a", "libopus", "-application", "voip", "-b:a", f"{kbps}k", "-frame_duration", str(FRAME_MS)]
        _ffmpeg(["-i", str(plain), *options, str(coded)])
        heard = np.frombuffer(_ffmpeg(["-i", str(coded), "-f", "f32le", "-ac", "1", "-ar", str(rate), "-"]), "<f4")
        data = coded.read_bytes()
    audio, lag = align(heard, clip)
    return ThroughOpus(audio, payload_bytes(data), len(data), lag)


def _ffmpeg(arguments: list[str]) -> bytes:
    return subprocess.run(["ffmpeg", "-v", "error", "-nostdin", *arguments], capture_output=True, check=True).stdout


def payload_bytes(ogg: bytes) -> int:
    """Bytes of audio packets in an Ogg Opus file: all pages' bodies but the first two's, which hold the headers (RFC 7845)."""
    bodies, at = [], 0
    while at < len(ogg):
        if ogg[at : at + 4] != b"OggS":
            raise ValueError(f"no Ogg page at byte {at}")
        segments = ogg[at + _PAGE_HEADER - 1]
        body = sum(ogg[at + _PAGE_HEADER : at + _PAGE_HEADER + segments])
        bodies.append(body)
        at += _PAGE_HEADER + segments + body
    return sum(bodies[2:])
