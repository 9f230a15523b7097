"""A clip's way through virtual sound devices and the three programs, and its figures."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any

import numpy as np
import numpy.typing as npt

import streamcodec
from benchmarks.harness.machine import Observed
from benchmarks.harness.run import Benchmark, Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table
from benchmarks.mouth_to_ear.virtual_sound import RATE, VirtualSound, missing_programs
from streamcodec.audio import bundled_clip, read_audio, resample, write_audio

__all__ = ["BENCHMARK", "MouthToEar", "measure"]

Audio = npt.NDArray[np.float32]

_SPEECH_POWER = 1e-4  # -40 dB of full scale: a quieter half second is a pause
_PART_S = 10.0
_EARLIEST_S, _LATEST_S = -0.1, 1.0  # where a delay is looked for, besides the slack


@dataclass(frozen=True)
class MouthToEar:
    """One run: delay in ms, STOI of what was heard against the offline codec, underruns and lost packets as the player counts them.

    Delay is measured in each part of ten seconds, as it changes with time: `delay_ms` is the median of the parts, `worst_delay_ms` the
    longest. `correlation` is the median of the normalised correlations there. `intact_s` is how much speech was heard as the offline codec
    makes it: half seconds that correlate with it by 0.9 and more. `stages_ms` are the delay's parts, of which the last is what no program
    accounts for.
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


