"""The answer to a hello, as far as it does not depend on other clients: what is refused always, and what a welcome says."""

from __future__ import annotations

from dataclasses import dataclass

from streamcodec.config import CodecConfig
from streamcodec.errors import InputError, RemoteProtocolError, WireCode
from streamcodec.protocol import ListenHello, ModelInfo, PublishHello, Welcome, now_us
from streamcodec.server.auth import Tokens
from streamcodec.server.limits import Limits
from streamcodec.server.stream import Stream

__all__ = ["Handshake"]


@dataclass(frozen=True)
class Handshake:
    """What every hello is checked against, and what every welcome says."""

    model: ModelInfo
    tokens: Tokens
    config: CodecConfig
    limits: Limits
    banner: str

    def check(self, hello: PublishHello | ListenHello) -> None:
        """Refuse what will not be accepted later either, before anybody waits.

        Raises `RemoteProtocolError`: in this order UNAUTHORIZED, MODEL_MISMATCH, and BAD_REQUEST for a bandwidth that the model lacks.
        """
        if not self.tokens.allows(hello.role, hello.token):
            raise RemoteProtocolError(WireCode.UNAUTHORIZED, f"the token does not allow to {hello.role}")
        if hello.model not in (None, self.model.fingerprint):
            raise RemoteProtocolError(
                WireCode.MODEL_MISMATCH,
                f"the server's model is {self.model.name} with fingerprint {self.model.fingerprint}, the hello's is {hello.model}",
            )
        try:
            self.config.n_q_for(hello.bandwidth)
            if isinstance(hello, ListenHello):
                self.config.n_q_for(hello.min_bandwidth)
        except InputError as exc:
            raise RemoteProtocolError(WireCode.BAD_REQUEST, str(exc)) from exc

    def welcome(self, hello: PublishHello | ListenHello, stream: Stream | None) -> Welcome:
        """The answer that accepts `hello`; without a stream, what only a publisher decides is None."""
        publishing = isinstance(hello, PublishHello)
        return Welcome(
            role=hello.role,
            stream=hello.stream,
            model=self.model,
            format=hello.format,
            bandwidth=stream.info.bandwidth if stream else None,
            n_q=stream.info.n_q if stream else None,
            packet_frames=stream.info.packet_frames if stream else None,
            start=stream.info.start if stream else None,
            epoch=None if stream is None else stream.lease.epoch if publishing else stream.numbering.epoch,
            next_seq=None if stream is None else stream.lease.next_seq if publishing else stream.numbering.next_seq,
            session=stream.lease.secret if stream and publishing else None,
            resume_ms=round(1000 * self.limits.resume_s),
            time=now_us(),
            server=self.banner,
        )
