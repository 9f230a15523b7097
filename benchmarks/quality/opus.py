"""A clip through Opus at its best: the rival that every quality figure is read beside.

Packets of 20 ms come from the newest libopus that a package carries (`opuscodec`), those of 60 ms from ffmpeg's libopus, both for speech
and at complexity 10. They are decoded as they are, and with the neural enhancement of libopus 1.5 (NoLACE), which the npm package
`@wasm-audio-decoders/opus-ml` runs in Node.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.quality.measures import align
from streamcodec.audio import resample, write_audio
from streamcodec.types import Samples

__all__ = ["OpusWay", "ThroughOpus", "payload_bytes", "through_opus", "versions", "ways", "why_not"]

_OGG_RATE = 48_000
_PAGE_HEADER = 27
_VOICE = 2  # of opuscodec's signal types
_ENHANCER = "@wasm-audio-decoders/opus-ml"
_DECODE = """
import { createRequire } from "node:module";
import { readFileSync, writeSync } from "node:fs";
const { OpusMLDecoder } = createRequire(process.argv[1] + "/")(process.argv[2]);
const decoder = new OpusMLDecoder({ channels: 1, streamCount: 1, coupledStreamCount: 0, channelMappingTable: [0], preSkip: 0 });
await decoder.ready;
const coded = readFileSync(0);
const packets = [];
for (let at = 0; at < coded.length; ) {
  const size = coded.readUInt32LE(at);
  packets.push(new Uint8Array(coded.subarray(at + 4, at + 4 + size)));
  at += 4 + size;
}
const { channelData, errors } = decoder.decodeFrames(packets);
if (errors.length) throw new Error(JSON.stringify(errors[0]));
const heard = new Uint8Array(channelData[0].buffer, channelData[0].byteOffset, channelData[0].byteLength);
for (let at = 0; at < heard.length; ) at += writeSync(1, heard, at);
process.exit(0);
"""


@dataclass(frozen=True)
class OpusWay:
    """An encoder, "opuscodec" or "ffmpeg", its frames' length, and the folder whose node_modules enhance what is decoded, or None."""

    encoder: str
    frame_ms: int
    enhancer: Path | None = None

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.frame_ms} ms{', NoLACE' if self.enhancer else ''}"


@dataclass(frozen=True)
class ThroughOpus:
    """What came out, as long as what went in; bytes of the Opus packets and of the Ogg file; samples by which the output came late."""

    audio: Samples
    packets: int
    file: int
    lag: int


def ways(node: Path | None) -> list[OpusWay]:
    """The ways that this machine has; `node` is the folder in which npm installed the enhancing decoder."""
    plain = [OpusWay("opuscodec", 20)] if find_spec("opuscodec") else []
    plain += [OpusWay("ffmpeg", 60)] if _ffmpeg_has_opus() else []
    enhanced = [OpusWay(way.encoder, way.frame_ms, node) for way in plain] if node and not _why_not_enhanced(node) else []
    return plain + enhanced


def why_not() -> str | None:
    """Why Opus cannot be measured here; None where it can."""
    if shutil.which("ffmpeg") is None:
        return "ffmpeg is not on this machine"
    return None if _ffmpeg_has_opus() else "this ffmpeg has no libopus"


def _why_not_enhanced(node: Path) -> str | None:
    """Why nothing enhances Opus here; None where something does."""
    if shutil.which("node") is None:
        return "node is not on this machine"
    return None if (node / "node_modules" / _ENHANCER / "package.json").is_file() else f"no {_ENHANCER} below {node}"


def _ffmpeg_has_opus() -> bool:
    if shutil.which("ffmpeg") is None:
        return False
    return " libopus " in subprocess.run(["ffmpeg", "-v", "error", "-encoders"], capture_output=True, text=True, check=False).stdout


