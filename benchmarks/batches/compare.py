"""Times and compares what both sides make of one batch: its codes, proved but for near-ties, and its samples."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness.machine import describe_machine
from benchmarks.harness.models import model_folder, model_name
from benchmarks.harness.tables import table
from benchmarks.harness.timing import Candidate, alternate
from streamcodec.audio import bundled_clip
from streamcodec.compat.transformers import EncodecFeatureExtractor, EncodecModel
from streamcodec.errors import InputError
from streamcodec.model.near_ties import NearTies

__all__ = ["main", "measure"]

_SIDES = ("openvino", "torch", "transformers")


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 where codes differ that no near-tie explains, or samples."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batches", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--model", default="full", help='a folder that both sides load, or "full": the published architecture with random weights')
    add("--clips", type=int, default=16)
    add("--seconds", type=float, nargs=2, default=[1.0, 3.0], metavar=("LEAST", "MOST"), help="the clips' lengths")
    add("--bandwidth", type=float, default=6.0, help="kbps")
    add("--sides", nargs="+", choices=_SIDES, default=list(_SIDES))
    add("--rounds", type=int, default=7)
    add("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    with model_folder(args.model) as folder, torch.no_grad():
        rows, failures = measure(Path(folder), args.sides, args.clips, args.seconds, args.bandwidth, args.rounds)
    print(f"{args.clips} clips of {args.seconds[0]:g} to {args.seconds[1]:g} s, {model_name(args.model)}, {args.bandwidth:g} kbps")
    print(describe_machine(args.threads)["cpu"])
    print(table(["call", "side", "median, ms", "least, ms", "times real time", "median, transformers = 1"], rows))
    for failure in failures:
        print(failure)
    return 1 if failures else 0


def measure(
    folder: Path, sides: Sequence[str], clips: int, seconds: Sequence[float], bandwidth: float, rounds: int
) -> tuple[list[list[Any]], list[str]]:
    """The rows of the table, and what is not equal: the clips are parts of the bundled one."""
    models = {side: _load(folder, side) for side in sides}
    batch, lengths = _batch(EncodecFeatureExtractor.from_pretrained(folder), clips, seconds)
    values, mask = batch["input_values"], batch["padding_mask"]
    encoded = {side: model.encode(values, mask, bandwidth) for side, model in models.items()}
    codes, scales = encoded[sides[-1]].audio_codes, encoded[sides[-1]].audio_scales
    heard = {side: model.decode(codes, scales, mask).audio_values for side, model in models.items()}
    failures = [*_differences(models, encoded, values * mask[:, None], sides), *_unlike(heard, sides)]
    audio_s = float(mask.sum()) / models[sides[0]].config.sampling_rate
    rows = []
    calls: dict[str, Callable[[Any], Any]] = {
        "encode": lambda model: model.encode(values, mask, bandwidth),
        "decode": lambda model: model.decode(codes, scales, mask),
    }
    for name, call in calls.items():
        candidates = [Candidate(partial(call, models[side]), audio_s, burst=1) for side in sides]
        times = dict(zip(sides, alternate(candidates, rounds, warm_up=1), strict=True))
        medians = {side: statistics.median(each) for side, each in times.items()}
        for side in sides:
            least, median = min(times[side]), medians[side]
            share = median / medians["transformers"] if "transformers" in medians else None
            rows.append([name, side, 1000 * median, 1000 * least, audio_s / median, share])
    return rows, [*failures, *([] if lengths == mask.sum(1).tolist() else ["the mask is not as long as the clips"])]


def _load(folder: Path, side: str) -> Any:
    if side != "transformers":
        return EncodecModel.from_pretrained(folder, engine=side)  # type: ignore[arg-type]
    from transformers import EncodecModel as Reference
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return Reference.from_pretrained(folder, dtype=torch.float32)


def _batch(extractor: EncodecFeatureExtractor, clips: int, seconds: Sequence[float]) -> tuple[Any, list[int]]:
    sound, rate = bundled_clip()
    if extractor.sampling_rate != rate or extractor.feature_size != 1:
        raise InputError(f"the model has {extractor.feature_size} channel(s) at {extractor.sampling_rate} Hz, the clips 1 at {rate} Hz")
    rng = np.random.default_rng(0)
    lengths = [int(rate * each) for each in rng.uniform(seconds[0], seconds[1], clips)]
    starts = [int(rng.integers(0, len(sound) - length)) for length in lengths]
    parts = [sound[start : start + length] for start, length in zip(starts, lengths, strict=True)]
    return extractor(parts, sampling_rate=rate, return_tensors="pt"), lengths


def _differences(models: dict[str, Any], encoded: dict[str, Any], clips: torch.Tensor, sides: Sequence[str]) -> list[str]:
    """The rows of the batch whose codes are not those of the last side, near-ties apart."""
    ours = next((models[side] for side in sides if side != "transformers"), None)
    if ours is None:
        return []
    rule, expected = NearTies(ours.network), encoded[sides[-1]].audio_codes[0].numpy()
    found = []
    for side in sides[:-1]:
        for row, codes in enumerate(encoded[side].audio_codes[0].numpy()):
            compared = rule.compare(codes, expected[row], clips[row, 0].numpy())
            if not compared:
                found.append(f"{side}, clip {row}: {compared}")
    return found


def _unlike(heard: dict[str, torch.Tensor], sides: Sequence[str]) -> list[str]:
    apart = {side: float((heard[side] - heard[sides[-1]]).abs().max()) for side in sides[:-1]}
    return [f"{side}: samples differ by {most:.1e}" for side, most in apart.items() if not most <= 1e-4]
