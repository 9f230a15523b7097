"""What a run of `benchmarks.seams` takes, its figures, and its picture, which shows the sound itself."""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness.machine import Observed
from benchmarks.harness.parity import proved, rule_of, told
from benchmarks.harness.plots import picture
from benchmarks.harness.run import Benchmark, Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table
from streamcodec.audio import bundled_clip, read_audio, resample, to_float
from streamcodec.codec import Codec, load
from streamcodec.config import Start
from streamcodec.model.near_ties import NearTies
from streamcodec.types import Codes, Samples

__all__ = ["BENCHMARK", "measure", "render"]


_SILENCE_S = 1


@dataclass(frozen=True)
class CodedClip:
    """One way to bring a clip through the codec: its codes, its audio [T], and the codes and audio that it should have given."""

    codes: Codes
    audio: Samples
    due_codes: Codes
    due_audio: Samples
    start: Start | None = None
    """How the stream opened; None for what is no stream, whose codes need not be the due ones."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("audio", nargs="*", type=Path, help="sound files (default: the bundled clip)")
    parser.add_argument("--model", default="speech-24k", help="embedded name, checkpoint or hub id")
    parser.add_argument("--bandwidth", type=float, nargs="+", default=[1.5, 6.0, 24.0], help="kbps; the picture shows the middle one")
    parser.add_argument("--packet-frames", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each file, at most")


def measure_all(args: argparse.Namespace, observed: Observed) -> Figures:
    """Read what is asked for, measure and draw it."""
    with observed:
        codec = load(args.model)
        clips = [(path.name, _read(path, codec)) for path in args.audio] or [("the bundled clip", bundled_clip()[0])]
        clips = [(name, clip[: round(args.seconds * codec.sample_rate)]) for name, clip in clips]
        return measure(codec, clips, args.bandwidth, args.packet_frames, args.out / "seams.png")


def _read(path: Path, codec: Codec) -> Samples:
    channels, rate = read_audio(path)
    return resample(channels.mean(axis=0), rate, codec.sample_rate)


# Measuring ---------------------------------------------------------------------------------------------------------------------------


def measure(codec: Codec, clips: list[tuple[str, Samples]], bandwidths: Sequence[float], packet_frames: int, picture: Path) -> Figures:
    """All figures of the section; the picture is drawn on the way, from the first clip at the middle bandwidth."""
    packet, rule = packet_frames * codec.hop_length, rule_of(codec)
    rows = []
    for at, bandwidth in enumerate(bandwidths):
        ways = [_ways(codec, clip, bandwidth, packet_frames) for _, clip in clips]
        for name in ways[0]:
            compared = _compare(rule, [way[name] for way in ways], [clip for _, clip in clips], packet)
            rows.append({"kbps": bandwidth, "way": name, **compared})
        if at == len(bandwidths) // 2:
            draw(ways[0], clips[0][1], packet, codec.sample_rate, f"{codec.name}, {bandwidth:g} kbps", picture)
    return {
        "model": codec.name,
        "clips": [{"name": name, "seconds": len(clip) / codec.sample_rate} for name, clip in clips],
        "packet_ms": 1000 * packet / codec.sample_rate,
        "packet_frames": packet_frames,
        "rows": rows,
        "package": _check_with_package(codec, clips[0][1], bandwidths[len(bandwidths) // 2], packet),
    }


def _ways(codec: Codec, clip: Samples, bandwidth: float, packet_frames: int) -> dict[str, CodedClip]:
    packet, hop = packet_frames * codec.hop_length, codec.hop_length
    whole_codes: Codes = codec.encode(clip, bandwidth=bandwidth)
    whole: Samples = codec.decode(whole_codes)[: len(clip)]
    lead = _SILENCE_S * codec.sample_rate
    behind_codes: Codes = codec.encode(np.concatenate([np.zeros(lead, np.float32), clip]), bandwidth=bandwidth)
    behind: Samples = codec.decode(behind_codes)[lead:][: len(clip)]
    lone = [codec.encode(clip[at : at + packet], bandwidth=bandwidth) for at in range(0, len(clip), packet)]
    lone_audio = np.concatenate([codec.decode(codes) for codes in lone])[: len(clip)]
    return {
        "whole clip": CodedClip(whole_codes, whole, whole_codes, whole),
        "naive": CodedClip(np.concatenate(lone, axis=1), lone_audio, whole_codes, whole),
        "stream, exact": CodedClip(*_stream(codec, clip, bandwidth, packet_frames, "exact"), whole_codes, whole, "exact"),
        "stream, primed": CodedClip(
            *_stream(codec, clip, bandwidth, packet_frames, "primed"), behind_codes[:, lead // hop :], behind, "primed"
        ),
    }


def _stream(codec: Codec, clip: Samples, bandwidth: float, packet_frames: int, start: Start) -> tuple[Codes, Samples]:
    """Blocks of 10 ms in, packets across, samples out: what a live stream does."""
    encoder = codec.stream_encoder(bandwidth, packet_frames=packet_frames, start=start)
    decoder = codec.stream_decoder(bandwidth, start=start)
    packets, audio, block = [], [], codec.sample_rate // 100
    for at in range(0, len(clip), block):
        new = encoder.feed(clip[at : at + block])
        packets += new
        audio.append(decoder.feed(new))
    rest = encoder.flush()
    audio += [decoder.feed(rest), decoder.flush()]
    return np.concatenate([*packets, *rest], axis=1), np.concatenate(audio)[: len(clip)]


def _compare(rule: NearTies, ways: list[CodedClip], clips: list[Samples], packet: int) -> dict[str, Any]:
    due, heard = (np.concatenate(parts).astype(np.float64) for parts in ([w.due_audio for w in ways], [w.audio for w in ways]))
    noise = float(np.sum((heard - due) ** 2))
    jumps = [np.abs(np.diff(way.audio.astype(np.float64))) for way in ways]
    seams = np.concatenate([jump[packet - 1 :: packet] for jump in jumps])
    streams = [(way, clip, way.start) for way, clip in zip(ways, clips, strict=True) if way.start is not None]
    return {
        "entries": sum(way.codes.size for way in ways),
        "differing": sum(int((way.codes != way.due_codes).sum()) for way in ways),
        "near_ties": None,
        **(proved([rule.compare(way.codes, way.due_codes, clip, start) for way, clip, start in streams]) if streams else {}),
        # None: not one sample differs.
        "snr_db": 10 * np.log10(float(np.sum(due**2)) / noise) if noise else None,
        "max_error": float(np.abs(heard - due).max()),
        "seam_jump": float(seams.mean() / np.concatenate(jumps).mean()) if seams.size else None,
        **_quality(clips, [way.audio for way in ways]),
    }


def _quality(originals: list[Samples], outputs: list[Samples]) -> dict[str, Any]:
    """PESQ (wideband, ITU-T P.862.2) and STOI (Taal et al., 2011) against what was spoken; None where they cannot be measured."""
    try:
        from pesq import PesqError, pesq
        from pystoi import stoi
    except ImportError:
        return {"pesq": None, "stoi": None}
    pairs = [(resample(a, 24_000, 16_000), resample(b, 24_000, 16_000)) for a, b in zip(originals, outputs, strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a clip too short for STOI warns and scores nothing
        try:
            scores = [(float(pesq(16_000, a, b, "wb")), float(stoi(a, b, 16_000))) for a, b in pairs]
        except PesqError:
            return {"pesq": None, "stoi": None}
    heard, understood = np.mean(scores, axis=0)
    return {"pesq": float(heard), "stoi": float(understood)}


def _check_with_package(codec: Codec, clip: Samples, bandwidth: float, packet: int) -> dict[str, Any] | None:
    """The naive way in `transformers` itself, with the same weights: what we call naive must be what a user of the package gets.

    The package follows one path through the codebooks, so here ours does too.
    """
    try:
        from benchmarks.peers import naive, transformers_peer
    except ImportError:
        return None
    from streamcodec.model.checkpoint import save
    from streamcodec.model.hub import load_model

    clip = clip[: packet * (len(clip) // packet)][: 40 * packet]
    if not len(clip):
        return None
    with tempfile.TemporaryDirectory() as folder:
        model = load_model(codec.name).with_search_beam(1)
        save(model, Path(folder) / "hf", layout="hf")
        codec = load(Path(folder) / "hf")
        try:
            codes, audio = naive(transformers_peer(Path(folder) / "hf"), clip, bandwidth, packet)
        except ImportError:
            return None
    packets = np.split(clip, len(clip) // packet)
    ours = [codec.encode(part, bandwidth=bandwidth) for part in packets]
    heard = np.concatenate([codec.decode(part) for part in ours])
    theirs, rule = np.split(codes, len(ours), axis=1), NearTies(model)
    return {
        "packets": len(ours),
        **proved([rule.compare(mine, other, part) for mine, other, part in zip(ours, theirs, packets, strict=True)]),
        "max_error": float(np.abs(heard - audio).max()),
    }


# Telling -----------------------------------------------------------------------------------------------------------------------------


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    clips = ", ".join(f"{clip['name']} ({clip['seconds']:.1f} s)" for clip in figures["clips"])
    rows = [
        [
            f"{row['kbps']:g} kbps, {row['way']}",
            f"{100 * row['differing'] / row['entries']:.1f}%" if row["way"] == "naive" else told(row["differing"], row["near_ties"]),
            _snr(row["snr_db"]),
            f"{row['max_error']:.1e}" if row["max_error"] else "0",
            f"{row['seam_jump']:.2f}" if row["seam_jump"] is not None else None,
            None if row["pesq"] is None else f"{row['pesq']:.2f}",
            None if row["stoi"] is None else f"{row['stoi']:.3f}",
        ]
        for row in figures["rows"]
    ]
    header = ["", "codes that differ", "SNR to the whole clip", "largest error", "jump at seams", "PESQ-WB", "STOI"]
    text = (
        f"Speech ({clips}) through `{figures['model']}` in packets of {figures['packet_ms']:g} ms. *Naive* encodes and decodes each packet "
        "alone; *stream* feeds blocks of 10 ms to our stream encoder and its packets to our stream decoder. They are compared with the "
        f"whole clip encoded and decoded in one go (a primed stream with the whole clip behind {_SILENCE_S} s of silence, which is what it "
        "is defined by). The jump at seams is the mean step from the last sample of a packet to the first of the next, as a multiple of "
        "the mean step between samples. PESQ and STOI are against what was spoken. Sums in another order decide a near-tie the other way, "
        f"which changes the codes behind it in its frame: proved in float64, code by code.\n\n{table(header, rows)}\n"
    )
    package = figures["package"]
    if package is not None:
        text += (
            "\nThe naive way is computed by our codec; `transformers` with the same weights, called packet by packet, gives "
            f"the same codes (differing: {told(package['differing'], package['near_ties'])}) and audio within {package['max_error']:.0e} "
            f"of it, both searching as it does ({package['packets']} packets).\n"
        )
    return text + "\n![Waveforms at packet seams, spectrograms, and the error over time](seams.png)\n"


def draw(ways: dict[str, CodedClip], clip: Samples, packet: int, rate: int, title: str, path: Path) -> None:
    """Waveforms around three seams, spectrograms, and the error over time."""
    with picture(path, 13, 11) as figure:
        _draw(figure, ways, clip, packet, rate, title)


def _draw(figure: Any, ways: dict[str, CodedClip], clip: Samples, packet: int, rate: int, title: str) -> None:
    colours = {"whole clip": "0.2", "naive": "tab:red", "stream, exact": "tab:blue", "stream, primed": "tab:green"}
    whole, naive, exact = (ways[name].audio for name in ("whole clip", "naive", "stream, exact"))
    figure.suptitle(f"{title}: every {1000 * packet / rate:g} ms alone (naive), and as a stream")
    panels: Any = figure.subfigures(3, 1, height_ratios=[1.0, 1.15, 0.85])
    top, middle, bottom = panels

    # The seams at which the naive way jumps: the median one, one in ten, and the worst.
    at = np.arange(packet, len(clip) - packet // 4, packet)
    jumps = np.abs(np.float64(naive[at]) - naive[at - 1])
    order = at[np.argsort(jumps)]
    picked = [
        ("the median seam", order[len(order) // 2]),
        ("one in ten is worse", order[int(len(order) * 0.9)]),
        ("the worst seam", order[-1]),
    ]
    reach = round(0.006 * rate)
    for axes, (name, seam) in zip(np.atleast_1d(top.subplots(1, 3)), picked, strict=True):
        window = slice(max(0, seam - reach), seam + reach)
        ms = (np.arange(window.start, min(window.stop, len(clip))) - seam) / rate * 1000
        axes.axvline(-500 / rate, color="0.75", lw=1, zorder=0)
        axes.plot(ms, whole[window], color=colours["whole clip"], lw=3.2, alpha=0.35, label="whole clip")
        axes.plot(ms, naive[window], color=colours["naive"], lw=1.1, marker=".", ms=3, label="naive")
        axes.plot(ms, exact[window], color=colours["stream, exact"], lw=1.1, ls="--", label="stream, exact")
        axes.set(title=f"{name} (at {seam / rate:.2f} s)", xlabel="ms from the seam", xlim=(ms[0], ms[-1]))
    top.axes[0].set_ylabel("sample value")
    top.axes[0].legend(loc="best", fontsize=8, frameon=False)

    # Three seconds around the worst seam show the seams as vertical stripes; ten would blur them.
    length = min(len(clip), 3 * rate)
    begin = min(max(0, int(picked[-1][1]) - length // 2), len(clip) - length)
    shown = slice(begin, begin + length)
    level = None
    shown_ways = (("whole clip", whole), ("naive", naive), ("stream, exact", exact))
    for axes, (name, audio) in zip(middle.subplots(1, 3, sharey=True), shown_ways, strict=True):
        image = spectrogram(audio[shown])
        level = float(image.max()) if level is None else level
        extent = (begin / rate, (begin + length) / rate, 0.0, rate / 2000)
        drawn = axes.imshow(
            image, origin="lower", aspect="auto", extent=extent, vmin=level - 90, vmax=level, cmap="magma", interpolation="nearest"
        )
        axes.set(title=name, xlabel="s")
    middle.axes[0].set_ylabel("kHz")
    middle.colorbar(drawn, ax=middle.axes, label="dB", pad=0.01)

    axes = bottom.subplots()
    size = round(0.01 * rate)
    loudness = float(np.mean(whole.astype(np.float64) ** 2))
    for name in ("naive", "stream, primed", "stream, exact"):
        way = ways[name]
        error = (way.audio.astype(np.float64) - way.due_audio)[: len(clip) // size * size].reshape(-1, size)
        db = 10 * np.log10(np.mean(error**2, axis=1) / loudness + 1e-18)
        axes.plot(np.arange(len(db)) * size / rate, db, color=colours[name], lw=0.9, label=name)
    shape = whole.astype(np.float64)[: len(clip) // size * size].reshape(-1, size)
    db = 10 * np.log10(np.mean(shape**2, axis=1) / loudness + 1e-18)
    axes.fill_between(np.arange(len(db)) * size / rate, db, -205, color="0.9", zorder=0, label="the speech itself")
    axes.set(
        title="error over time, per 10 ms, against the speech's mean power",
        xlabel="s",
        ylabel="dB",
        xlim=(0, len(clip) / rate),
        ylim=(-205, 25),
    )
    axes.legend(loc="lower right", fontsize=8, ncols=4, framealpha=0.9)


def spectrogram(audio: Samples, size: int = 512, hop: int = 96) -> npt.NDArray[np.float64]:
    """Power in dB, [size / 2 + 1, frames]; every clip is long enough once it is padded by a window."""
    padded = np.pad(to_float(audio).astype(np.float64), size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop] * np.hanning(size)
    return np.asarray(10 * np.log10(np.abs(np.fft.rfft(frames)).T ** 2 + 1e-10))


def headlines(figures: Figures) -> list[Headline]:
    """How far the decoded stream is from the whole clip decoded, beside packets that are coded alone."""
    found = []
    for kbps in dict.fromkeys(row["kbps"] for row in figures["rows"]):
        rows = {row["way"]: row for row in figures["rows"] if row["kbps"] == kbps}
        what = f"packets of {figures['packet_ms']:g} ms against the whole clip, {kbps:g} kbps: SNR"
        ours, naive = (_snr(rows[way]["snr_db"]) for way in ("stream, exact", "naive"))
        found.append(Headline(what, ours, f"{naive} (each packet alone, as with `transformers`)"))
    return found


def _snr(value: float | None) -> str:
    return "identical" if value is None else f"{value:.1f} dB"


BENCHMARK = Benchmark(
    name="seams",
    title="The naive way against a stream",
    question="What does it cost in sound to cut a stream into packets that are coded alone, beside our streams?",
    options=add_options,
    measure=measure_all,
    render=render,
    headlines=headlines,
)
