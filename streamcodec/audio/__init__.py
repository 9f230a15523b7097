"""Sound on its way in and out: samples, rates, packets, files, devices; no tensors, no sockets."""

from streamcodec.audio.adaptive import AdaptivePlayout, PlayoutPolicy, PlayoutStats
from streamcodec.audio.capture import CaptureBuffer
from streamcodec.audio.capture_clock import CaptureClock
from streamcodec.audio.comfort import ComfortNoise
from streamcodec.audio.devices import DeviceInfo, find_device, list_devices, open_input, open_output
from streamcodec.audio.files import AudioBlocks, AudioWriter, bundled_clip, open_audio_blocks, read_audio, write_audio
from streamcodec.audio.meter import Level, bar
from streamcodec.audio.playout import PlayoutBuffer
from streamcodec.audio.resampling import StreamResampler, resample
from streamcodec.audio.samples import Layout, PcmFormat, Samples, as_clip, check_block, float_to_pcm, pcm_to_float, to_float
from streamcodec.audio.silence import SILENCE_DB, SilenceDetector

__all__ = [
    "SILENCE_DB",
    "AdaptivePlayout",
    "AudioBlocks",
    "AudioWriter",
    "CaptureBuffer",
    "CaptureClock",
    "ComfortNoise",
    "DeviceInfo",
    "Layout",
    "Level",
    "PcmFormat",
    "PlayoutBuffer",
    "PlayoutPolicy",
    "PlayoutStats",
    "Samples",
    "SilenceDetector",
    "StreamResampler",
    "as_clip",
    "bar",
    "bundled_clip",
    "check_block",
    "find_device",
    "float_to_pcm",
    "list_devices",
    "open_audio_blocks",
    "open_input",
    "open_output",
    "pcm_to_float",
    "read_audio",
    "resample",
    "to_float",
    "write_audio",
]
