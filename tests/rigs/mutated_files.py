"""Damages sound files, checkpoints, files of codes and recordings in thousands of ways, and checks what reading them does.

    python tests/rigs/mutated_files.py --count 20000

Whatever the damage, reading ends: with an answer or with one of this package's errors, never with another exception. Where bytes were cut
out, there is an error, a line that says so, or an answer that lacks nothing.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch
from random_chunks import random_chunks

from streamcodec.audio import read_audio
from streamcodec.bitstream.codes_file import CodesFile, read_codes, write_codes
from streamcodec.bitstream.ecdc import PACKAGE_MODELS, EcdcHeader, PlainCoding, chunk_frames, ecdc_bytes, parse_ecdc
from streamcodec.config import CodecConfig
from streamcodec.errors import StreamCodecError
from streamcodec.model.checkpoint import load_file, save, weights_fingerprint
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.stored_weights import load_weights
from streamcodec.protocol import Gap, ModelInfo, Packet, StreamEnd, StreamStart
from streamcodec.published import PUBLISHED
from streamcodec.recording import RecordingFile, RecordingReader

__all__ = ["KINDS", "Finding", "mutations_of"]

# Longer than any file takes on any machine: what takes so long hangs.
_HANGS_S = 120

Read = Callable[[Path], Any]


@dataclass(frozen=True)
class Sample:
    """A file that is whole, what reads it, and what that gives.

    Without `tells_cuts` nobody can know that bytes are missing: a text from which a digit was cut is another text.
    """

    name: str
    data: bytes
    read: Read
    answer: Any
    tells_cuts: bool = True


@dataclass(frozen=True)
class Finding:
    """One damaged file that was not dealt with: how it was made, and what happened."""

    sample: str
    seed: int
    damage: str
    happened: str


def audio_samples(folder: Path) -> list[Sample]:
    """A short file of each format, in its usual form and in one whose length is not known."""
    rng = np.random.default_rng(0)
    audio = np.concatenate([np.sin(np.arange(3_000) / 9) * 0.4, rng.normal(0, 0.1, 3_000)]).astype(np.float32)
    written = []
    for name, form, subtype in (
        ("x.wav", None, None),
        ("float.wav", None, "FLOAT"),
        ("24.wav", None, "PCM_24"),
        ("x.flac", None, None),
        ("x.ogg", None, None),
        ("opus.ogg", "OGG", "OPUS"),
        ("x.mp3", None, None),
        ("x.aiff", None, None),
        ("x.au", None, None),
        ("x.caf", None, None),
        ("x.w64", None, None),
        ("x.rf64", "RF64", None),
    ):
        sf.write(folder / name, np.stack([audio, -audio], axis=1) if name == "float.wav" else audio, 24_000, subtype, format=form)
        written.append(folder / name)
    return [Sample(path.name, path.read_bytes(), _audio, _audio(path)) for path in written]


def _audio(path: Path) -> bytes:
    samples, rate = read_audio(path)
    return samples.tobytes() + str((samples.shape, rate)).encode()


def checkpoint_samples(folder: Path) -> list[Sample]:
    """The smallest model in each layout."""
    torch.manual_seed(0)
    config = CodecConfig.from_dict({"num_filters": 2, "hidden_size": 2, "num_lstm_layers": 1, "target_bandwidths": [1.5]})
    model = EncodecModel(config).eval()
    save(model, folder / "x.safetensors")
    save(model, folder / "x.th", layout="meta")
    save(model, folder / "hf", layout="hf")
    hf = folder / "hf" / "model.safetensors"
    text = (folder / "hf" / "config.json").read_text()

    def beside(path: Path) -> str:
        """The damaged file is a folder's weights."""
        (folder / "hf" / "model.safetensors").write_bytes(path.read_bytes())
        return weights_fingerprint(load_file(folder / "hf"))

    def as_config(path: Path) -> str:
        hf.write_bytes(whole)
        (folder / "hf" / "config.json").write_bytes(path.read_bytes())
        try:
            return weights_fingerprint(load_file(folder / "hf"))
        finally:
            (folder / "hf" / "config.json").write_text(text)

    whole = hf.read_bytes()
    plain = [
        *((folder / name, lambda path: weights_fingerprint(load_file(path))) for name in ("x.safetensors", "x.th")),
        (folder / "x.safetensors", lambda path: load_weights(path).weights_fingerprint),
    ]
    samples = [Sample(path.name, path.read_bytes(), read, read(path)) for path, read in plain]
    samples.append(Sample("model.safetensors", whole, beside, beside(hf)))
    samples.append(Sample("config.json", text.encode(), as_config, samples[-1].answer, tells_cuts=False))
    return samples


def codes_samples(folder: Path) -> list[Sample]:
    """Files of codes with one, two and eight codebooks, and `.ecdc` files of both published models."""
    samples = []
    for n_q in (1, 2, 8):
        codes = np.random.default_rng(n_q).integers(0, 1024, (n_q, 151)).astype(np.int32)
        write_codes(folder / f"{n_q}.codes", CodesFile(codes, "model", "f" * 32, 48_077), 10)
        path = folder / f"{n_q}.codes"
        samples.append(Sample(path.name, path.read_bytes(), _codes, _codes(path)))
    for name in PACKAGE_MODELS:
        config = PUBLISHED[name]
        path = folder / f"{name}.ecdc"
        chunks = random_chunks(config, 4, chunk_frames(config, 48_077))
        path.write_bytes(ecdc_bytes(config, EcdcHeader(name, 48_077, 4), chunks, PlainCoding(10, 4)))
        samples.append(Sample(path.name, path.read_bytes(), _ecdc, _ecdc(path)))
    return samples


