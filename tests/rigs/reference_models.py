"""Models of the published kinds that code chunks or clips, full-size and with few channels, as `transformers` takes them."""

from __future__ import annotations

from benchmarks.peers.random_models import published_fields

__all__ = ["FEW", "PUBLISHED", "SMALL"]

PUBLISHED = {"48 kHz": published_fields("encodec_48khz"), "32 kHz": published_fields("encodec_32khz")}
FEW = {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "upsampling_ratios": [8, 5]}
# The published ones with few channels and short chunks: a hop of 40, and chunks of 30 frames that overlap by three.
SMALL = {
    "48 kHz": {
        **PUBLISHED["48 kHz"],
        **FEW,
        "codebook_size": 64,
        "chunk_length_s": 0.025,
        "overlap": 0.1,
        "target_bandwidths": [14.4, 57.6],
    },
    "32 kHz": {**PUBLISHED["32 kHz"], **FEW, "codebook_size": 64, "target_bandwidths": [19.2]},
    "48 kHz, mono": {
        **PUBLISHED["48 kHz"],
        **FEW,
        "audio_channels": 1,
        "codebook_size": 64,
        "chunk_length_s": 0.025,
        "overlap": 0.1,
        "target_bandwidths": [14.4],
    },
    "causal, in chunks": {**FEW, "codebook_size": 64, "chunk_length_s": 0.05, "overlap": 0.1, "target_bandwidths": [14.4]},
}
