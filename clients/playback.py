"""Play a stream, record it or pipe it on. Run it as `streamcodec play`."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from streamcodec.audio import Level, bar
from streamcodec.client import Listener, Player, listen, now_us
from streamcodec.collector import settle
from streamcodec.protocol import SILENCE, Gap, Packet, StreamEnd, StreamStart, Waiting
from streamcodec.types import Samples

from .ledger import Ledger, PacketTimes
from .liveline import LiveLine
from .options import add_connection_options, number
from .retry import keep_trying
from .sinks import DeviceSink, Sink, open_sink

__all__ = ["add_arguments", "play", "run"]

EXAMPLES = """examples:
  streamcodec play                          play "live" on the default speaker
  streamcodec play --output heard.wav       record it until it ends
  streamcodec play --bandwidth 1.5          ask the server for fewer codebooks of it
  streamcodec play --pcm                    let the server decode: no model and no torch needed here
  streamcodec play --output - | aplay -f S16_LE -r 24000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    add_connection_options(parser)
    parser.add_argument(
        "--output",
        metavar="WHERE",
        help="a device's index or part of its name, a .wav or .flac file, or - for a pipe (default: the default speaker)",
    )
    parser.add_argument("--bandwidth", type=float, metavar="KBPS", help="at most this much of the stream (default: all of it)")
    parser.add_argument(
        "--min-bandwidth", type=float, metavar="KBPS", help="as little as this while the connection is slow (default: never less)"
    )
    parser.add_argument("--pcm", action="store_true", help="let the server decode: no model and no torch needed here")
    parser.add_argument("--follow", action="store_true", help="go on waiting when the stream ends")
    parser.add_argument(
        "--slack-ms",
        type=number(0, 5000),
        default=20.0,
        metavar="MS",
        help="the least that a device holds back against late packets; where they come later it holds back more, up to 250 ms, and gives "
        "it back (default: %(default)g)",
    )
    parser.add_argument("--ledger", type=Path, metavar="FILE", help="write what each packet's way took there, one line of JSON each")
    parser.add_argument("--model", default="speech-24k", help="the server's model (default: %(default)s)")


async def run(args: argparse.Namespace) -> int:
    """Play until the stream ends; reconnect where that may help. Returns the exit status."""
    with Ledger(args.ledger) as ledger:
        return await _run(args, ledger)


async def _run(args: argparse.Namespace, ledger: Ledger) -> int:
    line = LiveLine(quiet=args.quiet)
    codec = None
    if not args.pcm:
        from streamcodec.codec import load

        codec = load(args.model, threads=1)
        codec.warm_up()
        settle()
    rate = codec.sample_rate if codec is not None else 24_000
    sink: Sink | None = None
    level = Level(rate=rate)

    def opened() -> Sink:
        nonlocal sink
        if sink is None:
            sink = open_sink(args.output, rate, args.slack_ms / 1000)
        return sink

    if not _is_file(args.output):
        # A file that is there is written over when there is a connection; what else is wrong is told at once.
        opened()

    def show(times: PacketTimes, listener: Listener) -> None:
        assert sink is not None
        ledger.add(times, sink.stats if isinstance(sink, DeviceSink) else None)
        if line.due():
            p50, p95, p99 = ledger.percentiles()
            health = f"underruns {sink.underruns}  lost {listener.lost}"
            line.draw(f"[{bar(level.peak_db)}] {level.peak_db:5.1f} dB  latency p50 {p50:.0f} p95 {p95:.0f} p99 {p99:.0f} ms  {health}")

    async def attempt() -> None:
        async with listen(
            args.server,
            args.stream,
            format="codes" if codec is not None else "pcm_s16le",
            model=codec.fingerprint if codec is not None else None,
            bandwidth=args.bandwidth,
            min_bandwidth=args.min_bandwidth,
            token=args.token,
            note=line.note,
        ) as listener:
            sink = opened()
            line.note(f"listening to {args.stream!r} at {args.server}, into {sink.label}")
            player = Player(codec, fill_gaps=not sink.live)
            try:
                await play(listener, player, sink, level=level, follow=args.follow, note=line.note, on_packet=show)
            finally:
                line.note(f"{args.stream!r}: {listener.packets} packets, {listener.lost} lost, {sink.underruns} underruns")

    try:
        await keep_trying(attempt, note=line.note, give_up=lambda: args.no_retry)
        return 0
    finally:
        line.clear()
        if sink is not None:
            await sink.finish()


def _is_file(output: str | None) -> bool:
    return output is not None and Path(output).is_file()


async def play(
    listener: Listener,
    player: Player,
    sink: Sink,
    *,
    level: Level | None = None,
    follow: bool = False,
    note: Callable[[str], None] = lambda _: None,
    on_packet: Callable[[PacketTimes, Listener], None] | None = None,
) -> None:
    """Decode what `listener` receives and write it to `sink`, until the stream ends (or for ever with `follow`).

    Decoding runs on a thread of its own, so that the loop goes on answering while the model works.
    """
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1, thread_name_prefix="streamcodec-decode") as thread:
        owed: list[Future[None]] = []
        async for event in listener:
            received = now_us()
            for job in owed:
                job.cancel()
            samples: Samples = await loop.run_in_executor(thread, player.feed, event)
            decoded = now_us()
            if level is not None:
                level.feed(samples)
            if isinstance(event, Packet):
                if not samples.size:
                    # It warmed the decoder up: nobody waits for it, and how old it is says nothing of the way here.
                    continue
                captured = listener.captured_us(event) + round(samples.size / player.sample_rate * 1e6)
                ahead_s = sink.write(samples, decoded / 1e6, captured / 1e6, quiet=player.quiet)
                listener.playing(event.seq, *_playing_ms(sink))
                # In a pause there is time, until something comes.
                owed = [thread.submit(player.catch_up) for _ in range(player.behind)]
                if on_packet is not None:
                    on_packet(PacketTimes(event.seq, captured, received, decoded, ahead_s, sink.device_s), listener)
                continue
            if samples.size:
                sink.write(samples)
            if isinstance(event, Waiting):
                note(f"nobody publishes {event.stream!r} yet: waiting")
            elif isinstance(event, StreamStart):
                note(f"{listener.hello.stream!r} begins: {event.bandwidth:g} kbps, {event.packet_frames} frames a packet ({event.reason})")
            elif isinstance(event, Gap) and event.reason != SILENCE:
                note(f"{event.count} packets lost ({event.reason})")
            elif isinstance(event, StreamEnd) and not follow:
                return


def _playing_ms(sink: Sink) -> tuple[int | None, int | None]:
    """What a device's playout has in hand, and how late packets come to it."""
    if not isinstance(sink, DeviceSink):
        return None, None
    stats = sink.stats
    return round(1000 * stats.margin_s), round(1000 * stats.late_s)


if __name__ == "__main__":
    import sys

    from streamcodec.cli import main

    raise SystemExit(main(["play", *sys.argv[1:]]))
