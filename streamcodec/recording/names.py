"""The name of a recording's file: when it began, then the stream's name, of which a peer decides."""

from __future__ import annotations

import string
import time

from streamcodec.recording.format import SUFFIX

__all__ = ["recording_name"]

_PLAIN = frozenset(string.ascii_letters + string.digits + "._-")
_MOST_BYTES = 200  # a file's name has 255 at most, as a rule


def recording_name(stream: str, begun_ms: int) -> str:
    """The name of the file for a stream whose recording began at `begun_ms` (ms since 1970): names sort by time.

    The stream's name comes last, so that it decides nothing: no "..", no hidden file, no option of a command, no device of Windows'. Every
    byte that is none of A-Z a-z 0-9 . _ - is written as %XX.
    """
    seconds, ms = divmod(begun_ms, 1000)
    begun = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))
    escaped = "".join(chr(byte) if chr(byte) in _PLAIN else f"%{byte:02X}" for byte in stream.encode("utf-8", "surrogatepass"))
    return f"{begun}.{ms:03d}Z_{escaped[:_MOST_BYTES]}{SUFFIX}"
