"""A publisher's blocks as packets: samples cut and converted, codes packed, silence left out, losses counted in packets."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from streamcodec.audio.samples import check_block, float_to_pcm
from streamcodec.client.send_queue import Audio
from streamcodec.errors import InputError
from streamcodec.protocol import DtxFilter, PublishHello, Welcome, now_us
from streamcodec.types import Chunk, codes_in

__all__ = ["Packetizer"]

_PCM_S = 0.1  # of a packet of PCM, at most


class Packetizer:
    """Turns blocks of `channels` channels, or codes, into packets as the hello announced them and the server agreed.

    The codes of a model in chunks come as a `Chunk` a packet.
    """

    def __init__(self, hello: PublishHello, welcome: Welcome, channels: int) -> None:
        self._hello = hello
        self._model = welcome.model
        self._layout = welcome.model.layout
        self._max_n_q, self._max_frames = welcome.n_q or 0, welcome.packet_frames or 0
        self._channels = channels
        self._dtx = DtxFilter()
        self._lost_s = 0.0

    def packets(self, block: Any, captured_us: int | None) -> list[Audio] | None:
        """The packets of samples [T] or [C, T], or of codes [n_q, F]; None where they are left out as silence.

        `captured_us` is when the first sample was captured, by default a block's length ago. Raises `InputError` for a wrong shape or type.
        """
        if self._hello.format == "codes":
            packet = self._codes(block)
            pieces = None if packet is None else [packet]
        else:
            pieces = self._pcm(block)
        if pieces is None:
            return None
        captured = now_us() - round(sum(duration_s for _, duration_s, _ in pieces) * 1e6) if captured_us is None else captured_us
        packets = []
        for payload, duration_s, n_q in pieces:
            packets.append(Audio(payload, captured, duration_s, n_q))
            captured += round(duration_s * 1e6)
        return packets

    def lost(self, seconds: float) -> int:
        """How many packets are missing where so much audio was lost; what is no whole packet is counted with the next loss."""
        coded = self._hello.format == "codes"
        packet_s = self._model.packet_s(self._max_frames) if coded else _PCM_S
        self._lost_s += seconds
        count = max(0 if coded else 1, round(self._lost_s / packet_s))
        self._lost_s -= count * packet_s
        if count:
            self._dtx.restart()
        return count

    def _codes(self, packet: Any) -> tuple[bytes, float, int] | None:
        max_frames, codes = self._max_frames, np.asarray(codes_in(packet))
        if codes.ndim != 2 or not 1 <= codes.shape[0] <= self._max_n_q or not 1 <= codes.shape[1] <= max_frames:
            raise InputError(f"codes have shape {list(codes.shape)}, this stream's are [1 to {self._max_n_q}, 1 to {max_frames}]")
        n_q, frames = codes.shape
        payload, duration_s = (
            self._layout.pack(replace(packet, codes=codes) if isinstance(packet, Chunk) else codes),
            self._model.packet_s(frames),
        )
        # A shorter packet is the last one: it tells how long the stream is and is never left out.
        quiet = self._layout.is_quiet(n_q, self._max_n_q) and frames == max_frames
        return None if self._dtx.leaves_out(quiet, duration_s) else (payload, duration_s, n_q)

    def _pcm(self, block: Any) -> list[tuple[bytes, float, int]]:
        rate, channels = self._hello.sample_rate, self._hello.channels
        assert rate is not None and channels is not None and self._hello.format != "codes"
        # Mixed here: channels that the hello does not announce would only cost uplink.
        samples = check_block(block, self._channels, channels)
        step = round(_PCM_S * rate)
        parts = [samples[..., at : at + step] for at in range(0, samples.shape[-1], step)]
        return [(float_to_pcm(part, self._hello.format, channels), part.shape[-1] / rate, 0) for part in parts]
