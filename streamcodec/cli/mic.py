"""`streamcodec mic`: publish a microphone, a file or a pipe as a stream."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
import typer.core

from streamcodec.cli.options import (
    DEFAULT_MODEL,
    DEFAULT_URL,
    Bandwidth,
    Model,
    NoRetry,
    Quiet,
    Server,
    Stream,
    TlsCa,
    Token,
    TokenFile,
    number,
    positive_int,
)
from streamcodec.config import DEFAULT_PACKET_FRAMES
from streamcodec.errors import DeviceError, MissingDependencyError
from streamcodec.output_file import Input, check_outputs

if TYPE_CHECKING:
    from streamcodec.audio import Level
    from streamcodec.cli.status import LiveLine
    from streamcodec.client import Ledger, Publisher, Source
    from streamcodec.protocol import Ended

__all__ = ["EXAMPLES", "MicCommand", "mic"]

EXAMPLES = """
\b
examples:
  streamcodec mic                              publish the default microphone as "live"
  streamcodec mic --input "USB" --stream anna  a device by a part of its name
  streamcodec mic --input talk.wav             a file in real time
  streamcodec mic --input talk.wav --fast      a file as fast as the server takes it
  arecord -t raw -f S16_LE -r 48000 | streamcodec mic --input - --rate 48000
"""


class MicCommand(typer.core.TyperCommand):
    """A command whose `--dtx` may stand without its number, which typer does not know."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join `--dtx` with its number, or with the usual one."""
        joined: list[str] = []
        words = iter(args)
        for word in words:
            if word == "--dtx":
                following = next(words, None)
                if following is None or (following.startswith("-") and not following[1:2].isdecimal()):
                    from streamcodec.audio import SILENCE_DB

                    joined += [f"--dtx={SILENCE_DB}", *([] if following is None else [following])]
                else:
                    joined.append(f"--dtx={following}")
            else:
                joined.append(word)
        return super().parse_args(ctx, joined)


async def mic(
    server: Server = DEFAULT_URL,
    stream: Stream = "live",
    token: Token = None,
    token_file: TokenFile = None,
    tls_ca: TlsCa = None,
    no_retry: NoRetry = False,
    quiet: Quiet = False,
    input_: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="WHAT",
            help="A device's index or a part of its name, an audio file, or - for a pipe that gives a sound file or raw 16-bit samples "
            "(default: the default microphone).",
        ),
    ] = None,
    rate: Annotated[int, typer.Option(parser=positive_int, metavar="HZ", help="The sampling rate of raw samples on a pipe.")] = 48_000,
    channels: Annotated[int, typer.Option(parser=positive_int, metavar="N", help="The channels of raw samples on a pipe.")] = 1,
    fast: Annotated[bool, typer.Option("--fast", help="Publish a file as fast as the server takes it, and drop nothing.")] = False,
    bandwidth: Bandwidth = None,
    packet_frames: Annotated[
        int | None,
        typer.Option(parser=positive_int, metavar="N", help="Frames in a packet, 1 to 25 (default: 6, or what the model's chunks have)."),
    ] = None,
    stereo: Annotated[
        bool, typer.Option("--stereo", help="Send all channels, for a server with a stereo model (default: they are mixed).")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write what is published, mixed down, to a .wav or .flac file.")
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write how long each packet took from capture to network to this file, one line of JSON each."),
    ] = None,
    start: Annotated[Literal["exact", "primed"] | None, typer.Option(help="How the codec starts (default: as suits the model).")] = None,
    encode: Annotated[
        bool, typer.Option("--encode", help="Encode here and send codes: 64 times less to send than 16-bit PCM at 24 kHz.")
    ] = False,
    dtx: Annotated[
        float | None,
        typer.Option(
            parser=number(-120, 0),
            metavar="[DB]",
            help="Send little during silence: what has been below so many dBFS (-50 without a number) for 0.3 s goes to the listeners, and "
            "with --encode to the server, as one packet with one codebook every 0.8 s. Listeners hear comfort noise in between.",
        ),
    ] = None,
    model: Model = DEFAULT_MODEL,
) -> int:
    """Publish a microphone, a file or a pipe.

    With --encode the model must be the server's.
    """
    from streamcodec.audio import AudioWriter, Level
    from streamcodec.cli.status import LiveLine
    from streamcodec.client import Destination, Ledger, PublishOptions, Tee, keep_trying, open_pipe, open_source, publish, publish_source
    from streamcodec.client import token_file as read_again
    from streamcodec.gc_freeze import freeze_gc

    async def opened() -> Source:
        if input_ == "-":
            return await open_pipe(rate, channels)
        try:
            return open_source(input_, fast=fast, rate=rate, channels=channels)
        except (DeviceError, MissingDependencyError) as exc:
            raise DeviceError(f"{exc}. To publish a file instead: --input FILE") from exc

    read: list[Input] = [0] if input_ == "-" else [input_] if input_ is not None else []
    check_outputs([keep, ledger], read)
    with Ledger(ledger) as book:
        line = LiveLine(quiet=quiet)
        codec = None
        if encode:
            from streamcodec.codec import load

            codec = load(model, threads=1)
            # A microphone does not wait: the first packet must not take longer than the others.
            codec.warm_up(packet_frames)
            freeze_gc()
        source = await opened()
        level = Level(rate=source.sample_rate)
        kept = AudioWriter(keep, source.sample_rate) if keep is not None else None
        if kept is not None:
            source = Tee(source, kept.write)
        report = _StreamStatus(stream, source, level, line, book)
        options = PublishOptions(
            format="codes" if codec is not None else "pcm_s16le",
            sample_rate=source.sample_rate,
            channels=source.channels if stereo else 1,
            mix_down=not stereo,
            model=codec.fingerprint if codec is not None else None,
            bandwidth=bandwidth,
            packet_frames=DEFAULT_PACKET_FRAMES if packet_frames is None else packet_frames,
            start=start,
            pace="fast" if fast else "live",
            silence_db=dtx if codec is None else None,
            token=token if token_file is None else read_again(token_file),
            tls_ca=tls_ca,
        )

        to = Destination(server)

        async def attempt() -> None:
            async with publish(to.url, stream, options, note=line.note) as publisher:
                report.begin(publisher, to.url)
                ended = await publish_source(
                    source, publisher, codec=codec, silence_db=dtx, level=level, on_block=report.block, on_interrupt=report.end
                )
                report.end(ended)

        try:
            # What a source has given and the connection lost is gone: at the end of a file there is nothing left to try again for.
            await keep_trying(attempt, destination=to, note=line.note, give_up=lambda: no_retry or source.exhausted)
            return 0
        finally:
            source.close()
            if kept is not None:
                kept.close()
            line.clear()


