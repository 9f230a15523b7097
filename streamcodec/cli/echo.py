"""`streamcodec echo`: publish the microphone and hear what comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from streamcodec.cli.options import DEFAULT_MODEL, DEFAULT_URL, Bandwidth, Model, Quiet, Server, Token, number
from streamcodec.errors import DeviceError, InputError, MissingDependencyError
from streamcodec.output_file import Input, check_outputs

if TYPE_CHECKING:
    from streamcodec.client import Listener, PacketTimes
    from streamcodec.protocol import Ended

__all__ = ["EXAMPLES", "echo"]

EXAMPLES = """
\b
examples:
  streamcodec echo                                        talk, and hear yourself come back (wear headphones)
  streamcodec echo --server wss://voice.example.org --pcm   let the server decode: no model is needed here
  streamcodec echo --input talk.wav --output back.wav     without a sound device
"""


async def echo(
    server: Server = DEFAULT_URL,
    token: Token = None,
    quiet: Quiet = False,
    input_: Annotated[
        str | None,
        typer.Option("--input", metavar="WHAT", help="A device's index or a part of its name, or an audio file (default: the microphone)."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(metavar="WHERE", help="A device's index or a part of its name, or a .wav or .flac file (default: the speaker)."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(parser=number(0.1, 86_400), metavar="S", help="Stop after so many seconds (default: at Ctrl-C).")
    ] = None,
    bandwidth: Bandwidth = None,
    pcm: Annotated[bool, typer.Option("--pcm", help="Let the server decode: no model and no torch needed here.")] = False,
    model: Model = DEFAULT_MODEL,
) -> int:
    """Test a connection: publish the microphone under a secret name, hear what comes back, and see how long it took.

    A server that asks for tokens lets it in without one where it runs with --echo.
    """
    import asyncio
    import contextlib
    import secrets

    from streamcodec.audio import Level, bar
    from streamcodec.cli.status import LiveLine
    from streamcodec.client import (
        Ledger,
        Player,
        PublishOptions,
        Tee,
        check_sink,
        listen,
        open_sink,
        open_source,
        play,
        publish,
        publish_source,
    )
    from streamcodec.codec import load
    from streamcodec.gc_freeze import freeze_gc

    if "-" in (input_, output):
        raise InputError("an echo test has no pipes: give a file or a device")
    read: list[Input] = [input_] if input_ is not None else []
    check_outputs([output if output is not None and "." in output else None], read)
    codec = None if pcm else load(model, threads=1)
    if codec is not None:
        codec.warm_up()
        freeze_gc()
    try:
        check_sink(output)
        source = open_source(input_)
    except (DeviceError, MissingDependencyError) as exc:
        raise DeviceError(f"{exc}. To test with files: --input talk.wav --output back.wav") from exc
    name, line, book = f"echo.{secrets.token_hex(16)}", LiveLine(quiet=quiet), Ledger()
    level = Level(rate=source.sample_rate)
    source = Tee(source, level.feed, seconds)
    options = PublishOptions(sample_rate=source.sample_rate, channels=source.channels, bandwidth=bandwidth, token=token)
    wanted = {"format": "pcm_s16le"} if codec is None else {"format": "codes", "model": codec.fingerprint}
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(source.close)
        listener = await stack.enter_async_context(listen(server, name, token=token, note=line.note, **wanted))  # type: ignore[arg-type]
        heard = listener.welcome.model
        sink = open_sink(output, heard.sampling_rate, channels=heard.channels)

        def show(times: PacketTimes, _: Listener) -> None:
            book.add(times)
            if line.due():
                p50, p95, _p99 = book.percentiles()
                line.draw(
                    f"[{bar(level.peak_db)}] {level.peak_db:5.1f} dB  back after p50 {p50:.0f} p95 {p95:.0f} ms  lost {listener.lost}"
                )

        async def talk() -> tuple[Ended, float]:
            async with publish(server, name, options, note=line.note) as publisher:
                line.note(f"{source.label} goes to {server} and comes back to {sink.label}")
                return await publish_source(source, publisher), publisher.round_trip_ms or 0.0

        talking = asyncio.create_task(talk())
        playing = asyncio.create_task(play(listener, Player(codec, fill_gaps=not sink.live), sink, on_packet=show))
        both = [talking, playing]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for task in both:
                task.cancel()
            outcomes = await asyncio.gather(*both, return_exceptions=True)
            line.clear()
            with contextlib.suppress(asyncio.CancelledError):
                await sink.finish()
            if listener.packets:
                told = "back after p50 {:.0f} p95 {:.0f} p99 {:.0f} ms".format(*book.percentiles())
                print(f"{listener.packets} packets came back, {listener.lost} lost, {sink.underruns} underruns; {told}")
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        ended, trip_ms = talking.result()
        print(f"{ended.emitted} packets were published; round trip {trip_ms:.1f} ms")
    return 0
