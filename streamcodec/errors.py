"""Every error this package raises on purpose, in one tree; each names what was wrong, what was expected, and who is at fault.

    StreamCodecError
    +-- InputError (ValueError)             the caller passed something unusable
    |   +-- AudioError                      samples: shape, rate, dtype, NaN, an unreadable file
    |   +-- CodesError                      codes: shape, range, number of codebooks
    |   +-- PayloadError                    packed bytes that are not a whole packet
    +-- ModelError                          a model cannot be had
    |   +-- ModelNotFoundError              no such name, file, folder or hub repository
    |   +-- CheckpointError                 the file is damaged or its tensors do not fit
    |   +-- UnsupportedModelError           a sound model of a kind that cannot stream here
    +-- MissingDependencyError (ImportError)  an optional package or system library is absent
    +-- DeviceError                         a sound device is missing, busy or refuses the format
    +-- ProtocolError                       the wire's rules were broken
    |   +-- LocalProtocolError              by us: the caller used a session out of turn
    |   +-- RemoteProtocolError             by the peer: carries the wire code to answer with
    +-- ConnectionFailed                    no connection, or it was lost
        +-- Refused                         the server said no, with a code and whether to retry

This file imports nothing of the package.
"""

from __future__ import annotations

from enum import StrEnum

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
    "ProtocolError",
    "Refused",
    "RemoteProtocolError",
    "StreamCodecError",
    "UnsupportedModelError",
    "WireCode",
]


class WireCode(StrEnum):
    """What a refusal or an error message on the wire says; PROTOCOL.md lists the same words."""

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
    SERVER_FULL = "server_full"
    SLOW_LISTENER = "slow_listener"
    TIMEOUT = "timeout"
    SERVER_CLOSING = "server_closing"
    INTERNAL = "internal"

    @property
    def close_code(self) -> int:
        """The WebSocket close code that goes with this word (4000-4999: the application's range)."""
        return _CLOSE_CODES[self]

    @property
    def retry(self) -> bool:
        """Whether the same request may succeed later without being changed."""
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
    WireCode.BAD_REQUEST: 4422,
    WireCode.INTERNAL: 4500,
    WireCode.SERVER_CLOSING: 4501,
    WireCode.SERVER_FULL: 4503,
}
_RETRY = {
    WireCode.STREAM_TAKEN,
    WireCode.SERVER_FULL,
    WireCode.SLOW_LISTENER,
    WireCode.TIMEOUT,
    WireCode.SERVER_CLOSING,
    WireCode.INTERNAL,
}


class StreamCodecError(Exception):
    """Root of the tree: `except StreamCodecError` catches all that this package raises on purpose."""


class InputError(StreamCodecError, ValueError):
    """The caller passed something unusable."""


class AudioError(InputError):
    """Samples of a wrong shape, rate or type, not finite, or a file that holds no readable audio."""


class CodesError(InputError):
    """Codes of a wrong shape, out of range, or of more codebooks than the model has."""


class PayloadError(InputError):
    """Packed bytes that are not a whole packet."""


class ModelError(StreamCodecError):
    """A model cannot be had."""


class ModelNotFoundError(ModelError):
    """Neither an embedded name, nor a file, nor a folder, nor a reachable hub repository."""


class CheckpointError(ModelError):
    """A checkpoint that is damaged, or whose tensors are not those its config asks for."""


class UnsupportedModelError(ModelError):
    """A sound model that cannot stream here: not causal, not mono, normalised per clip."""


class MissingDependencyError(StreamCodecError, ImportError):
    """An optional package or system library is absent; the message says how to install it."""


class DeviceError(StreamCodecError):
    """A sound device is missing, busy, or refuses the format."""


class ProtocolError(StreamCodecError):
    """The wire's rules were broken."""


class LocalProtocolError(ProtocolError):
    """Our side asked a session for something that its state does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow.

    `code` is the word that answers it on the wire, and `code.close_code` closes the connection. A refusal may also say, in
    `retry_after_ms`, when it is of use to come again.
    """

    def __init__(self, code: WireCode, reason: str, retry_after_ms: int | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        return f"{self.reason} ({self.code.value})"


class ConnectionFailed(StreamCodecError):
    """No connection could be made, or it was lost."""


class Refused(ConnectionFailed):
    """The server answered, and the answer was no.

    `code` is the server's word (a `WireCode` where this version knows it), `retry` whether it may say yes later, `retry_after_s` how much
    later at the earliest, where it said so.
    """

    def __init__(self, code: str, reason: str, retry: bool, retry_after_s: float | None = None) -> None:
        super().__init__(code, reason, retry, retry_after_s)
        self.code = code
        self.reason = reason
        self.retry = retry
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return f"refused by the server: {self.reason} ({self.code}; {'try again later' if self.retry else 'do not retry unchanged'})"
