"""How long one step takes: 80 ms of audio, one stream, encode and decode, beside the reference packages, all in one run.

Ours carries its state from step to step and gives the whole clip's codes. The packages keep nothing: their 80 ms calls are what a user of
theirs would make live, and are wrong at every seam (see the section on seams); their 10 s clips show what the same machine does with the
same model when nothing is live.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.common import Candidate, Figures, Observed, alternate, argument_parser, percentiles, table, write_section
from benchmarks.peers import Peer, encodec_peer, transformers_peer
from streamcodec.audio import bundled_clip
from streamcodec.codec import Codec, load

__all__ = ["main", "measure", "render"]

Samples = npt.NDArray[np.float32]

_CLIP_S = 10.0
_BANDWIDTH = 6.0


@dataclass(frozen=True)
class Shape:
    """What a step handles: `batch` streams, `frames` of each."""

    batch: int
    frames: int


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and write the section `step`."""
    parser = argument_parser(__doc__)
    parser.add_argument("--model", default="speech-24k", help="timed beside the full-size model")
    parser.add_argument("--threads", type=int, default=1, help="per model")
    parser.add_argument("--rounds", type=int, default=60, help="each candidate's steps run five times in a round")
    parser.add_argument("--batch", type=int, nargs="+", default=[1], help="streams per step")
    parser.add_argument("--packet-frames", type=int, nargs="+", default=[6], help="frames per step")
    parser.add_argument("--clip-seconds", type=float, default=_CLIP_S, help="of the whole clips, which run in every twelfth round")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    shapes = [Shape(batch, frames) for frames in args.packet_frames for batch in args.batch]
    with Observed() as observed:
        figures = measure(args.model, shapes, args.rounds, args.clip_seconds)
    args.out.mkdir(parents=True, exist_ok=True)
    draw(figures, args.out / "step.png")
    title = "One step"
    print(write_section(args.out, "step", title, figures, observed, render, threads=args.threads, argv=argv).read_text(encoding="utf-8"))


# Measuring ---------------------------------------------------------------------------------------------------------------------------


def measure(model: str, shapes: Sequence[Shape], rounds: int, clip_s: float) -> Figures:
    """Time all candidates by turns; the full-size model is the one that `transformers` made, loaded from its checkpoint."""
    speech, _ = bundled_clip()
    clip = np.resize(speech, round(clip_s * 24_000))
    peers = [encodec_peer(), transformers_peer()]
    with tempfile.TemporaryDirectory() as folder:
        peers[1].save(Path(folder))
        full = load(folder)
    codecs = {model: load(model), "full size": full}
    candidates: list[Candidate] = []
    for shape in shapes:
        for name, codec in codecs.items():
            candidates += our_steps(name, codec, speech, shape)
        for peer in peers:
            candidates += peer_calls(peer, speech, shape)
    for name, codec in codecs.items():
        candidates += our_clips(name, codec, clip)
    for peer in peers:
        candidates += peer_clips(peer, clip)
    times = alternate(candidates, rounds)
    rows = []
    for candidate, seconds in zip(candidates, times, strict=True):
        spread = percentiles([1000 * s for s in seconds])
        rows.append({**candidate.labels, "calls": len(seconds), "ms": spread, "realtime": 1000 * candidate.audio_s / spread["p50"]})
    return {
        "bandwidth": _BANDWIDTH,
        "rounds": rounds,
        "clip_s": clip_s,
        "engines": sorted({codec.engine.name for codec in codecs.values()}),
        "rows": rows,
        "agreement": _agreement(full, peers[1], clip),
    }


def _labels(who: str, ours: bool, operation: str, kind: str, shape: Shape) -> dict[str, Any]:
    return {"who": who, "ours": ours, "operation": operation, "kind": kind, "batch": shape.batch, "frames": shape.frames}


