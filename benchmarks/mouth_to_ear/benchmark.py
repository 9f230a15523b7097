"""A clip's way through virtual sound devices and the three programs, and its figures."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import streamcodec
from benchmarks.harness.machine import Observed
from benchmarks.harness.programs import Program, serving_url
from benchmarks.harness.run import Benchmark, Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table
from benchmarks.mouth_to_ear.hearing import hear
from benchmarks.mouth_to_ear.stalls import Stalls, of_stalls
from benchmarks.mouth_to_ear.virtual_sound import RATE, VirtualSound, missing_programs, spoken_in
from streamcodec.audio import bundled_clip, read_audio

__all__ = ["BENCHMARK", "MouthToEar", "measure"]

Audio = npt.NDArray[np.float32]


@dataclass(frozen=True)
class MouthToEar:
    """One run: delay in ms, STOI of what was heard against the offline codec, underruns and lost packets as the player counts them.

    Delay is measured in each part of ten seconds, as it changes with time: `delay_ms` is the median of the parts, `worst_delay_ms` the
    longest. `correlation` is the median of the normalised correlations there. `intact_s` is how much speech was heard as the offline codec
    makes it: half seconds that correlate with it by 0.9 and more. `stages_ms` are the delay's parts, of which the last is what no program
    accounts for. `longest_stall_ms` is for how long the machine itself ran nothing, at most, 0 below 10 ms; and `stall_underruns` are the
    packets before which underruns came during such a stall or right after it. Both are None where that cannot be seen.
    """

    packet_frames: int
    delay_ms: float
    worst_delay_ms: float
    stoi: float
    intact_s: float
    correlation: float
    underruns: int
    lost: int
    stages_ms: dict[str, float]
    longest_stall_ms: float | None = None
    stall_underruns: int | None = None


def measure(
    clip: Audio, codec: streamcodec.Codec, packet_frames: int = 6, slack_ms: float = 32.0, *, serve: Sequence[str] = ()
) -> MouthToEar:
    """Send `clip` [T] (24 kHz) through virtual devices and the three programs; `serve` are further options of the server.

    Raises `RuntimeError` where one of the programs does not come up.
    """
    with tempfile.TemporaryDirectory() as folder, VirtualSound() as sound, Stalls() as stalls:
        programs: list[Program] = []

        def start(*arguments: str) -> Program:
            programs.append(Program(arguments, sound.environment))
            return programs[-1]

        try:
            url = serving_url(start("serve", "--port", "0", *serve))
            kept, ledger = Path(folder) / "kept.wav", Path(folder) / "ledger.jsonl"
            spoken = spoken_in(Path(folder), clip)
            player = start("play", "--server", url, "--bandwidth", "6", "--slack-ms", f"{slack_ms:g}", "--ledger", str(ledger))
            player.wait_for("waiting")
            start("mic", "--server", url, "--keep", str(kept), "--packet-frames", str(packet_frames)).wait_for("publishing")
            player.wait_for("begins")
            time.sleep(1.0)
            talk = sound.talk(spoken, 1.0 + slack_ms / 1000)  # the end of the clip is heard that much later
            programs[2].stop()
            summary = player.wait_for(" underruns", among="packets, ")
            captured, captured_rate = read_audio(kept)
        finally:
            for program in reversed(programs):
                program.stop()
        lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    heard = hear(talk, captured[0], captured_rate, codec, slack_ms / 1000)
    packet_s = packet_frames / codec.frame_rate
    now_s = np.array([line["captured_us"] for line in lines]) / 1e6
    # When the first sample of all was captured, as the microphone's program has it.
    first_s = float(np.median(now_s - packet_s * (np.array([line["seq"] for line in lines]) + 1)))
    playing = [line for line, at in zip(lines, now_s, strict=True) if talk.begun <= at <= talk.begun + len(talk.told) / RATE]
    stages = _stages(playing, first_s + heard.captured_s - talk.begun, packet_s, heard.delay_s)
    ran_dry = [
        (line["captured_us"] / 1e3 + line["arrival_ms"] + line["decode_ms"]) / 1e3
        for line, before in zip(lines[1:], lines, strict=False)
        for _ in range(line["underruns"] - before["underruns"])
    ]
    numbers = [int(word) for word in summary.replace(",", "").split() if word.isdigit()]
    return MouthToEar(
        packet_frames,
        delay_ms=1000 * heard.delay_s,
        worst_delay_ms=1000 * heard.worst_delay_s,
        stoi=heard.stoi,
        intact_s=heard.intact_s,
        correlation=heard.correlation,
        underruns=numbers[2],
        lost=numbers[1],
        stages_ms=stages,
        longest_stall_ms=None if stalls.found is None else 1000 * max((length_s for _, length_s in stalls.found), default=0.0),
        stall_underruns=None if stalls.found is None else of_stalls(ran_dry, stalls.found),
    )


def _stages(lines: list[dict[str, Any]], microphone_s: float, packet_s: float, delay_s: float) -> dict[str, float]:
    """The delay's parts in ms: medians of the ledger's `lines`, what the room knew before the microphone's program, and what is left."""

    def median(value: Callable[[dict[str, Any]], float]) -> float:
        return float(np.median([value(line) for line in lines]))

    known = {
        "sound server, microphone": 1000 * microphone_s,
        "packet": 1000 * packet_s,
        "queue, encode, network": median(lambda line: line["arrival_ms"]),
        "decode": median(lambda line: line["decode_ms"]),
        "playout": median(lambda line: line["buffered_ms"] - line["device_ms"]),
        "speaker, as it says": median(lambda line: line["device_ms"]),
    }
    return {**known, "sound server, speaker": 1000 * delay_s - sum(known.values())}


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    rows = [
        [
            f"{run['packet_frames']} ({run['packet_frames'] * figures['frame_ms']:.1f} ms)",
            run["delay_ms"],
            run["worst_delay_ms"],
            round(run["stoi"], 3),
            run["underruns"],
            run["stall_underruns"],
            run["longest_stall_ms"],
            run["lost"],
        ]
        for run in figures["runs"]
    ]
    columns = ["packet, frames", "mouth to ear, ms", "longest, ms", "STOI against the offline codec", "underruns"]
    told = table([*columns, "of them at a stall of the machine", "its longest stall, ms", "packets lost"], rows)
    shares = table(
        ["ms, of the delay", *(str(row[0]) for row in rows)],
        [
            [stage, *(f"{run['stages_ms'][stage]:.1f} ({run['stages_ms'][stage] / run['delay_ms']:.0%})" for run in figures["runs"])]
            for stage in figures["runs"][0]["stages_ms"]
        ],
    )
    return (
        f"The bundled clip, repeated for {figures['minutes']:g} minutes, played in front of a virtual microphone (PulseAudio "
        "null sinks, ALSA's pulse plugin, PortAudio), through `streamcodec mic`, `serve` and `play`, recorded at a virtual ear. "
        f"The player holds back {figures['slack_ms']:g} ms against late packets. The delay is the peak of the cross-correlation, the "
        "median and the longest of parts of ten seconds, and includes the packet itself and both devices' buffers. Underruns and lost "
        "packets are the player's own count, from its start to its end. A stall of the machine is a while of 10 ms or more in which a "
        "processor ran not even a thread at a real-time priority, as the host of a virtual machine had stopped it. An underrun counts as "
        f"one at a stall if it comes during a stall or within 0.2 s of its end.\n\n{told}\n\n"
        "Where it comes from: medians of the player's ledger over the packets of that while; in front of them what the room heard before "
        "the microphone's program says that it did, and behind them what is left of the measured whole, beyond the speaker's own word.\n\n"
        f"{shares}\n"
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--packet-frames", type=int, nargs="+", default=[6, 2, 1], help="packet sizes, frames")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long the clip is repeated at each packet size")
    parser.add_argument("--slack-ms", type=float, default=32.0, help="what the player holds back against late packets")


