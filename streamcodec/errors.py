"""All errors that this package raises on purpose, in one tree. Each message says what was wrong and what was expected.

    StreamCodecError
    +-- InputError (ValueError)             the caller passed an invalid value
    |   +-- AudioError                      samples: shape, rate, dtype, NaN, an unreadable file
    |   +-- CodesError                      codes: shape, range, number of codebooks
    |   +-- PayloadError                    packed bytes that are not a whole packet
    |   +-- SnapshotError                   a live stream as a value: damaged, or of another model
    |   +-- TensorError (RuntimeError)      tensors that do not fit the model or one another, where torch says RuntimeError
    +-- ModelError                          a model cannot be loaded
    |   +-- ModelNotFoundError              no such name, file, folder or hub repository
    |   |   +-- PretrainedNotFoundError (OSError)  the same, where transformers says OSError
    |   +-- CheckpointError                 the file is damaged or its tensors do not fit
    |   +-- UnsupportedModelError           a valid model of a kind that cannot run, or not stream
    +-- MissingDependencyError (ImportError)  an optional package or system library is absent
    +-- DeviceError                         a sound device is missing, busy or refuses the format
    +-- ProtocolError                       one side broke the rules of the protocol
    |   +-- LocalProtocolError              our side: the caller used a session out of turn
    |   +-- RemoteProtocolError             the peer: carries the wire code to answer with
    +-- ConnectionFailed                    no connection could be made, or it was lost
        +-- UntrustedServerError            its certificate is not trusted, which another attempt will not change
        +-- Refused                         the server refused, with a code and whether to retry

This file imports nothing from the package.
"""

from __future__ import annotations

import os
import re
import stat
from enum import StrEnum
from typing import Any

__all__ = [
    "AudioError",
    "CheckpointError",
    "CodesError",
    "ConnectionFailed",
    "DeviceError",
    "InputError",
    "LocalProtocolError",
    "MissingDependencyError",
    "ModelError",
    "ModelNotFoundError",
    "PayloadError",
    "PretrainedNotFoundError",
    "ProtocolError",
    "Refused",
    "RemoteProtocolError",
    "SnapshotError",
    "StreamCodecError",
    "TensorError",
    "UnsupportedModelError",
    "UntrustedServerError",
    "WireCode",
    "explain",
    "printable",
    "without_credentials",
]


class WireCode(StrEnum):
    """The code in a refusal or error message on the wire. PROTOCOL.md lists the same codes."""

    BAD_MESSAGE = "bad_message"
    BAD_VERSION = "bad_version"
    BAD_REQUEST = "bad_request"
    OUT_OF_TURN = "out_of_turn"
    BAD_SEQUENCE = "bad_sequence"
    BAD_PAYLOAD = "bad_payload"
    UNAUTHORIZED = "unauthorized"
    MODEL_MISMATCH = "model_mismatch"
    STREAM_TAKEN = "stream_taken"
    UNKNOWN_SESSION = "unknown_session"
    TAKEN_OVER = "taken_over"
    MOVED = "moved"
    SERVER_FULL = "server_full"
    SLOW_LISTENER = "slow_listener"
    TIMEOUT = "timeout"
    RATE_LIMITED = "rate_limited"
    SERVER_CLOSING = "server_closing"
    INTERNAL = "internal"

    @property
    def close_code(self) -> int:
        """The WebSocket close code for this error, in the range for applications (4000-4999)."""
        return _CLOSE_CODES[self]

    @property
    def retry(self) -> bool:
        """Whether the same request may succeed later, unchanged."""
        return self in _RETRY


_CLOSE_CODES = {
    WireCode.BAD_MESSAGE: 4400,
    WireCode.UNAUTHORIZED: 4401,
    WireCode.OUT_OF_TURN: 4403,
    WireCode.BAD_VERSION: 4406,
    WireCode.TIMEOUT: 4408,
    WireCode.STREAM_TAKEN: 4409,
    WireCode.UNKNOWN_SESSION: 4410,
    WireCode.TAKEN_OVER: 4411,
    WireCode.MODEL_MISMATCH: 4412,
    WireCode.SLOW_LISTENER: 4413,
    WireCode.BAD_PAYLOAD: 4415,
    WireCode.BAD_SEQUENCE: 4416,
    WireCode.MOVED: 4421,
    WireCode.BAD_REQUEST: 4422,
    WireCode.RATE_LIMITED: 4429,
    WireCode.INTERNAL: 4500,
    WireCode.SERVER_CLOSING: 4501,
    WireCode.SERVER_FULL: 4503,
}
_RETRY = {
    WireCode.STREAM_TAKEN,
    WireCode.MOVED,
    WireCode.SERVER_FULL,
    WireCode.SLOW_LISTENER,
    WireCode.TIMEOUT,
    WireCode.RATE_LIMITED,
    WireCode.SERVER_CLOSING,
    WireCode.INTERNAL,
}