class _Program:
    """One of the command line's programs, its messages collected as they come."""

    def __init__(self, arguments: Sequence[str], environment: dict[str, str]) -> None:
        command = [sys.executable, "-m", "streamcodec.cli", *arguments]
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self._lines: Queue[str] = Queue()
        self.said: list[str] = []
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            self._lines.put(text.rstrip())

    def wait_for(self, words: str, seconds: float = 30.0, among: str = "") -> str:
        """The first line with both `words` and `among` in it."""
        give_up = time.monotonic() + seconds
        while time.monotonic() < give_up:
            try:
                self.said.append(self._lines.get(timeout=0.2))
            except Empty:
                if self._process.poll() is not None:
                    break
                continue
            if words in self.said[-1] and among in self.said[-1]:
                return self.said[-1]
        raise RuntimeError(f"{self._process.args!r} never said {words!r}, but: {self.said}")

    def stop(self) -> None:
        """Interrupt it and wait."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def measure(
    clip: Audio, codec: streamcodec.Codec, packet_frames: int = 6, slack_ms: float = 40.0, *, serve: Sequence[str] = ()
) -> MouthToEar:
    """Send `clip` [T] (24 kHz) through virtual devices and the three programs; `serve` are further options of the server.

    Raises `RuntimeError` where one of the programs does not come up.
    """
    with tempfile.TemporaryDirectory() as folder, VirtualSound() as sound:
        spoken = np.concatenate([np.zeros(12_000, np.float32), clip, np.zeros(24_000, np.float32)])
        path = Path(folder) / "spoken.wav"
        write_audio(path, resample(spoken, 24_000, RATE), RATE)
        programs: list[_Program] = []

        def start(*arguments: str) -> _Program:
            programs.append(_Program(arguments, sound.environment))
            return programs[-1]

        try:
            url = start("serve", "--port", "0", *serve).wait_for("ws://").split(" at ")[1].split(": model")[0]
            kept, ledger = Path(folder) / "kept.wav", Path(folder) / "ledger.jsonl"
            player = start("play", "--server", url, "--bandwidth", "6", "--slack-ms", f"{slack_ms:g}", "--ledger", str(ledger))
            player.wait_for("waiting")
            start("mic", "--server", url, "--keep", str(kept), "--packet-frames", str(packet_frames)).wait_for("publishing")
            player.wait_for("begins")
            time.sleep(1.0)
            room, ear = sound.record("room"), sound.record("speaker")
            sound.play_into_room(path)
            time.sleep(1.0 + slack_ms / 1000)  # the end of the clip is heard that much later
            told, heard = room.stop(), ear.stop()
            offset_s = ear.begun - room.begun
            programs[2].stop()
            summary = player.wait_for(" underruns", among="packets, ")
            captured, captured_rate = read_audio(kept)
        finally:
            for program in reversed(programs):
                program.stop()
        lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    latest_s = _LATEST_S + slack_ms / 1000
    found = delays(told, heard, offset_s, latest_s)
    delay_s = float(np.median([delay for delay, _ in found]))
    kept_lag, _ = _lag(told, resample(captured[0], captured_rate, RATE))
    offline = _offline(captured[0], captured_rate, codec)
    stoi, intact_s = _likeness(offline, resample(heard, RATE, 24_000), (delay_s - offset_s - kept_lag / RATE) * 24_000)
    packet_s = packet_frames / codec.frame_rate
    now_s = np.array([line["captured_us"] for line in lines]) / 1e6
    # When the first sample of all was captured, as the microphone's program has it.
    first_s = float(np.median(now_s - packet_s * (np.array([line["seq"] for line in lines]) + 1)))
    playing = [line for line, at in zip(lines, now_s, strict=True) if room.begun <= at <= room.begun + len(told) / RATE]
    stages = _stages(playing, first_s + kept_lag / RATE - room.begun, packet_s, delay_s)
    numbers = [int(word) for word in summary.replace(",", "").split() if word.isdigit()]
    return MouthToEar(
        packet_frames,
        delay_ms=1000 * delay_s,
        worst_delay_ms=1000 * max(delay for delay, _ in found),
        stoi=stoi,
        intact_s=intact_s,
        correlation=float(np.median([correlation for _, correlation in found])),
        underruns=numbers[2],
        lost=numbers[1],
        stages_ms=stages,
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


def delays(told: Audio, heard: Audio, offset_s: float, latest_s: float) -> list[tuple[float, float]]:
    """The delay (s) of each part of ten seconds and the normalised correlation there; pauses alone have none.

    Both are at `RATE` Hz, and the first sample of `heard` came `offset_s` after that of `told`. The delay is at most `latest_s`: a clip
    that is repeated is like itself a clip later.
    """
    found = []
    reach = round((latest_s - _EARLIEST_S) * RATE)
    first = round((_EARLIEST_S - offset_s) * RATE)
    padded = np.pad(heard, (max(0, -first), len(told) + reach + abs(first)))[max(0, first) :]
    for part in np.array_split(np.arange(len(told)), max(1, round(len(told) / RATE / _PART_S))):
        begin, size = int(part[0]), len(part)
        if np.mean(np.square(told[begin : begin + size], dtype=np.float64)) > _SPEECH_POWER / 10:
            lag, correlation = _lag(told[begin : begin + size], padded[begin : begin + size + reach], range(reach))
            found.append((lag / RATE + _EARLIEST_S, correlation))
    return found


def _lag(told: Audio, heard: Audio, among: range | None = None) -> tuple[int, float]:
    """How many samples `heard` lies behind `told`, any number or one of those `among`, and the normalised correlation there."""
    size = 1 << (len(told) + len(heard)).bit_length()
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(told, size))
    correlation = np.fft.irfft(spectrum, size)
    lags = np.arange(-size // 2, size // 2) if among is None else np.asarray(among)
    best = int(lags[np.argmax(correlation[lags])])
    alike = heard[max(0, best) : max(0, best + len(told))]
    return best, float(correlation[best] / (np.linalg.norm(told) * np.linalg.norm(alike) + 1e-12))


def _offline(captured: Audio, rate: int, codec: streamcodec.Codec) -> Audio:
    """What the codec makes of what the microphone program captured, without any network, clock or device behind it."""
    encoder, decoder = codec.stream_encoder(6, sample_rate=rate), codec.stream_decoder(6)
    return np.concatenate([decoder.feed(encoder.feed(captured)), decoder.feed(encoder.flush()), decoder.flush()])


def _likeness(reference: Audio, heard: Audio, expected: float) -> tuple[float, float]:
    """STOI of the stretch of `reference` that `heard` is most like, and the seconds of speech in it that were heard intact.

    `heard` lies about `expected` samples behind `reference`, within 0.3 s. Each half second is aligned for itself, within 150
    ms: a playout that gives delay back plays a little faster, and that is no loss of intelligibility.
    """
    from pystoi import stoi

    lag, _ = _lag(reference, heard, range(round(expected) - 7_200, round(expected) + 7_200))
    reference, heard = (reference, heard[lag:]) if lag >= 0 else (reference[-lag:], heard)
    size, part, reach = min(len(reference), len(heard)), 12_000, 3_600
    padded = np.pad(heard[:size], reach)
    aligned, intact = [], 0
    for at in range(0, size, part):
        wanted = reference[at : min(at + part, size)]
        around = padded[at : at + len(wanted) + 2 * reach]
        shift = int(np.correlate(around, wanted, "valid").argmax()) if wanted.any() else reach
        found = around[shift : shift + len(wanted)]
        aligned.append(found)
        if wanted @ found > 0.9 * np.linalg.norm(wanted) * np.linalg.norm(found) > 0.9 * _SPEECH_POWER * len(wanted):
            intact += len(wanted)
    return float(stoi(reference[:size], np.concatenate(aligned), 24_000)), intact / 24_000


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    rows = [
        [
            f"{run['packet_frames']} ({run['packet_frames'] * figures['frame_ms']:.1f} ms)",
            run["delay_ms"],
            run["worst_delay_ms"],
            round(run["stoi"], 3),
            run["underruns"],
            run["lost"],
        ]
        for run in figures["runs"]
    ]
    told = table(["packet, frames", "mouth to ear, ms", "longest, ms", "STOI against the offline codec", "underruns", "packets lost"], rows)
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
        f"packets are the player's own count, from its start to its end.\n\n{told}\n\n"
        "Where it comes from: medians of the player's ledger over the packets of that while; in front of them what the room heard before "
        "the microphone's program says that it did, and behind them what is left of the measured whole, beyond the speaker's own word.\n\n"
        f"{shares}\n"
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--packet-frames", type=int, nargs="+", default=[6, 2, 1], help="packet sizes, frames")
    parser.add_argument("--minutes", type=float, default=2.0, help="how long the clip is repeated at each packet size")
    parser.add_argument("--slack-ms", type=float, default=40.0, help="what the player holds back against late packets")


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
