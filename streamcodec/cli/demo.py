"""`streamcodec demo`: server, microphone client and playback client in one process, and how long each packet took on its way.

From microphone to speaker where both exist, from the bundled clip into a file where they do not.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamcodec.cli.options import DEFAULT_MODEL, Bandwidth, Model, PacketFrames, Quiet, Threads, number
from streamcodec.config import DEFAULT_PACKET_FRAMES
from streamcodec.errors import DeviceError, InputError, MissingDependencyError
from streamcodec.output_file import check_outputs

if TYPE_CHECKING:
    from streamcodec.cli.status import LiveLine
    from streamcodec.client import Listener, PacketTimes, Sink, Source
    from streamcodec.protocol import Ended
    from streamcodec.types import Samples

__all__ = ["EXAMPLES", "demo"]

EXAMPLES = """
\b
examples:
  streamcodec demo                      microphone to speaker, or the bundled clip where there is no sound card
  streamcodec demo --input talk.wav     any audio file, in real time
  streamcodec demo --bandwidth 1.5      at another bandwidth
  streamcodec demo --packet-frames 2    27 ms packets

\b
the stages of a packet, all after its last sample was captured:
  uplink    to the server                    encode    the model's step
  queue     until a step takes it            downlink  to the listener
                                             decode    until its samples exist
"""

_MICROPHONE_S = 15.0


async def demo(
    context: typer.Context,
    input_: Annotated[Path | None, typer.Option("--input", metavar="FILE", help="Use an audio file instead of the microphone.")] = None,
    clip: Annotated[bool, typer.Option("--clip", help="Use the bundled clip, even where there is a microphone.")] = False,
    silent: Annotated[bool, typer.Option("--silent", help="Use no speaker, even where there is one.")] = False,
    seconds: Annotated[
        float | None,
        typer.Option(
            parser=number(0.1, 86_400), metavar="S", help="Stop after so long (default: 15 from a microphone, else the whole file)."
        ),
    ] = None,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="The folder for the WAV files and the picture.")] = Path("demo-out"),
    bandwidth: Bandwidth = None,
    packet_frames: PacketFrames = DEFAULT_PACKET_FRAMES,
    model: Model = DEFAULT_MODEL,
    threads: Threads = 1,
    no_page: Annotated[bool, typer.Option("--no-page", help="Serve no page for browsers.")] = False,
    quiet: Quiet = False,
) -> int:
    """Hear it: server, microphone and playback in one go."""
    if clip and input_ is not None:
        raise typer.BadParameter("not allowed with --input", ctx=context, param_hint="'--clip'")
    import asyncio
    from itertools import pairwise

    from streamcodec.audio import Level, bar
    from streamcodec.cli.demo_report import PacketWay, report
    from streamcodec.cli.status import LiveLine
    from streamcodec.client import DeviceSource, Player, Tee, listen, play
    from streamcodec.codec import load
    from streamcodec.gc_freeze import freeze_gc
    from streamcodec.server import PacketTrace, Page, Server

    line = LiveLine(quiet=quiet, log_every_s=2.0)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InputError(f"{output} cannot be the folder for the results: {exc.strerror or exc}") from exc
    # What is written at the end must not be what is read.
    check_outputs([output / name for name in ("spoken.wav", "heard.wav", "demo.png")], [] if input_ is None else [input_])
    codec, decoding = load(model, threads=threads), load(model)
    codec.config.n_q_for(bandwidth)
    decoding.warm_up(packet_frames)
    chosen = _choose_source(input_, clip, line)
    if isinstance(chosen, DeviceSource):
        seconds = seconds or _MICROPHONE_S
    said: list[Samples] = []
    source, sink = Tee(chosen, said.append, seconds), _KeptSound(None if silent else _choose_speaker(codec.sample_rate, line))
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

    async with Server(codec, port=0, page=None if no_page else Page(model)) as server:
        if server.page_url is not None:
            await server.page_is_ready()  # what is measured below has the machine to itself
            line.note(f"in a browser: {server.page_url}?stream=demo")
        server.metrics.on_trace = lambda trace: inside.__setitem__(trace.seq, trace)
        freeze_gc()
        async with listen(server.url, "demo", model=codec.fingerprint, bandwidth=bandwidth) as listener:
            playing = asyncio.create_task(play(listener, Player(decoding), sink, level=level, on_packet=on_packet))
            try:
                ended = await _publish(server.url, source, bandwidth, packet_frames)
                await playing
            finally:
                playing.cancel()
                source.close()
                with contextlib.suppress(asyncio.CancelledError):
                    await sink.finish()
                line.clear()
        if not ways:
            raise InputError(f"{source.label}: too short for a single packet")
        underruns = f", {sink.underruns} underruns" if sink.live else ""
        counts = f"{ended.emitted} packets of {packet_frames * 1000 / codec.frame_rate:.1f} ms published, "
        print(f"{counts}{listener.packets} heard, {listener.lost} lost{underruns}")
        report(output, codec.sample_rate, said, source.sample_rate, sink.parts, ways, device=sink.live)
        await _stay(server.page_url, line)
    return 0


async def _stay(page_url: str | None, line: LiveLine) -> None:
    """Keep the page for whoever sits at the terminal, until Ctrl-C."""
    if page_url is None or not sys.stdin.isatty() or not sys.stdout.isatty():
        return
    import asyncio

    line.note(f"the page stays until Ctrl-C: {page_url} (press Talk, then Listen)")
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


async def _publish(url: str, source: Source, bandwidth: float | None, packet_frames: int) -> Ended:
    from streamcodec.client import PublishOptions, publish, publish_source

    options = PublishOptions(sample_rate=source.sample_rate, bandwidth=bandwidth, packet_frames=packet_frames)
    async with publish(url, "demo", options) as publisher:
        return await publish_source(source, publisher)


def _choose_source(file: Path | None, clip: bool, line: LiveLine) -> Source:
    from streamcodec.audio import bundled_clip, read_audio
    from streamcodec.client import ClipSource, DeviceSource

    if file is not None:
        samples, rate = read_audio(file)
        return ClipSource(samples.mean(axis=0), rate, str(file))
    if not clip:
        try:
            return DeviceSource()
        except (DeviceError, MissingDependencyError) as exc:
            line.note(f"no microphone ({exc}): using the bundled clip")
    samples, rate = bundled_clip()
    return ClipSource(samples, rate, "the bundled clip")


def _choose_speaker(rate: int, line: LiveLine) -> Sink | None:
    from streamcodec.client import DeviceSink

    try:
        return DeviceSink(None, rate)
    except (DeviceError, MissingDependencyError) as exc:
        line.note(f"no speaker ({exc}): recording only")
        return None


class _KeptSound:
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

    def write(
        self,
        samples: Samples,
        arrived_s: float | None = None,
        captured_s: float | None = None,
        *,
        decoding_s: float = 0.0,
        quiet: bool = False,
    ) -> float:
        self.parts.append(samples)
        return 0.0 if self._device is None else self._device.write(samples, arrived_s, captured_s, decoding_s=decoding_s, quiet=quiet)

    async def finish(self) -> None:
        if self._device is not None:
            await self._device.finish()
