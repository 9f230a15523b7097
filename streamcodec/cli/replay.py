"""`streamcodec replay`: publish a recording again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from streamcodec.cli.options import DEFAULT_URL, NoRetry, Quiet, Server, Token
from streamcodec.errors import InputError, printable

__all__ = ["EXAMPLES", "replay"]

EXAMPLES = """
\b
examples:
  streamcodec replay talk.rec                   publish it under the name that it had
  streamcodec replay talk.rec --stream again    under another one
  streamcodec replay talk.rec --from 1:02:30    from that time on
"""


def time_of_audio(text: str | float) -> float:
    """Parse seconds, or H:MM:SS, or M:SS; the seconds may have decimals."""
    if re.fullmatch(r"(\d+:){0,2}\d+(\.\d*)?", str(text)) is None:
        raise typer.BadParameter(f"{text!r} is no time, expected seconds or H:MM:SS")
    seconds = 0.0
    for part in str(text).split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


async def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording, which streamcodec record or serve --record wrote.")],
    server: Server = DEFAULT_URL,
    stream: Annotated[str | None, typer.Option(metavar="NAME", help="The stream's name (default: the one that was recorded).")] = None,
    token: Token = None,
    no_retry: NoRetry = False,
    quiet: Quiet = False,
    from_s: Annotated[
        float, typer.Option("--from", parser=time_of_audio, metavar="TIME", help="Begin at this time of its audio: seconds, or H:MM:SS.")
    ] = 0.0,
    fast: Annotated[bool, typer.Option("--fast", help="Publish it as fast as the server takes it.")] = False,
) -> int:
    """Publish a recording again: the same packets, at the pace of their audio.

    No model is needed here. The server's must be that of the recording.
    """
    from streamcodec.cli.status import LiveLine
    from streamcodec.client import Publisher, Replay, keep_trying
    from streamcodec.protocol import Ended
    from streamcodec.recording import RecordingReader

    line = LiveLine(quiet=quiet)
    published = 0

    def ended(count: Ended) -> None:
        nonlocal published
        published += count.emitted

    def show(publisher: Publisher) -> None:
        if line.due():
            line.draw(
                f"at {run.seconds:.1f} s  waiting {1000 * publisher.queued_s:.0f} ms  round trip {publisher.round_trip_ms or 0:.1f} ms"
            )

    with RecordingReader(file) as reader:
        name = reader.header.stream if stream is None else stream
        run = Replay(reader, server, name, from_s=from_s, fast=fast, token=token, note=line.note, on_packet=show, on_end=ended)
        try:
            await keep_trying(run.run, note=line.note, give_up=lambda: no_retry)
        finally:
            line.clear()
            for fault in reader.faults:
                line.note(f"{file}: {fault}")
            if published:
                line.note(f"published {published} packets of {file} as {printable(name)!r}")
        if not published:
            raise InputError(f"{file} holds no packet from {from_s:g} s on")
        return 0
