"""The library's main interface: load a model, encode and decode clips, and encode and decode streams."""

from streamcodec.codec.chunks import Chunk
from streamcodec.codec.clip import Codec
from streamcodec.codec.ecdc import compress, decompress, load_fixed_point, load_language_model, open_ecdc
from streamcodec.codec.load import load
from streamcodec.codec.stream import StreamDecoder, StreamEncoder
from streamcodec.engine.base import LanguageEngine, LevelEngine

__all__ = [
    "Chunk",
    "Codec",
    "LanguageEngine",
    "LevelEngine",
    "StreamDecoder",
    "StreamEncoder",
    "compress",
    "decompress",
    "load",
    "load_fixed_point",
    "load_language_model",
    "open_ecdc",
]
