"""What a run of `benchmarks.accelerator` takes, its three parts, and how they are told."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from benchmarks.capacity.in_process import InProcess
from benchmarks.capacity.phases import CapacityRun, PhasePlan, run_phases
from benchmarks.harness.machine import Observed
from benchmarks.harness.models import FULL_SIZE, model_name
from benchmarks.harness.parity import proved, rule_of, told
from benchmarks.harness.run import Benchmark, Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import milliseconds, table, verdict
from benchmarks.harness.timing import Candidate, alternate, percentiles
from benchmarks.peers import Peer, transformers_peer
from streamcodec.audio import bundled_clip
from streamcodec.codec import Codec, load
from streamcodec.config import Start
from streamcodec.types import Codes, Samples

__all__ = ["BENCHMARK", "measure", "render"]

_KBPS = 6.0
_MAX_KBPS = 24.0
_AUDIO_WITHIN = 1e-4


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--device", default="cuda", help="by torch's name; cpu rehearses")
    add("--model", default="speech-24k", help="measured beside the full-size model with random weights")
    add("--seconds", type=float, default=10.0, help="of the clip that parity is checked on")
    add("--batch", type=int, nargs="+", default=[1, 4, 16, 64, 256], help="streams per step")
    add("--packet-frames", type=int, default=6)
    add("--rounds", type=int, default=20, help="every candidate runs five times in a row in each")
    add("--from", type=int, default=50, dest="begin", help="live publishers that growth begins with")
    add("--step", type=int, default=50, help="publishers that each step of growth adds")
    add("--most", type=int, default=600, help="publishers that growth ends at")
    add("--grow-seconds", type=float, default=3.0, help="of each step of growth")
    add("--hold-seconds", type=float, default=30.0, help="to hold the last count that was in time")


def refuse(args: argparse.Namespace) -> str | None:
    """Whether torch has no such device here."""
    try:
        torch.zeros(1, device=args.device)
    except (RuntimeError, AssertionError) as exc:
        return f"--device {args.device}: torch cannot use it here: {str(exc).splitlines()[0]}"
    return None


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    """Parity first, since the times of wrong results are worth nothing."""
    with tempfile.TemporaryDirectory() as folder, observed:
        peer = transformers_peer(device=args.device)
        peer.save(Path(folder))
        codecs = {FULL_SIZE: load(folder, device=args.device), model_name(args.model): load(args.model, device=args.device)}
        clip = np.resize(bundled_clip()[0], round(args.seconds * 24_000))
        parity = [
            {"model": name, "start": start, **_parity(codec, clip, start)} for name, codec in codecs.items() for start in get_args(Start)
        ]
        wrong = [row for row in parity if row["max_error"] > _AUDIO_WITHIN]
        return {
            "device": _named(args.device),
            "packet_ms": 1000 * args.packet_frames / 75,
            "parity": parity,
            "steps": _steps(args, codecs, peer),
            "live": [{"model": name, **_live(args, codec)} for name, codec in codecs.items()],
            "failures": [f"{row['model']}, {row['start']}: audio is {row['max_error']:.1e} from the CPU's" for row in wrong],
        }


def _named(device: str) -> str:
    return torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else device


def _parity(codec: Codec, clip: Samples, start: Start) -> dict[str, Any]:
    """A stream of packets through all codebooks, against the same on the CPU: each code that differs is proved a near-tie."""
    on_cpu = load(codec.name, engine="torch")
    expected, codes = (_encode(each, clip, start) for each in (on_cpu, codec))
    due, heard = (_decode(each, expected, start) for each in (on_cpu, codec))
    return {**proved([rule_of(on_cpu).compare(codes, expected, clip, start)]), "max_error": float(np.abs(heard - due).max())}


def _encode(codec: Codec, clip: Samples, start: Start) -> Codes:
    encoder = codec.stream_encoder(_MAX_KBPS, start=start)
    return np.concatenate([*encoder.feed(clip), *encoder.flush()], axis=1)


def _decode(codec: Codec, codes: Codes, start: Start) -> Samples:
    decoder = codec.stream_decoder(_MAX_KBPS, start=start)
    return np.concatenate([*(decoder.feed(codes[:, at : at + 6]) for at in range(0, codes.shape[1], 6)), decoder.flush()])


# Steps -------------------------------------------------------------------------------------------------------------------------------


def _steps(args: argparse.Namespace, codecs: dict[str, Codec], peer: Peer) -> list[dict[str, Any]]:
    """A step of so many streams at once; the package encodes and decodes the same packets, each as if nothing came before it."""
    rows = []
    for batch in args.batch:
        candidates = [
            Candidate(call, batch * args.packet_frames / 75, {"who": who, "operation": operation, "batch": batch})
            for who, calls in [
                *((name, _our_calls(codec, batch, args.packet_frames)) for name, codec in codecs.items()),
                (peer.name, _peer_calls(peer, args.device, batch, args.packet_frames)),
            ]
            for operation, call in zip(("encode", "decode"), calls, strict=True)
        ]
        print(f"steps of {batch} streams", file=sys.stderr)
        for candidate, times in zip(candidates, alternate(candidates, args.rounds), strict=True):
            ms = percentiles([1000 * seconds for seconds in times])
            rows.append({**candidate.labels, "ms": ms, "realtime": 1000 * candidate.audio_s / ms["p50"]})
    return rows


Calls = tuple[Callable[[], object], Callable[[], object]]


def _noise(batch: int, samples: int) -> Samples:
    return np.random.default_rng(0).normal(0, 0.1, (batch, samples)).astype(np.float32)


def _our_calls(codec: Codec, batch: int, frames: int) -> Calls:
    """Samples and states in the computer's memory at both ends, as the server has them."""
    engine, n_q = codec.engine, codec.config.n_q_for(_KBPS)
    noise = _noise(batch, frames * codec.hop_length)
    encoders = np.zeros((batch, engine.traits.encoder_state_size), np.float32)
    decoders = np.zeros((batch, engine.traits.decoder_state_size), np.float32)
    codes, _ = engine.encode(noise, encoders, [n_q] * batch)
    return lambda: engine.encode(noise, encoders, [n_q] * batch), lambda: engine.decode(codes, decoders)