def our_steps(name: str, codec: Codec, speech: Samples, shape: Shape) -> list[Candidate]:
    """An engine's step as a server makes it: states in, states out, on speech that goes on from call to call."""
    engine, n_q, packet = codec.engine, codec.config.n_q_for(_BANDWIDTH), shape.frames * codec.hop_length
    audio_s = shape.batch * packet / codec.sample_rate
    starts = [np.roll(speech, -row * 7_919) for row in range(shape.batch)]
    blocks = np.stack([row[: len(speech) // packet * packet].reshape(-1, packet) for row in starts], axis=1)  # [steps, B, T]

    def opened(start: Any) -> Any:
        # A reflecting model opens an exact stream on its seventh frame only: time the steps behind that.
        return None if start is None else np.stack([start] * shape.batch)

    rows = [n_q] * shape.batch
    encoder, decoder = opened(engine.encoder_start("primed")), opened(engine.decoder_start("primed", n_q))
    codes = [engine.encode(block, encoder, rows)[0] for block in blocks[: min(32, len(blocks))]]
    encode = _chained(lambda x, s: engine.encode(x, s, rows), list(blocks), encoder)
    decode = _chained(engine.decode, codes, decoder)
    return [
        Candidate(encode, audio_s, _labels(name, True, "encode", "step", shape)),
        Candidate(decode, audio_s, _labels(name, True, "decode", "step", shape)),
    ]


def _chained(step: Callable[[Any, Any], tuple[Any, Any]], inputs: Sequence[Any], states: Any) -> Callable[[], None]:
    """A call that takes the next input and the states which the call before it left."""
    at = 0

    def call() -> None:
        nonlocal at, states
        _, states = step(inputs[at % len(inputs)], states)
        at += 1

    return call


def peer_calls(peer: Peer, speech: Samples, shape: Shape) -> list[Candidate]:
    """A package's call on the same amount of audio, each on its own."""
    x = torch.from_numpy(np.stack([np.roll(speech, -row * 7_919)[: shape.frames * 320] for row in range(shape.batch)]))[:, None]
    return _of_peer(peer, x, "step", shape, burst=5, every=1)


def peer_clips(peer: Peer, clip: Samples) -> list[Candidate]:
    """A package's call on the whole clip."""
    return _of_peer(peer, torch.from_numpy(clip)[None, None], "clip", Shape(1, len(clip) // 320), burst=1, every=12)


def _of_peer(peer: Peer, x: torch.Tensor, kind: str, shape: Shape, *, burst: int, every: int) -> list[Candidate]:
    @torch.inference_mode()
    def encode() -> torch.Tensor:
        return peer.encode(x, _BANDWIDTH)

    codes = encode()

    @torch.inference_mode()
    def decode() -> torch.Tensor:
        return peer.decode(codes)

    audio_s = x.shape[0] * x.shape[-1] / 24_000
    return [
        Candidate(encode, audio_s, _labels(peer.name, False, "encode", kind, shape), burst, every),
        Candidate(decode, audio_s, _labels(peer.name, False, "decode", kind, shape), burst, every),
    ]


def our_clips(name: str, codec: Codec, clip: Samples) -> list[Candidate]:
    """Our call on the whole clip."""
    codes = codec.encode(clip, bandwidth=_BANDWIDTH)
    audio_s, shape = len(clip) / codec.sample_rate, Shape(1, codes.shape[1])
    calls = {"encode": lambda: codec.encode(clip, bandwidth=_BANDWIDTH), "decode": lambda: codec.decode(codes)}
    return [Candidate(call, audio_s, _labels(name, True, what, "clip", shape), burst=1, every=12) for what, call in calls.items()]


@torch.inference_mode()
def _agreement(full: Codec, peer: Peer, clip: Samples) -> dict[str, float]:
    """How far our full-size model and the package's, with the same weights, compute the same."""
    expected = peer.encode(torch.from_numpy(clip)[None, None], _BANDWIDTH)
    packets = full.stream_encoder(_BANDWIDTH, start="exact")
    codes = np.concatenate([*packets.feed(clip), *packets.flush()], axis=1)
    audio = full.decode(expected[0].numpy())
    return {
        "codes_equal": float((codes == expected[0].numpy()).mean()),
        "max_error": float(np.abs(audio - peer.decode(expected)[0, 0].numpy()).max()),
    }


# Telling -----------------------------------------------------------------------------------------------------------------------------


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    steps = [row for row in figures["rows"] if row["kind"] == "step"]
    clips = [row for row in figures["rows"] if row["kind"] == "clip"]
    shapes = sorted({(row["frames"], row["batch"]) for row in steps})
    agreement = figures["agreement"]
    parts = [
        f"{figures['bandwidth']:g} kbps with RVQ. *Ours* carries its state from step to step ({', '.join(figures['engines'])}); the "
        "packages' calls are each on their own, so their packets do not join. `full size` and the packages are the published architecture "
        f"with random weights; ours, fed as a stream, gives {100 * agreement['codes_equal']:.2f}% of the codes that `transformers` gives "
        f"for the whole clip, and the same codes decode within {agreement['max_error']:.0e}. All candidates took turns in one run "
        f"({figures['rounds']} rounds of five calls each; whole clips, one call in every twelfth). The last column is the time of the "
        "quicker package's call on the same audio, divided by this row's: only full size compares like with like."
    ]
    for operation in ("encode", "decode"):
        for frames, batch in shapes:
            rows = [r for r in steps if (r["operation"], r["frames"], r["batch"]) == (operation, frames, batch)]
            best = min(r["ms"]["p50"] for r in rows if not r["ours"])
            ms = 1000 * frames / 75
            streams = "one stream" if batch == 1 else f"{batch} streams"
            cells = [[_name(r, f"each {ms:.0f} ms alone"), *_spread(r), f"{best / r['ms']['p50']:.2f}"] for r in rows]
            header = [f"{operation}, {ms:.0f} ms, {streams}", "median ms", "p99 ms", "x real time", "against the packages"]
            parts.append(table(header, cells))
    cells = [[f"{_name(r, 'whole')}, {r['operation']}", *_spread(r, p99=False)] for r in clips]
    parts.append(table([f"whole clip, {figures['clip_s']:g} s", "median ms", "x real time"], cells))
    return "\n\n".join(parts) + "\n\n![Times real time of each candidate](step.png)\n"


def _name(row: dict[str, Any], how: str) -> str:
    return f"**ours, {row['who']}**" if row["ours"] else f"`{row['who']}`, full size, {how}"


def _spread(row: dict[str, Any], *, p99: bool = True) -> list[str]:
    shown = [f"{row['ms']['p50']:.2f}", f"{row['ms']['p99']:.2f}"] if p99 else [f"{row['ms']['p50']:.0f}"]
    return [*shown, f"{row['realtime']:.1f}"]


def draw(figures: Figures, path: Path) -> None:
    """Bars: how many times real time, by operation; a thin line reaches to what is left at the 99th percentile."""
    from matplotlib.figure import Figure

    groups = sorted({(r["kind"] != "step", r["frames"], r["batch"]) for r in figures["rows"]})
    height = 0.6 + sum(0.32 * sum((r["kind"] != "step", r["frames"], r["batch"]) == g for r in figures["rows"]) / 2 + 0.75 for g in groups)
    figure = Figure(figsize=(12, height), dpi=110, layout="constrained")
    grid = figure.subplots(len(groups), 2, sharex="col", squeeze=False)
    for row, group in enumerate(groups):
        clip, frames, batch = group
        for axes, operation in zip(grid[row], ("encode", "decode"), strict=True):
            rows = [r for r in figures["rows"] if (r["kind"] != "step", r["frames"], r["batch"], r["operation"]) == (*group, operation)]
            names = [f"ours, {r['who']}" if r["ours"] else r["who"] for r in rows]
            speed = [r["realtime"] for r in rows]
            slow = [r["realtime"] * r["ms"]["p50"] / r["ms"]["p99"] for r in rows]
            axes.barh(names, speed, color=["tab:blue" if r["ours"] else "0.7" for r in rows], height=0.65)
            axes.hlines(names, slow, speed, color="0.15", lw=1)
            axes.plot(slow, names, "|", color="0.15", ms=7)
            for name, value in zip(names, speed, strict=True):
                axes.annotate(f" {value:.1f}x", (value, name), va="center", fontsize=8)
            streams = "one stream" if batch == 1 else f"{batch} streams"
            what = f"whole clip of {figures['clip_s']:g} s" if clip else f"{1000 * frames / 75:.0f} ms, {streams}"
            axes.set_title(f"{operation}, {what}", fontsize=10)
            axes.invert_yaxis()
            axes.axvline(1, color="tab:red", lw=0.8)
            axes.margins(x=0.12)
            axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("times real time (bar: median; tick: 99th percentile; red: 1)")
    figure.savefig(path)


if __name__ == "__main__":
    main()
