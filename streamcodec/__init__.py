"""Live speech as neural-codec tokens: an exact streaming EnCodec engine and its WebSocket server.

`load()` gives a `Codec`. Names are resolved when first used, so that importing this package loads neither torch nor a sound library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streamcodec.config import CodecConfig
from streamcodec.errors import StreamCodecError
from streamcodec.gc_freeze import freeze_gc

if TYPE_CHECKING:
    from streamcodec.codec import Codec, StreamDecoder, StreamEncoder, load

__all__ = ["Codec", "CodecConfig", "StreamCodecError", "StreamDecoder", "StreamEncoder", "__version__", "freeze_gc", "load"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("Codec", "StreamDecoder", "StreamEncoder", "load"):
        return getattr(import_module("streamcodec.codec"), name)
    raise AttributeError(f"module 'streamcodec' has no attribute {name!r}")