def explain(error: OSError) -> str:
    """An error of the operating system in one line: the file's name, where it has one, and the reason.

    Where this program may not use a file, the line says whose that is: a service or a container often runs as another user than thought.
    """
    reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
    if error.filename is None:
        return reason
    return f"{error.filename}: {reason}{_whose(error.filename) if isinstance(error, PermissionError) else ''}"


def _whose(file: str | int) -> str:
    if not hasattr(os, "geteuid"):  # Windows has no numbers for users
        return ""
    try:
        found = os.stat(file)  # noqa: PTH116 - a descriptor, too
    except PermissionError:
        return f" for user {os.geteuid()}, who may not look into its folder"
    except OSError:
        return ""
    return f" for user {os.geteuid()}: it is user {found.st_uid}'s and has mode {stat.S_IMODE(found.st_mode):04o}"


def printable(text: str) -> str:
    """What somebody else has written, for a line of a log or a terminal: what is not printable is escaped, as in \\n and \\x1b."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


class StreamCodecError(Exception):
    """Root of the tree: `except StreamCodecError` catches every error that this package raises on purpose."""


class InputError(StreamCodecError, ValueError):
    """The caller passed an invalid value."""


class AudioError(InputError):
    """The samples have a wrong shape, rate or type, or are not finite; or a file holds no readable audio."""


class CodesError(InputError):
    """The codes have a wrong shape, are out of range, or use more codebooks than the model has."""


class PayloadError(InputError):
    """The packed bytes are not a whole packet."""


class SnapshotError(InputError):
    """The value of a live stream is damaged, or the stream cannot go on here: another model, version or limit."""


class TensorError(InputError, RuntimeError):
    """The tensors do not fit the model or one another, in a call of another library's interface (`streamcodec.compat`)."""


class ModelError(StreamCodecError):
    """A model cannot be loaded."""


class EngineHungError(StreamCodecError):
    """A step of the engine takes so long that nobody waits for it any longer."""


class ModelNotFoundError(ModelError):
    """The name is not an embedded model, a file, a folder or a reachable hub repository."""


class PretrainedNotFoundError(ModelNotFoundError, OSError):
    """As `ModelNotFoundError`, in a call of another library's interface (`streamcodec.compat`)."""


class CheckpointError(ModelError):
    """The checkpoint is damaged, or its tensors do not match its config."""


class UnsupportedModelError(ModelError):
    """The model is valid, but it is no EnCodec model that can run here, or it cannot do what is asked for: code a stream, be served."""


class MissingDependencyError(StreamCodecError, ImportError):
    """An optional package or system library is absent; the message says how to install it."""


class DeviceError(StreamCodecError):
    """A sound device is missing, busy, or refuses the format."""


class ProtocolError(StreamCodecError):
    """One side broke the rules of the protocol."""


class LocalProtocolError(ProtocolError):
    """Our side called a session in a way that its state does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow.

    `code` is the wire code to answer with, and `code.close_code` closes the connection. A refusal may carry `retry_after_ms`: how long
    the client should wait before it tries again. `resumable` says that what ends for this reason may be resumed, as after a connection that
    broke. `go_to` is the address of another server that the client is to go to.
    """

    def __init__(
        self, code: WireCode, reason: str, retry_after_ms: int | None = None, *, resumable: bool = False, go_to: str | None = None
    ) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.retry_after_ms = retry_after_ms
        self.resumable = resumable
        self.go_to = go_to

    def __str__(self) -> str:
        return f"{printable(self.reason)} ({self.code.value})"


class ConnectionFailed(StreamCodecError):
    """No connection could be made, or it was lost; what the other end has said of it is escaped.

    `go_to` is the address of the server at which to begin anew, or None for the same one.
    """

    go_to: str | None = None

    def __str__(self) -> str:
        return printable(super().__str__())


class UntrustedServerError(ConnectionFailed):
    """The server shows a certificate that is not trusted; another attempt will not change that."""


class Refused(ConnectionFailed):
    """The server refused the request.

    `code` is the server's code: a value of `WireCode`, or a code that this version does not know. `retry` says whether the same request
    may succeed later. `retry_after_s` is the shortest time to wait in seconds, or None if the server did not say. `go_to` is the address
    of another server that takes its clients, or None.
    """

    def __init__(self, code: str, reason: str, retry: bool, retry_after_s: float | None = None, go_to: str | None = None) -> None:
        super().__init__(code, reason, retry, retry_after_s, go_to)
        self.code = code
        self.reason = reason
        self.retry = retry
        self.retry_after_s = retry_after_s
        self.go_to = go_to

    def __str__(self) -> str:
        again = "try again later" if self.retry else "do not retry unchanged"
        return printable(f"refused by the server: {self.reason} ({self.code}; {again})")


def without_credentials(value: Any) -> Any:
    """A URL, or several in lists and tables, for a line of a log or a terminal: *** is where a user, a password or a token is."""
    if isinstance(value, str):
        return re.sub(r"^(\w+://)?.*@", r"\1***@", value, flags=re.DOTALL)
    if isinstance(value, (list, tuple)):
        return [without_credentials(item) for item in value]
    return {key: without_credentials(item) for key, item in value.items()} if isinstance(value, dict) else value