def _peer_calls(peer: Peer, device: str, batch: int, frames: int) -> Calls:
    noise = torch.from_numpy(_noise(batch, frames * 320))[:, None]

    @torch.inference_mode()
    def encode() -> torch.Tensor:
        return peer.encode(noise.to(device), _KBPS).cpu()

    codes = encode()

    @torch.inference_mode()
    def decode() -> torch.Tensor:
        return peer.decode(codes.to(device)).cpu()

    return encode, decode


# Live streams ------------------------------------------------------------------------------------------------------------------------


def _live(args: argparse.Namespace, codec: Codec) -> Figures:
    course = PhasePlan(
        begin=args.begin,
        step=args.step,
        most=args.most,
        grow_s=args.grow_seconds,
        hold=None,
        hold_s=args.hold_seconds,
        overload_s=args.grow_seconds,
        recovery_s=args.grow_seconds,
        joins_per_s=100.0,
        patience_s=10.0,
    )
    way = InProcess(codec, args.packet_frames, _KBPS, joins_per_s=course.joins_per_s)
    way.start()
    try:
        return run_phases(CapacityRun(way), course)
    finally:
        way.stop()


# Telling -----------------------------------------------------------------------------------------------------------------------------


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    steps = figures["steps"]
    who = list(dict.fromkeys(row["who"] for row in steps))
    found = {(row["operation"], row["batch"], row["who"]): row for row in steps}
    shapes = list(dict.fromkeys((row["operation"], row["batch"]) for row in steps))
    return "\n\n".join(
        [
            f"On {figures['device']}. {verdict(figures['failures'])}",
            "Streams of speech through all codebooks, against the same streams on the CPU:",
            table(
                ["", "start", "entries", "codes that differ", "largest error of the audio"],
                [
                    [row["model"], row["start"], f"{row['entries']:,}", told(row["differing"], row["near_ties"]), f"{row['max_error']:.1e}"]
                    for row in figures["parity"]
                ],
            ),
            f"One step of {figures['packet_ms']:g} ms at {_KBPS:g} kbps, by turns, median in ms (times real time, all streams together). "
            "Samples, codes and states cross from and to the computer's memory in every call; the package keeps no state.",
            table(
                ["", "streams", *who],
                [[operation, batch, *(_step(found[operation, batch, name]) for name in who)] for operation, batch in shapes],
            ),
            f"Live publishers in process, held with p99 lateness below {figures['live'][0]['limit_ms']:g} ms:",
            table(
                ["", "grown to", "grown until", "held", "p50 ms", "p95", "p99", "max", "cores"],
                [
                    [
                        case["model"],
                        case["grown_to"],
                        case["grown_until"],
                        "yes" if case["held"] else "no",
                        *milliseconds(case["hold"]["late_ms"], "p50", "p95", "p99", "max"),
                        f"{case['hold']['cores']:.2f}",
                    ]
                    for case in figures["live"]
                ],
            ),
        ]
    )


def _step(row: dict[str, Any]) -> str:
    return f"{row['ms']['p50']:.1f} ({row['realtime']:.0f})"


def headlines(figures: Figures) -> Sequence[Headline]:
    """Steps of the full-size model by operation, at the largest batch, beside the package's."""
    rows = figures["steps"]
    most = max(row["batch"] for row in rows)
    times = {(row["who"], row["operation"]): row["ms"]["p50"] for row in rows if row["batch"] == most}
    return [
        Headline(
            f"{operation} {figures['packet_ms']:.0f} ms, full-size model, {most} streams, {figures['device']}",
            f"{times[FULL_SIZE, operation]:.1f} ms",
            f"{times['transformers', operation]:.1f} ms (`transformers`, each packet alone)",
        )
        for operation in ("encode", "decode")
    ]


BENCHMARK = Benchmark(
    name="accelerator",
    title="On a device beside the processor",
    question="Does a device give the CPU's codes and audio, and how many streams does it carry?",
    options=add_options,
    refuse=refuse,
    measure=measure,
    render=render,
    headlines=headlines,
)
