"""What takes turns in a run of `benchmarks.step`, and what is made of its times."""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.machine import Observed
from benchmarks.harness.models import FULL_SIZE
from benchmarks.harness.parity import proved, rule_of
from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import Figures
from benchmarks.harness.timing import Candidate, alternate, percentiles
from benchmarks.peers import Peer, encodec_peer, has_mimi, lyra, mimi_peer, transformers_peer
from benchmarks.step.candidates import (
    BANDWIDTH,
    STREAMING_PEERS,
    EngineSetup,
    Repeats,
    Shape,
    lyra_calls,
    our_clips,
    our_steps,
    peer_calls,
    peer_clips,
)
from benchmarks.step.gemm import gemm_candidates, macs
from benchmarks.step.plots import draw
from benchmarks.step.profile import Watch, profile
from benchmarks.step.render import headlines, render
from benchmarks.step.targets import check
from streamcodec.audio import bundled_clip
from streamcodec.codec import Codec, load
from streamcodec.types import Samples

__all__ = ["BENCHMARK", "measure"]

_PACKAGES = {"openvino": "openvino", "torch": "torch", "onnx": "onnxruntime"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--model", default="speech-24k", help="timed beside the full-size model")
    add("--rounds", type=int, default=60, help="one stream's steps run five times in a row in each, slower ones less often")
    add("--batch", type=int, nargs="+", default=[1, 16], help="streams per step")
    add(
        "--more-batches",
        type=int,
        nargs="*",
        default=[2, 4, 8, 32],
        help="a few steps of these too, of the full-size model on the first engine",
    )
    add("--packet-frames", type=int, nargs="+", default=[6, 1, 2, 3], help="frames per step; all but the first only on the first engine")
    add("--engine", nargs="+", choices=_PACKAGES, default=list(_PACKAGES))
    add("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"], help="only OpenVINO runs bf16")
    add("--threads", type=int, nargs="+", default=[1, 2], help="per model; all but the first only for the full-size model on OpenVINO")
    add("--peers", nargs="*", choices=("encodec", "transformers", "mimi"), default=["encodec", "transformers", "mimi"])
    add("--lyra", type=Path, metavar="FOLDER", help="with Lyra V2's three .tflite files, a peer of the smaller model")
    add("--clip-seconds", type=float, default=10.0, help="of the whole clips, which run in every sixth round")
    add("--profile-runs", type=int, default=40, help="steps of each profile; 0 for none")


def refuse(args: argparse.Namespace) -> str | None:
    """Lyra takes its files and its package, where it is asked for."""
    return None if args.lyra is None else lyra.why_not(args.lyra)


def measure(args: argparse.Namespace, observed: Observed) -> Figures:
    """Time all candidates by turns; the full-size model is the one that `transformers` made, loaded from its checkpoint."""
    with observed:
        return _measure(args)


def _measure(args: argparse.Namespace) -> Figures:
    speech, _ = bundled_clip()
    clip = np.resize(speech, round(args.clip_seconds * 24_000))
    threads = args.threads[0]
    transformers = transformers_peer()
    packages = [peer for peer in (encodec_peer(), transformers) if peer.name in args.peers]
    with tempfile.TemporaryDirectory() as folder:
        transformers.save(Path(folder))
        models = {FULL_SIZE: folder, Path(args.model).name: args.model}
        ways = _ways(args)
        codecs = {(name, way): _load(path, way) for name, path in models.items() for way in ways}
        more = [EngineSetup("openvino", ways[0].precision, n) for n in args.threads[1:]] if ways[0].engine == "openvino" else []
        codecs |= {(FULL_SIZE, way): _load(folder, way) for way in more}
        torch.set_num_threads(threads)
        candidates = _ours(args, codecs, ways, more, speech, clip)
        candidates += _peers(args, packages, speech, clip)
        if args.lyra is not None:
            candidates += lyra_calls(args.lyra, speech)
        gemms = gemm_candidates(sorted({"fp32", *(way.precision for way in ways)}), threads, burst=3, every=3)
        times = alternate([*candidates, *gemms], args.rounds)
        work = {name: macs(codec.config, codec.config.n_q_for(BANDWIDTH)) for (name, _), codec in codecs.items()}
        figures: Figures = {
            "bandwidth": BANDWIDTH,
            "rounds": args.rounds,
            "clip_s": args.clip_seconds,
            "frame_s": codecs[FULL_SIZE, ways[0]].hop_length / codecs[FULL_SIZE, ways[0]].sample_rate,
            "frames": args.packet_frames[0],
            "batches": args.batch,
            "threads": threads,
            "engines": _engine_names(codecs[FULL_SIZE, way] for way in ways),
            "mimi": metadata.version("moshi") if "mimi" in args.peers and has_mimi() else None,
            "macs_per_s": {name: {op: [w.convolutions, w.lstm, w.search] for op, w in ops.items()} for name, ops in work.items()},
        }
        products = zip(gemms, times[len(candidates) :], strict=True)
        figures["gemm"] = [{**product.labels, "gmacs": product.labels["macs"] / float(np.median(s)) / 1e9} for product, s in products]
        figures["peak"] = _best(figures["gemm"])
        figures["rows"] = [_row(c, seconds, figures) for c, seconds in zip(candidates, times, strict=False)]
        figures["profile"] = _profiles(args, folder, ways, speech)
        exact = next((way for way in ways if way.precision == "fp32"), ways[0])
        figures["agreement"] = {"precision": exact.precision, **_agreement(codecs[FULL_SIZE, exact], exact, transformers, clip)}
    figures["targets"] = check(figures["rows"])
    return figures


# What there is -----------------------------------------------------------------------------------------------------------------------


