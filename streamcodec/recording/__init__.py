"""Recordings: a stream's packets as they are, in a file that can be read while it grows (see docs/recording.md). Bytes, no sockets."""

from streamcodec.recording.cursor import Cursor
from streamcodec.recording.files import RecordingFile, RecordingReader, wall_ms
from streamcodec.recording.format import SUFFIX, RecordedEvent, RecordingHeader, is_recording
from streamcodec.recording.names import recording_name
from streamcodec.recording.parser import RecordingParser
from streamcodec.recording.serializer import RecordingSerializer

__all__ = [
    "SUFFIX",
    "Cursor",
    "RecordedEvent",
    "RecordingFile",
    "RecordingHeader",
    "RecordingParser",
    "RecordingReader",
    "RecordingSerializer",
    "is_recording",
    "recording_name",
    "wall_ms",
]
