"""Recordings as `decode` reads them: what a listener would have heard, with silence in the place of what is missing."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from streamcodec.errors import CodesError

if TYPE_CHECKING:
    from streamcodec.cli.batch import Advance
    from streamcodec.codec import Codec
    from streamcodec.recording import RecordedEvent, RecordingReader

__all__ = ["RecordedClip", "decode_recording"]


class RecordedClip:
    """The bytes of a recording; `samples` of audio are in it. Raises `CodesError` for a file that this version cannot read."""

    def __init__(self, source: Path, data: bytes) -> None:
        self.source = source
        self._data = data
        with self.reader() as reader:
            self.model = reader.header.model
            for _ in reader.events():
                pass
            self.samples, self.faults = reader.samples, reader.faults
        if not self.samples:
            raise CodesError(f"{source}: a recording without audio")

    def reader(self) -> RecordingReader:
        """Reads it from its beginning."""
        from streamcodec.recording import RecordingReader

        return RecordingReader(self.source, io.BytesIO(self._data))


def decode_recording(codec: Codec, clip: RecordedClip, target: Path, bandwidth: float | None, advance: Advance) -> str:
    """Decode a recording of the codec's model to a sound file; returns the line that says so."""
    from streamcodec.audio import AudioWriter
    from streamcodec.client import Player

    n_q = None if bandwidth is None else codec.config.n_q_for(bandwidth)
    player, samples = Player(codec, fill_gaps=True), 0
    with clip.reader() as reader, AudioWriter(target, codec.sample_rate, codec.channels, inputs=[clip.source], whole=True) as writer:

        def write(event: RecordedEvent | None) -> None:
            nonlocal samples
            for piece in [None] if event is None else player.pieces(event):
                part = player.finish() if piece is None else player.feed(piece)
                writer.write(part)
                samples += part.shape[-1]
                advance(part.shape[-1] / codec.sample_rate)

        for event in _cut(codec, reader.events(), n_q):
            write(event)
        write(None)
    told = "".join(f"; {fault}" for fault in clip.faults)
    return f"{target}: {samples / codec.sample_rate:.2f} s{told}"


def _cut(codec: Codec, events: Iterator[RecordedEvent], n_q: int | None) -> Iterator[RecordedEvent]:
    """Events with at most `n_q` codebooks, if it is given."""
    from streamcodec.protocol import Packet, PayloadLayout, StreamStart

    layout = PayloadLayout.of(codec.config)
    for event in events:
        if n_q is not None and isinstance(event, StreamStart) and event.n_q > n_q:
            event = replace(event, n_q=n_q, bandwidth=codec.config.bandwidth_of(n_q))
        elif n_q is not None and isinstance(event, Packet) and event.n_q > n_q:
            event = replace(event, n_q=n_q, payload=layout.truncate(event.payload, event.n_q, n_q))
        yield event
