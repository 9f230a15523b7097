"""Hear it in one go: server, microphone client and playback client in one process, and what every packet's way took.

Run it as `streamcodec demo`: from microphone to speaker where there are both, from the bundled clip into a file where there are not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from itertools import pairwise
from pathlib import Path

import numpy as np

from streamcodec.audio import Level, bar, bundled_clip, read_audio, resample, write_audio
from streamcodec.client import Listener, Player, Publisher, listen, publish
from streamcodec.collector import settle
from streamcodec.errors import DeviceError, InputError, MissingDependencyError
from streamcodec.protocol import Ended
from streamcodec.types import Samples

from .figures import STAGES, PacketWay, draw_demo
from .ledger import PacketTimes
from .liveline import LiveLine
from .mic import publish_source
from .options import number, positive_int
from .playback import play
from .sinks import DeviceSink, Sink
from .sources import ClipSource, DeviceSource, Source, Tee

__all__ = ["add_arguments", "run"]

EXAMPLES = """examples:
  streamcodec demo                      microphone to speaker, or the bundled clip where there is no sound card
  streamcodec demo --input talk.wav     any audio file, in real time
  streamcodec demo --bandwidth 1.5      at another bandwidth
  streamcodec demo --packet-frames 2    27 ms packets

each packet's stages, all after its last sample was captured:
  uplink    to the server                    encode    the model's step
  queue     until a step takes it            downlink  to the listener
                                             decode    until its samples exist
