"""The library's main interface: load a model, encode and decode clips, and encode and decode streams."""

from streamcodec.codec.chunks import Chunk
from streamcodec.codec.clip import Codec
from streamcodec.codec.ecdc import compress, decompress, load_language_model, open_ecdc
from streamcodec.codec.load import load
from streamcodec.codec.stream import StreamDecoder, StreamEncoder
from streamcodec.engine.base import LanguageEngine

__all__ = [
    "Chunk",
    "Codec",
    "LanguageEngine",
    "StreamDecoder",
    "StreamEncoder",
    "compress",
    "decompress",
    "load",
    "load_language_model",
    "open_ecdc",
]
