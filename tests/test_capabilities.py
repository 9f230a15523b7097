"""What the published models can do, and what people are told of it."""

from __future__ import annotations

from streamcodec.capabilities import Capabilities
from streamcodec.published import PUBLISHED


def test_the_causal_model_streams_in_packets_of_any_length() -> None:
    can = Capabilities.of(PUBLISHED["encodec_24khz"])
    assert can.streamable and can.granularity == "frames"
    assert (can.audio, can.bandwidths) == ("24000 Hz mono", (1.5, 3.0, 6.0, 12.0, 24.0))
    assert (can.packet_frames, can.packet_s) == ((1, 25), (1 / 75, 25 / 75))
    assert can.streaming == "in packets of 1 to 25 frames: a delay of 13 to 333 ms"


def test_the_stereo_model_streams_in_chunks_of_a_second() -> None:
    can = Capabilities.of(PUBLISHED["encodec_48khz"])
    assert can.streamable and can.granularity == "chunks"
    assert (can.audio, can.bandwidths) == ("48000 Hz stereo", (3.0, 6.0, 12.0, 24.0))
    assert (can.packet_frames, can.packet_s) == ((150, 150), (1.0, 1.0))
    assert can.streaming.startswith("in packets of a chunk, 150 frames: a delay of 1000 ms (this model is not causal")


def test_the_32_khz_model_codes_whole_clips_only() -> None:
    can = Capabilities.of(PUBLISHED["encodec_32khz"])
    assert not can.streamable and can.packet_frames is None and can.packet_s is None
    assert can.streaming == "codes whole clips only: this model is not causal: each frame depends on later samples, and has no chunks"
