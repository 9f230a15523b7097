"""The server: publishers to listeners, one model worker, nothing unbounded."""

from streamcodec.server.app import DEFAULT_PORT, Server
from streamcodec.server.auth import AuthUrl, Grant, TokenKeys, Tokens
from streamcodec.server.cluster.joined import ClusterOptions
from streamcodec.server.limits import Limits
from streamcodec.server.metrics import Metrics, PacketTrace
from streamcodec.server.operations import Operations
from streamcodec.server.page import Page
from streamcodec.server.proxies import Proxies
from streamcodec.server.recording import RecordingFolder
from streamcodec.server.sites import Sites
from streamcodec.server.webhooks import Webhooks

__all__ = [
    "DEFAULT_PORT",
    "AuthUrl",
    "ClusterOptions",
    "Grant",
    "Limits",
    "Metrics",
    "Operations",
    "PacketTrace",
    "Page",
    "Proxies",
    "RecordingFolder",
    "Server",
    "Sites",
    "TokenKeys",
    "Tokens",
    "Webhooks",
]
