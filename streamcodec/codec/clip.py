"""Clips to codes and back, and the streams that a model opens. The one way to run the model is an engine's step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from streamcodec.audio.dsp.resample import check_rate, resample
from streamcodec.audio.dsp.vad import QuietPackets
from streamcodec.audio.samples import MAX_CHANNELS, as_clip
from streamcodec.codec.arrays import as_numpy, check_codes, owned
from streamcodec.codec.stream import StreamDecoder, StreamEncoder
from streamcodec.config import DEFAULT_PACKET_FRAMES, CodecConfig, Start, check_packet_frames
from streamcodec.engine.base import Engine
from streamcodec.engine.warming import warm_up
from streamcodec.errors import AudioError, CodesError, InputError
from streamcodec.scheduler.rows import DecoderRow, EncoderRow
from streamcodec.types import Codes, Samples

__all__ = ["Codec"]

Progress = Callable[[float], None]

_CHUNK_FRAMES = 300  # a clip goes through the model in pieces of 4 s: bounded memory, the same sums


class Codec:
    """One model and an engine that runs it.

    Audio is mono at `sample_rate` inside; codes are integers [n_q, frames], or [B, n_q, frames] for a batch. What comes in as torch
    tensors goes out as torch tensors, everything else as numpy arrays. A codec serves one thread at a time.
    """

    def __init__(self, engine: Engine, *, name: str, fingerprint: str) -> None:
        self.engine = engine
        self.name = name
        self.fingerprint = fingerprint

    @property
    def config(self) -> CodecConfig:
        """The architecture and its arithmetic."""
        return self.engine.config

    @property
    def sample_rate(self) -> int:
        """Samples per second inside the codec, and of all that it decodes."""
        return self.config.sampling_rate

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return self.config.hop_length

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.config.frame_rate

    def warm_up(self, packet_frames: int = DEFAULT_PACKET_FRAMES) -> None:
        """Run a few packets of silence through, so that a stream's first packet takes no longer than the others."""
        warm_up(self.engine, [check_packet_frames(packet_frames)])

    def encode(
        self,
        audio: Any,
        sample_rate: float | None = None,
        bandwidth: float | None = None,
        *,
        progress: Progress | None = None,
    ) -> Any:
        """Encode a whole clip: [T] or [C, T] -> codes [n_q, frames], [B, C, T] -> [B, n_q, frames].

        Channels are mixed down and any `sample_rate` (Hz; default the codec's own) is resampled. `bandwidth` is one of the model's, in
        kbps, 6 by default. `progress` is called with the share done, 0 to 1. Equal to the reference on the same samples. Raises
        `AudioError` or `CodesError`.
        """
        array, back = as_numpy(audio)
        clips, layout = as_clip(array)
        rate = self.sample_rate if sample_rate is None else sample_rate
        check_rate(rate)
        clips = resample(clips, rate, self.sample_rate)
        if clips.shape[1] == 0:
            raise AudioError("audio is shorter than one sample at the codec's rate")
        codes = self._encode_clips(clips, self.config.n_q_for(bandwidth), progress)
        return back(codes if layout == "batch" else codes[0])

    def _encode_clips(self, clips: Samples, n_q: int, progress: Progress | None) -> Codes:
        total, size = clips.shape[1], max(_CHUNK_FRAMES, self.engine.encoder_start_frames) * self.hop_length
        parts, states = [], None
        for at in range(0, total, size):
            chunk = owned(clips[:, at : at + size])
            codes, states = self.engine.encode(chunk, states, [n_q] * len(clips), final=at + size >= total)
            parts.append(codes)
            if progress:
                progress(min(1.0, (at + size) / total))
        return np.concatenate(parts, axis=2)

    def decode(self, codes: Any, *, n_q: int | None = None, progress: Progress | None = None) -> Any:
        """Decode codes [n_q, frames] -> samples [frames * hop], or [B, n_q, frames] -> [B, frames * hop].

        `n_q` decodes only the first so many codebooks: the clip at a lower bandwidth. Equal to the reference. Raises `CodesError`.
        """
        array, back = as_numpy(codes)
        checked, batched = check_codes(self.config, array, batch=True)
        if n_q is not None:
            if isinstance(n_q, bool) or not isinstance(n_q, (int, np.integer)) or not 1 <= n_q <= checked.shape[1]:
                raise CodesError(f"n_q is {n_q!r}, expected 1 to {checked.shape[1]}: the codebooks that these codes have")
            checked = checked[:, :n_q]
        total, size = checked.shape[2], max(_CHUNK_FRAMES, self.engine.decoder_start_frames)
        parts, states = [], None
        for at in range(0, total, size):
            chunk = np.ascontiguousarray(checked[..., at : at + size])
            samples, states = self.engine.decode(chunk, states, final=at + size >= total)
            parts.append(samples)
            if progress:
                progress(min(1.0, (at + size) / total))
        joined = np.concatenate(parts, axis=1)
        return back(joined if batched else joined[0])

    def embed(self, codes: Any) -> Any:
        """Codes to latents: [n_q, frames] -> [hidden_size, frames], or with a leading batch; the sum of the entries they name."""
        array, back = as_numpy(codes)
        checked, batched = check_codes(self.config, array, batch=True)
        latents = self.engine.embed(checked)
        return back(latents if batched else latents[0])

    def decode_latents(self, latents: Any) -> Any:
        """Latents [hidden_size, frames] -> samples [frames * hop], or with a leading batch: the decoder behind `embed`."""
        array, back = as_numpy(latents)
        size = self.config.hidden_size
        if array.ndim not in (2, 3) or array.shape[-2] != size or array.size == 0:
            raise InputError(f"latents have shape {list(array.shape)}, expected [{size}, frames] or [B, {size}, frames]")
        if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
            raise InputError(f"latents are {array.dtype}, expected finite floating-point numbers")
        batched = array.ndim == 3
        samples = self.engine.decode_latents(owned(array if batched else array[None]))
        return back(samples if batched else samples[0])

    def stream_encoder(
        self,
        bandwidth: float | None = None,
        *,
        packet_frames: int = DEFAULT_PACKET_FRAMES,
        start: Start | None = None,
        sample_rate: float | None = None,
        channels: int = 1,
        silence_db: float | None = None,
    ) -> StreamEncoder:
        """Open a stream: samples of any size in, packets of codes [n_q, packet_frames] out.

        `start="exact"` equals the reference from sample 0 on, holding the first packet of a reflect-padded model back until its seventh
        frame exists; `"primed"` holds nothing and equals the reference on the same samples after one second of silence. The default is
        "primed" for reflect-padded models, "exact" for the others. `sample_rate` (Hz) and `channels` say what will be fed. With
        `silence_db` packets that stay below so many dBFS, once 0.3 s have, come with `config.min_n_q` codebooks: [1, packet_frames].
        """
        if isinstance(channels, bool) or not isinstance(channels, int) or not 1 <= channels <= MAX_CHANNELS:
            raise AudioError(f"channels is {channels!r}, expected an integer from 1 to {MAX_CHANNELS}")
        row = EncoderRow(
            self.engine,
            n_q=self.config.n_q_for(bandwidth),
            packet_frames=check_packet_frames(packet_frames),
            start=self._check_start(start),
        )
        quiet = QuietPackets(self.config, packet_frames, silence_db)
        return StreamEncoder(self.engine, row, self.sample_rate if sample_rate is None else sample_rate, channels, quiet)

    def stream_decoder(self, bandwidth: float | None = None, *, start: Start | None = None) -> StreamDecoder:
        """Open a decoder: packets of codes in, samples out, as soon as they can be.

        `start` must be the encoder's. `bandwidth` is what the stream begins with; it only matters to a primed start.
        """
        row = DecoderRow(self.engine, n_q=self.config.n_q_for(bandwidth), start=self._check_start(start))
        return StreamDecoder(self.engine, row)

    def _check_start(self, start: Start | None) -> Start:
        if start not in (None, "exact", "primed"):
            raise InputError(f"start is {start!r}, expected 'exact' or 'primed'")
        return start or self.engine.default_live_start
