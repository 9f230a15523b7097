"""Publish a microphone or an audio file: a program to read and to copy, made of the library alone.

python clients/mic.py                       the default microphone, until Ctrl-C
python clients/mic.py --input talk.wav      a file, in real time
python clients/mic.py --encode              encode here and send codes instead of PCM
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Sequence

from streamcodec import freeze_gc, load
from streamcodec.client import PublishOptions, keep_trying, open_source, publish, publish_source


async def run(url: str, stream: str, what: str | None, encode: bool) -> None:
    """Publish until the source ends; connect again where that may help."""
    codec = load() if encode else None
    if codec is not None:
        codec.warm_up()  # a microphone does not wait for the first packet
        freeze_gc()  # nor for Python's garbage collector
    source = open_source(what)

    # The server encodes PCM. A client that encodes says with which model.
    options = PublishOptions(sample_rate=source.sample_rate, bandwidth=6.0)
    if codec is not None:
        options = PublishOptions(format="codes", model=codec.fingerprint, bandwidth=6.0)

    async def attempt() -> None:
        async with publish(url, stream, options, note=print) as publisher:
            print(f"publishing {source.label} as {stream!r} at {url}")
            ended = await publish_source(source, publisher, codec=codec)  # the model runs on a thread of its own
            print(f"published {ended.emitted} packets")

    try:
        await keep_trying(attempt, note=print, give_up=lambda: source.exhausted)
    finally:
        source.close()


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and publish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="ws://127.0.0.1:8765")
    parser.add_argument("--stream", default="live")
    parser.add_argument("--input", help="a device's index or a part of its name, an audio file, or - for a pipe")
    parser.add_argument("--encode", action="store_true")
    args = parser.parse_args(argv)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(args.server, args.stream, args.input, args.encode))


if __name__ == "__main__":
    main()
