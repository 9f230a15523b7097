"""Stream encoders and decoders: blocks of any size to packets of codes, and packets to samples. A clip is a stream with one block."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from streamcodec.audio.dsp.resample import StreamResampler
from streamcodec.audio.dsp.vad import QuietPackets
from streamcodec.audio.samples import check_block
from streamcodec.codec.arrays import as_numpy, check_codes
from streamcodec.engine.base import Engine
from streamcodec.errors import InputError
from streamcodec.scheduler.rows import DecoderRow, EncoderRow, run_due
from streamcodec.types import Codes, Samples

__all__ = ["StreamDecoder", "StreamEncoder"]


class StreamEncoder:
    """Encodes one stream; made by `Codec.stream_encoder`."""

    def __init__(self, engine: Engine, row: EncoderRow, sample_rate: float, channels: int, quiet: QuietPackets) -> None:
        self._engine = engine
        self._row = row
        self._channels = channels
        self._quiet = quiet
        self._resampler = StreamResampler(sample_rate, engine.config.sampling_rate)
        self._flushed = False

    def feed(self, audio: Any) -> list[Codes]:
        """Take samples [T], or [C, T] for the stream's channels; return the packets [n_q, packet_frames] that are complete now."""
        self._check_open()
        # The row keeps samples until a packet is complete. The caller may reuse its buffer, so the block is copied.
        block = np.array(check_block(as_numpy(audio)[0], self._channels))
        return self._encode(self._resampler.feed(block))

    def flush(self) -> list[Codes]:
        """End the stream and return the remaining packets; the last one may be shorter. Nothing can be fed afterwards."""
        self._check_open()
        self._flushed = True
        return self._encode(self._resampler.flush(), last=True)

    def _encode(self, samples: Samples, *, last: bool = False) -> list[Codes]:
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

    def __init__(self, engine: Engine, row: DecoderRow) -> None:
        self._engine = engine
        self._row = row
        self._flushed = False

    def feed(self, packets: Any) -> Samples:
        """Take codes [n_q, F] with any number of frames, or a list of such packets; return the samples [T] that are final now.

        `n_q` may differ from packet to packet. Raises `CodesError`; then nothing of this call is decoded.
        """
        self._check_open()
        packet_list: Iterable[Any] = [packets]
        if isinstance(packets, (list, tuple)) and (not packets or as_numpy(packets[0])[0].ndim == 2):
            packet_list = packets
        for codes in [check_codes(self._engine.config, as_numpy(packet)[0], batch=False)[0][0] for packet in packet_list]:
            self._row.feed(codes)
        return self._drain()

    def flush(self) -> Samples:
        """End the stream and return the samples that were held back. Nothing can be fed afterwards."""
        self._check_open()
        self._flushed = True
        self._row.finish()
        return self._drain()

    def _drain(self) -> Samples:
        parts = run_due(self._engine, self._row)
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def _check_open(self) -> None:
        if self._flushed:
            raise InputError("this stream was flushed: open another one")
