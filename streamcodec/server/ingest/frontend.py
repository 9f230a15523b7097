"""What the worker's threads do for one publisher of PCM: bytes to the model's samples, and the model's codes to payloads.

One thread at a time calls it. All packets of a run are packed before the first samples of the next run are prepared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from streamcodec.audio import StreamResampler, pcm_to_float
from streamcodec.audio.dsp.resample import ResamplerState
from streamcodec.audio.dsp.vad import QuietPackets, SilenceState
from streamcodec.audio.samples import PcmFormat
from streamcodec.config import CodecConfig
from streamcodec.protocol import PayloadLayout
from streamcodec.types import Samples, codes_in

__all__ = ["FrontendState", "PcmFrontend"]


@dataclass(frozen=True)
class FrontendState:
    """A frontend between two messages; `drained` says that a run is over."""

    resampler: ResamplerState | None
    quiet: SilenceState | None
    drained: bool


class PcmFrontend:
    """Decodes and resamples one publisher's PCM, mixed to the channels of `config`, and packs its packets.

    `quiet` gives quiet packets fewer codebooks.
    """

    def __init__(self, format: PcmFormat, rate: int, channels: int, quiet: QuietPackets, config: CodecConfig) -> None:
        self._format: PcmFormat = format
        self._channels = channels
        self._mixed_to = config.audio_channels
        self._resampler = StreamResampler(rate, config.sampling_rate, config.audio_channels)
        self._quiet = quiet
        self._layout = PayloadLayout.of(config)
        self._drained = False

    def prepare(self, data: bytes) -> Samples:
        """The samples [T] or [C, T] at the model's rate that `data` completes. Raises `AudioError` for samples that are not finite."""
        return self._observed(self._resampler.feed(pcm_to_float(data, self._format, self._channels, self._mixed_to)))

    def drain(self) -> Samples:
        """The samples that the resampler still holds: a run is over."""
        rest = self._observed(self._resampler.flush())
        self._drained = True
        return rest

    def snapshot(self) -> FrontendState:
        """The frontend as a value."""
        return FrontendState(self._resampler.snapshot(), self._quiet.snapshot(), self._drained)

    def restore(self, saved: FrontendState) -> None:
        """Go on from a value of `snapshot`; raises `SnapshotError` for one of another stream."""
        self._resampler.restore(saved.resampler)
        self._quiet.restore(saved.quiet)
        self._drained = saved.drained

    def pack(self, packet: Any) -> tuple[bytes, int, int]:
        """The payload of the next packet, codes [n_q, F] or a `Chunk`, its number of codebooks and its frames."""
        packet = self._quiet.cut(packet)
        n_q, frames = codes_in(packet).shape
        return self._layout.pack(packet), n_q, frames

    def _observed(self, samples: Samples) -> Samples:
        if self._drained:
            self._quiet.reset()
        self._quiet.feed(samples)
        self._drained = False
        return samples
