"""Stream encoders and decoders: blocks of any size to packets, and packets to samples. A clip is a stream with one block.

A packet is codes [n_q, packet_frames], or a `Chunk` of a model that codes chunks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamcodec.audio.dsp.resample import StreamResampler
from streamcodec.audio.dsp.vad import QuietPackets
from streamcodec.audio.samples import check_block
from streamcodec.codec.arrays import as_numpy, check_codes
from streamcodec.codec.chunks import check_chunk
from streamcodec.engine.base import Engine
from streamcodec.errors import InputError
from streamcodec.scheduler.rows import Row, run_due
from streamcodec.types import Chunk, Samples, block_shape

__all__ = ["StreamDecoder", "StreamEncoder"]


class StreamEncoder:
    """Encodes one stream; made by `Codec.stream_encoder`."""

    def __init__(self, engine: Engine, row: Row, sample_rate: float, channels: int, quiet: QuietPackets) -> None:
        self._engine = engine
        self._row = row
        self._channels = channels
        self._quiet = quiet
        self._resampler = StreamResampler(sample_rate, engine.config.sampling_rate, engine.config.audio_channels)
        self._flushed = False

    def feed(self, audio: Any) -> list[Any]:
        """Take samples [T], or [C, T] for the stream's channels; return the packets that are complete now."""
        self._check_open()
        # The row keeps samples until a packet is complete. The caller may reuse its buffer, so the block is copied.
        block = np.array(check_block(as_numpy(audio)[0], self._channels, self._engine.config.audio_channels))
        return self._encode(self._resampler.feed(block))

    def flush(self) -> list[Any]:
        """End the stream and return the remaining packets; the last one may be shorter. Nothing can be fed afterwards."""
        self._check_open()
        self._flushed = True
        return self._encode(self._resampler.flush(), last=True)

    def _encode(self, samples: Samples, *, last: bool = False) -> list[Any]:
        self._row.feed(samples)
        if last:
            self._row.finish()
        packets = run_due(self._engine, self._row)
        packets += self._row.remainder() if last else []
        self._quiet.feed(samples)
        return [self._quiet.cut(codes) for codes in packets]

    def _check_open(self) -> None:
        if self._flushed:
            raise InputError("this stream was flushed: open another one")


class StreamDecoder:
    """Decodes one stream; made by `Codec.stream_decoder`."""

    def __init__(self, engine: Engine, row: Row) -> None:
        self._engine = engine
        self._row = row
        self._flushed = False

    def feed(self, packets: Any) -> Samples:
        """Take codes [n_q, F] with any number of frames, or a list of such packets; return the samples [T] that are final now.

        Of a model that codes chunks, a packet is a `Chunk`, and the samples may be [C, T]. `n_q` may differ from packet to packet. Raises
        `CodesError`; then nothing of this call is decoded.
        """
        self._check_open()
        for packet in [self._checked(packet) for packet in self._listed(packets)]:
            self._row.feed(packet)
        return self._drain()

    def _listed(self, packets: Any) -> Any:
        if not isinstance(packets, (list, tuple)):
            return [packets]
        one = packets and not isinstance(packets[0], Chunk) and as_numpy(packets[0])[0].ndim != 2
        return [packets] if one else packets

    def _checked(self, packet: Any) -> Any:
        config = self._engine.config
        if config.granularity == "frames":
            return check_codes(config, as_numpy(packet)[0], batch=False)[0][0]
        chunk, _ = check_chunk(config, packet)
        return Chunk(chunk.codes[0], None if chunk.scale is None else float(chunk.scale[0]))

    def flush(self) -> Samples:
        """End the stream and return the samples that were held back. Nothing can be fed afterwards."""
        self._check_open()
        self._flushed = True
        self._row.finish()
        return self._drain(last=True)

    def _drain(self, *, last: bool = False) -> Samples:
        parts = run_due(self._engine, self._row)
        parts += self._row.remainder() if last else []
        return np.concatenate(parts, axis=-1) if parts else np.empty(block_shape(0, self._engine.config.audio_channels), np.float32)

    def _check_open(self) -> None:
        if self._flushed:
            raise InputError("this stream was flushed: open another one")
