"""Publish a microphone, a file or a pipe as a stream. Run it as `streamcodec mic`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from streamcodec.audio import SILENCE_DB, AudioWriter, Level, bar
from streamcodec.client import Publisher, now_us, publish
from streamcodec.collector import settle
from streamcodec.config import DEFAULT_PACKET_FRAMES
from streamcodec.errors import StreamCodecError
from streamcodec.protocol import Ended
from streamcodec.types import Samples

from .ledger import Ledger
from .liveline import LiveLine
from .options import add_connection_options, number, positive_int
from .retry import keep_trying
from .sources import Source, Tee, open_source

if TYPE_CHECKING:
    from streamcodec.codec import Codec

__all__ = ["add_arguments", "publish_source", "run"]

OnBlock = Callable[[Publisher], None]

EXAMPLES = """examples:
  streamcodec mic                              publish the default microphone as "live"
  streamcodec mic --input "USB" --stream anna  a device by a part of its name
  streamcodec mic --input talk.wav             a file in real time
  streamcodec mic --input talk.wav --fast      a file as fast as the server takes it
  arecord -t raw -f S16_LE -r 48000 | streamcodec mic --input - --rate 48000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    add_connection_options(parser)
    parser.add_argument(
        "--input",
        metavar="WHAT",
        help="a device's index or part of its name, an audio file, or - for a pipe (default: the default microphone)",
    )
    parser.add_argument("--rate", type=positive_int, metavar="HZ", default=48_000, help="of a pipe (default: %(default)s)")
    parser.add_argument("--channels", type=positive_int, metavar="N", default=1, help="of a pipe (default: %(default)s)")
    parser.add_argument("--fast", action="store_true", help="publish a file as fast as the server takes it, dropping nothing")
    parser.add_argument("--bandwidth", type=float, metavar="KBPS", help="1.5, 3, 6, 12 or 24 with the models known today (default: 6)")
    parser.add_argument(
        "--packet-frames",
        type=positive_int,
        default=DEFAULT_PACKET_FRAMES,
        metavar="N",
        help="frames a packet, 1 to 25; 6 are 80 ms (default: %(default)s)",
    )
    parser.add_argument("--keep", type=Path, metavar="FILE", help="also write what is published, mixed down, to a .wav or .flac file")
    parser.add_argument(
        "--ledger", type=Path, metavar="FILE", help="write how long each packet took from capture to network there, a JSON line each"
    )
    parser.add_argument("--start", choices=["exact", "primed"], help="how the codec opens (default: the model's own)")
    parser.add_argument("--encode", action="store_true", help="encode here and send codes: 64 times less to send than 16-bit PCM at 24 kHz")
    parser.add_argument(
        "--dtx",
        nargs="?",
        type=number(-120, 0),
        const=SILENCE_DB,
        metavar="DB",
        help="of silence listeners, and with --encode the server, are sent one packet every 0.8 s, with one codebook: of what is below so "
        "many dBFS (%(const)s without a number), once all has been for 0.3 s. They hear comfort noise in between",
    )
    parser.add_argument("--model", default="speech-24k", help="for --encode: the server's model (default: %(default)s)")


async def run(args: argparse.Namespace) -> int:
    """Publish until the source ends; reconnect where that may help. Returns the exit status."""
    with Ledger(args.ledger) as ledger:
        return await _run(args, ledger)


async def _run(args: argparse.Namespace, ledger: Ledger) -> int:
    line = LiveLine(quiet=args.quiet)
    codec = None
    if args.encode:
        from streamcodec.codec import load

        codec = load(args.model, threads=1)
        # A microphone waits for nobody.
        codec.warm_up(args.packet_frames)
        settle()
    source = open_source(args.input, fast=args.fast, rate=args.rate, channels=args.channels)
    level = Level(rate=source.sample_rate)
    kept = AudioWriter(args.keep, source.sample_rate) if args.keep is not None else None
    if kept is not None:
        source = Tee(source, kept.write)

    behind = False

    def show(publisher: Publisher) -> None:
        nonlocal behind
        if source.dropped_s and not behind:
            behind = True
            line.note(f"this machine is too slow for {source.label}: what waits for half a second is lost")
        if line.due():
            trip = publisher.round_trip_ms
            p50, p95, p99 = ledger.percentiles()
            told = f"[{bar(level.peak_db)}] {level.peak_db:5.1f} dB  sent after p50 {p50:.0f} p95 {p95:.0f} p99 {p99:.0f} ms"
            told += f"  round trip {trip or 0:.1f} ms  waiting {publisher.queued_s * 1000:.0f} ms"
            here = f"  dropped {publisher.dropped_s:.1f} s" if publisher.dropped_s else ""
            there = f"  {publisher.server_dropped} messages dropped by the server" if publisher.server_dropped else ""
            unread = f"  lost {source.dropped_s:.1f} s" if source.dropped_s else ""
            line.draw(told + unread + here + there)

    def tell(ended: Ended) -> None:
        lost = f", {ended.dropped} messages dropped by the server" if ended.dropped else ""
        unread = f", {source.dropped_s:.1f} s of {source.label} lost" if source.dropped_s else ""
        line.note(f"published {ended.emitted} packets as {args.stream!r}{lost}{unread}")

    try:
        # What a source has given and the connection lost is lost: behind the end of a file there is nothing to try again for.
        await keep_trying(
            lambda: _once(args, source, codec, level, line, ledger, show, tell),
            note=line.note,
            give_up=lambda: args.no_retry or source.exhausted,
        )
        return 0
    finally:
        source.close()
        if kept is not None:
            kept.close()
        line.clear()


