"""What a run of `benchmarks.quality` takes, and its figures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import heldout
from benchmarks.harness.machine import Observed
from benchmarks.harness.run import Benchmark
from benchmarks.harness.sections import Figures
from benchmarks.peers import lyra
from benchmarks.quality.measures import Scores, check_rate, mean, means, measure, missing, plain, versions
from benchmarks.quality.opus import OpusWay, through_opus, ways, why_not
from benchmarks.quality.opus import versions as opus_versions
from benchmarks.quality.page import write_page
from benchmarks.quality.render import NAMES, draw, headlines, render
from benchmarks.quality.spectra import draw_spectra
from streamcodec.codec import Codec, load
from streamcodec.types import Samples

__all__ = ["BENCHMARK", "Rivals", "measure_quality"]


_CHOOSING = ("distillmos", "plcmos", "dnsmos")  # the first that is there says which of Opus's ways is the best at a bitrate
_CHOOSING_CLIPS = 12
_PAGE_CLIPS = 2
_PICTURE_CLIPS = 4
_BAND_EDGES_HZ = (0, 1000, 2000, 4000, 8000, 12000)


@dataclass
class Rendition:
    """All clips through one codec at one setting; `kbps` is what its packets took, None for the recording itself."""

    codec: str
    label: str
    audio: list[Samples]
    kbps: float | None = None
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rivals:
    """What is measured beside a model: another of its kind, Opus at some kbps, enhanced where `node` is given, Lyra where its files are."""

    before: str | None = None
    opus: Sequence[float] = ()
    node: Path | None = None
    lyra: Path | None = None


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    heldout.add_options(parser)
    parser.add_argument("--model", default="speech-24k", help="embedded name, checkpoint or hub id")
    parser.add_argument("--bandwidth", type=float, nargs="+", help="kbps (default: all of the model's)")
    parser.add_argument("--before", metavar="MODEL", help="another model of the kind, to measure and to draw beside this one")
    parser.add_argument("--opus", type=float, nargs="*", default=[6.0, 9.0, 12.0, 24.0], help="kbps that Opus aims at")
    parser.add_argument("--node", type=Path, metavar="FOLDER", help="where npm installed @wasm-audio-decoders/opus-ml, which enhances Opus")
    parser.add_argument("--lyra", type=Path, metavar="FOLDER", help="with Lyra V2's three .tflite files")
    parser.add_argument("--page", type=Path, help="folder for WAV files of some of the clips, a page to listen with and spectrograms")


def measure_all(args: argparse.Namespace, observed: Observed) -> Figures:
    """Score what the command line asks for and, with `--page`, write what to listen to and to look at."""
    clips = heldout.chosen(args, music=True)
    with observed:
        rivals = Rivals(args.before, args.opus, args.node, args.lyra)
        figures, renditions = measure_quality(args.model, clips, args.bandwidth, rivals)
    if args.page:
        print(listen(args.page, figures, clips, renditions))
    return figures


# Measuring ---------------------------------------------------------------------------------------------------------------------------


def measure_quality(
    model: str, clips: Sequence[heldout.Clip], bandwidths: Sequence[float] | None, rivals: Rivals
) -> tuple[Figures, list[Rendition]]:
    """All figures of the section, and the audio that they are of. Speech is scored; music only has its level measured."""
    codec = load(model)
    check_rate(codec.sample_rate)
    wanted = list(bandwidths or codec.config.target_bandwidths)
    rate, skipped = codec.sample_rate, why_not() if rivals.opus else "not asked for"
    renditions = [_ours(codec, clips, kbps) for kbps in wanted]
    if rivals.before is not None:
        other = load(rivals.before)
        renditions += [_ours(other, clips, kbps, "before") for kbps in wanted]
    found = [] if skipped else ways(rivals.node)
    renditions += [_best_opus(clips, rate, kbps, found) for kbps in rivals.opus if found]
    no_lyra = lyra.why_not(rivals.lyra)
    if no_lyra is None and rivals.lyra is not None:
        renditions += [_lyra(clips, rate, kbps, rivals.lyra) for kbps in lyra.KBPS]
    renditions.append(Rendition("original", "the recording itself", [clip.samples for clip in clips]))
    figures = {
        "model": model,
        "engine": codec.engine.name,
        "rate": rate,
        "opus_ways": [way.name for way in found],
        "opus_versions": opus_versions(found),
        "opus_skipped": skipped,
        "lyra_skipped": no_lyra,
        "clips": heldout.describe(clips),
        "missing": missing(NAMES),
        "scored_with": versions(NAMES),
        "rows": [_row(rendition, clips, rate) for rendition in renditions],
        "codebook_size": codec.config.codebook_size,
        "codebooks": _codebooks(codec, [clip for clip in clips if clip.kind == "speech"], max(wanted)),
    }
    return figures, renditions


def _ours(codec: Codec, clips: Sequence[heldout.Clip], kbps: float, kind: str = "ours") -> Rendition:
    heard = [codec.decode(codec.encode(clip.samples, bandwidth=kbps))[: len(clip.samples)] for clip in clips]
    return Rendition(kind, f"{'before' if kind == 'before' else codec.name}, {kbps:g} kbps", heard, kbps)


def _lyra(clips: Sequence[heldout.Clip], rate: int, kbps: float, folder: Path) -> Rendition:
    return Rendition("lyra", f"Lyra V2, {kbps:g} kbps", [lyra.through_lyra(clip.samples, rate, kbps, folder) for clip in clips], kbps)


def _best_opus(clips: Sequence[heldout.Clip], rate: int, kbps: float, found: Sequence[OpusWay]) -> Rendition:
    """Opus in the way that is best at this bitrate, by a measure that hears the output alone, over the first clips of speech."""
    name = next(name for name in (*_CHOOSING, "sisdr") if not missing([name]))
    few = [clip for clip in clips if clip.kind == "speech"][:_CHOOSING_CLIPS]

    def score(way: OpusWay) -> float:
        scores = [measure([name], clip.samples, through_opus(clip.samples, rate, kbps, way).audio) for clip in few]
        return float(np.mean([score.values[name] for score in scores if name in score.values] or [-np.inf]))

    return _opus(clips, rate, kbps, max(found, key=score) if len(found) > 1 else found[0])


def _opus(clips: Sequence[heldout.Clip], rate: int, kbps: float, way: OpusWay) -> Rendition:
    speech = np.array([clip.kind == "speech" for clip in clips])
    through = [through_opus(clip.samples, rate, kbps, way) for clip in clips]
    seconds = sum(len(clip.samples) for clip in clips if clip.kind == "speech") / rate
    packets, files = (
        sum(getattr(t, what) for t, s in zip(through, speech, strict=True) if s) * 8 / 1000 / seconds for what in ("packets", "file")
    )
    more = {"aimed_kbps": kbps, "file_kbps": files, "max_lag_ms": 1000 * max(abs(t.lag) for t in through) / rate}
    return Rendition("opus", f"Opus ({way.name}), aimed at {kbps:g} kbps", [t.audio for t in through], packets, more)


def _row(rendition: Rendition, clips: Sequence[heldout.Clip], rate: int) -> dict[str, Any]:
    pairs = list(zip(clips, rendition.audio, strict=True))
    spoken = [(clip, heard) for clip, heard in pairs if clip.kind == "speech"]
    # A clip's distance from itself says nothing.
    names = [name for name in NAMES if rendition.codec != "original" or name not in ("sisdr", "mel")]
    scores: list[Scores] = [measure(names, clip.samples, heard) for clip, heard in spoken]
    absent = missing(names)
    levels = {
        kind: mean([_level(heard, clip.samples) for clip, heard in pairs if clip.kind == kind and clip.samples.any() and heard.any()])
        for kind in ("speech", "music")
    }
    return {
        "codec": rendition.codec,
        "label": rendition.label,
        "kbps": rendition.kbps,
        **rendition.more,
        "scores": means(NAMES, scores),
        "level_db": {kind: plain(found) for kind, found in levels.items()},
        "bands": None if rendition.codec == "original" else bands([(clip.samples, heard) for clip, heard in spoken], rate),
        "undefined": [
            {"clip": clip.name, "measure": name, "why": why}
            for (clip, _), score in zip(spoken, scores, strict=True)
            for name, why in score.undefined.items()
            if name not in absent
        ],
    }


def _level(output: Samples, original: Samples) -> float:
    return float(10 * np.log10(np.mean(np.square(output, dtype=np.float64)) / np.mean(np.square(original, dtype=np.float64))))


def bands(pairs: Sequence[tuple[Samples, Samples]], rate: int) -> list[dict[str, float]]:
    """What became of each band of all (original, output) pairs together: the waveform's `snr_db`, and `level_db`, output over original.

    An SNR of 0 dB says that a band's waveform is not coded: silence instead of it would be as far off.
    """
    power = np.zeros((3, len(_BAND_EDGES_HZ) - 1))  # of the originals, of the outputs, of their differences
    for original, output in pairs:
        length = min(len(original), len(output))
        band_of = np.digitize(np.fft.rfftfreq(length, 1 / rate), _BAND_EDGES_HZ[1:-1])
        for at, samples in enumerate((original[:length], output[:length], output[:length] - original[:length])):
            power[at] += np.bincount(band_of, np.abs(np.fft.rfft(samples)) ** 2, power.shape[1]) / length
    decibels = 10 * np.log10(power + 1e-12)
    snr, level = decibels[0] - decibels[2], decibels[1] - decibels[0]
    found = zip(pairwise(_BAND_EDGES_HZ), snr, level, strict=True)
    return [{"from_hz": low, "to_hz": high, "snr_db": float(s), "level_db": float(lv)} for (low, high), s, lv in found]


def _codebooks(codec: Codec, clips: Sequence[heldout.Clip], kbps: float) -> list[dict[str, float]]:
    """Of each codebook, the share of entries that occur in the speech and the perplexity of their use."""
    import torch

    from streamcodec.training.stages.quantize import perplexity

    codes = np.concatenate([codec.encode(clip.samples, bandwidth=kbps) for clip in clips], axis=1)
    used = perplexity(torch.from_numpy(codes[None].astype(np.int64)), codec.config.codebook_size)
    shares = [len(np.unique(book)) / codec.config.codebook_size for book in codes]
    return [{"used": share, "perplexity": float(value)} for share, value in zip(shares, used, strict=True)]


def listen(folder: Path, figures: Figures, clips: Sequence[heldout.Clip], renditions: Sequence[Rendition]) -> Path:
    """Write the first clips of each source as WAV files, a page that plays them, and spectrograms; return the page."""
    picked = [at for at, clip in enumerate(clips) if sum(other.source == clip.source for other in clips[:at]) < _PAGE_CLIPS]
    ordered = [*renditions[-1:], *renditions[:-1]]
    columns = {rendition.label: [rendition.audio[at] for at in picked] for rendition in ordered}
    folder.mkdir(parents=True, exist_ok=True)
    _picture(folder / "spectra.png", clips, renditions, figures["rate"])
    return write_page(folder, f"{figures['model']} beside its rivals", [clips[at].name for at in picked], columns, figures["rate"])


def _picture(path: Path, clips: Sequence[heldout.Clip], renditions: Sequence[Rendition], rate: int) -> None:
    """Spectrograms of a clip of each of the first sources: the recording, ours and what it was before at 6 and 24 kbps, and the rivals."""
    picked: list[int] = []
    for at, clip in enumerate(clips):
        if clip.kind == "speech" and all(clips[other].source != clip.source for other in picked):
            picked.append(at)
    columns = [renditions[-1], *(r for r in renditions[:-1] if r.codec not in ("ours", "before") or r.kbps in (6.0, 24.0))]
    audio = {column.label: [column.audio[at] for at in picked[:_PICTURE_CLIPS]] for column in columns}
    draw_spectra(path, [clips[at].name for at in picked[:_PICTURE_CLIPS]], audio, rate)


BENCHMARK = Benchmark(
    name="quality",
    title="How it sounds",
    question="How does held-out speech sound at every bandwidth, beside its rivals and beside the recording itself?",
    options=add_options,
    measure=measure_all,
    render=render,
    draw=draw,
    headlines=headlines,
)
