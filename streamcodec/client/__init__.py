"""The asyncio client library: publish a stream, listen to one, and the ways from a source and to a sink. Only codes need a model."""

from streamcodec.client.ledger import Ledger, PacketTimes
from streamcodec.client.listener import Event, Listener, listen
from streamcodec.client.pipeline import Decoded, decode, play, publish_source
from streamcodec.client.pipes import open_pipe
from streamcodec.client.player import Player
from streamcodec.client.publisher import Publisher, PublishOptions, publish
from streamcodec.client.reconnect import Destination, backoff, keep_trying
from streamcodec.client.record import StreamRecorder, model_of
from streamcodec.client.replay import Replay
from streamcodec.client.sinks import DeviceSink, FileSink, PipeSink, Sink, check_sink, open_sink
from streamcodec.client.sources import ClipSource, DeviceSource, FileSource, PipeSource, Source, Tee, open_source
from streamcodec.client.tokens import token_file
from streamcodec.protocol import now_us

__all__ = [
    "ClipSource",
    "Decoded",
    "Destination",
    "DeviceSink",
    "DeviceSource",
    "Event",
    "FileSink",
    "FileSource",
    "Ledger",
    "Listener",
    "PacketTimes",
    "PipeSink",
    "PipeSource",
    "Player",
    "PublishOptions",
    "Publisher",
    "Replay",
    "Sink",
    "Source",
    "StreamRecorder",
    "Tee",
    "backoff",
    "check_sink",
    "decode",
    "keep_trying",
    "listen",
    "model_of",
    "now_us",
    "open_pipe",
    "open_sink",
    "open_source",
    "play",
    "publish",
    "publish_source",
    "token_file",
]
