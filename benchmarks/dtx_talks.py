"""Talks with pauses, and what arrives of them with all codebooks and with fewer where they are quiet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from streamcodec.codec import Codec
from streamcodec.protocol import Packet, pack_codes

__all__ = ["PAUSE_S", "Samples", "Sent", "noise", "send", "talk", "utterances"]

Samples = npt.NDArray[np.float32]

PAUSE_S = (0.6, 10.0)
_UTTERANCE_S = 2.5


@dataclass(frozen=True)
class Sent:
    """A talk `sound` [T] as it arrives with all codebooks, `every` [T], and with one in the packets that are `quiet`, `fewer` [T].

    `payload` and `message` are each packet's bytes [2, packets]: with all codebooks, and with fewer. A packet is `size` samples.
    """

    sound: Samples
    every: Samples
    fewer: Samples
    quiet: npt.NDArray[np.bool_]
    payload: npt.NDArray[np.int64]
    message: npt.NDArray[np.int64]
    size: int
    rate: int

    @property
    def pauses(self) -> list[tuple[int, int]]:
        """Runs of quiet packets as (first, behind the last)."""
        return [(first, end) for quiet, first, end in self._runs() if quiet]

    @property
    def returns(self) -> list[tuple[int, int]]:
        """Runs of packets with all codebooks that follow a pause."""
        return [(first, end) for quiet, first, end in self._runs() if not quiet and first]

    def _runs(self) -> list[tuple[bool, int, int]]:
        runs, at = [], 0
        for quiet, group in groupby(self.quiet.tolist()):
            size = len(list(group))
            runs.append((quiet, at, at + size))
            at += size
        return runs

    def cut(self, samples: Samples, first: int, end: int) -> Samples:
        """Packets `first` to `end` - 1 of `samples`."""
        return samples[first * self.size : end * self.size]


def talk(clips: Sequence[Samples], rate: int, seed: int) -> Samples:
    """`clips` [T] with a pause of 0.6 to 10 s of digital silence behind each: half of a conversation."""
    rng = np.random.default_rng([seed, 1])
    fade = np.linspace(0, 1, rate // 200, dtype=np.float32)
    parts: list[Samples] = []
    for clip in clips:
        spoken = np.array(clip, np.float32)
        spoken[: len(fade)] *= fade
        spoken[-len(fade) :] *= fade[::-1]
        parts += [spoken, np.zeros(round(rng.uniform(*PAUSE_S) * rate), np.float32)]
    return np.concatenate(parts)


def noise(samples: int, rate: int, db: float, seed: int) -> Samples:
    """A room at `db` dBFS [T]: pink above 20 Hz, as much power in each octave."""
    rng = np.random.default_rng([seed, 2])
    frequency = np.fft.rfftfreq(samples, 1 / rate)
    shape = np.where(frequency < 20, 0.0, 1 / np.sqrt(np.maximum(frequency, 20)))
    pink = np.fft.irfft(np.fft.rfft(rng.standard_normal(samples)) * shape, samples)
    return np.asarray(pink * 10 ** (db / 20) / np.sqrt(np.mean(pink**2)), np.float32)


def utterances(clip: Samples, rate: int) -> list[Samples]:
    """A clip in pieces of about 2.5 s, cut where it is quietest."""
    part, length = rate // 50, round(_UTTERANCE_S * rate)
    powers = np.square(clip[: len(clip) // part * part], dtype=np.float64).reshape(-1, part).sum(axis=1)
    cuts, at = [0], length
    while at + length // 2 < len(clip):
        near = (at - length // 5) // part
        cuts.append(part * (near + int(np.argmin(powers[near : (at + length // 5) // part]))))
        at = cuts[-1] + length
    return np.split(clip, cuts[1:])


def send(codec: Codec, sound: Samples, kbps: float, packet_frames: int, silence_db: float) -> Sent:
    """`sound` [T] through encoder, wire and decoder, with all codebooks and with fewer where it is quiet."""
    ways = []
    for threshold in (None, silence_db):
        encoder = codec.stream_encoder(kbps, packet_frames=packet_frames, silence_db=threshold)
        ways.append([*encoder.feed(sound), *encoder.flush()])
    heard = []
    for packets in ways:
        decoder = codec.stream_decoder(kbps)
        heard.append(np.concatenate([*(decoder.feed(packet) for packet in packets), decoder.flush()])[: len(sound)])
    packet_us, bits = round(1e6 * packet_frames / codec.frame_rate), codec.config.bits_per_code
    wire = [
        [Packet(i, 0, i * packet_us % 2**32, len(codes), pack_codes(codes, bits)) for i, codes in enumerate(packets)] for packets in ways
    ]
    return Sent(
        sound=sound,
        every=heard[0],
        fewer=heard[1],
        quiet=np.array([len(packet) < len(ways[0][0]) for packet in ways[1]]),
        payload=np.array([[len(message.payload) for message in messages] for messages in wire]),
        message=np.array([[len(message.serialize()) for message in messages] for messages in wire]),
        size=packet_frames * codec.hop_length,
        rate=codec.sample_rate,
    )
