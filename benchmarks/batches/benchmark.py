"""What a run of `benchmarks.batches` takes, its figures, and how they are told."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.clip_tally import ClipTally
from benchmarks.harness.clips import ClipTruth
from benchmarks.harness.machine import Observed
from benchmarks.harness.models import FULL, FULL_32K, FULL_STEREO, model_folder, model_name
from benchmarks.harness.parity import told
from benchmarks.harness.run import Benchmark, Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table, verdict
from benchmarks.harness.timing import Candidate, alternate
from benchmarks.peers.random_models import transformers_checkpoint
from streamcodec.audio import bundled_clip, resample
from streamcodec.compat.transformers import EncodecFeatureExtractor, EncodecModel
from streamcodec.model.checkpoint import load_file
from streamcodec.model.near_ties import NearTies

__all__ = ["BENCHMARK"]

_THEIRS = "transformers"
_OURS = ("openvino", "torch")
_NAMES = {"openvino": "ours, OpenVINO", "torch": "ours, torch", _THEIRS: "`transformers`"}
_CALLS = ("encode", "decode")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    models = [FULL, FULL_32K, FULL_STEREO]
    add("--model", nargs="+", default=models, help=f"folders, or {', '.join(models)}: published architectures with random weights")
    add("--clips", type=int, default=4)
    add("--seconds", type=float, nargs=2, default=[0.3, 0.9], metavar=("LEAST", "MOST"), help="the clips' lengths")
    add("--bandwidth", type=float, help="kbps (default: 6, or the highest below)")
    add("--engine", nargs="+", choices=_OURS, default=list(_OURS), help="ours")
    add("--rounds", type=int, default=5)
    add("--threads", type=int, default=1)


def measure_all(args: argparse.Namespace, observed: Observed) -> Figures:
    """Measure each model."""
    models = []
    with observed, torch.inference_mode():
        for name in args.model:
            with model_folder(name) as folder:
                run = _Run(Path(folder), args.engine, args.clips, args.seconds, args.bandwidth)
            models.append({"model": model_name(name), **run.compare(), "rows": run.time(args.rounds)})
    return {
        "clips": args.clips,
        "seconds": args.seconds,
        "threads": args.threads,
        "models": models,
        "failures": [f"{one['model']}: {failure}" for one in models for tally in one["parity"] for failure in tally.pop("failures")],
    }


# Measuring ---------------------------------------------------------------------------------------------------------------------------


class _Run:
    """One model, loaded by both sides, and the batch that they code."""

    def __init__(self, folder: Path, engines: Sequence[Any], clips: int, seconds: Sequence[float], bandwidth: float | None) -> None:
        network = load_file(folder)
        n_q = network.config.n_q_for(bandwidth)
        self.kbps = next(kbps for kbps in network.config.target_bandwidths if network.config.bandwidth_to_n_q(kbps) == n_q)
        self.rule = NearTies(network)
        self.theirs = transformers_checkpoint(folder)
        self.ours = {engine: EncodecModel.from_pretrained(folder, engine=engine) for engine in engines}
        self.values, self.mask = _batch(EncodecFeatureExtractor.from_pretrained(folder), clips, seconds)

    def compare(self) -> Figures:
        """What each engine of ours gives, against what `transformers` does: a batch encoded, and the audio of its codes."""
        encoded = self.theirs.encode(self.values, self.mask, self.kbps)
        self._given = encoded.audio_codes, encoded.audio_scales, self.mask, True, encoded.last_frame_pad_length
        heard = self.theirs.decode(*self._given)
        truths = [ClipTruth(self.rule, clip.numpy()) for clip in self.values * self.mask[:, None]]
        parity = []
        for engine, model in self.ours.items():
            tally = ClipTally({"engine": engine})
            ours = model.encode(self.values, self.mask, self.kbps), model.decode(*self._given)
            tally.batch(truths, self.mask.sum(1).tolist(), (ours[0], encoded), (ours[1], heard))
            parity.append(tally.row())
        config = self.rule.model.config
        return {"kbps": self.kbps, "rate": config.sampling_rate, "channels": config.audio_channels, "parity": parity}

    def time(self, rounds: int) -> list[Figures]:
        """Each call by each side, by turns; `compare` has warmed them up."""
        audio_s = float(self.mask.sum()) / self.rule.model.config.sampling_rate
        sides = {**self.ours, _THEIRS: self.theirs}
        calls: dict[str, Callable[[Any], Any]] = {
            "encode": lambda model: model.encode(self.values, self.mask, self.kbps),
            "decode": lambda model: model.decode(*self._given),
        }
        rows = []
        for call in _CALLS:
            candidates = [Candidate(partial(calls[call], model), audio_s, burst=1) for model in sides.values()]
            for side, times in zip(sides, alternate(candidates, rounds, warm_up=0), strict=True):
                median = statistics.median(times)
                row = {"call": call, "side": side, "median_ms": 1000 * median, "least_ms": 1000 * min(times)}
                rows.append({**row, "times_real_time": audio_s / median})
        return rows


def _batch(extractor: EncodecFeatureExtractor, clips: int, seconds: Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Stretches of the bundled clip at the model's rate, other ones on each channel: values [B, channels, T] and the mask [B, T]."""
    rate, channels = extractor.sampling_rate, extractor.feature_size
    sound = resample(*bundled_clip(), rate)
    rng = np.random.default_rng(0)
    parts = []
    for length in (int(rate * each) for each in rng.uniform(seconds[0], seconds[1], clips)):
        starts = rng.integers(0, len(sound) - length, channels)
        clip = np.stack([sound[start : start + length] for start in starts])
        parts.append(clip[0] if channels == 1 else clip)
    batch = extractor(parts, sampling_rate=rate, return_tensors="pt")
    return batch["input_values"], batch["padding_mask"]


