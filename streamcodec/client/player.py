"""What is heard: events in, samples out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from streamcodec.audio.dsp.comfort_noise import ComfortNoise
from streamcodec.audio.dsp.vad import SILENCE_DB
from streamcodec.audio.samples import PcmFormat, pcm_to_float
from streamcodec.client.listener import Event
from streamcodec.config import Start
from streamcodec.errors import CodesError, InputError
from streamcodec.protocol import SILENCE, Gap, Packet, PauseMemory, PayloadLayout, StreamEnd, StreamStart
from streamcodec.types import Samples, block_shape

if TYPE_CHECKING:
    from streamcodec.codec import Codec, StreamDecoder

__all__ = ["MAX_GAP_S", "Player"]

MAX_GAP_S = 86_400.0
"""A longer gap is not filled: a few bytes of a publisher would fill a disk."""
_PART_S = 8.0


class Player:
    """Turns a listener's events into samples at `sample_rate`, [T] or [C, T] of several `channels`; it keeps the decoder's state and knows
    no clock.

    `codec` decodes codes and is not needed for PCM. With `fill_gaps` packets that were lost become as much silence, and those that were
    left out as silence as much comfort noise, so that a recording keeps its length; a live listener leaves them out, since that would only
    delay what follows. Its playout makes noise of its own behind a packet that is `quiet`.
    """

    def __init__(self, codec: Codec | None = None, *, fill_gaps: bool = False) -> None:
        self._codec = codec
        self._fill_gaps = fill_gaps
        self._start: StreamStart | None = None
        self._decoder: StreamDecoder | None = None
        self._layout = PayloadLayout()
        self._silent_before = 0
        self._skip = 0
        self._quiet = False
        self._comfort: ComfortNoise | None = None
        self._pause: PauseMemory[Any] = PauseMemory()
        self._owed: deque[Any] = deque()
        self._held = 0

    @property
    def behind(self) -> int:
        """How many calls of `catch_up` are useful now: one for each packet of the current pause that the decoder has not seen."""
        return len(self._owed)

    def catch_up(self) -> None:
        """Feed the decoder a quiet packet in the place of one that was left out of a pause. This makes the next words sound better.

        With `fill_gaps`, `feed` does this itself.
        """
        if self._owed and self._decoder is not None:
            self._decoder.feed(self._owed.popleft())

    @property
    def quiet(self) -> bool:
        """Whether the last packet was sent as silence, or is quiet PCM (RMS below -50 dBFS): packets after it may be left out."""
        return self._quiet

    @property
    def sample_rate(self) -> int:
        """Samples per second of what comes out, once a stream has started."""
        return self._start.sample_rate if self._start is not None else 24_000 if self._codec is None else self._codec.sample_rate

    @property
    def channels(self) -> int:
        """Channels of what comes out, once a stream has started."""
        return 1 if self._start is None else self._start.channels

    def pieces(self, event: Event) -> Iterator[Event]:
        """What is to be fed for one event: a long gap that is filled comes in pieces, as its silence has no room in memory.

        Raises `CodesError` for a gap of more than a day.
        """
        if not isinstance(event, Gap) or not self.gap_s(event):
            yield event
            return
        most = max(1, int(_PART_S * self.sample_rate / self._packet_samples()))
        for first in range(event.first_seq, event.next_seq, most):
            yield Gap(first_seq=first, count=min(most, event.next_seq - first), reason=event.reason)

    def gap_s(self, gap: Gap) -> float:
        """Seconds with which `gap` is filled: none where gaps are left out. Raises `CodesError` for more than a day."""
        if not self._fill_gaps or self._start is None:
            return 0.0
        gap_s = gap.count * self._packet_samples() / self.sample_rate
        if gap_s > MAX_GAP_S:
            raise CodesError(f"a gap of {gap_s / 3600:.0f} hours, expected at most {MAX_GAP_S / 3600:.0f}")
        return gap_s

    def feed(self, event: Event) -> Samples:
        """Take one event; return the samples that it settles, history excepted. Raises `CodesError` for a gap of more than a day."""
        if isinstance(event, StreamStart):
            continued = event.start == "continued" and self._start is not None
            tail = self._silence(0) if continued else self.finish()
            self._open(event, continued)
            return tail
        if isinstance(event, Packet):
            return self._packet(event)
        if isinstance(event, Gap):
            self._pause.gap(event.count, event.reason)
            if self._decoder is not None and self._layout.chunked:
                # The next chunk overlaps with one that is missing.
                self._decoder = self._open_decoder()
        if isinstance(event, Gap) and self._fill_gaps and self._start is not None:
            self.gap_s(event)
            # Nothing of the history is heard, and its gaps are not heard either.
            missing = max(0, event.next_seq - max(event.first_seq, self._silent_before)) * self._packet_samples()
            if event.reason == SILENCE and self._comfort is not None and missing:
                return self._comfort.go_on(missing)
            return self._silence(missing)
        if isinstance(event, StreamEnd):
            return self.finish()
        return self._silence(0)

    def _silence(self, samples: int) -> Samples:
        return np.zeros(block_shape(samples, self.channels), np.float32)

    def _packet_samples(self) -> int:
        assert self._start is not None
        if self._start.packet_samples is not None:
            return self._start.packet_samples
        # A server that does not say it has a model of 75 frames a second.
        hop = self._codec.hop_length if self._codec is not None else self._start.sample_rate // 75
        return self._start.packet_frames * hop

    def _open(self, start: StreamStart, continued: bool) -> None:
        self._start = start
        if continued and (self._decoder is not None or start.format != "codes"):
            return
        self._silent_before = start.live_seq
        self._skip = 0
        self._quiet = False
        self._comfort = ComfortNoise(start.sample_rate) if start.channels == 1 else None
        self._pause = PauseMemory()
        self._owed.clear()
        self._held = 0
        if start.format == "codes":
            if self._codec is None:
                raise InputError("this stream comes as codes: a Player needs the codec that decodes them")
            self._layout = PayloadLayout.of(self._codec.config)
            self._decoder = self._open_decoder()

    def _open_decoder(self) -> StreamDecoder:
        assert self._codec is not None and self._start is not None
        kind: Start = "exact" if self._start.start == "exact" or self._layout.chunked else "primed"
        return self._codec.stream_decoder(self._start.bandwidth, start=kind)

    def _packet(self, packet: Packet) -> Samples:
        assert self._start is not None
        if self._decoder is None:
            format: PcmFormat = "pcm_s16le" if self._start.format == "pcm_s16le" else "pcm_f32le"
            samples = pcm_to_float(packet.payload, format, self.channels, self.channels)
            mean_square = np.mean(np.square(samples, dtype=np.float64))
            self._quiet = self._comfort is not None and bool(mean_square < 10 ** (SILENCE_DB / 10))
            return self._behind_comfort(samples) if packet.seq >= self._silent_before else self._silence(0)
        assert self._codec is not None
        codes = self._layout.unpack(packet.payload, packet.n_q)
        samples = self._decoder.feed(codes)
        settles = self._codec.config.packet_samples(self._layout.frames(packet.payload, packet.n_q))
        self._quiet = self._layout.is_quiet(packet.n_q, self._start.n_q)
        self._held += settles - samples.shape[-1]
        owed = self._pause.packet(codes, self._quiet)
        # A decoder that still holds a part of the packet would output it among samples that are not to be heard.
        self._owed = deque([] if self._held else owed)
        while self._owed and self._fill_gaps:
            self.catch_up()
        if packet.seq < self._silent_before:
            self._skip += settles
        return self._behind_comfort(samples, self._audible(samples))

    def _behind_comfort(self, samples: Samples, audible: Samples | None = None) -> Samples:
        """A packet's samples, or what of them is `audible`, out of the noise before them; in a pause they are what it is made of."""
        if self._comfort is None:
            return samples if audible is None else audible
        heard = self._comfort.fade_into(samples if audible is None else audible)
        if self._quiet and self._fill_gaps:
            self._comfort.learn(samples)
        return heard

    def _audible(self, samples: Samples) -> Samples:
        """Cut off what is left of the history: a decoder may hold its first frames back."""
        skipped = min(self._skip, samples.shape[-1])
        self._skip -= skipped
        return samples[..., skipped:]

    def finish(self) -> Samples:
        """Nothing more comes of this stream: the samples that the decoder has held back. The end of a stream says the same."""
        decoder, self._decoder = self._decoder, None
        return self._audible(decoder.flush()) if decoder is not None else self._silence(0)
