"""What the demo leaves: a table of how long the packets took, what was spoken and heard as WAV files, and a picture of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamcodec.audio import resample, write_audio
from streamcodec.errors import MissingDependencyError
from streamcodec.output_file import replacing
from streamcodec.types import Samples

__all__ = ["STAGES", "PacketWay", "report"]

STAGES = ("uplink", "queue", "encode", "downlink", "decode")


@dataclass(frozen=True, slots=True)
class PacketWay:
    """One packet's stages in milliseconds, in the order of `STAGES`, and what was buffered ahead of it for the device."""

    seq: int
    stages: tuple[float, ...]
    buffered_ms: float

    @property
    def added_ms(self) -> float:
        """All stages together: what was added to the packet itself."""
        return sum(self.stages)


def report(
    folder: Path,
    rate: int,
    spoken_parts: Sequence[Samples],
    spoken_rate: int,
    heard_parts: Sequence[Samples],
    ways: Sequence[PacketWay],
    *,
    device: bool,
) -> None:
    """Print the table of stages, with the playout's where a `device` played, and write the files into `folder`."""
    print(f"\nmilliseconds after a packet's last sample was captured ({len(ways)} packets)\n")
    print(f"{'stage':<18}{'p50':>8}{'p95':>8}{'p99':>8}{'most':>8}")
    columns = [*((name, [way.stages[i] for way in ways]) for i, name in enumerate(STAGES)), ("all together", [w.added_ms for w in ways])]
    if device:
        columns.append(("playout, device", [way.buffered_ms for way in ways]))
    for name, values in columns:
        p50, p95, p99, most = np.percentile(values, [50, 95, 99, 100])
        print(f"{name:<18}{p50:8.1f}{p95:8.1f}{p99:8.1f}{most:8.1f}")
    print()
    spoken, heard = resample(np.concatenate(spoken_parts), spoken_rate, rate), np.concatenate(heard_parts)
    write_audio(folder / "spoken.wav", spoken, rate)
    write_audio(folder / "heard.wav", heard, rate)
    written = ["spoken.wav", "heard.wav"]
    try:
        _draw(folder / "demo.png", spoken, heard, rate, ways)
        written.append("demo.png")
    except MissingDependencyError as exc:
        print(exc)
    print(f"written to {folder}: {', '.join(written)}")


def _draw(path: Path, spoken: Samples, heard: Samples, rate: int, ways: Sequence[PacketWay]) -> None:
    """Write a PNG: waveforms and spectrograms before and after, latency of each packet by stage."""
    try:
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise MissingDependencyError("the picture needs matplotlib: pip install 'streamcodec[plots]'") from exc

    figure = Figure(figsize=(12, 11), layout="constrained")
    waves, before, after, latency = figure.subplots(4, 1, height_ratios=[1, 1.3, 1.3, 1.2])
    seconds = max(len(spoken), len(heard)) / rate
    waves.plot(np.arange(len(spoken)) / rate, spoken, color="#9aa5b1", linewidth=0.6, label="spoken")
    waves.plot(np.arange(len(heard)) / rate, heard, color="#d1495b", linewidth=0.6, alpha=0.7, label="heard")
    waves.set(xlim=(0, seconds), ylabel="amplitude", xlabel="seconds", title="waveform: spoken, and heard through the codec")
    waves.legend(loc="upper right")
    _spectrogram(before, spoken, rate, seconds, "spoken")
    image = _spectrogram(after, heard, rate, seconds, "heard, through codes")
    after.set_xlabel("seconds")
    figure.colorbar(image, ax=[before, after], label="dB", shrink=0.7, pad=0.01)
    bottom = np.zeros(len(ways))
    at = [way.seq for way in ways]
    for stage, name in enumerate(STAGES):
        values = np.array([way.stages[stage] for way in ways])
        latency.bar(at, values, bottom=bottom, width=1.0, label=name)
        bottom += values
    latency.set(
        xlabel="packet", ylabel="milliseconds", title="added after each packet's last sample was captured", xlim=(-0.5, max(at) + 0.5)
    )
    latency.legend(loc="upper right", ncols=len(STAGES))
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=110)


def _spectrogram(axes: Any, samples: Samples, rate: int, seconds: float, title: str) -> Any:
    # The quietest that is drawn is 80 dB below full scale: digital silence would stretch the colours.
    padded = np.pad(samples, (0, max(0, 2048 - len(samples)))) + np.float32(1e-5) * np.random.default_rng(0).standard_normal(
        max(2048, len(samples))
    )
    *_, image = axes.specgram(padded, NFFT=1024, Fs=rate, noverlap=768, cmap="magma", vmin=-130, vmax=-35)
    axes.set(xlim=(0, seconds), ylim=(0, rate / 2), ylabel="Hz", title=title)
    return image