# Telling -----------------------------------------------------------------------------------------------------------------------------


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    least, most = figures["seconds"]
    text = (
        f"{figures['clips']} clips of {least:g} to {most:g} s of speech, padded by the feature extractor and coded in one call with their "
        "mask, by `streamcodec.compat.transformers` and by `transformers` with the same weights, in turns, "
        f"{figures['threads']} thread(s). Times real time count the clips without their padding. Codes of ours that differ are proved "
        "near-ties; audio is of the same codes. "
        f"{verdict(figures['failures'])}"
    )
    for one in figures["models"]:
        parity = {tally["engine"]: tally for tally in one["parity"]}
        lines = []
        for call, rows in groupby(one["rows"], key=lambda row: row["call"]):
            found = list(rows)
            theirs = next(row["median_ms"] for row in found if row["side"] == _THEIRS)
            for row in found:
                same = _same(call, parity[row["side"]]) if row["side"] in parity else None
                times = [row["median_ms"], row["least_ms"], row["times_real_time"], row["median_ms"] / theirs]
                lines.append([f"{call}, {_NAMES[row['side']]}", *times, same])
        channels = "mono" if one["channels"] == 1 else "stereo"
        header = [f"{one['rate'] // 1000} kHz {channels}, {one['kbps']:g} kbps", "median, ms", "least, ms", "times real time"]
        text += f"\n\n### {one['model']}\n\n{table([*header, 'of `transformers`', 'unlike `transformers`'], lines)}"
    return text + "\n"


def _same(call: str, tally: Figures) -> str:
    if call == "decode":
        return f"{tally['audio']:.1e}"
    return f"{told(tally['differing'], tally['near_ties'])}, of {tally['entries']:,}"


def headlines(figures: Figures) -> list[Headline]:
    """Encoding by each model: ours on the fastest engine, and theirs."""
    found = []
    for one in figures["models"]:
        for call in _CALLS:
            times = {row["side"]: row["times_real_time"] for row in one["rows"] if row["call"] == call}
            best = max((side for side in times if side != _THEIRS), key=times.__getitem__)
            what = (
                f"{call} a padded batch of {figures['clips']} clips, {one['model']}, {one['kbps']:g} kbps, {figures['threads']} thread(s)"
            )
            ours = f"{times[best]:.1f} times real time ({_NAMES[best].removeprefix('ours, ')})"
            found.append(Headline(what, ours, f"{times[_THEIRS]:.1f} ({_NAMES[_THEIRS]})"))
    return found


BENCHMARK = Benchmark(
    name="batches",
    title="Batches of clips of different lengths",
    question="How long do `transformers`' calls take on a padded batch, by ours and by `transformers`, and are the results the same?",
    options=add_options,
    measure=measure_all,
    render=render,
    headlines=headlines,
)
