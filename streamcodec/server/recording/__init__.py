"""The server's own recordings: each stream that it carries into a file of a folder, on a thread of their own."""

from streamcodec.server.recording.folder import RecordingFolder
from streamcodec.server.recording.recorder import Recorder

__all__ = ["Recorder", "RecordingFolder"]
