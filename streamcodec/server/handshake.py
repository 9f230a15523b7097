"""The answer to a hello, as far as it does not depend on other clients: what is refused always, and what a welcome says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streamcodec.codec import Codec
from streamcodec.config import CodecConfig
from streamcodec.errors import InputError, RemoteProtocolError, UnsupportedModelError, WireCode
from streamcodec.protocol import MAX_MESSAGE_BYTES, PACKET_OVERHEAD, ListenHello, ModelInfo, PublishHello, Welcome, now_us
from streamcodec.protocol.fields import shown
from streamcodec.protocol.messages import MAX_ALTERNATES
from streamcodec.server.feeder import Feeder
from streamcodec.server.limits import Limits
from streamcodec.server.stream import Stream

__all__ = ["Handshake", "model_info"]


@dataclass(frozen=True)
class Handshake:
    """What every hello is checked against, and what every welcome says.

    `alternates` tells the addresses of servers that know the same streams, the best first; a welcome names the first 4.
    """

    model: ModelInfo
    config: CodecConfig
    limits: Limits
    banner: str
    alternates: Callable[[], Sequence[str]] = tuple

    def check(self, hello: PublishHello | ListenHello) -> None:
        """Refuse what will not be accepted later either, before anybody waits.

        Raises `RemoteProtocolError`: in this order MODEL_MISMATCH, and BAD_REQUEST for a bandwidth that the model lacks.
        """
        if hello.model not in (None, self.model.fingerprint):
            raise RemoteProtocolError(
                WireCode.MODEL_MISMATCH,
                f"the server's model is {self.model.name} with fingerprint {self.model.fingerprint}, the hello's is {shown(hello.model)}",
            )
        try:
            self.config.n_q_for(hello.bandwidth)
            if isinstance(hello, ListenHello):
                self.config.n_q_for(hello.min_bandwidth)
            elif self.config.granularity == "chunks":
                _check_for_chunks(hello)
        except InputError as exc:
            raise RemoteProtocolError(WireCode.BAD_REQUEST, str(exc)) from exc

    def welcome(self, hello: PublishHello | ListenHello, stream: Feeder | Stream | None) -> Welcome:
        """The answer that accepts `hello`; without a stream, what only a publisher decides is None."""
        lease = stream.lease if isinstance(hello, PublishHello) and isinstance(stream, Stream) else None
        return Welcome(
            role=hello.role,
            stream=hello.stream,
            model=self.model,
            format=hello.format,
            bandwidth=stream.info.bandwidth if stream else None,
            n_q=stream.info.n_q if stream else None,
            packet_frames=stream.info.packet_frames if stream else None,
            start=stream.info.start if stream else None,
            epoch=None if stream is None else stream.fan_out.numbering.epoch if lease is None else lease.epoch,
            next_seq=None if stream is None else stream.fan_out.numbering.next_seq if lease is None else lease.next_seq,
            session=None if lease is None else lease.secret,
            resume_ms=round(1000 * self.limits.resume_s),
            alternates=tuple(self.alternates()[:MAX_ALTERNATES]),
            time=now_us(),
            server=self.banner,
        )


def model_info(codec: Codec) -> ModelInfo:
    """What the server says about its model. Raises `UnsupportedModelError` for a model that cannot be served."""
    codec.check_streams()
    config, can = codec.config, codec.capabilities
    if config.chunk_stride is not None and 4 * config.audio_channels * config.chunk_stride + PACKET_OVERHEAD > MAX_MESSAGE_BYTES:
        raise UnsupportedModelError(f"{codec.name} cannot be served: a chunk of {config.chunk_length_s:g} s does not fit into a message")
    return ModelInfo(
        name=codec.name[:200],
        fingerprint=codec.fingerprint,
        sampling_rate=can.sampling_rate,
        hop_length=config.hop_length,
        codebook_size=config.codebook_size,
        num_quantizers=config.num_quantizers,
        bandwidths=can.bandwidths,
        channels=can.channels,
        chunk_length=config.chunk_length,
        chunk_stride=config.chunk_stride,
        normalize=config.normalize,
    )


def _check_for_chunks(hello: PublishHello) -> None:
    if hello.silence_db is not None:
        raise InputError(f"silence_db is {hello.silence_db}, expected null: no packet of a model in chunks stands for silence")
    if hello.start == "primed":
        raise InputError("start is 'primed', expected 'exact' or null: a model in chunks has no state that could be primed")
