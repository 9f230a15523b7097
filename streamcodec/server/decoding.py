"""A stream decoded once for all who listen to PCM, its control messages kept in their place among the packets."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamcodec.audio.samples import Samples
from streamcodec.config import Start
from streamcodec.engine.contract import Codes
from streamcodec.engine.worker import Result, Worker
from streamcodec.protocol import Message, Packet, StreamStart, unpack_codes

__all__ = ["DecodedPacket", "SharedDecoder"]


@dataclass(frozen=True)
class DecodedPacket:
    """A packet's numbers with its samples [T] instead of its codes."""

    seq: int
    epoch: int
    timestamp: int
    samples: Samples


class SharedDecoder:
    """Decodes a stream's packets in order; what comes out, packets and messages, goes to `sink`."""

    def __init__(
        self,
        worker: Worker,
        *,
        n_q: int,
        start: Start,
        next_seq: int,
        epoch: int,
        sink: Callable[[DecodedPacket | Message], None],
        failed: Callable[[Exception], None],
    ) -> None:
        config = worker.engine.config
        self.next_seq = next_seq
        self.epoch = epoch
        self._hop = config.hop_length
        self._bits = config.bits_per_code
        self._n_q = n_q
        self._sink = sink
        self._failed = failed
        self._waiting: deque[tuple[Packet, int] | Message] = deque()  # a packet and its samples, or a message in its place
        self._samples: list[Samples] = []
        self._decoder = worker.open_decoder(self._on_result, n_q=n_q, start=start, prepare=self._prepare)

    def feed(self, packet: Packet, frames: int) -> None:
        """Take the stream's next packet; one before `next_seq` only warms the decoder."""
        self._waiting.append((packet, frames * self._hop))
        self._decoder.feed(packet.payload)

    def pass_on(self, message: Message) -> None:
        """Hand `message` to the sink behind all that was fed before it."""
        if isinstance(message, StreamStart):
            self._decoder.restart()
        self._waiting.append(message)
        self._settle()

    def end(self, message: Message) -> None:
        """Bring out all that was fed, then hand over `message`."""
        self._waiting.append(message)
        self._decoder.end()

    def close(self) -> None:
        """Forget all that is under way."""
        self._decoder.close()

    def _prepare(self, payload: bytes) -> Codes:
        return unpack_codes(payload, self._n_q, self._bits)

    def _on_result(self, result: Result) -> None:
        if result.error is not None:
            self._failed(result.error)
            return
        self._samples += [samples for samples in result.outputs if samples.size]
        self._settle()

    def _settle(self) -> None:
        while self._waiting:
            head = self._waiting[0]
            if isinstance(head, tuple):
                packet, size = head
                if sum(part.size for part in self._samples) < size:
                    return
                joined = self._samples[0] if len(self._samples) == 1 else np.concatenate(self._samples)
                self._samples = [joined[size:]] if joined.size > size else []
                if packet.seq >= self.next_seq:
                    self.next_seq = packet.seq + 1
                    self._sink(DecodedPacket(packet.seq, packet.epoch, packet.timestamp, joined[:size]))
            else:
                if isinstance(head, StreamStart):
                    self.next_seq, self.epoch = head.live_seq, head.epoch
                self._sink(head)
            self._waiting.popleft()
