"""What a run of `benchmarks.entropy_coding` takes, its figures, and how they are told."""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import heldout
from benchmarks.harness.machine import Observed
from benchmarks.harness.models import model_name
from benchmarks.harness.run import Benchmark, Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import percent, table
from benchmarks.harness.timing import percentiles
from streamcodec.bitstream.arithmetic_coding import ArithmeticDecoder, ArithmeticEncoder
from streamcodec.bitstream.checked_coding import CheckedCoding, counts_of_levels
from streamcodec.bitstream.packing import payload_size
from streamcodec.codec import Codec, LevelEngine, load
from streamcodec.engine.fixed_point import FixedPointEngine, torch_step
from streamcodec.engine.language import TorchLanguageEngine
from streamcodec.engine.openvino.fixed_point import openvino_step
from streamcodec.model.fixed_point import FixedPointModel, load_fixed_point
from streamcodec.model.hub import DEFAULT_MODEL, embedded_language_models
from streamcodec.model.language_model import LanguageModel, LanguageModelConfig
from streamcodec.types import Codes

__all__ = ["BENCHMARK", "Message", "coded_messages", "decoded_messages", "levels_digest"]

_PACKET_FRAMES = 6
_OVERHEAD = 20  # bytes of a message beside its payload, at most: PROTOCOL.md
_THREADS = (1, 2)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    heldout.add_options(parser)
    parser.add_argument("--model", default="speech-24k", help="the codec: embedded name, checkpoint or hub id")
    parser.add_argument("--language-model", default=DEFAULT_MODEL, help="embedded name, or a file of `streamcodec train language-model`")
    parser.add_argument("--bandwidth", type=float, nargs="+", help="kbps (default: all of the model's)")


def measure_all(args: argparse.Namespace, observed: Observed) -> Figures:
    """Code what the command line asks for, in all ways."""
    path = embedded_language_models().get(args.language_model, Path(args.language_model))
    codec, model = load(args.model, threads=1), load_fixed_point(path)
    clips = heldout.chosen(args, music=False)
    bandwidths = args.bandwidth or codec.config.target_bandwidths
    codes = [codec.encode(clip.samples, bandwidth=max(codec.config.target_bandwidths)) for clip in clips]
    with observed:
        engines = _engines(model)
        digests = {name: levels_digest(engine, codes, model.num_codebooks) for name, engine in engines.items()}
        rows = [_row(codec, engines["OpenVINO, 1 thread(s)"], codes, kbps) for kbps in bandwidths]
        others = _other_times(codec, model, codes, clips[0].samples)
    failures = [
        f"{name} gives other levels than {next(iter(digests))}" for name in digests if digests[name] != next(iter(digests.values()))
    ]
    failures += [f"{row['kbps']:g} kbps: what was decoded is not what was coded" for row in rows if not row["equal"]]
    return {
        "model": model_name(args.model),
        "language_model": {"fingerprint": model.fingerprint, "bytes": path.stat().st_size},
        "clips": len(clips),
        "clips_s": sum(len(clip.samples) for clip in clips) / codec.sample_rate,
        "packet_ms": 1000 * _PACKET_FRAMES / codec.frame_rate,
        "overhead": _OVERHEAD,
        "rows": rows,
        "engines": list(digests),
        "frames_compared": sum(each.shape[1] for each in codes),
        "others": others,
        "failures": failures,
    }


# Measuring ---------------------------------------------------------------------------------------------------------------------------


def _engines(model: FixedPointModel) -> dict[str, LevelEngine]:
    return {
        f"{name}, {threads} thread(s)": FixedPointEngine(model, make(model, threads))
        for name, make in (("torch", _torch_on), ("OpenVINO", openvino_step))
        for threads in _THREADS
    }


def _torch_on(model: FixedPointModel, threads: int) -> Callable[..., Any]:
    step = torch_step(model)

    def on_threads(*inputs: Any) -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            return step(*inputs)
        finally:
            torch.set_num_threads(before)

    return on_threads


