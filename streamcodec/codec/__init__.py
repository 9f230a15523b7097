"""The library's front door: a model, clips to codes and back, streams to packets and back."""

from streamcodec.codec.clip import Codec
from streamcodec.codec.load import load
from streamcodec.codec.stream import StreamDecoder, StreamEncoder

__all__ = ["Codec", "StreamDecoder", "StreamEncoder", "load"]