def versions(used: list[OpusWay]) -> dict[str, str]:
    """What encoded and decoded, and which version of it."""
    found = {}
    for way in used:
        if way.encoder == "opuscodec":
            import opuscodec

            found["opuscodec"] = str(opuscodec.opus_version())
        else:
            told = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
            found["ffmpeg"] = told.split()[2]
        if way.enhancer:
            package = json.loads((way.enhancer / "node_modules" / _ENHANCER / "package.json").read_text(encoding="utf-8"))
            found["opus-ml"] = package["version"]
    return found


def through_opus(clip: Samples, rate: int, kbps: float, way: OpusWay) -> ThroughOpus:
    """Encode for speech at a target bitrate and decode, brought into step with the clip."""
    ogg = _by_opuscodec(clip, rate, kbps) if way.encoder == "opuscodec" else _by_ffmpeg(clip, rate, kbps, way.frame_ms)
    heard = _enhanced(ogg, way.enhancer) if way.enhancer else _decoded(ogg)
    audio, lag = align(resample(heard, _OGG_RATE, rate), clip)
    return ThroughOpus(audio, payload_bytes(ogg), len(ogg), lag)


def _by_opuscodec(clip: Samples, rate: int, kbps: float) -> bytes:
    import opuscodec

    encoder = opuscodec.OpusBufferedEncoder(
        sample_rate=_OGG_RATE, channels=1, bitrate=round(kbps * 1000), signal_type=_VOICE, encoder_complexity=10, qext=False
    )
    samples = np.round(np.clip(resample(clip, rate, _OGG_RATE), -1.0, 1.0) * 32767.0).astype(np.int16)
    return bytes(encoder.write(samples.reshape(-1, 1))) + bytes(encoder.flush())


def _by_ffmpeg(clip: Samples, rate: int, kbps: float, frame_ms: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        plain, coded = Path(folder) / "clip.wav", Path(folder) / "clip.opus"
        write_audio(plain, clip, rate)
        options = ["-c:a", "libopus", "-application", "voip", "-b:a", f"{kbps}k", "-frame_duration", str(frame_ms)]
        _ffmpeg(["-i", str(plain), *options, str(coded)])
        return coded.read_bytes()


def _decoded(ogg: bytes) -> Samples:
    heard = _ffmpeg(["-f", "ogg", "-i", "-", "-f", "f32le", "-ac", "1", "-ar", str(_OGG_RATE), "-"], ogg)
    return np.frombuffer(heard, "<f4")


def _enhanced(ogg: bytes, folder: Path) -> Samples:
    head, _tags, *packets = _packets(ogg)
    coded = b"".join(len(packet).to_bytes(4, "little") + packet for packet in packets)
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", _DECODE, str(folder.resolve()), _ENHANCER], input=coded, capture_output=True, check=True
    )
    return np.frombuffer(done.stdout, "<f4")[_pre_skip(head) :]


def _ffmpeg(arguments: list[str], given: bytes = b"") -> bytes:
    interactive = [] if given else ["-nostdin"]
    return subprocess.run(["ffmpeg", "-v", "error", *interactive, *arguments], input=given, capture_output=True, check=True).stdout


def _pre_skip(head: bytes) -> int:
    """Samples at 48 kHz that a decoder puts out before the first one that was put in (RFC 7845, 5.1)."""
    return int.from_bytes(head[10:12], "little")


def payload_bytes(ogg: bytes) -> int:
    """Bytes of audio packets in an Ogg Opus file: all but the first two, which are headers (RFC 7845)."""
    return sum(map(len, list(_packets(ogg))[2:]))


def _packets(ogg: bytes) -> Iterator[bytes]:
    """The packets of an Ogg file with one stream (RFC 3533): a segment shorter than 255 bytes ends one, be it on the next page."""
    at, packet = 0, b""
    while at < len(ogg):
        if ogg[at : at + 4] != b"OggS":
            raise ValueError(f"no Ogg page at byte {at}")
        count = ogg[at + _PAGE_HEADER - 1]
        sizes = ogg[at + _PAGE_HEADER : at + _PAGE_HEADER + count]
        at += _PAGE_HEADER + count
        for size in sizes:
            packet += ogg[at : at + size]
            at += size
            if size < 255:
                yield packet
                packet = b""