class _StreamStatus:
    """What is said about a stream while it is published."""

    def __init__(self, stream: str, source: Source, level: Level, line: LiveLine, ledger: Ledger) -> None:
        self._stream = stream
        self._source = source
        self._level = level
        self._line = line
        self._ledger = ledger
        self._behind = False

    def begin(self, publisher: Publisher, server: str) -> None:
        """The connection is made."""
        self._line.note(f"publishing {self._source.label} as {self._stream!r} at {server}, {publisher.welcome.bandwidth:g} kbps")
        publisher.on_sent = lambda seq, captured, sent: self._ledger.add_sent(seq, captured, sent, publisher.round_trip_ms)

    def block(self, publisher: Publisher) -> None:
        """A block went out."""
        from streamcodec.audio import bar

        if self._source.dropped_s and not self._behind:
            self._behind = True
            self._line.note(f"this machine is too slow for {self._source.label}: audio that waits for more than half a second is dropped")
        if self._line.due():
            p50, p95, p99 = self._ledger.percentiles()
            peak_db = self._level.peak_db
            told = f"[{bar(peak_db)}] {peak_db:5.1f} dB  sent after p50 {p50:.0f} p95 {p95:.0f} p99 {p99:.0f} ms"
            told += f"  round trip {publisher.round_trip_ms or 0:.1f} ms  waiting {publisher.queued_s * 1000:.0f} ms"
            if self._source.dropped_s:
                told += f"  lost {self._source.dropped_s:.1f} s"
            if publisher.dropped_s:
                told += f"  dropped {publisher.dropped_s:.1f} s"
            if publisher.server_dropped:
                told += f"  {publisher.server_dropped} messages dropped by the server"
            self._line.draw(told)

    def end(self, ended: Ended) -> None:
        """The stream is over."""
        told = f"published {ended.emitted} packets as {self._stream!r}"
        if ended.dropped:
            told += f", {ended.dropped} messages dropped by the server"
        if self._source.dropped_s:
            told += f", {self._source.dropped_s:.1f} s of {self._source.label} lost"
        self._line.note(told)