def refuse(_: argparse.Namespace) -> str | None:
    """Virtual sound cards take PulseAudio."""
    missing = missing_programs()
    return f"missing: {', '.join(missing)} (Debian: pulseaudio pulseaudio-utils libasound2-plugins)" if missing else None


def measure_all(args: argparse.Namespace, observed: Observed) -> Figures:
    """One run for each packet size."""
    codec, (clip, rate) = streamcodec.load(), bundled_clip()
    spoken = np.resize(clip, round(60 * args.minutes * rate))
    with observed:
        runs = [measure(spoken, codec, frames, args.slack_ms) for frames in args.packet_frames]
    return {"slack_ms": args.slack_ms, "minutes": args.minutes, "frame_ms": 1000 / codec.frame_rate, "runs": [asdict(run) for run in runs]}


def headlines(figures: Figures) -> list[Headline]:
    """The delay at each packet size."""
    runs = figures["runs"]
    packets = " / ".join(f"{run['packet_frames'] * figures['frame_ms']:.0f}" for run in runs)
    delays = " / ".join(f"{run['delay_ms']:.0f}" for run in runs)
    return [Headline(f"mouth to ear through virtual sound cards, packets of {packets} ms", f"{delays} ms")]


BENCHMARK = Benchmark(
    name="mouth_to_ear",
    title="Mouth to ear through sound devices",
    question="How long does sound take through sound devices and the real programs, and which stage takes what?",
    options=add_options,
    refuse=refuse,
    measure=measure_all,
    render=render,
    headlines=headlines,
)
