"""The asyncio client library: publish, listen, and turn what is heard into samples. It needs a model only to decode codes."""

from streamcodec.client.backoff import backoff
from streamcodec.client.listener import Event, Listener, listen
from streamcodec.client.player import Player
from streamcodec.client.publisher import Publisher, publish
from streamcodec.protocol import now_us

__all__ = ["Event", "Listener", "Player", "Publisher", "backoff", "listen", "now_us", "publish"]