async def _once(
    args: argparse.Namespace,
    source: Source,
    codec: Codec | None,
    level: Level,
    line: LiveLine,
    ledger: Ledger,
    show: OnBlock,
    tell: Callable[[Ended], None],
) -> None:
    pace: Literal["live", "fast"] = "fast" if args.fast else "live"
    async with publish(
        args.server,
        args.stream,
        format="codes" if codec is not None else "pcm_s16le",
        sample_rate=source.sample_rate,
        channels=1,
        model=codec.fingerprint if codec is not None else None,
        bandwidth=args.bandwidth,
        packet_frames=args.packet_frames,
        start=args.start,
        pace=pace,
        silence_db=args.dtx if codec is None else None,
        token=args.token,
        note=line.note,
    ) as publisher:
        line.note(f"publishing {source.label} as {args.stream!r} at {args.server}, {publisher.welcome.bandwidth:g} kbps")
        publisher.on_sent = lambda seq, captured, sent: ledger.add_sent(seq, captured, sent, publisher.round_trip_ms)
        ended = await publish_source(source, publisher, codec=codec, silence_db=args.dtx, level=level, on_block=show, on_interrupt=tell)
        tell(ended)


async def publish_source(
    source: Source,
    publisher: Publisher,
    *,
    codec: Codec | None = None,
    silence_db: float | None = None,
    level: Level | None = None,
    on_block: OnBlock | None = None,
    on_interrupt: Callable[[Ended], None] = lambda _: None,
) -> Ended:
    """Send all of `source` through `publisher`, encoded by `codec` if there is one, little of what is below `silence_db`; end the stream.

    A live publisher drops what a slow uplink cannot take; a fast one waits. What the source had to drop is told as a gap. Where the task is
    cancelled the stream is ended all the same, which `on_interrupt` is told.
    """
    fast = publisher.hello.pace == "fast"
    pieces = _Pieces() if codec is None else _Packets(codec, publisher, source.sample_rate, silence_db)

    async def send() -> None:
        for piece, at in pieces.take():
            if fast:
                await publisher.send(piece, at)
            else:
                publisher.offer(piece, at)

    async def finish() -> Ended:
        await pieces.flush()
        for piece, at in pieces.take():
            await publisher.send(piece, at)
        return await publisher.end()

    missing_s = source.dropped_s
    with contextlib.closing(pieces):
        try:
            async for block, captured in source.blocks():
                if source.dropped_s > missing_s:
                    publisher.lose(source.dropped_s - missing_s)
                    missing_s = source.dropped_s
                mono = block.mean(axis=0)
                if level is not None:
                    level.feed(mono)
                await pieces.feed(mono, captured)
                await send()
                if on_block is not None:
                    on_block(publisher)
        except asyncio.CancelledError:
            # An interrupt is how a microphone ends: politely, so that nothing that was said is lost.
            with contextlib.suppress(TimeoutError, StreamCodecError):
                on_interrupt(await asyncio.wait_for(finish(), 2.0))
            raise
        return await finish()


class _Pieces:
    """What goes out of what came in: the same, and when its first sample was captured (us)."""

    def __init__(self) -> None:
        self._ready: deque[tuple[Any, int]] = deque()

    async def feed(self, mono: Samples, captured: int) -> None:
        """Take a block [T]."""
        self._ready.append((mono, captured))

    async def flush(self) -> None:
        """No more comes."""

    def take(self) -> Iterator[tuple[Any, int]]:
        """What can go out now, each as it is asked for: an interrupt leaves the rest."""
        while self._ready:
            yield self._ready.popleft()

    def close(self) -> None:
        """Let go of what it took to make them."""


class _Packets(_Pieces):
    """Packets of codes, encoded on a thread of their own, one block after the other."""

    def __init__(self, codec: Codec, publisher: Publisher, rate: int, silence_db: float | None) -> None:
        super().__init__()
        hello, model = publisher.hello, publisher.welcome.model
        self._encoder = codec.stream_encoder(
            hello.bandwidth,
            packet_frames=hello.packet_frames,
            start=publisher.welcome.start,
            sample_rate=rate,
            silence_db=silence_db,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="streamcodec-encode")
        self._rate = rate
        self._hop_s = model.hop_length / model.sampling_rate
        self._fed_s = self._out_s = 0.0

    async def feed(self, mono: Samples, captured: int) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._feed, mono, captured)

    async def flush(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._flush)

    def close(self) -> None:
        self._thread.shutdown(wait=False)

    def _feed(self, mono: Samples, captured: int) -> None:
        self._give(self._encoder.feed(mono), captured)
        self._fed_s += mono.size / self._rate

    def _flush(self) -> None:
        self._give(self._encoder.flush(), now_us())

    def _give(self, packets: list[Any], now: int) -> None:
        for codes in packets:
            # A packet began before this block did: as long before as what went in and has not come out.
            self._ready.append((codes, now + round((self._out_s - self._fed_s) * 1e6)))
            self._out_s += codes.shape[1] * self._hop_s


if __name__ == "__main__":
    import sys

    from streamcodec.cli import main

    raise SystemExit(main(["mic", *sys.argv[1:]]))
