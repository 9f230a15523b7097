"""The library's front door: clips to codes and back, streams to packets and back, on one model.

Everything here is arithmetic on rows and states; the one way to run the model is an engine's step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from streamcodec.audio.dsp.resample import StreamResampler, check_rate, resample
from streamcodec.audio.dsp.vad import SilenceDetector
from streamcodec.audio.samples import MAX_CHANNELS, as_clip, check_block
from streamcodec.config import DEFAULT_PACKET_FRAMES, CodecConfig, Start, check_packet_frames
from streamcodec.engine.base import Engine, EngineName, PrecisionName
from streamcodec.engine.warming import warm_up
from streamcodec.errors import AudioError, CodesError, InputError, MissingDependencyError
from streamcodec.scheduler.rows import DecoderRow, EncoderRow, Step
from streamcodec.types import Codes, Samples

__all__ = ["Codec", "StreamDecoder", "StreamEncoder", "load"]

Progress = Callable[[float], None]

_CHUNK_FRAMES = 300  # a clip goes through the model in pieces of 4 s: bounded memory, the same sums


def load(
    name_or_path: str | Path = "speech-24k",
    *,
    device: str = "cpu",
    engine: EngineName = "auto",
    precision: PrecisionName = "fp32",
    threads: int | None = None,
    workers: int = 1,
    wait_for_compile: bool = True,
) -> Codec:
    """Load a model and return its `Codec`.

    `name_or_path` is an embedded name, a checkpoint file (`.safetensors`, `.th`), a model folder, or a hub id such as
    `facebook/encodec_24khz`.

    `engine` is "torch", "openvino" (CPU only; a model's first start on a machine converts it, a few seconds), or "auto": OpenVINO where it
    is installed. `precision` is "fp32", "bf16" (OpenVINO: faster, other codes), or "auto": bf16 where the processor has
    it. `threads` is how many the model uses, 1 by default with OpenVINO, torch's own choice without; torch's are set for the whole process.
    `workers` is how many steps a server may run at a time, which share the threads: one thread for each does more than all for one.
    Without `patient`, torch stands in while a model is converted. Raises a `ModelError` that names what is wrong with the model, and
    `InputError` for options that do not go together.
    """
    try:
        import safetensors  # noqa: F401
        import torch
    except ImportError as exc:
        raise MissingDependencyError(f"running a model needs {exc.name}: pip install 'streamcodec[codec]'") from exc
    from streamcodec.engine.factory import make_engine
    from streamcodec.model.checkpoint import fingerprint
    from streamcodec.model.hub import load_model

    if threads is not None:
        torch.set_num_threads(max(1, threads // workers))
    model = load_model(name_or_path)
    digest = fingerprint(model)
    runs = make_engine(
        model, digest, engine, precision, device=device, threads=threads or workers, workers=workers, wait_for_compile=wait_for_compile
    )
    return Codec(runs, name=str(name_or_path), fingerprint=digest)


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
        array, back = _as_numpy(audio)
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
            chunk = _owned(clips[:, at : at + size])
            codes, states = self.engine.encode(chunk, states, [n_q] * len(clips), final=at + size >= total)
            parts.append(codes)
            if progress:
                progress(min(1.0, (at + size) / total))
        return np.concatenate(parts, axis=2)

    def decode(self, codes: Any, *, n_q: int | None = None, progress: Progress | None = None) -> Any:
        """Decode codes [n_q, frames] -> samples [frames * hop], or [B, n_q, frames] -> [B, frames * hop].

        `n_q` decodes only the first so many codebooks: the clip at a lower bandwidth. Equal to the reference. Raises `CodesError`.
        """
        array, back = _as_numpy(codes)
        checked, batched = self._check_codes(array, batch=True)
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
        array, back = _as_numpy(codes)
        checked, batched = self._check_codes(array, batch=True)
        latents = self.engine.embed(checked)
        return back(latents if batched else latents[0])

    def decode_latents(self, latents: Any) -> Any:
        """Latents [hidden_size, frames] -> samples [frames * hop], or with a leading batch: the decoder behind `embed`."""
        array, back = _as_numpy(latents)
        size = self.config.hidden_size
        if array.ndim not in (2, 3) or array.shape[-2] != size or array.size == 0:
            raise InputError(f"latents have shape {list(array.shape)}, expected [{size}, frames] or [B, {size}, frames]")
        if not np.issubdtype(array.dtype, np.floating) or not np.isfinite(array).all():
            raise InputError(f"latents are {array.dtype}, expected finite floating-point numbers")
        batched = array.ndim == 3
        samples = self.engine.decode_latents(_owned(array if batched else array[None]))
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
        size = packet_frames * self.hop_length
        silence = None if silence_db is None else SilenceDetector(size, silence_db, rate=self.sample_rate)
        return StreamEncoder(self.engine, row, self.sample_rate if sample_rate is None else sample_rate, channels, silence)

    def stream_decoder(self, bandwidth: float | None = None, *, start: Start | None = None) -> StreamDecoder:
        """Open a decoder: packets of codes in, samples out, as soon as they can be.

        `start` must be the encoder's. `bandwidth` is what the stream begins with; it only matters to a primed start.
        """
        row = DecoderRow(self.engine, n_q=self.config.n_q_for(bandwidth), start=self._check_start(start))
        return StreamDecoder(self, row)

    def _check_start(self, start: Start | None) -> Start:
        if start not in (None, "exact", "primed"):
            raise InputError(f"start is {start!r}, expected 'exact' or 'primed'")
        return start or self.engine.default_live_start

    def _check_codes(self, codes: npt.NDArray[Any], *, batch: bool) -> tuple[Codes, bool]:
        """A copy of the codes as int32 [B, n_q, F], and whether they came with a batch axis."""
        shapes = "[n_q, frames] or [B, n_q, frames]" if batch else "[n_q, frames]"
        if codes.ndim not in ((2, 3) if batch else (2,)) or 0 in codes.shape[:-2] + codes.shape[-1:]:
            raise CodesError(f"codes have shape {list(codes.shape)}, expected {shapes} with at least one frame")
        if not np.issubdtype(codes.dtype, np.integer):
            raise CodesError(f"codes are {codes.dtype}, expected integers")
        if not 1 <= codes.shape[-2] <= self.config.num_quantizers:
            raise CodesError(
                f"codes have n_q {codes.shape[-2]}, this model has {self.config.num_quantizers} codebooks (shape {list(codes.shape)})"
            )
        low, high = int(codes.min()), int(codes.max())
        if low < 0 or high >= self.config.codebook_size:
            raise CodesError(f"codes range from {low} to {high}, expected 0 to {self.config.codebook_size - 1}")
        return np.array(codes if codes.ndim == 3 else codes[None], np.int32, order="C"), codes.ndim == 3


class StreamEncoder:
    """One stream being encoded; made by `Codec.stream_encoder`."""

    def __init__(self, engine: Engine, row: EncoderRow, sample_rate: float, channels: int, silence: SilenceDetector | None) -> None:
        self._engine = engine
        self._row = row
        self._channels = channels
        self._silence = silence
        self._resampler = StreamResampler(sample_rate, engine.config.sampling_rate)
        self._flushed = False

    def feed(self, audio: Any) -> list[Codes]:
        """Take samples [T], or [C, T] of as many channels as were agreed; return the packets [n_q, packet_frames] that became whole."""
        self._check_open()
        # A copy: a row keeps what is no whole packet yet, and callers refill their buffers.
        block = np.array(check_block(_as_numpy(audio)[0], self._channels))
        return self._encode(self._resampler.feed(block))

    def flush(self) -> list[Codes]:
        """End the stream: return what is left, the last packet perhaps shorter. Nothing can be fed afterwards."""
        self._check_open()
        self._flushed = True
        return self._encode(self._resampler.flush(), last=True)

    def _encode(self, samples: Samples, *, last: bool = False) -> list[Codes]:
        self._row.feed(samples)
        if last:
            self._row.finish()
        packets: list[Codes] = []
        while (step := self._row.next_step()) is not None:
            codes, states = self._engine.encode(step.data[None], _one(step), [self._row.n_q], step.final)
            packets += self._row.complete(codes[0], states[0])
        packets += self._row.remainder() if last else []
        if self._silence is None:
            return packets
        self._silence.feed(samples)
        return [codes[: self._engine.config.min_n_q] if self._silence.next_is_quiet() else codes for codes in packets]

    def _check_open(self) -> None:
        if self._flushed:
            raise InputError("this stream was flushed: open another one")


class StreamDecoder:
    """One stream being decoded; made by `Codec.stream_decoder`."""

    def __init__(self, codec: Codec, row: DecoderRow) -> None:
        self._codec = codec
        self._row = row
        self._flushed = False

    def feed(self, packets: Any) -> Samples:
        """Take codes [n_q, any number of frames], or a list of such packets; return the samples [T] that they settle.

        `n_q` may differ from packet to packet. Raises `CodesError`; nothing of a refused call is decoded.
        """
        self._check_open()
        several: Iterable[Any] = [packets]
        if isinstance(packets, (list, tuple)) and (not packets or _as_numpy(packets[0])[0].ndim == 2):
            several = packets
        for codes in [self._codec._check_codes(_as_numpy(packet)[0], batch=False)[0][0] for packet in several]:
            self._row.feed(codes)
        return self._drain()

    def flush(self) -> Samples:
        """End the stream: return the samples that were held back. Nothing can be fed afterwards."""
        self._check_open()
        self._flushed = True
        self._row.finish()
        return self._drain()

    def _drain(self) -> Samples:
        parts: list[Samples] = []
        while (step := self._row.next_step()) is not None:
            samples, states = self._codec.engine.decode(step.data[None], _one(step), step.final)
            parts.append(self._row.complete(samples[0], states[0]))
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def _check_open(self) -> None:
        if self._flushed:
            raise InputError("this stream was flushed: open another one")


def _one(step: Step[Any]) -> Samples | None:
    return None if step.state is None else step.state[None]


def _as_numpy(values: Any) -> tuple[npt.NDArray[Any], Callable[[npt.NDArray[Any]], Any]]:
    """`values` as a numpy array, and what turns an answer into the caller's kind of array."""
    if type(values).__module__.partition(".")[0] == "torch":
        import torch

        if isinstance(values, torch.Tensor):
            device = values.device
            try:
                return values.detach().cpu().numpy(), lambda answer: torch.from_numpy(answer).to(device)
            except (TypeError, RuntimeError) as exc:
                raise InputError(f"a tensor of {values.dtype} has no numpy array: {exc}") from exc
    try:
        return np.asarray(values), lambda answer: answer
    except (ValueError, TypeError) as exc:
        raise InputError(f"a {type(values).__name__} is no array of numbers: {exc}") from exc


def _owned(values: npt.NDArray[Any]) -> Samples:
    """`values` as an array that torch takes without a warning: contiguous, and writable though nobody writes."""
    return np.require(values, np.float32, ["C", "W"])