def recording_samples(folder: Path) -> list[Sample]:
    """A recording with marks, gaps, a pause and two epochs."""
    shape: dict[str, Any] = {"n_q": 2, "bandwidth": 1.5, "packet_frames": 6, "start": "primed", "format": "codes", "sample_rate": 24_000}
    model = ModelInfo(name="m", fingerprint="f00d", sampling_rate=24_000, hop_length=320, codebook_size=1024, num_quantizers=32)
    path, payloads = folder / "x.rec", np.random.default_rng(0)
    path.unlink(missing_ok=True)
    with RecordingFile(path, "live", model) as file:
        for epoch, first in enumerate((0, 400)):
            file.add(StreamStart(epoch=epoch, first_seq=first, live_seq=first, session="s", **shape))
            for seq in range(first, first + 300):
                file.add(Packet(seq, epoch, 80_000 * seq, 2, payloads.bytes(15)))
            file.add(Gap(first_seq=first + 300, count=100, reason="uplink"))
        file.add(StreamEnd(next_seq=800))
    # Nobody can know that records are missing where a file ends between two of them: it may be growing.
    return [Sample(path.name, path.read_bytes(), _recording, _recording(path), tells_cuts=False)]


def _recording(path: Path) -> bytes:
    with RecordingReader(path) as reader:
        return repr((reader.header, list(reader.events()))).encode()


def _ecdc(path: Path) -> bytes:
    file = parse_ecdc(path.read_bytes())
    config = PUBLISHED.get(file.header.model, CodecConfig())
    chunks = file.chunks(config, PlainCoding(10, file.header.n_q))
    return b"".join(codes.tobytes() + str(scale).encode() for codes, scale in chunks) + str(file.header).encode()


def _codes(path: Path) -> bytes:
    file = read_codes(path)
    return file.codes.tobytes() + str((file.model, file.fingerprint, file.samples)).encode()


KINDS: dict[str, Callable[[Path], list[Sample]]] = {
    "audio": audio_samples,
    "checkpoints": checkpoint_samples,
    "codes": codes_samples,
    "recordings": recording_samples,
}


def damaged(data: bytes, rng: np.random.Generator) -> tuple[bytes, str, bool]:
    """The data with one kind of damage, in words, and whether bytes were cut out."""
    kind = rng.choice(["cut", "hole", "bits", "byte", "zeros", "twice", "size"])
    changed = bytearray(data)
    at, size = int(rng.integers(len(data))), int(rng.integers(1, 1 + max(1, len(data) // int(rng.choice([2, 20, 200])))))
    # Headers are short, and most of what can go wrong is in them.
    near = int(rng.integers(min(len(data), 200))) if rng.random() < 0.5 else at
    match kind:
        case "cut":
            return data[:at], f"cut at {at}", True
        case "hole":
            return data[:at] + data[at + size :], f"without {size} bytes at {at}", True
        case "bits":
            for place in rng.integers(0, len(data), int(rng.integers(1, 9))):
                changed[place] ^= 1 << int(rng.integers(8))
        case "byte":
            changed[near] = int(rng.integers(256))
        case "zeros":
            changed[near : near + size] = bytes(len(changed[near : near + size]))
        case "twice":
            changed[at:at] = data[at : at + size]
        case "size":
            changed[near : near + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\1\0\0\0"])
    return bytes(changed), f"{kind} near {near}", False


class _Told(logging.Handler):
    """Whether a line was logged since it was asked last."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = 0

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002
        self.lines += 1


def mutations_of(kind: str, count: int, folder: Path, first_seed: int = 0) -> Iterator[tuple[str, Finding | None]]:
    """Damage files of a kind `count` times: the outcome in a word, and a finding where it is none that is allowed."""
    samples = KINDS[kind](folder)
    told = _Told()
    log = logging.getLogger("streamcodec.audio")
    log.addHandler(told)
    before = log.propagate
    log.propagate = False
    path = folder / "damaged"
    try:
        for seed in range(first_seed, first_seed + count):
            rng = np.random.default_rng(seed)
            sample = samples[seed % len(samples)]
            data, damage, is_cut = damaged(sample.data, rng)
            path.write_bytes(data)
            told.lines = 0
            outcome, finding = _outcome(sample, path, is_cut, told)
            yield outcome, None if finding is None else Finding(sample.name, seed, damage, finding)
    finally:
        log.removeHandler(told)
        log.propagate = before


def _outcome(sample: Sample, path: Path, is_cut: bool, told: _Told) -> tuple[str, str | None]:
    faulthandler.dump_traceback_later(_HANGS_S, exit=True)
    try:
        answer = sample.read(path)
    except StreamCodecError as error:
        text = str(error)
        return type(error).__name__, f"not one line: {text!r}" if "\n" in text or not text else None
    except Exception as error:
        return "bug", repr(error)
    finally:
        faulthandler.cancel_dump_traceback_later()
    if answer == sample.answer:
        return "whole", None
    if told.lines:
        return "told", None
    return "other", "bytes were cut out, and nothing says so" if is_cut and sample.tells_cuts else None


def main() -> int:
    """Damage files of all kinds, print what came of it, and return 1 if something was not dealt with."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="files of each kind")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only these kinds")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; a finding names its own")
    arguments = parser.parse_args()
    found = 0
    for kind in arguments.kind or KINDS:
        outcomes: collections.Counter[str] = collections.Counter()
        with tempfile.TemporaryDirectory() as folder:
            for outcome, finding in mutations_of(kind, arguments.count, Path(folder), arguments.seed):
                outcomes[outcome] += 1
                if finding is not None:
                    found += 1
                    sys.stdout.write(f"{kind}: {finding}\n")
        sys.stdout.write(f"{kind}: {dict(outcomes.most_common())}\n")
        sys.stdout.flush()
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
