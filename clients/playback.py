"""Play or record a published stream: a program to read and to copy, made of the library alone.

python clients/playback.py                       on the default speaker, until the stream ends
python clients/playback.py --output heard.wav    into a file
python clients/playback.py --pcm                 let the server decode: no model and no torch needed here
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Sequence

from streamcodec import freeze_gc, load
from streamcodec.client import Listener, PacketTimes, Player, Sink, keep_trying, listen, open_sink, play


async def run(url: str, stream: str, where: str | None, pcm: bool) -> None:
    """Play until the stream ends; connect again where that may help."""
    codec = None if pcm else load()
    if codec is not None:
        codec.warm_up()  # the first packet must not take longer than the others
        freeze_gc()  # nor may Python's garbage collector stop the program
    sink: Sink | None = None

    def heard(times: PacketTimes, listener: Listener) -> None:
        if times.seq % 25 == 0:
            print(f"packet {times.seq}: {times.total_ms:.0f} ms behind the microphone, {listener.lost} lost")

    async def attempt() -> None:
        nonlocal sink
        # The server checks that both sides have the same model. A connection that breaks is resumed without loss.
        async with listen(
            url,
            stream,
            format="pcm_s16le" if codec is None else "codes",
            model=None if codec is None else codec.fingerprint,
            note=print,
        ) as listener:
            model = listener.welcome.model
            sink = sink or open_sink(where, model.sampling_rate, channels=model.channels)
            print(f"listening to {stream!r} at {url}, into {sink.label}")
            # A recording keeps its length where packets were lost; a speaker goes on at once.
            player = Player(codec, fill_gaps=not sink.live)
            await play(listener, player, sink, note=print, on_packet=heard)  # the model runs on a thread of its own

    try:
        await keep_trying(attempt, note=print)
    finally:
        if sink is not None:
            await sink.finish()


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and play."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="ws://127.0.0.1:8765")
    parser.add_argument("--stream", default="live")
    parser.add_argument("--output", help="a device's index or a part of its name, a .wav or .flac file, or - for a pipe")
    parser.add_argument("--pcm", action="store_true")
    args = parser.parse_args(argv)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(args.server, args.stream, args.output, args.pcm))


if __name__ == "__main__":
    main()
