"""What a run of `benchmarks.tokenize` takes, who takes part in it, and how its figures are told."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness.machine import Observed
from benchmarks.harness.models import FULL_SIZE
from benchmarks.harness.parity import proved, rule_of, told
from benchmarks.harness.run import Benchmark, Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table
from benchmarks.peers import Peer, encodec_peer, transformers_peer
from streamcodec.audio import bundled_clip, open_audio_blocks, read_audio, write_audio
from streamcodec.codec import Codec, load
from streamcodec.processors import available_processors
from streamcodec.tokenizer import Manifest, TokenDataset, TokenizerJob, header_of, is_done, tokenize

__all__ = ["BENCHMARK", "measure", "render"]

_KBPS = 6.0
_SECONDS = (2.0, 20.0)  # as long as files of speech corpora are
_CHECKED = 8  # files whose codes are compared with those of transformers

Encode = Callable[[Sequence[Path], Path], None]
"""Encodes files into a folder."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--minutes", type=float, default=60.0, help="of audio, all files together: the bundled clip, over and over")
    parser.add_argument("--threads", type=int, default=available_processors(), help="everybody's (default: one per processor)")
    parser.add_argument("--batch", type=int, default=16, help="files in a batch, where there are batches")
    parser.add_argument("--seed", type=int, default=0)


def measure_all(args: argparse.Namespace, observed: Observed) -> Figures:
    """Make the folder and the model, and measure."""
    with tempfile.TemporaryDirectory() as scratch:
        files = make_files(Path(scratch, "audio"), 60 * args.minutes, args.seed)
        with observed:
            return measure(files, Path(scratch), args.threads, args.batch)


def make_files(folder: Path, total_s: float, seed: int) -> list[Path]:
    """Write files of so many seconds in all into `folder`: stretches of the bundled clip, of lengths drawn at random."""
    folder.mkdir()
    clip, rate = bundled_clip()
    draw = np.random.default_rng(seed)
    files: list[Path] = []
    left = round(total_s * rate)
    while left:
        length = min(left, round(draw.uniform(*_SECONDS) * rate))
        files.append(folder / f"{len(files):05d}.wav")
        write_audio(files[-1], np.resize(np.roll(clip, -int(draw.integers(len(clip)))), length), rate)
        left -= length
    return files


def measure(files: Sequence[Path], scratch: Path, threads: int, batch: int) -> Figures:
    """Time everybody on the same files, one after the other, and compare codes."""
    peer = transformers_peer()
    peer.save(scratch / "model")
    codec = load(scratch / "model", threads=threads, workers=threads)
    codec.warm_up()  # converts the model, once per machine
    whole, parts = scratch / "ours", scratch / "resumed"
    longest_first = sorted(files, key=lambda file: -file.stat().st_size)
    rows = [
        _row("streamcodec", f"{batch} files in a batch", lambda: _tokenize(codec, longest_first, whole, batch)),
        _row("streamcodec", "stopped after half of the files, and resumed", lambda: _in_two_runs(codec, longest_first, parts, batch)),
    ]
    torch.set_num_threads(threads)
    # audiolm-pytorch's wrapper passes a batch of waves on to the package encodec, and turns the axes of its codes.
    other = encodec_peer()
    theirs, padded, others = (scratch / name for name in ("theirs", "padded", "others"))
    rows += [
        _row("transformers", "one file at a time", lambda: _one_by_one(peer, files, theirs)),
        _row("transformers", f"{batch} files in a batch, padded", lambda: _padded(peer, longest_first, padded, batch, codec.hop_length)),
        _row("encodec", "one file at a time, as audiolm-pytorch's wrapper calls it", lambda: _one_by_one(other, files, others)),
    ]
    clip_s = sum(_length_s(file) for file in files)
    return {
        "files": len(files),
        "seconds": clip_s,
        "threads": threads,
        "kbps": _KBPS,
        "engine": codec.engine.name,
        "rows": [{**row, "times_real_time": clip_s / row["s"]} for row in rows],
        **_compare(codec, files, whole, parts, theirs),
    }


def _length_s(file: Path) -> float:
    with open_audio_blocks(file) as blocks:
        return blocks.duration_s or 0.0


def _row(who: str, how: str, call: Callable[[], object]) -> Figures:
    begun = time.perf_counter()
    call()
    return {"who": who, "how": how, "s": time.perf_counter() - begun}