def levels_digest(engine: LevelEngine, codes: Sequence[Codes], n_q: int) -> str:
    """A hash of all levels that an engine gives for these clips, codes [n_q, frames] each."""
    digest = hashlib.sha256()
    for clip in codes:
        frame, state = None, None
        for t in range(clip.shape[1]):
            levels, state = engine.predict(frame, state, n_q)
            digest.update(levels.astype("<i4").tobytes())
            frame = clip[:n_q, t]
    return digest.hexdigest()


@dataclass(frozen=True)
class Message:
    """One packet as a message would carry it: its bits alone, and the seconds that making or reading it took."""

    data: bytes
    seconds: float


def coded_messages(engine: LevelEngine, codes: Codes) -> list[Message]:
    """A clip's packets, each with a code of its own; the model's past goes on from packet to packet."""
    messages, frame, state = [], None, None
    for at in range(0, codes.shape[1], _PACKET_FRAMES):
        begun, encoder = time.perf_counter(), ArithmeticEncoder()
        for current in np.ascontiguousarray(codes[:, at : at + _PACKET_FRAMES].T):
            levels, state = engine.predict(frame, state, len(codes))
            for symbol, counts in zip(current.tolist(), counts_of_levels(levels), strict=True):
                encoder.push(symbol, counts)
            frame = current
        messages.append(Message(encoder.take() + encoder.tail(), time.perf_counter() - begun))
    return messages


def decoded_messages(engine: LevelEngine, messages: Sequence[Message], n_q: int, frames: int) -> tuple[Codes, list[float]]:
    """The codes [n_q, frames] in a clip's messages, and the seconds that each took."""
    found: list[Codes] = []
    seconds, frame, state = [], None, None
    for message in messages:
        begun, decoder = time.perf_counter(), ArithmeticDecoder(message.data)
        for _ in range(min(_PACKET_FRAMES, frames - len(found))):
            levels, state = engine.predict(frame, state, n_q)
            frame = np.array([decoder.pull(counts) for counts in counts_of_levels(levels)], np.int32)
            found.append(frame)
        seconds.append(time.perf_counter() - begun)
    return np.stack(found, axis=1), seconds