"""


class _Recorder:
    """A sink that keeps what it is given, in front of a device if there is one."""

    def __init__(self, device: Sink | None) -> None:
        self.label = "memory" if device is None else device.label
        self.live = device is not None
        self.parts: list[Samples] = []
        self._device = device

    @property
    def underruns(self) -> int:
        return 0 if self._device is None else self._device.underruns

    @property
    def device_s(self) -> float:
        return 0.0 if self._device is None else self._device.device_s

    def write(self, samples: Samples, arrived_s: float | None = None, captured_s: float | None = None, *, quiet: bool = False) -> float:
        self.parts.append(samples)
        return 0.0 if self._device is None else self._device.write(samples, arrived_s, captured_s, quiet=quiet)

    async def finish(self) -> None:
        if self._device is not None:
            await self._device.finish()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--input", type=Path, metavar="FILE", help="an audio file instead of the microphone")
    what.add_argument("--clip", action="store_true", help="the bundled clip, even where there is a microphone")
    parser.add_argument("--silent", action="store_true", help="no speaker, even where there is one")
    parser.add_argument(
        "--seconds",
        type=number(0.1, 86_400),
        metavar="S",
        help="stop after so long (default: 15 from a microphone, else the whole file)",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("demo-out"), metavar="FOLDER", help="for the WAV files and the picture (default: %(default)s)"
    )
    parser.add_argument("--bandwidth", type=float, metavar="KBPS", help="1.5, 3, 6, 12 or 24 (default: 6)")
    parser.add_argument(
        "--packet-frames", type=positive_int, default=6, metavar="N", help="frames a packet, 1 to 25; 6 are 80 ms (default: %(default)s)"
    )
    parser.add_argument("--model", default="speech-24k", help="an embedded name, a file, a folder or a hub id (default: %(default)s)")
    parser.add_argument("--threads", type=positive_int, metavar="N", default=1, help="of the model (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no live line")


async def run(args: argparse.Namespace) -> int:
    """Run the demo; returns the exit status."""
    from streamcodec.codec import load
    from streamcodec.server import PacketTrace, Server

    line = LiveLine(quiet=args.quiet, log_every_s=2.0)
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(f"{args.output} cannot be the folder for the results: {exc.strerror or exc}") from exc
    codec, decoding = load(args.model, threads=args.threads), load(args.model)
    codec.config.n_q_for(args.bandwidth)
    decoding.warm_up(args.packet_frames)
    chosen, seconds = _choose_source(args, line)
    said: list[Samples] = []
    source, sink = Tee(chosen, said.append, seconds), _Recorder(_choose_sink(args, codec.sample_rate, line))
    line.note(f"model {codec.name}, {codec.engine.name}; {source.label} -> server -> {sink.label}")
    if isinstance(chosen, DeviceSource):
        line.note(f"speak for {seconds:g} seconds" + ("; with headphones, or you will hear an echo of the echo" if sink.live else ""))
    inside: dict[int, PacketTrace] = {}
    ways: list[PacketWay] = []
    level = Level(rate=codec.sample_rate)

    def on_packet(times: PacketTimes, listener: Listener) -> None:
        trace = inside.pop(times.seq, None)
        if trace is None:
            return
        # The last frame of a clip may be filled up with silence that nobody captured.
        marks = (min(trace.captured, trace.received), trace.received, trace.started, trace.done, times.received, times.decoded)
        stages = tuple((b - a) / 1000 for a, b in pairwise(marks))
        ways.append(PacketWay(times.seq, stages, times.buffered_s * 1000))
        if line.due():
            health = f"underruns {sink.underruns}  lost {listener.lost}"
            line.draw(f"[{bar(level.peak_db)}] packet {times.seq}  added {ways[-1].added_ms:5.1f} ms  {health}")

    async with Server(codec, port=0) as server:
        server.metrics.on_trace = lambda trace: inside.__setitem__(trace.seq, trace)
        settle()
        async with listen(server.url, "demo", model=codec.fingerprint, bandwidth=args.bandwidth) as listener:
            playing = asyncio.create_task(play(listener, Player(decoding), sink, level=level, on_packet=on_packet))
            try:
                ended = await _publish(args, server.url, source)
                await playing
            finally:
                playing.cancel()
                source.close()
                with contextlib.suppress(asyncio.CancelledError):
                    await sink.finish()
                line.clear()
    if not ways:
        raise InputError(f"{source.label}: too short for a single packet")
    heard, spoken = np.concatenate(sink.parts), np.concatenate(said)
    spoken = resample(spoken, source.sample_rate, codec.sample_rate)
    _report(args, codec.sample_rate, spoken, heard, ways, ended.emitted, listener, sink)
    return 0


async def _publish(args: argparse.Namespace, url: str, source: Source) -> Ended:
    publisher: Publisher = publish(url, "demo", sample_rate=source.sample_rate, bandwidth=args.bandwidth, packet_frames=args.packet_frames)
    async with publisher:
        return await publish_source(source, publisher)


def _choose_source(args: argparse.Namespace, line: LiveLine) -> tuple[Source, float | None]:
    if args.input is not None:
        samples, rate = read_audio(args.input)
        return ClipSource(samples.mean(axis=0), rate, str(args.input)), args.seconds
    if not args.clip:
        try:
            return DeviceSource(), args.seconds or 15.0
        except (DeviceError, MissingDependencyError) as exc:
            line.note(f"no microphone ({exc}): using the bundled clip")
    samples, rate = bundled_clip()
    return ClipSource(samples, rate, "the bundled clip"), args.seconds


def _choose_sink(args: argparse.Namespace, rate: int, line: LiveLine) -> Sink | None:
    if args.silent:
        return None
    try:
        return DeviceSink(None, rate)
    except (DeviceError, MissingDependencyError) as exc:
        line.note(f"no speaker ({exc}): recording only")
        return None


def _report(
    args: argparse.Namespace,
    rate: int,
    spoken: Samples,
    heard: Samples,
    ways: list[PacketWay],
    emitted: int,
    listener: Listener,
    sink: _Recorder,
) -> None:
    packet_ms = args.packet_frames * 1000 / 75
    underruns = f", {sink.underruns} underruns" if sink.live else ""
    print(f"{emitted} packets of {packet_ms:.1f} ms published, {listener.packets} heard, {listener.lost} lost{underruns}")
    print(f"\nmilliseconds after a packet's last sample was captured ({len(ways)} packets)\n")
    print(f"{'stage':<18}{'p50':>8}{'p95':>8}{'p99':>8}{'most':>8}")
    columns = [*((name, [way.stages[i] for way in ways]) for i, name in enumerate(STAGES)), ("all together", [w.added_ms for w in ways])]
    if sink.live:
        columns.append(("playout, device", [way.buffered_ms for way in ways]))
    for name, values in columns:
        p50, p95, p99, most = np.percentile(values, [50, 95, 99, 100])
        print(f"{name:<18}{p50:8.1f}{p95:8.1f}{p99:8.1f}{most:8.1f}")
    print()
    write_audio(args.output / "spoken.wav", spoken, rate)
    write_audio(args.output / "heard.wav", heard, rate)
    written = ["spoken.wav", "heard.wav"]
    try:
        draw_demo(args.output / "demo.png", spoken, heard, rate, ways)
        written.append("demo.png")
    except MissingDependencyError as exc:
        print(exc)
    print(f"written to {args.output}: {', '.join(written)}")
