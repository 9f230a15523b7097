"""The asyncio client library: publish, listen, and turn what is heard into samples. It needs a model only to decode codes."""

from streamcodec.client.backoff import backoff
from streamcodec.client.connection import now_us
from streamcodec.client.listener import Event, Listener, Player, listen
from streamcodec.client.publisher import Publisher, publish

__all__ = ["Event", "Listener", "Player", "Publisher", "backoff", "listen", "now_us", "publish"]