def _ways(args: argparse.Namespace) -> list[EngineSetup]:
    """What the engines offer of what was asked for, on the first number of threads."""
    found = []
    for engine in args.engine:
        if not importlib.util.find_spec(_PACKAGES[engine]):
            continue
        for precision in args.precision:
            if precision == "fp32" or (engine == "openvino" and _has_bf16()):
                found.append(EngineSetup(engine, precision, args.threads[0]))
    if not found:
        raise SystemExit("no engine that is installed offers that precision")
    return found


def _has_bf16() -> bool:
    from streamcodec.engine.openvino.engine import has_bf16

    return has_bf16()


def _load(model: str, way: EngineSetup) -> Codec:
    return load(model, engine=way.engine, precision=way.precision, threads=way.threads)  # type: ignore[arg-type]


def _engine_names(codecs: Any) -> list[str]:
    return sorted({codec.engine.name.split(",")[0] for codec in codecs})


def _ours(
    args: argparse.Namespace,
    codecs: dict[tuple[str, EngineSetup], Codec],
    ways: list[EngineSetup],
    more: list[EngineSetup],
    speech: Samples,
    clip: Samples,
) -> list[Candidate]:
    found = []
    frames, *other_frames = args.packet_frames
    for (name, way), codec in codecs.items():
        if way not in more:
            for batch in args.batch:
                found += our_steps(name, codec, way, speech, Shape(batch, frames))
        if way == ways[0]:
            for small in other_frames:
                found += our_steps(name, codec, way, speech, Shape(args.batch[0], small))
            found += our_clips(name, codec, way, clip, Repeats(1, 6))
        if name == FULL_SIZE and way.engine == ways[0].engine and way not in more:
            for batch in sorted(set(args.more_batches) - set(args.batch)):
                found += our_steps(name, codec, way, speech, Shape(batch, frames), Repeats(3, 6))
        if way in more:
            for batch in args.batch:
                found += our_steps(name, codec, way, speech, Shape(batch, frames), Repeats(3, 3))
    return found


def _peers(args: argparse.Namespace, packages: list[Peer], speech: Samples, clip: Samples) -> list[Candidate]:
    found, threads = [], args.threads[0]
    for batch in args.batch:
        for peer in packages:
            found += peer_calls(peer, threads, speech, Shape(batch, args.packet_frames[0]))
        if "mimi" in args.peers and has_mimi():
            # It takes whole frames of its own, 80 ms each.
            found += peer_calls(mimi_peer(batch), threads, speech, Shape(batch, 6))
    for peer in packages:
        found += peer_clips(peer, threads, clip, Repeats(1, 6))
    return found


# What was found ----------------------------------------------------------------------------------------------------------------------


def _best(gemm: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The quickest product of each precision."""
    found: dict[str, dict[str, Any]] = {}
    for row in gemm:
        if row["gmacs"] > found.get(row["precision"], {"gmacs": 0.0})["gmacs"]:
            found[row["precision"]] = row
    return found


def _row(candidate: Candidate, seconds: Sequence[float], figures: Figures) -> dict[str, Any]:
    spread = percentiles([1000 * s for s in seconds])
    labels, realtime = candidate.labels, 1000 * candidate.audio_s / spread["p50"]
    row = {**labels, "calls": len(seconds), "ms": spread, "realtime": realtime}
    # The packages run the published architecture; what Mimi and Lyra multiply is not counted.
    model = labels["who"] if labels["ours"] else FULL_SIZE
    if labels["who"] not in STREAMING_PEERS:
        row["gmacs"] = realtime * sum(figures["macs_per_s"][model][labels["operation"]]) / 1e9
        if labels["threads"] == figures["threads"]:
            row["of_peak"] = row["gmacs"] / figures["peak"][labels["precision"]]["gmacs"]
    return row


def _profiles(args: argparse.Namespace, folder: str, ways: list[EngineSetup], speech: Samples) -> list[dict[str, Any]]:
    """The parts of the full-size model's steps on OpenVINO, whose engines are made once more to be watched."""
    found = []
    for way in ways:
        for batch in args.batch if way.engine == "openvino" and args.profile_runs else ():
            watch = Watch()
            with watch.making():
                codec = _load(folder, way)
                torch.set_num_threads(way.threads)
                steps = our_steps(FULL_SIZE, codec, way, speech, Shape(batch, args.packet_frames[0]))
            for step in steps:
                parts = profile(watch, codec, step.labels["operation"], step.call, args.profile_runs)
                found.append({**step.labels, "ms": parts})
    return found


@torch.inference_mode()
def _agreement(full: Codec, way: EngineSetup, peer: Peer, clip: Samples) -> dict[str, float | None]:
    """How far our full-size model and the package's, with the same weights, compute the same; in float32, each difference is proved."""
    expected = peer.encode(torch.from_numpy(clip)[None, None], BANDWIDTH)[0].numpy()
    packets = full.stream_encoder(BANDWIDTH, start="exact")
    codes = np.concatenate([*packets.feed(clip), *packets.flush()], axis=1)
    audio = full.decode(expected)
    compared = {"entries": codes.size, "differing": int((codes != expected).sum()), "near_ties": None}
    if way.precision == "fp32":
        compared |= proved([rule_of(full).compare(codes, expected, clip)])
    return {
        **compared,
        "max_error": float(np.abs(audio - peer.decode(torch.from_numpy(expected)[None])[0, 0].numpy()).max()),
    }


BENCHMARK = Benchmark(
    name="step",
    title="One step",
    question="How long does a step take, beside the reference packages, Mimi, Lyra and the machine's own peak?",
    options=add_options,
    refuse=refuse,
    measure=measure,
    render=render,
    draw=draw,
    headlines=headlines,
)
