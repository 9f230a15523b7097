"""The server: publishers to listeners, one model worker, nothing unbounded."""

from streamcodec.server.app import DEFAULT_PORT, Server
from streamcodec.server.auth import Grant, TokenKeys, Tokens
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics, PacketTrace
from streamcodec.server.page import Page
from streamcodec.server.recording import RecordingFolder
from streamcodec.server.sites import Sites

__all__ = ["DEFAULT_PORT", "Grant", "Limits", "Metrics", "PacketTrace", "Page", "RecordingFolder", "Server", "Sites", "TokenKeys", "Tokens"]
