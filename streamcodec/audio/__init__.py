"""Audio input and output: samples, sampling rates, files, devices and playout. This package uses neither tensors nor sockets."""

from streamcodec.audio.dsp.comfort_noise import ComfortNoise
from streamcodec.audio.dsp.level_meter import Level, bar
from streamcodec.audio.dsp.resample import StreamResampler, resample
from streamcodec.audio.dsp.vad import SILENCE_DB, SilenceDetector
from streamcodec.audio.io.capture import CaptureBuffer
from streamcodec.audio.io.capture_clock import CaptureClock
from streamcodec.audio.io.containers import bytes_to_recognise, recognise
from streamcodec.audio.io.devices import DeviceInfo, find_device, list_devices, open_input, open_output
from streamcodec.audio.io.files import AUDIO_SUFFIXES, AudioBlocks, bundled_clip, open_audio_blocks, read_audio
from streamcodec.audio.io.piped import PipedAudio
from streamcodec.audio.io.writer import AudioWriter, write_audio
from streamcodec.audio.playout.adaptive import AdaptivePlayout, PlayoutPolicy, PlayoutStats
from streamcodec.audio.playout.buffer import PlayoutBuffer
from streamcodec.audio.samples import MAX_CHANNELS, Layout, PcmFormat, as_clip, check_block, float_to_pcm, pcm_to_float, to_float

__all__ = [
    "AUDIO_SUFFIXES",
    "MAX_CHANNELS",
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
    "PipedAudio",
    "PlayoutBuffer",
    "PlayoutPolicy",
    "PlayoutStats",
    "SilenceDetector",
    "StreamResampler",
    "as_clip",
    "bar",
    "bundled_clip",
    "bytes_to_recognise",
    "check_block",
    "find_device",
    "float_to_pcm",
    "list_devices",
    "open_audio_blocks",
    "open_input",
    "open_output",
    "pcm_to_float",
    "read_audio",
    "recognise",
    "resample",
    "to_float",
    "write_audio",
]
