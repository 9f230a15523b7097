"""Whole ways through a connection: all of a source into a published stream, and a stream that is heard into a sink.

The model never runs on the event loop here: encoding and decoding each have a thread of their own, so that the loop goes on answering.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from streamcodec.audio import Level
from streamcodec.client.ledger import PacketTimes
from streamcodec.client.listener import Event, Listener
from streamcodec.client.player import MAX_GAP_S, Player
from streamcodec.client.publisher import INTERRUPTED_S, Publisher
from streamcodec.client.sinks import DeviceSink, PipeSink, Sink
from streamcodec.client.sources import Source
from streamcodec.errors import CodesError, StreamCodecError, printable
from streamcodec.protocol import SILENCE, Ended, Gap, Packet, StreamEnd, StreamStart, Waiting, now_us
from streamcodec.types import Samples, codes_in

if TYPE_CHECKING:
    from streamcodec.codec import Codec

__all__ = ["Decoded", "decode", "play", "publish_source"]


async def publish_source(
    source: Source,
    publisher: Publisher,
    *,
    codec: Codec | None = None,
    silence_db: float | None = None,
    level: Level | None = None,
    on_block: Callable[[Publisher], None] = lambda _: None,
    on_interrupt: Callable[[Ended], None] = lambda _: None,
) -> Ended:
    """Send all of `source` through `publisher`, end the stream, and return the server's count of it.

    With a `codec` the blocks are encoded here; of what is quieter than `silence_db` (dBFS) little is then sent. A live publisher drops what
    a slow uplink cannot take, a fast one waits. What the source had to drop is told as a gap. `level` measures what is sent, and `on_block`
    is called behind each block. Where the task is cancelled, or the server is about to close, the stream is ended all the same, and
    `on_interrupt` gets the server's count; a `Refused` that is raised then says where to go on.
    """
    fast = publisher.hello.pace == "fast"
    wanted = (publisher.hello.channels if codec is None else codec.channels) or 1
    pieces = _Pieces() if codec is None else _EncodedPieces(codec, publisher, source, silence_db)

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
                await pieces.feed(mono if wanted == 1 else block, captured)
                await send()
                on_block(publisher)
                if (closing := publisher.closing) is not None and not source.exhausted:
                    # Ended in order, nothing is lost; what comes from now on is for another server, or for the next one here.
                    on_interrupt(await finish())
                    raise closing  # the connection may be another one by now
        except asyncio.CancelledError:
            # A microphone is ended by an interrupt. The stream is then ended in order, so that nothing that was said is lost.
            with contextlib.suppress(TimeoutError, StreamCodecError):
                async with asyncio.timeout(INTERRUPTED_S):
                    on_interrupt(await finish())
            raise
        return await finish()


class _Pieces:
    """What goes out for each block, and when its first sample was captured (us): here the block itself."""

    def __init__(self) -> None:
        self._ready: deque[tuple[Any, int]] = deque()

    async def feed(self, block: Samples, captured: int) -> None:
        """Take a block [T] of one channel, or [C, T] of all that the source has."""
        self._ready.append((block, captured))

    async def flush(self) -> None:
        """Take the end: no block comes any more."""

    def take(self) -> Iterator[tuple[Any, int]]:
        """What can go out now, one by one as it is asked for: an interrupt leaves the rest."""
        while self._ready:
            yield self._ready.popleft()

    def close(self) -> None:
        """Release what was needed to make the pieces."""


class _EncodedPieces(_Pieces):
    """Packets of codes, encoded on a thread of their own, one block after the other."""

    def __init__(self, codec: Codec, publisher: Publisher, source: Source, silence_db: float | None) -> None:
        super().__init__()
        self._encoder = codec.stream_encoder(
            publisher.hello.bandwidth,
            packet_frames=publisher.welcome.packet_frames,
            start=publisher.welcome.start,
            sample_rate=source.sample_rate,
            channels=1 if codec.channels == 1 else source.channels,
            silence_db=silence_db,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="streamcodec-encode")
        self._rate = source.sample_rate
        self._config = codec.config
        self._fed_s = self._out_s = 0.0

    async def feed(self, block: Samples, captured: int) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._feed, block, captured)

    async def flush(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._flush)

    def close(self) -> None:
        self._thread.shutdown(wait=False)

    def _feed(self, block: Samples, captured: int) -> None:
        self._give(self._encoder.feed(block), captured)
        self._fed_s += block.shape[-1] / self._rate

    def _flush(self) -> None:
        self._give(self._encoder.flush(), now_us())

    def _give(self, packets: list[Any], now: int) -> None:
        for packet in packets:
            # The packet began before this block, by the samples that went in and have not come out yet.
            self._ready.append((packet, now + round((self._out_s - self._fed_s) * 1e6)))
            self._out_s += self._config.packet_s(codes_in(packet).shape[1])


@dataclass(frozen=True, slots=True)
class Decoded:
    """An event of a stream and the samples that it settles, [T] or [C, T]; when it came and when it was decoded (us of `now_us`).

    A long gap comes several times, each time with a part of its samples; all but the first are `continued`.
    """

    event: Event
    samples: Samples
    received: int
    decoded: int
    continued: bool = False


class FilledTime:
    """How much silence a stream may put into a file: what can have been lost since it began to be heard, and a day more.

    A live stream has lost no more than the time that has passed, and a day is for one that is sent faster. `now_us` are times of one clock.
    """

    def __init__(self, began_us: int) -> None:
        self._began_us = began_us
        self._filled_s = 0.0

    def add(self, gap_s: float, now_us: int) -> None:
        """So much more is to be filled. Raises `CodesError` where that is too much."""
        self._filled_s += gap_s
        most_s = MAX_GAP_S + (now_us - self._began_us) / 1e6
        if self._filled_s > most_s:
            raise CodesError(f"gaps of {self._filled_s / 3600:.1f} hours in all, expected at most {most_s / 3600:.1f} by now")


async def decode(listener: Listener, player: Player) -> AsyncGenerator[Decoded]:
    """Iterate over the events of `listener` with what `player` makes of them, decoded on a thread of its own.

    In a pause the decoder catches up with what was left out as silence, until something comes. Raises `CodesError` where a player that
    fills gaps would have to fill more than can have been lost, see `FilledTime`.
    """
    filled = FilledTime(now_us())
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, thread_name_prefix="streamcodec-decode")
    owed: list[Future[None]] = []
    try:
        async for event in listener:
            received = listener.received_us
            for job in owed:
                job.cancel()
            if isinstance(event, Gap):
                filled.add(player.gap_s(event), now_us())
            continued = False
            for piece in player.pieces(event):
                samples = await loop.run_in_executor(thread, player.feed, piece)
                decoded = now_us()
                skipped = player.behind if isinstance(event, Packet) and samples.size else 0
                owed = [thread.submit(player.catch_up) for _ in range(skipped)]
                yield Decoded(event, samples, received, decoded, continued)
                continued = True
    finally:
        # This waits at most for the step that runs now.
        thread.shutdown(cancel_futures=True)


async def play(
    listener: Listener,
    player: Player,
    sink: Sink,
    *,
    level: Level | None = None,
    follow: bool = False,
    note: Callable[[str], None] = lambda _: None,
    on_packet: Callable[[PacketTimes, Listener], None] = lambda *_: None,
) -> None:
    """Decode what `listener` receives and write it to `sink`, until the stream ends, or for ever with `follow`.

    `level` measures what is heard, `note` gets a line about each start and loss, and `on_packet` the times of each packet that is heard.
    """
    async with contextlib.aclosing(decode(listener, player)) as heard:
        async for item in heard:
            event, samples = item.event, item.samples
            if isinstance(sink, PipeSink):
                await sink.room()
            if level is not None:
                level.feed(samples if samples.ndim == 1 else samples.mean(axis=0))
            if isinstance(event, Packet):
                if samples.size:
                    times = _write_packet(item, listener, player, sink)
                    on_packet(times, listener)
                # A packet without samples only warmed the decoder up: its age does not show how long the transport took.
                continue
            if samples.size:
                sink.write(samples)
            if isinstance(event, Waiting):
                note(f"nobody publishes {event.stream!r} yet: waiting")
            elif isinstance(event, StreamStart):
                what = f"{event.bandwidth:g} kbps, {event.packet_frames} frames a packet"
                note(f"{listener.hello.stream!r} begins: {what} ({printable(event.reason)})")
            elif isinstance(event, Gap) and event.reason != SILENCE and not item.continued:
                note(f"{event.count} packets lost ({printable(event.reason)})")
            elif isinstance(event, StreamEnd) and not follow:
                return


def _write_packet(item: Decoded, listener: Listener, player: Player, sink: Sink) -> PacketTimes:
    assert isinstance(item.event, Packet)
    captured = listener.captured_us(item.event) + round(item.samples.shape[-1] / player.sample_rate * 1e6)
    decoding_s = (item.decoded - item.received) / 1e6
    ahead_s = sink.write(item.samples, item.received / 1e6, captured / 1e6, decoding_s=decoding_s, quiet=player.quiet)
    margin_ms, late_ms = _playing_ms(sink)
    listener.playing(item.event.seq, margin_ms, late_ms)
    return PacketTimes(item.event.seq, captured, item.received, item.decoded, ahead_s, sink.device_s)


def _playing_ms(sink: Sink) -> tuple[int | None, int | None]:
    """How much a device's playout buffer holds, and how late packets arrive at it."""
    if not isinstance(sink, DeviceSink):
        return None, None
    stats = sink.stats
    return round(1000 * stats.margin_s), round(1000 * stats.late_s)