def _row(codec: Codec, engine: LevelEngine, codes: Sequence[Codes], kbps: float) -> Figures:
    """The figures of one bandwidth, over all clips."""
    n_q, bits = codec.config.n_q_for(kbps), codec.config.bits_per_code
    coding = CheckedCoding(lambda frame, state: engine.predict(frame, state, n_q), n_q, round(codec.frame_rate))
    frames = plain_file = coded_file = plain_messages = coded_bytes = count = 0
    encoding: list[float] = []
    decoding: list[float] = []
    equal = True
    for clip in (each[:n_q] for each in codes):
        encoder = coding.encoder()
        coded_file += len(encoder.push(clip)) + len(encoder.tail())
        frames += clip.shape[1]
        plain_file += -(-clip.size * bits // 8)
        messages = coded_messages(engine, clip)
        found, seconds = decoded_messages(engine, messages, n_q, clip.shape[1])
        equal = equal and np.array_equal(found, clip)
        sizes = [min(_PACKET_FRAMES, clip.shape[1] - at) for at in range(0, clip.shape[1], _PACKET_FRAMES)]
        plain_messages += sum(payload_size(n_q, size, bits) for size in sizes)
        coded_bytes += sum(len(message.data) for message in messages)
        count += len(messages)
        encoding += [message.seconds for message in messages]
        decoding += seconds
    return {
        "kbps": kbps,
        "file_kbps": [8 * size * codec.frame_rate / frames / 1000 for size in (plain_file, coded_file)],
        "message_bytes": [plain_messages / count, coded_bytes / count],
        "encode_ms": _milliseconds(encoding),
        "decode_ms": _milliseconds(decoding),
        "equal": bool(equal),
    }


def _other_times(codec: Codec, model: FixedPointModel, codes: Sequence[Codes], samples: Any) -> Figures:
    """The median milliseconds of a packet in other hands: this codec's own encoder, the model on torch, EnCodec's language model."""
    encoder, seconds = codec.stream_encoder(), []
    packet = _PACKET_FRAMES * codec.hop_length
    for at in range(0, len(samples) - packet, packet):
        begun = time.perf_counter()
        encoder.feed(samples[at : at + packet])
        seconds.append(time.perf_counter() - begun)
    n_q = codec.config.n_q_for()
    on_torch = [message.seconds for message in coded_messages(FixedPointEngine(model), codes[0][:n_q])]
    return {
        "codec_encode_ms": _milliseconds(seconds),
        "torch_encode_ms": _milliseconds(on_torch),
        "encodec_lm_ms": _milliseconds(_encodec_packets(n_q)),
    }


def _encodec_packets(n_q: int, packets: int = 20) -> list[float]:
    """Seconds of EnCodec's language model for a packet's frames, without the coder, when its past is as long as it gets."""
    config = LanguageModelConfig()
    torch.manual_seed(0)
    engine = TorchLanguageEngine(LanguageModel(config).eval().requires_grad_(False))
    chance = np.random.default_rng(0)
    state, seconds = None, []
    ahead = -(-config.past_frames // _PACKET_FRAMES)
    for at in range(ahead + packets):
        begun = time.perf_counter()
        for _ in range(_PACKET_FRAMES):
            _, state = engine.predict(chance.integers(0, config.codebook_size, n_q, np.int32), state, n_q)
        if at >= ahead:
            seconds.append(time.perf_counter() - begun)
    return seconds


def _milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    return {name: 1000 * value for name, value in percentiles(seconds, (50, 95)).items()}


# Telling -----------------------------------------------------------------------------------------------------------------------------


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    overhead = figures["overhead"]
    header = [
        "kbps",
        "file, kbps",
        "saved",
        "message, bytes",
        f"saved, with {overhead} B around it",
        "encode, ms (95%)",
        "decode, ms (95%)",
    ]
    rows = []
    for row in figures["rows"]:
        (plain, coded), (payload, bits) = row["file_kbps"], row["message_bytes"]
        rows.append(
            [
                f"{row['kbps']:g}",
                f"{plain:.2f} -> {coded:.2f}",
                percent(1 - coded / plain, 1),
                f"{payload:.1f} -> {bits:.1f}",
                percent(1 - (bits + overhead) / (payload + overhead), 1),
                *(f"{row[key]['p50']:.2f} ({row[key]['p95']:.2f})" for key in ("encode_ms", "decode_ms")),
            ]
        )
    others, model = figures["others"], figures["language_model"]
    failed = figures["failures"]
    agree = (
        f"{len(figures['engines'])} ways to run the model ({'; '.join(figures['engines'])}) gave the same levels for all "
        f"{figures['frames_compared']:,} frames, and every message was decoded to its codes."
        if not failed
        else f"FAILED: {'; '.join(failed)}."
    )
    beside = {name: f"{others[f'{name}_ms']['p50']:.2f} ms" for name in ("codec_encode", "torch_encode", "encodec_lm")}
    return (
        f"`{figures['model']}` and the language model `{model['fingerprint']}` ({model['bytes'] / 1e6:.1f} MB) on {figures['clips']} "
        f"held-out clips, {figures['clips_s']:.0f} s. A file has a length and a checksum for each second; a message carries a packet of "
        f"{figures['packet_ms']:g} ms with a code of its own. Times are those of a packet on one thread, model and coder together, on "
        f"OpenVINO.\n\n{table(header, rows)}\n\n{agree}\n\nBeside them a packet takes {beside['codec_encode']} in the codec's "
        f"encoder, {beside['torch_encode']} if torch runs the model, and {beside['encodec_lm']} in EnCodec's language model, without a "
        f"coder, when its past is as long as it gets.\n"
    )


def headlines(figures: Figures) -> list[Headline]:
    """What is saved at each bandwidth."""
    return [
        Headline(
            f"entropy coding at {row['kbps']:g} kbps: bits saved in a file, in messages",
            f"{percent(1 - row['file_kbps'][1] / row['file_kbps'][0], 1)}, "
            f"{percent(1 - (row['message_bytes'][1] + figures['overhead']) / (row['message_bytes'][0] + figures['overhead']), 1)}",
        )
        for row in figures["rows"]
    ]


BENCHMARK = Benchmark(
    name="entropy_coding",
    title="Entropy coding",
    question="What does a language model of whole numbers save of files and of messages, and what does it cost?",
    options=add_options,
    measure=measure_all,
    render=render,
    headlines=headlines,
)
