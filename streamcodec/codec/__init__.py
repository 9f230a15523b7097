"""The library's main interface: load a model, encode and decode clips, and encode and decode streams."""

from streamcodec.codec.chunks import Chunk
from streamcodec.codec.clip import Codec
from streamcodec.codec.ecdc import compress, decompress, open_ecdc
from streamcodec.codec.load import load
from streamcodec.codec.stream import StreamDecoder, StreamEncoder

__all__ = ["Chunk", "Codec", "StreamDecoder", "StreamEncoder", "compress", "decompress", "load", "open_ecdc"]
