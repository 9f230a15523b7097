"""`streamcodec record`: keep a stream's packets as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamcodec.cli.options import DEFAULT_URL, NoRetry, Quiet, Server, Token, any_number
from streamcodec.errors import InputError
from streamcodec.output_file import check_output

__all__ = ["EXAMPLES", "record"]

EXAMPLES = """
\b
examples:
  streamcodec record live                       record "live" until it ends, or until Ctrl-C
  streamcodec record live --output talk.rec     under a name of your own
  streamcodec decode talk.rec                   make a .wav of it, while it is recorded or later
  streamcodec replay talk.rec --from 1:30       publish it again
"""


async def record(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The stream's name.")],
    server: Server = DEFAULT_URL,
    token: Token = None,
    no_retry: NoRetry = False,
    quiet: Quiet = False,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The file to write, which must not exist yet (default: the time and the stream's name, .rec)."),
    ] = None,
    bandwidth: Annotated[
        float | None, typer.Option(parser=any_number, metavar="KBPS", help="Take at most this much of the stream (default: all of it).")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on waiting when the stream ends: the next one goes into the same file.")
    ] = False,
) -> int:
    """Record a stream: its packets as they are, which take 2.9 MB an hour at 6 kbps. No model is needed.

    The file can be read while it grows.
    """
    import streamcodec
    from streamcodec.cli.status import LiveLine
    from streamcodec.client import StreamRecorder, keep_trying, listen, model_of
    from streamcodec.protocol import ModelInfo
    from streamcodec.recording import RecordingFile, recording_name, wall_ms

    target = Path(recording_name(stream, wall_ms())) if output is None else check_output(output)
    if target.exists() or target.is_symlink():
        raise InputError(f"{target} exists already, expected the name of a new file")
    line = LiveLine(quiet=quiet)

    def create(model: ModelInfo) -> RecordingFile:
        line.note(f"recording {stream!r} at {server} into {target}")
        return RecordingFile(target, stream, model, program=f"streamcodec {streamcodec.__version__}")

    recorder = StreamRecorder(create, line.note)

    async def attempt() -> None:
        model = await model_of(server, stream, token)
        async with listen(server, stream, model=model.fingerprint, bandwidth=bandwidth, token=token, note=line.note) as listener:

            def show() -> None:
                if recorder.file is not None and line.due():
                    line.draw(f"{_clock(recorder.file.seconds)}  {recorder.file.size / 1e6:.2f} MB  lost {listener.lost}")

            await recorder.record(listener, follow=follow, on_event=show)

    try:
        await keep_trying(attempt, note=line.note, give_up=lambda: no_retry)
        return 0
    finally:
        line.clear()
        recorder.close()
        if recorder.file is not None:
            line.note(f"{target}: {recorder.file.seconds:.2f} s, {recorder.file.size / 1e6:.2f} MB")


def _clock(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{int(seconds % 60):02d}"
