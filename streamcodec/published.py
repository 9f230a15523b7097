"""The architectures of the published models."""

from __future__ import annotations

from streamcodec.config import CodecConfig

__all__ = ["PUBLISHED"]

PUBLISHED = {
    "encodec_24khz": CodecConfig(),
    "encodec_32khz": CodecConfig(
        sampling_rate=32_000,
        num_filters=64,
        upsampling_ratios=(8, 5, 4, 4),
        use_conv_shortcut=False,
        codebook_size=2048,
        use_causal_conv=False,
        target_bandwidths=(2.2,),
    ),
    "encodec_48khz": CodecConfig(
        sampling_rate=48_000,
        audio_channels=2,
        norm_type="time_group_norm",
        use_causal_conv=False,
        normalize=True,
        chunk_length_s=1.0,
        overlap=0.01,
        target_bandwidths=(3.0, 6.0, 12.0, 24.0),
    ),
}
"""The published models. The package `encodec` has those at 24 and 48 kHz, by these names."""
