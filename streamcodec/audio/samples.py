"""Converts audio to the program's own format: float32 samples in [-1, 1], mono or of the channels that the model has.

Integers are divided by their full scale. Channels are mixed down to their mean where the model has another number of them. This file does
not deal with rates, files or devices.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamcodec.errors import AudioError
from streamcodec.types import Samples

__all__ = ["MAX_CHANNELS", "Layout", "PcmFormat", "as_clip", "check_block", "check_values", "float_to_pcm", "pcm_to_float", "to_float"]

Layout = Literal["single", "batch"]
PcmFormat = Literal["pcm_s16le", "pcm_f32le"]

MAX_CHANNELS = 8

# 24 dB above full scale: no recording is that loud, but 16-bit integers that were cast to float nearly always are.
_IMPLAUSIBLE = 16.0


def to_float(array: ArrayLike) -> Samples:
    """Scale integer or float samples of any shape to float32.

    int16 and int32 are divided by full scale; uint8 is first centred on 128; float64 is converted; float32 is returned without a copy.
    Raises `AudioError` for any other dtype.
    """
    try:
        values: NDArray[Any] = np.asarray(array)
    except (ValueError, TypeError, RuntimeError) as error:
        raise AudioError(f"audio is a {type(array).__name__} that is not an array of numbers: {error}") from error
    dtype = values.dtype.newbyteorder("=")
    if dtype == np.float32:
        return values.astype(np.float32, copy=False)
    if dtype == np.float64:
        with np.errstate(over="ignore"):
            return values.astype(np.float32)
    if dtype == np.uint8:
        return (values.astype(np.float32) - np.float32(2**7)) / np.float32(2**7)
    if dtype == np.int16:
        return values.astype(np.float32) / np.float32(2**15)
    if dtype == np.int32:
        # The division in float64 rounds 32-bit integers only once.
        return np.asarray(values / 2**31, np.float32)
    raise AudioError(f"audio has dtype {values.dtype}, expected float32, float64, int16, int32 or uint8")


def as_clip(audio: ArrayLike, channels: int = 1) -> tuple[Samples, Layout]:
    """Convert [T], [C, T] or [B, C, T] to mono clips [B, T], or to clips [B, channels, T] for several; return the input's layout too.

    C is 1 to 8 channels. They are mixed down to their mean unless they are as many as asked for; one channel is repeated. The layout is
    "single" for [T] and [C, T], "batch" for [B, C, T]. Raises `AudioError` for any other shape, for empty audio, and for NaN, infinities or
    values far outside [-1, 1].
    """
    samples = to_float(audio)
    if samples.ndim not in (1, 2, 3):
        raise AudioError(f"audio has shape {list(samples.shape)}, expected [T], [C, T] or [B, C, T]")
    if samples.size == 0:
        raise AudioError(f"audio is empty (shape {list(samples.shape)}), expected at least one sample")
    if samples.ndim >= 2:
        _check_channel_axis(samples.shape)
    check_values(samples)
    layout: Layout = "batch" if samples.ndim == 3 else "single"
    clips = samples.reshape((1,) * (3 - samples.ndim) + samples.shape)
    return _mixed(clips, 1, channels), layout


def check_block(block: ArrayLike, channels: int, mixed_to: int = 1) -> Samples:
    """Convert one block of a live stream to mono float32 [T], or to [mixed_to, T] for several channels.

    `block` is [T] if `channels` is 1, else [C, T] with C equal to `channels`; T may be 0. Channels are mixed as by `as_clip`. Raises
    `AudioError` for another shape or dtype, and for NaN, infinities or values far outside [-1, 1].
    """
    samples = to_float(block)
    if samples.ndim == 1 and channels == 1:
        samples = samples[None]
    if samples.ndim != 2 or samples.shape[0] != channels:
        expected = "[T] or [1, T]" if channels == 1 else f"[{channels}, T]"
        hint = ""
        if samples.ndim == 2 and samples.shape[1] == channels:
            hint = ": it looks like [samples, channels], transpose it"
        raise AudioError(f"block has shape {list(samples.shape)}, expected {expected} for {channels} channel(s){hint}")
    check_values(samples)
    return _mixed(samples, 0, mixed_to)


def pcm_to_float(data: bytes | bytearray | memoryview, format: PcmFormat, channels: int = 1, mixed_to: int = 1) -> Samples:
    """Decode interleaved PCM bytes into mono float32 [T], or into [mixed_to, T] for several channels.

    Raises `AudioError` for an unknown format, for bytes that are not whole sample frames, and for NaN or infinities.
    """
    dtype = _pcm_dtype(format)
    if isinstance(channels, bool) or not isinstance(channels, int) or not 1 <= channels <= MAX_CHANNELS:
        raise AudioError(f"channels is {channels!r}, expected an integer from 1 to {MAX_CHANNELS}")
    size = memoryview(data).nbytes
    if size % (dtype.itemsize * channels):
        frame = dtype.itemsize * channels
        raise AudioError(f"{size} bytes of {format} are not whole sample frames, expected a multiple of {frame} ({channels} channel(s))")
    # interleaved [T * C] -> [C, T]
    samples = to_float(np.frombuffer(data, dtype)).reshape(-1, channels).T
    if dtype.kind == "f":
        check_values(samples)
    return _mixed(samples, 0, mixed_to)


def float_to_pcm(samples: ArrayLike, format: PcmFormat, channels: int = 1) -> bytes:
    """Encode samples, [T] of one channel or [C, T] of several, as little-endian PCM bytes, interleaved.

    "pcm_s16le" scales by 32,768, rounds to nearest and saturates, so that 16-bit audio survives a round trip unchanged. "pcm_f32le" does
    not change the floats. Raises `AudioError` for an unknown format or invalid samples.
    """
    dtype = _pcm_dtype(format)
    # [C, T] -> [T, C]
    frames = check_block(samples, channels, channels).T
    return (quantize16(frames) if format == "pcm_s16le" else frames).astype(dtype, copy=False).tobytes()


def quantize16(samples: Samples) -> NDArray[np.int16]:
    """Round float samples of any shape to int16 with saturation, scaled by 32,768."""
    scaled: Samples = np.clip(samples * np.float32(2**15), -(2**15), 2**15 - 1)
    return np.rint(scaled).astype(np.int16)


def _pcm_dtype(format: str) -> np.dtype[Any]:
    match format:
        case "pcm_s16le":
            return np.dtype("<i2")
        case "pcm_f32le":
            return np.dtype("<f4")
    raise AudioError(f"sample format is {format!r}, expected {' or '.join(repr(f) for f in get_args(PcmFormat))}")


def _mixed(samples: Samples, axis: int, channels: int) -> Samples:
    """The channels along `axis` as `channels` of them; one has no axis."""
    if channels == 1:
        return _downmix(samples, axis)
    if samples.shape[axis] == channels:
        return samples
    return np.repeat(np.expand_dims(_downmix(samples, axis), axis), channels, axis=axis)


def _downmix(samples: Samples, axis: int) -> Samples:
    if samples.shape[axis] == 1:
        return np.ascontiguousarray(samples.squeeze(axis))
    mixed: Samples = samples.mean(axis=axis, dtype=np.float32)
    return mixed


def _check_channel_axis(shape: tuple[int, ...]) -> None:
    channels, length = shape[-2:]
    if channels <= MAX_CHANNELS:
        return
    if length <= MAX_CHANNELS:
        raise AudioError(f"audio has shape {list(shape)}, which looks like [samples, channels], transpose it: expected [channels, samples]")
    raise AudioError(f"audio has shape {list(shape)}: {channels} channels, expected at most {MAX_CHANNELS} (several clips are [B, C, T])")


def check_values(samples: Samples, *, first: int = 0, source: str = "") -> None:
    """Raise `AudioError` for values that are NaN, infinite or far outside [-1, 1]; the message names the first one.

    `source` names the file or stream of which `samples` [C, T] are a block, and `first` is the place of the block's first sample in it.
    """
    # min and max are NaN if any sample is NaN. They need no temporary array, which keeps the check cheap for every block of a live stream.
    low, high = (float(samples.min()), float(samples.max())) if samples.size else (0.0, 0.0)
    if low >= -_IMPLAUSIBLE and high <= _IMPLAUSIBLE:
        return
    not_finite = ~np.isfinite(samples)
    bad = not_finite if not_finite.any() else np.abs(samples) > _IMPLAUSIBLE
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    if source:
        where = f"sample {first + index[-1]} of channel {index[0]}"
    else:
        where = f"index {index[0] if len(index) == 1 else list(index)}"
    if not_finite.any():
        raise AudioError(f"{source or 'audio'} holds {samples[index]} at {where}, expected finite samples")
    raise AudioError(f"{source or 'audio'} holds {samples[index]:g} at {where}: it looks like integers in a float array, expected [-1, 1]")
