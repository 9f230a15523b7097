"""What the worker's threads do for one publisher of PCM: bytes to the model's samples, and the model's codes to payloads.

One thread at a time calls it. All packets of a run are packed before the first samples of the next run are prepared.
"""

from __future__ import annotations

from streamcodec.audio import StreamResampler, pcm_to_float
from streamcodec.audio.dsp.vad import QuietPackets
from streamcodec.audio.samples import PcmFormat
from streamcodec.protocol import pack_codes
from streamcodec.types import Codes, Samples

__all__ = ["PcmFrontend"]


class PcmFrontend:
    """Decodes and resamples one publisher's PCM, and packs its codes; `quiet` gives quiet packets fewer codebooks."""

    def __init__(self, format: PcmFormat, channels: int, resampler: StreamResampler, quiet: QuietPackets, bits_per_code: int) -> None:
        self._format: PcmFormat = format
        self._channels = channels
        self._resampler = resampler
        self._quiet = quiet
        self._bits = bits_per_code
        self._drained = False

    def prepare(self, data: bytes) -> Samples:
        """The samples [T] at the model's rate that `data` completes. Raises `AudioError` for samples that are not finite."""
        return self._observed(self._resampler.feed(pcm_to_float(data, self._format, self._channels)))

    def drain(self) -> Samples:
        """The samples [T] that the resampler still holds: a run is over."""
        rest = self._observed(self._resampler.flush())
        self._drained = True
        return rest

    def pack(self, codes: Codes) -> tuple[bytes, int, int]:
        """The payload of the next packet's codes [n_q, F], its number of codebooks and its frames."""
        codes = self._quiet.cut(codes)
        return pack_codes(codes, self._bits), *codes.shape

    def _observed(self, samples: Samples) -> Samples:
        if self._drained:
            self._quiet.reset()
        self._quiet.feed(samples)
        self._drained = False
        return samples