def _jobs(files: Sequence[Path], into: Path) -> list[TokenizerJob]:
    return [TokenizerJob.of(file, into / f"{file.stem}.codes", file.parent, into) for file in files]


def _tokenize(codec: Codec, files: Sequence[Path], into: Path, batch: int, most: int | None = None) -> None:
    with Manifest(into, header_of(codec, _KBPS)) as manifest:
        left = [job for job in _jobs(files, into) if not is_done(job, manifest)]
        outcomes = tokenize(codec, left, manifest, bandwidth=_KBPS, batch=batch)
        for outcome in islice(outcomes, most):
            if outcome.error is not None:
                raise outcome.error
        outcomes.close()  # type: ignore[attr-defined]


def _in_two_runs(codec: Codec, files: Sequence[Path], into: Path, batch: int) -> None:
    _tokenize(codec, files, into, batch, len(files) // 2)
    _tokenize(codec, files, into, batch)


def _one_by_one(peer: Peer, files: Sequence[Path], into: Path) -> None:
    with torch.inference_mode():
        for file in files:
            _write(into, file, peer.encode(torch.from_numpy(read_audio(file)[0])[None], _KBPS)[0])


def _padded(peer: Peer, files: Sequence[Path], into: Path, batch: int, hop: int) -> None:
    with torch.inference_mode():
        for at in range(0, len(files), batch):
            clips = [torch.from_numpy(read_audio(file)[0][0]) for file in files[at : at + batch]]
            codes = peer.encode(torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)[:, None], _KBPS)
            for file, clip, row in zip(files[at : at + batch], clips, codes, strict=True):
                _write(into, file, row[:, : -(-len(clip) // hop)])


def _write(folder: Path, file: Path, codes: torch.Tensor) -> None:
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{file.stem}.npy", codes.numpy().astype(np.int16))


def _compare(codec: Codec, files: Sequence[Path], whole: Path, parts: Path, theirs: Path) -> Figures:
    """Whether both of our runs did every file, and whether codes that differ from those of transformers are near-ties."""
    ours, resumed = TokenDataset(whole), TokenDataset(parts)
    runs = {"in one go": ours, "stopped and resumed": resumed}
    failures = [f"{name}: {len(found)} of {len(files)} files" for name, found in runs.items() if len(found) != len(files)]
    rule, comparisons = rule_of(codec), []
    for i, entry in enumerate(ours.entries[:_CHECKED]):
        file = files[0].parent / entry.source
        expected = np.load(theirs / f"{file.stem}.npy").astype(np.int32)
        found = ours[i].numpy().astype(np.int32)
        comparisons.append(rule.compare(found, expected, read_audio(file)[0][0], "exact"))
    return {"failures": failures, "checked": len(comparisons), **proved(comparisons)}


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    ours = figures["rows"][0]["s"]
    rows = [[f"{row['who']}, {row['how']}", row["s"], row["times_real_time"], row["s"] / ours] for row in figures["rows"]]
    return (
        f"{figures['files']} files, {figures['seconds'] / 60:.1f} min of speech in all (stretches of the bundled clip), {FULL_SIZE}, "
        f"{figures['kbps']:g} kbps, {figures['threads']} threads, {figures['engine']}. Each reads the files, encodes them and writes their "
        f"codes. Of {figures['entries']:,} codes in {figures['checked']} files, those that differ between ours and those of transformers: "
        f"{told(figures['differing'], figures['near_ties'])}.\n\n" + table(["who, and how", "s", "times real time", "of ours"], rows) + "\n"
    )


def headlines(figures: Figures) -> list[Headline]:
    """Ours, and the fastest other."""
    ours = figures["rows"][0]
    best = min((row for row in figures["rows"] if row["who"] != "streamcodec"), key=lambda row: row["s"])
    what = f"a folder of {figures['seconds'] / 60:.0f} min of audio to codes, {figures['threads']} threads"
    return [Headline(what, f"{ours['s']:.0f} s", f"{best['s']:.0f} s ({best['who']})")]


BENCHMARK = Benchmark(
    name="tokenize",
    title="A folder of audio",
    question="How long does a folder of audio take to become a folder of codes?",
    options=add_options,
    measure=measure_all,
    render=render,
    headlines=headlines,
    embedded=False,
)
