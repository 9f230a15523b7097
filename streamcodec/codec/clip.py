"""The codec: encodes and decodes clips, and opens streams. It runs the model only through the steps of an engine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from streamcodec.audio.dsp.resample import check_rate, resample
from streamcodec.audio.dsp.vad import QuietPackets
from streamcodec.audio.samples import MAX_CHANNELS, as_clip, check_block
from streamcodec.capabilities import Capabilities
from streamcodec.codec.arrays import as_numpy, check_codes, owned
from streamcodec.codec.chunks import Chunk, check_chunk, decode_chunks, encode_chunks
from streamcodec.codec.stream import StreamDecoder, StreamEncoder
from streamcodec.codec.together import BlocksOfClip, encode_together
from streamcodec.config import CodecConfig, Start
from streamcodec.engine.base import Engine
from streamcodec.engine.warming import warm_up
from streamcodec.errors import AudioError, CodesError, InputError, UnsupportedModelError
from streamcodec.scheduler.chunk_rows import decoder_row, encoder_row
from streamcodec.types import Codes, Samples, codes_in

__all__ = ["Codec"]

Progress = Callable[[float], None]

_CHUNK_FRAMES = 300  # a clip is processed in chunks of 4 s, which bounds the memory and gives the same result


class Codec:
    """One model and an engine that runs it.

    Audio has the model's `channels` at `sample_rate` inside; codes are integers [n_q, frames], or [B, n_q, frames] for a batch. Torch
    tensors as input give torch tensors as output; all other input gives numpy arrays. Only one thread at a time may use a codec.
    `fingerprint` is what two ends compare before they exchange codes: it is equal for models that read each other's codes, whatever their
    decoders. `former_fingerprints` are names that files of earlier versions have for it, which were fingerprints of all weights.
    """

    def __init__(self, engine: Engine, *, name: str, fingerprint: str, former_fingerprints: Collection[str] = ()) -> None:
        self.engine = engine
        self.name = name
        self.fingerprint = fingerprint
        self.former_fingerprints = frozenset(former_fingerprints)

    @property
    def config(self) -> CodecConfig:
        """The architecture and its arithmetic."""
        return self.engine.config

    @property
    def sample_rate(self) -> int:
        """Samples per second inside the codec and of all decoded audio."""
        return self.config.sampling_rate

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return self.config.hop_length

    @property
    def capabilities(self) -> Capabilities:
        """What the model can do: whether it streams, in which packets, at what delay."""
        return Capabilities.of(self.config)

    @property
    def channels(self) -> int:
        """Channels of all decoded audio: 1, or 2 of a stereo model."""
        return self.config.audio_channels

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.config.frame_rate

    def reads(self, fingerprint: str) -> bool:
        """Whether codes of the model with this fingerprint mean the same to this one."""
        return fingerprint == self.fingerprint or fingerprint in self.former_fingerprints

    def warm_up(self, packet_frames: int | None = None) -> None:
        """Encode and decode a few packets of silence, so that a stream's first packet takes no longer than later ones."""
        self.check_streams()
        warm_up(self.engine, [self.config.packet_frames_for(packet_frames)])

    def encode(
        self,
        audio: Any,
        sample_rate: float | None = None,
        bandwidth: float | None = None,
        *,
        progress: Progress | None = None,
    ) -> Any:
        """Encode a whole clip: [T] or [C, T] -> codes [n_q, frames], [B, C, T] -> [B, n_q, frames].

        A model that codes chunks or normalises loudness gives a list of `Chunk` instead, which `decode` takes. Channels are mixed down to
        mono, or to the model's own number of channels. `sample_rate` is the audio's rate in Hz, by default the codec's own; other rates are
        resampled. `bandwidth` is one of the model's bandwidths in kbps, by default 6. `progress` is called with the share that is done, 0
        to 1. The codes equal the reference's codes of the same samples. Raises `AudioError` or `CodesError`.
        """
        array, back = as_numpy(audio)
        clips, layout = as_clip(array, self.config.audio_channels)
        rate = self.sample_rate if sample_rate is None else sample_rate
        check_rate(rate)
        clips = resample(clips, rate, self.sample_rate)
        if clips.shape[-1] == 0:
            raise AudioError("audio is shorter than one sample at the codec's rate")
        n_q = self.config.n_q_for(bandwidth)
        chunks = self.encode_clips(clips if clips.ndim == 3 else clips[:, None], n_q, progress)
        if layout == "single":
            chunks = [(codes[0], None if scales is None else float(scales[0])) for codes, scales in chunks]
        if self.config.codes_alone:
            return back(chunks[0][0])
        return [Chunk(back(codes), scale if scale is None or isinstance(scale, float) else back(scale)) for codes, scale in chunks]

    def encode_clips(self, clips: Samples, n_q: int, progress: Progress | None = None) -> list[tuple[Codes, Any]]:
        """Encode clips [B, C, T] that have the model's rate and channels already: codes [B, n_q, frames] and scales [B] of each chunk.

        A model that does not code chunks gives one; without `normalize` there are no scales. Nothing is checked.
        """
        if self.config.granularity == "frames":
            return [(self._encode_clips(clips[:, 0], n_q, progress), None)]
        return encode_chunks(self.engine, clips, n_q, progress)

    def encode_blocks(
        self, blocks: Iterable[Any], sample_rate: float, channels: int = 1, bandwidth: float | None = None
    ) -> Iterator[Codes]:
        """Encode a clip that comes in blocks [T] or [C, T] of any size, so that it never lies in memory as a whole.

        The values are codes [n_q, frames] of about 4 s each, in order; together they are those of `encode`. Of a model that codes chunks or
        normalises loudness they are its chunks. A model that codes whole clips gives one value, and then the clip does lie in memory.
        `sample_rate` (Hz), `channels` and `bandwidth` are as there. Raises `AudioError` or `CodesError`.
        """
        if self.config.granularity == "clips":
            clip = [np.atleast_2d(check_block(as_numpy(block)[0], channels, self.channels)) for block in blocks]
            if any(block.size for block in clip):
                codes = self.encode(np.concatenate(clip, axis=1), sample_rate, bandwidth)
                yield from codes if isinstance(codes, list) else [codes]
            return
        if self.config.granularity == "chunks":
            encoder = self.stream_encoder(bandwidth, sample_rate=sample_rate, channels=channels)
            for block in blocks:
                yield from encoder.feed(block)
            yield from encoder.flush()
            return
        for piece in encode_together(self.engine, [BlocksOfClip(blocks, sample_rate, channels)], self.config.n_q_for(bandwidth)):
            if isinstance(piece.codes, Exception):
                raise piece.codes
            yield piece.codes

    def _encode_clips(self, clips: Samples, n_q: int, progress: Progress | None) -> Codes:
        total, size, parts = clips.shape[1], self._chunk_samples, []
        for codes in self._encode_chunks(_cut(clips, size), n_q):
            parts.append(codes)
            if progress:
                progress(min(1.0, len(parts) * size / total))
        return np.concatenate(parts, axis=2)

    @property
    def _chunk_samples(self) -> int:
        return max(_CHUNK_FRAMES, self.engine.traits.encoder_start_frames) * self.hop_length

    def _encode_chunks(self, chunks: Iterable[tuple[Samples, bool]], n_q: int) -> Iterator[Codes]:
        """Encode chunks [B, T] of clips, each with whether it is the last: codes [B, n_q, F] of each."""
        states = None
        for chunk, final in chunks:
            codes, states = self.engine.encode(owned(chunk), states, [n_q] * len(chunk), final=final)
            yield codes

    def decode(self, codes: Any, *, n_q: int | None = None, progress: Progress | None = None) -> Any:
        """Decode codes [n_q, frames] -> samples [frames * hop], or [B, n_q, frames] -> [B, frames * hop].

        A model of several channels gives [C, T] or [B, C, T]. Of a model that codes chunks, `codes` is the list that `encode` gives, and
        the result may be up to a frame longer than what was encoded. With `n_q`, only the first `n_q` codebooks are decoded: the clip at a
        lower bandwidth. The samples equal the reference's. Raises `CodesError`.
        """
        if self.config.granularity != "frames":
            return self._decode_chunks(codes, n_q, progress)
        array, back = as_numpy(codes)
        checked, batched = check_codes(self.config, array, batch=True)
        samples = self.decode_clips([(_first_codebooks(checked, n_q), None)], progress)[:, 0]
        return back(samples if batched else samples[0])

    def decode_clips(self, chunks: Sequence[tuple[Codes, Any]], progress: Progress | None = None) -> Samples:
        """Decode what `encode_clips` gives to samples [B, C, T]. Nothing is checked."""
        if self.config.granularity != "frames":
            return decode_chunks(self.engine, chunks, progress)
        [(codes, _)] = chunks
        total, size = codes.shape[2], max(_CHUNK_FRAMES, self.engine.traits.decoder_start_frames)
        parts, states = [], None
        for at in range(0, total, size):
            chunk = np.ascontiguousarray(codes[..., at : at + size])
            samples, states = self.engine.decode(chunk, states, final=at + size >= total)
            parts.append(samples)
            if progress:
                progress(min(1.0, (at + size) / total))
        return np.concatenate(parts, axis=1)[:, None]

    def decode_blocks(self, packets: Iterable[Any]) -> Iterator[Samples]:
        """Decode a clip piece by piece: `packets` are what `encode_blocks` gives, the values are samples [T] or [C, T] of any length.

        Codes may come as a `Chunk` without a scale, too, whatever the model.
        """
        if self.config.granularity == "clips":
            held = list(packets)
            if held:
                yield self.decode(held if isinstance(held[0], Chunk) else np.concatenate(held, axis=1))
            return
        decoder = self.stream_decoder(start="exact")
        for packet in packets:
            if self.config.granularity == "chunks":
                yield decoder.feed(packet)
                continue
            codes = codes_in(packet)
            for at in range(0, codes.shape[1], _CHUNK_FRAMES):
                yield decoder.feed(codes[:, at : at + _CHUNK_FRAMES])
        yield decoder.flush()

    def _decode_chunks(self, given: Any, n_q: int | None, progress: Progress | None) -> Any:
        if self.config.codes_alone and not isinstance(given, (list, tuple)):
            given = [Chunk(given)]
        if not isinstance(given, (list, tuple)) or not given or not all(isinstance(chunk, Chunk) for chunk in given):
            raise CodesError(f"codes are a {type(given).__name__}, expected the list of chunks that this model's encode gives")
        chunks, batched = [], False
        back = as_numpy(given[0].codes)[1]
        for one in given:
            chunk, batched = check_chunk(self.config, one, batch=True)
            chunks.append((_first_codebooks(chunk.codes, n_q), chunk.scale))
        samples = self.decode_clips(chunks, progress)
        if self.config.audio_channels == 1:
            samples = samples[:, 0]
        return back(samples if batched else samples[0])

    def embed(self, codes: Any) -> Any:
        """Codes [n_q, frames] -> latents [hidden_size, frames], the sums of the codebook entries; optionally with a leading batch axis."""
        array, back = as_numpy(codes)
        checked, batched = check_codes(self.config, array, batch=True)
        latents = self.engine.embed(checked)
        return back(latents if batched else latents[0])

    def decode_latents(self, latents: Any) -> Any:
        """Latents [hidden_size, frames] -> samples [frames * hop], optionally with a leading batch axis: the decoder without `embed`."""
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
        packet_frames: int | None = None,
        start: Start | None = None,
        sample_rate: float | None = None,
        channels: int = 1,
        silence_db: float | None = None,
    ) -> StreamEncoder:
        """Open an encoder for a stream: it takes samples of any size and returns packets of codes [n_q, packet_frames].

        `packet_frames` is 6 by default. A model that codes chunks gives packets of its own length: each is a `Chunk`, when it is complete.

        With `start="exact"`, the codes equal the reference's from sample 0 on. A reflect-padded model then holds its first packet back
        until it has seen enough frames (7 for the published model). With `start="primed"`, no packet is held back, and the codes equal
        the reference's codes of the same samples after one second of silence. The default is "primed" for reflect-padded models that code
        frames and "exact" for the others.

        `sample_rate` (Hz) and `channels` describe the audio that will be fed. With `silence_db`, quiet packets have only
        `config.min_n_q` codebooks: [1, packet_frames]. A packet is quiet if it and the 0.3 s before it stay below that level (dBFS).
        """
        self.check_streams()
        if isinstance(channels, bool) or not isinstance(channels, int) or not 1 <= channels <= MAX_CHANNELS:
            raise AudioError(f"channels is {channels!r}, expected an integer from 1 to {MAX_CHANNELS}")
        n_q, frames, start = self.config.n_q_for(bandwidth), self.config.packet_frames_for(packet_frames), self._check_start(start)
        rate = self.sample_rate if sample_rate is None else sample_rate
        row = encoder_row(self.engine, n_q=n_q, packet_frames=frames, start=start)
        return StreamEncoder(self.engine, row, rate, channels, QuietPackets(self.config, frames, silence_db))

    def stream_decoder(self, bandwidth: float | None = None, *, start: Start | None = None) -> StreamDecoder:
        """Open a decoder for a stream: it takes packets of codes and returns samples as early as possible.

        `start` must be the same as the encoder's. `bandwidth` (kbps) is that of the stream's first packets; only a primed start uses it.
        """
        self.check_streams()
        row = decoder_row(self.engine, n_q=self.config.n_q_for(bandwidth), start=self._check_start(start))
        return StreamDecoder(self.engine, row)

    def check_streams(self) -> None:
        """Raise `UnsupportedModelError` for a model that codes whole clips only."""
        if not (can := self.capabilities).streamable:
            raise UnsupportedModelError(f"{self.name} {can.streaming}")

    def _check_start(self, start: Start | None) -> Start:
        if start not in (None, "exact", "primed"):
            raise InputError(f"start is {start!r}, expected 'exact' or 'primed'")
        if start == "primed" and self.config.granularity != "frames":
            raise InputError("start is 'primed', expected 'exact': this model has no state that could be primed")
        return start or self.engine.traits.default_live_start


def _first_codebooks(codes: Codes, n_q: int | None) -> Codes:
    """The first `n_q` codebooks of codes [B, n_q, F], all of them for None."""
    if n_q is None:
        return codes
    if isinstance(n_q, bool) or not isinstance(n_q, (int, np.integer)) or not 1 <= n_q <= codes.shape[1]:
        raise CodesError(f"n_q is {n_q!r}, expected 1 to {codes.shape[1]}: the codebooks that these codes have")
    return codes[:, :n_q]


def _cut(clips: Samples, size: int) -> Iterator[tuple[Samples, bool]]:
    """Clips [B, T] in chunks of `size` samples, each with whether it is the last."""
    total = clips.shape[1]
    for at in range(0, total, size):
        yield clips[:, at : at + size], at + size >= total
