"""What a model can do, in one place: whoever streams, serves, describes or refuses a model asks here."""

from __future__ import annotations

from dataclasses import dataclass

from streamcodec.config import MAX_PACKET_FRAMES, CodecConfig, Granularity

__all__ = ["Capabilities"]


@dataclass(frozen=True)
class Capabilities:
    """What a model can do; made by `Capabilities.of`.

    `packet_frames` are the fewest and the most frames in a packet of a stream, None if the model codes whole clips only. A packet is
    complete `packet_s` after its first sample, for the shortest packets and the longest. `bandwidths` are in kbps, ascending.
    """

    granularity: Granularity
    sampling_rate: int
    channels: int
    packet_frames: tuple[int, int] | None
    packet_s: tuple[float, float] | None
    bandwidths: tuple[float, ...]
    why_not_frames: str | None

    @classmethod
    def of(cls, config: CodecConfig) -> Capabilities:
        """The capabilities of a model."""
        frames: tuple[int, int] | None = None
        seconds: tuple[float, float] | None = None
        if config.granularity == "frames":
            frames, seconds = (1, MAX_PACKET_FRAMES), (1 / config.frame_rate, MAX_PACKET_FRAMES / config.frame_rate)
        elif config.chunk_length is not None:
            frames = (config.packet_frames_for(), config.packet_frames_for())
            seconds = (config.chunk_length / config.sampling_rate, config.chunk_length / config.sampling_rate)
        return cls(
            granularity=config.granularity,
            sampling_rate=config.sampling_rate,
            channels=config.audio_channels,
            packet_frames=frames,
            packet_s=seconds,
            bandwidths=tuple(sorted(config.target_bandwidths)),
            why_not_frames=config.why_not_frames,
        )

    @property
    def streamable(self) -> bool:
        """Whether the model can code a stream, packet by packet."""
        return self.packet_frames is not None

    @property
    def audio(self) -> str:
        """Rate and channels, for people."""
        return f"{self.sampling_rate} Hz {'mono' if self.channels == 1 else 'stereo'}"

    @property
    def streaming(self) -> str:
        """Whether and how the model streams, for people."""
        if self.packet_frames is None or self.packet_s is None:
            return f"codes whole clips only: this model {self.why_not_frames}, and has no chunks"
        (fewest, most), (shortest_s, longest_s) = self.packet_frames, self.packet_s
        if fewest == most:
            return f"in packets of a chunk, {most} frames: a delay of {1000 * longest_s:.0f} ms (this model {self.why_not_frames})"
        return f"in packets of {fewest} to {most} frames: a delay of {1000 * shortest_s:.0f} to {1000 * longest_s:.0f} ms"
