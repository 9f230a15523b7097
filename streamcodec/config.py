"""The configuration of a codec: the fields of EnCodec's configuration that decide its architecture, and the arithmetic on them.

This file imports only the errors. It handles neither tensors nor files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any, Literal

from streamcodec.errors import CodesError, InputError, UnsupportedModelError

__all__ = [
    "DEFAULT_PACKET_FRAMES",
    "MAX_PACKET_FRAMES",
    "CodecConfig",
    "Granularity",
    "Start",
    "check_packet_frames",
    "chunk_length",
    "chunk_stride",
    "fewest_codebooks",
    "packet_samples",
]

DEFAULT_PACKET_FRAMES = 6
MAX_PACKET_FRAMES = 25

Start = Literal["exact", "primed"]
Granularity = Literal["frames", "chunks", "clips"]


def fewest_codebooks(bits: int) -> int:
    """The fewest codebooks that a packet may have, for codes of `bits` bits: 1, or 2 below 8 bits.

    Codes of fewer than 8 bits are only packed in pairs of codebooks.
    """
    return 1 if bits >= 8 else 2


def packet_samples(frames: int, hop_length: int, chunk_stride: int | None) -> int:
    """The samples that a packet adds to a stream: those of its frames, at most up to where the next chunk begins."""
    return min(frames * hop_length, chunk_stride or frames * hop_length)


def chunk_length(length_s: float | None, sampling_rate: int) -> int | None:
    """The samples in a chunk of `length_s` seconds; None if clips are coded as a whole."""
    return None if length_s is None else int(length_s * sampling_rate)


def chunk_stride(length: int | None, overlap: float | None) -> int | None:
    """The samples from the beginning of one chunk of `length` samples to that of the next, which overlap by the share `overlap`."""
    return None if length is None or overlap is None else max(1, int((1.0 - overlap) * length))


@dataclass(frozen=True)
class CodecConfig:
    """The architecture of an EnCodec model; names and defaults are those of `transformers.EncodecConfig`.

    The defaults are the published 24 kHz model (Défossez et al., "High Fidelity Neural Audio Compression", 2022).
    `upsampling_ratios` are in the decoder's order; the encoder applies them in reverse. One field is not EnCodec's: `search_beam` is the
    width of the encoder's beam search through the codebooks. Width 1 gives the reference's codes. Wider beams give better codes. Every
    decoder can decode both.

    A clip is coded in chunks of `chunk_length_s` seconds, which overlap by the share `overlap`; without a length, as a whole. With
    `normalize`, each chunk is scaled to the same loudness, and its scale is part of what is coded. `granularity` says what a model codes at
    a time.
    """

    sampling_rate: int = 24_000
    audio_channels: int = 1
    num_filters: int = 32
    upsampling_ratios: tuple[int, ...] = (8, 5, 4, 2)
    hidden_size: int = 128
    num_lstm_layers: int = 2
    num_residual_layers: int = 1
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_growth_rate: int = 2
    compress: int = 2
    pad_mode: str = "reflect"
    norm_type: str = "weight_norm"
    use_conv_shortcut: bool = True
    trim_right_ratio: float = 1.0
    codebook_size: int = 1024
    codebook_dim: int = 128
    target_bandwidths: tuple[float, ...] = (1.5, 3.0, 6.0, 12.0, 24.0)
    search_beam: int = 1
    use_causal_conv: bool = True
    normalize: bool = False
    chunk_length_s: float | None = None
    overlap: float | None = None

    def __post_init__(self) -> None:
        for field, low, high in _RANGES:
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise UnsupportedModelError(f"{field} is {value!r}, expected an integer from {low} to {high}")
        ratios = self.upsampling_ratios
        if not 1 <= len(ratios) <= _MAX_RATIOS or any(not isinstance(r, int) or isinstance(r, bool) or not 1 <= r <= 64 for r in ratios):
            raise UnsupportedModelError(f"upsampling_ratios is {ratios!r}, expected 1 to {_MAX_RATIOS} integers from 1 to 64")
        if self.pad_mode not in ("reflect", "constant"):
            raise UnsupportedModelError(f"pad_mode is {self.pad_mode!r}, expected 'reflect' or 'constant'")
        if self.norm_type not in ("weight_norm", "none", "time_group_norm"):
            raise UnsupportedModelError(f"norm_type is {self.norm_type!r}, expected 'weight_norm', 'none' or 'time_group_norm'")
        for field in ("use_conv_shortcut", "use_causal_conv", "normalize"):
            if not isinstance(getattr(self, field), bool):
                raise UnsupportedModelError(f"{field} is {getattr(self, field)!r}, expected true or false")
        self._check_chunks()
        if not _is_number(self.trim_right_ratio) or not 0.0 <= self.trim_right_ratio <= 1.0:
            raise UnsupportedModelError(f"trim_right_ratio is {self.trim_right_ratio!r}, expected 0 to 1")
        if self.codebook_dim != self.hidden_size:
            raise UnsupportedModelError(
                f"codebook_dim is {self.codebook_dim} and hidden_size {self.hidden_size}: expected equal "
                "(projected codebooks are not supported)"
            )
        if self.codebook_size & (self.codebook_size - 1):
            raise UnsupportedModelError(f"codebook_size is {self.codebook_size}, expected a power of two")
        if self.compress > self.num_filters or (self.num_filters * 2 ** len(ratios)) % self.compress:
            raise UnsupportedModelError(f"compress is {self.compress}, expected a divisor of the channels ({self.num_filters} and more)")
        if not self.target_bandwidths or any(not _is_number(b) or not 0 < b <= 1000 for b in self.target_bandwidths):
            raise UnsupportedModelError(f"target_bandwidths is {self.target_bandwidths!r}, expected kbps above 0")
        if min(self.bandwidth_to_n_q(b) for b in self.target_bandwidths) < 1:
            raise UnsupportedModelError(
                f"target_bandwidths {self.target_bandwidths!r}: the lowest is below one codebook ({self.kbps_per_codebook} kbps)"
            )
        if self.num_quantizers > _MAX_QUANTIZERS:
            raise UnsupportedModelError(
                f"target_bandwidths {self.target_bandwidths!r}: the highest needs {self.num_quantizers} codebooks, "
                f"expected at most {_MAX_QUANTIZERS}"
            )
        if self.use_causal_conv and self.norm_type == "time_group_norm":
            raise UnsupportedModelError("norm_type is 'time_group_norm' and use_causal_conv true: that norm looks at a whole chunk")
        if not self.use_causal_conv and self.trim_right_ratio != 1.0:
            raise UnsupportedModelError(f"trim_right_ratio is {self.trim_right_ratio}, expected 1.0 where use_causal_conv is false")
        # The fingerprint hashes the config as text, so 24 and 24.0 must give the same text.
        object.__setattr__(self, "trim_right_ratio", float(self.trim_right_ratio))
        object.__setattr__(self, "target_bandwidths", tuple(float(b) for b in self.target_bandwidths))

    def _check_chunks(self) -> None:
        length, overlap = self.chunk_length_s, self.overlap
        if length is None:
            object.__setattr__(self, "overlap", None)  # of nothing
            return
        if not _is_number(length) or not 0 < length <= _MAX_CHUNK_S or int(length * self.sampling_rate) < 1:
            raise UnsupportedModelError(f"chunk_length_s is {length!r}, expected a sample to {_MAX_CHUNK_S} seconds")
        if overlap is None or not _is_number(overlap) or not 0 <= overlap <= _MAX_OVERLAP:
            raise UnsupportedModelError(f"overlap is {overlap!r}, expected a share from 0 to {_MAX_OVERLAP}")
        object.__setattr__(self, "chunk_length_s", float(length))
        object.__setattr__(self, "overlap", float(overlap))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CodecConfig:
        """Read a configuration as `transformers` writes it to `config.json`.

        Fields that only other programs use are ignored. Raises `UnsupportedModelError` for values that are no EnCodec model's.
        """
        names = {f.name for f in fields(cls)}
        kwargs = {k: v for k, v in values.items() if k in names and v is not None}
        kwargs.setdefault("codebook_dim", kwargs.get("hidden_size", cls.hidden_size))
        for field in ("upsampling_ratios", "target_bandwidths"):
            if field in kwargs:
                if not isinstance(kwargs[field], (list, tuple)):
                    raise UnsupportedModelError(f"{field} is {kwargs[field]!r}, expected a list")
                kwargs[field] = tuple(kwargs[field])
        for field in ("pad_mode", "norm_type"):
            if field in kwargs and not isinstance(kwargs[field], str):
                raise UnsupportedModelError(f"{field} is {kwargs[field]!r}, expected a word")
        return cls(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values, in the reference's names."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @property
    def granularity(self) -> Granularity:
        """What the model codes at a time: "frames", any number of them with a state that goes on, "chunks", or whole "clips"."""
        if self.why_not_frames is None:
            return "frames"
        return "clips" if self.chunk_length_s is None else "chunks"

    @property
    def why_not_frames(self) -> str | None:
        """Why the model cannot code audio frame by frame, in words that follow "this model"; None if it can."""
        if not self.use_causal_conv:
            return "is not causal: each frame depends on later samples"
        if self.normalize:
            return "normalises audio by its loudness, which is known at its end"
        if self.chunk_length_s is not None:
            return f"codes overlapping chunks of {self.chunk_length_s:g} s"
        if self.audio_channels != 1:
            return f"has {self.audio_channels} channels, and frames with a state are mono"
        return None

    @property
    def codes_alone(self) -> bool:
        """Whether a clip is coded as one array of codes: in one chunk, without scales."""
        return self.chunk_length_s is None and not self.normalize

    @property
    def chunk_length(self) -> int | None:
        """The samples in a chunk of a clip: 48,000 for the published 48 kHz model; None if clips are coded as a whole."""
        return chunk_length(self.chunk_length_s, self.sampling_rate)

    @property
    def chunk_stride(self) -> int | None:
        """The samples from the beginning of one chunk to that of the next: 47,520 for the published 48 kHz model."""
        return chunk_stride(self.chunk_length, self.overlap)

    def packet_frames_for(self, asked: int | None = None) -> int:
        """The frames in a packet of a stream where `asked` are asked for; None stands for 6, or for the whole chunk of a model in chunks.

        Raises `InputError` for a length that packets cannot have.
        """
        if self.chunk_length is None:
            return DEFAULT_PACKET_FRAMES if asked is None else check_packet_frames(asked)
        whole = self.frames_for(self.chunk_length)
        if asked not in (None, whole):
            raise InputError(f"packet_frames is {asked!r}, expected {whole}: this model codes chunks of {self.chunk_length_s:g} s")
        return whole

    def packet_samples(self, frames: int) -> int:
        """The samples that a packet of `frames` frames adds to a stream."""
        return packet_samples(frames, self.hop_length, self.chunk_stride)

    def packet_s(self, frames: int) -> float:
        """The seconds that a packet of `frames` frames adds to a stream."""
        return self.packet_samples(frames) / self.sampling_rate

    def chunk_sizes(self, samples: int) -> list[int]:
        """The samples in each chunk of a clip of `samples` samples; one if clips are coded as a whole."""
        return [min(self.chunk_length or samples, samples - at) for at in range(0, samples, self.chunk_stride or samples)]

    @property
    def hop_length(self) -> int:
        """Samples per frame: 320 for the published model."""
        return math.prod(self.upsampling_ratios)

    @property
    def frame_rate(self) -> float:
        """Frames per second: 75 for the published model."""
        return self.sampling_rate / self.hop_length

    @property
    def bits_per_code(self) -> int:
        """Bits per code: 10 for 1,024 entries."""
        return self.codebook_size.bit_length() - 1

    @property
    def kbps_per_codebook(self) -> float:
        """The bit rate of one codebook, in kbps: 0.75 for the published model."""
        return self.frame_rate * self.bits_per_code / 1000

    @property
    def num_quantizers(self) -> int:
        """The number of codebooks in the model: as many as its highest bandwidth needs."""
        return self.bandwidth_to_n_q(max(self.target_bandwidths))

    @property
    def min_n_q(self) -> int:
        """The fewest codebooks that a packet may have; see `fewest_codebooks`."""
        return fewest_codebooks(self.bits_per_code)

    @property
    def lstm_size(self) -> int:
        """Channels at the bottleneck, where the LSTM runs."""
        return self.num_filters * int(2 ** len(self.upsampling_ratios))

    def bandwidth_to_n_q(self, bandwidth: float) -> int:
        """The number of codebooks that fit into `bandwidth` kbps: 8 for 6 kbps."""
        return math.floor(bandwidth / self.kbps_per_codebook + 1e-9)

    def n_q_for(self, bandwidth: float | None = None) -> int:
        """The number of codebooks for `bandwidth` kbps, which must be one of the model's target bandwidths.

        None stands for 6 kbps, the middle bandwidth of the paper, or the highest target bandwidth below it. Raises `CodesError` for a
        bandwidth that the model does not have.
        """
        if bandwidth is None:
            bandwidth = max((b for b in self.target_bandwidths if b <= 6.0), default=min(self.target_bandwidths))
        if not isinstance(bandwidth, Real) or not any(abs(bandwidth - b) < 1e-6 for b in self.target_bandwidths):
            choices = ", ".join(f"{b:g}" for b in self.target_bandwidths)
            raise CodesError(f"bandwidth is {bandwidth!r}, this model has {choices} kbps")
        return self.bandwidth_to_n_q(bandwidth)

    @property
    def n_q_choices(self) -> list[int]:
        """The number of codebooks of each target bandwidth, ascending: 2, 4, 8, 16 and 32."""
        return sorted({self.bandwidth_to_n_q(b) for b in self.target_bandwidths})

    @property
    def search_stops(self) -> list[int]:
        """The ends of the runs of codebooks that one call searches: the default bandwidth's and each higher one's, so 8, 16 and 32.

        Runs that end at lower bandwidths would cost more for the extra call than they save by searching fewer codebooks.
        """
        return [n_q for n_q in self.n_q_choices if n_q >= self.n_q_for(None)]

    def bandwidth_of(self, n_q: int) -> float:
        """The bit rate of `n_q` codebooks, in kbps: 6.0 for 8."""
        return n_q * self.kbps_per_codebook

    def frames_for(self, samples: int) -> int:
        """The number of frames for `samples` samples; the last frame may be partly filled."""
        return -(-samples // self.hop_length)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


_MAX_RATIOS = 10
_MAX_CHUNK_S, _MAX_OVERLAP = 60.0, 0.9
_MAX_QUANTIZERS = 256
_RANGES = (
    ("sampling_rate", 1, 1_000_000),
    ("audio_channels", 1, 2),
    ("num_filters", 1, 1024),
    ("hidden_size", 1, 8192),
    ("num_lstm_layers", 0, 16),
    ("num_residual_layers", 0, 16),
    ("kernel_size", 1, 63),
    ("last_kernel_size", 1, 63),
    ("residual_kernel_size", 1, 63),
    ("dilation_growth_rate", 1, 16),
    ("compress", 1, 64),
    ("codebook_size", 2, 65536),
    ("codebook_dim", 1, 8192),
    ("search_beam", 1, 64),
)


def check_packet_frames(packet_frames: int) -> int:
    """Return `packet_frames` if it is a valid packet length in frames, else raise `InputError`."""
    if isinstance(packet_frames, bool) or not isinstance(packet_frames, int) or not 1 <= packet_frames <= MAX_PACKET_FRAMES:
        raise InputError(f"packet_frames is {packet_frames!r}, expected an integer from 1 to {MAX_PACKET_FRAMES}")
    return packet_frames
