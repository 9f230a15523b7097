"""`streamcodec play`: play a stream, record it or write it to a pipe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamcodec.cli.options import (
    DEFAULT_MODEL,
    DEFAULT_URL,
    Model,
    NoRetry,
    Quiet,
    Server,
    Stream,
    TlsCa,
    Token,
    TokenFile,
    any_number,
    number,
)
from streamcodec.errors import DeviceError, MissingDependencyError
from streamcodec.output_file import check_outputs

if TYPE_CHECKING:
    from streamcodec.audio import Level
    from streamcodec.client import Listener, PacketTimes, Sink

__all__ = ["EXAMPLES", "play"]

EXAMPLES = """
\b
examples:
  streamcodec play                          play "live" on the default speaker
  streamcodec play --output heard.wav       record it until it ends
  streamcodec play --bandwidth 1.5          ask the server for fewer codebooks of it
  streamcodec play --pcm                    let the server decode: no model and no torch needed here
  streamcodec play --output - | aplay -f S16_LE -r 24000
"""


@contextlib.contextmanager
def _no_device() -> Iterator[None]:
    """Say what can be done where there is no device to play on."""
    try:
        yield
    except (DeviceError, MissingDependencyError) as exc:
        raise DeviceError(f"{exc}. To record instead: --output heard.wav") from exc


async def play(
    server: Server = DEFAULT_URL,
    stream: Stream = "live",
    token: Token = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    no_retry: NoRetry = False,
    quiet: Quiet = False,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="A device's index or a part of its name, a .wav or .flac file, or - for a pipe (default: the default speaker).",
        ),
    ] = None,
    bandwidth: Annotated[
        float | None, typer.Option(parser=any_number, metavar="KBPS", help="Take at most this much of the stream (default: all of it).")
    ] = None,
    min_bandwidth: Annotated[
        float | None,
        typer.Option(parser=any_number, metavar="KBPS", help="Take as little as this while the connection is slow (default: never less)."),
    ] = None,
    pcm: Annotated[bool, typer.Option("--pcm", help="Let the server decode: no model and no torch needed here.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on waiting when the stream ends.")] = False,
    slack_ms: Annotated[
        float,
        typer.Option(
            parser=number(0, 5000),
            metavar="MS",
            help="The least audio that a device holds back against late packets. While they come later it holds back more, up to 250 ms.",
        ),
    ] = 20,
    ledger: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write how long each packet took to this file, one line of JSON each.")
    ] = None,
    model: Model = DEFAULT_MODEL,
) -> int:
    """Play, record or pipe on a stream.

    Without --pcm the model must be the server's.
    """
    from streamcodec.audio import Level, bar
    from streamcodec.cli.status import LiveLine
    from streamcodec.client import Destination, DeviceSink, Ledger, Player, check_sink, keep_trying, listen, open_sink
    from streamcodec.client import play as play_stream
    from streamcodec.client import token_file as read_again
    from streamcodec.gc_freeze import freeze_gc

    line = LiveLine(quiet=quiet)
    codec = None
    sink: Sink | None = None
    level: Level | None = None

    def opened(rate: int, channels: int) -> tuple[Sink, Level]:
        nonlocal sink, level
        if level is None:
            level = Level(rate=rate)
        if sink is None:
            with _no_device():
                sink = open_sink(output, rate, slack_ms / 1000, channels=channels)
        return sink, level

    check_outputs([ledger, output if output is not None and output != "-" and Path(output).suffix else None])
    with _no_device():
        check_sink(output)
    with Ledger(ledger) as book:
        if not pcm:
            from streamcodec.codec import load

            codec = load(model, threads=1)
            codec.warm_up()
            freeze_gc()
            opened(codec.sample_rate, codec.channels)

        def show(times: PacketTimes, listener: Listener) -> None:
            assert sink is not None and level is not None
            book.add(times, sink.stats if isinstance(sink, DeviceSink) else None)
            if line.due():
                p50, p95, p99 = book.percentiles()
                health = f"underruns {sink.underruns}  lost {listener.lost}"
                line.draw(f"[{bar(level.peak_db)}] {level.peak_db:5.1f} dB  latency p50 {p50:.0f} p95 {p95:.0f} p99 {p99:.0f} ms  {health}")

        to = Destination(server)

        async def attempt() -> None:
            async with listen(
                to.url,
                stream,
                format="codes" if codec is not None else "pcm_s16le",
                model=codec.fingerprint if codec is not None else None,
                bandwidth=bandwidth,
                min_bandwidth=min_bandwidth,
                token=token if token_file is None else read_again(token_file),
                tls_ca=tls_ca,
                note=line.note,
            ) as listener:
                # What the server decodes is as its model is, which nobody knows before.
                sink, level = opened(listener.welcome.model.sampling_rate, listener.welcome.model.channels)
                line.note(f"listening to {stream!r} at {to.url}, into {sink.label}")
                player = Player(codec, fill_gaps=not sink.live)
                try:
                    await play_stream(listener, player, sink, level=level, follow=follow, note=line.note, on_packet=show)
                finally:
                    line.note(f"{stream!r}: {listener.packets} packets, {listener.lost} lost, {sink.underruns} underruns")

        try:
            await keep_trying(attempt, destination=to, note=line.note, give_up=lambda: no_retry)
            return 0
        finally:
            line.clear()
            if sink is not None:
                await sink.finish()
