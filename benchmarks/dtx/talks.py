"""Talks with pauses, and what arrives of them where all is sent and where silence is thinned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from streamcodec.client import Player
from streamcodec.codec import Codec
from streamcodec.protocol import SILENCE, DtxFilter, Gap, Packet, StreamEnd, StreamStart, pack_codes
from streamcodec.types import Codes, Samples

__all__ = ["PAUSE_S", "TCP_IP_BYTES", "Sent", "noise", "send", "talk", "utterances", "wire_bytes"]


PAUSE_S = (0.6, 10.0)
_UTTERANCE_S = 2.5

TCP_IP_BYTES = 40


@dataclass(frozen=True)
class Sent:
    """A talk `sound` [T] as it arrives with all codebooks, `every` [T], and where few of the packets that are `quiet` come, with one
    codebook, and comfort noise takes the place of the others, `fewer` [T].

    `payload`, `message` and `wire` are each packet's bytes [2, packets]: with all, and with fewer, where a gap counts for the last packet
    that it names. `sent` are the packets that come of the quiet ones too. A packet is `size` samples.
    """

    sound: Samples
    every: Samples
    fewer: Samples
    quiet: npt.NDArray[np.bool_]
    sent: npt.NDArray[np.bool_]
    payload: npt.NDArray[np.int64]
    message: npt.NDArray[np.int64]
    wire: npt.NDArray[np.int64]
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
    """`sound` [T] through encoder, wire and decoder, where all is sent and where silence is thinned."""
    ways: list[list[Codes]] = []
    for threshold in (None, silence_db):
        encoder = codec.stream_encoder(kbps, packet_frames=packet_frames, silence_db=threshold)
        ways.append([*encoder.feed(sound), *encoder.flush()])
    most = len(ways[0][0])
    quiet = np.array([len(packet) < most for packet in ways[1]])
    # As server and publisher do: a short packet, the last, is always sent.
    thinner, packet_s = DtxFilter(), packet_frames / codec.frame_rate
    sent = np.array(
        [
            not thinner.leaves_out(bool(silent) and codes.shape[1] == packet_frames, packet_s)
            for silent, codes in zip(quiet, ways[1], strict=True)
        ]
    )
    decoder = codec.stream_decoder(kbps)
    every = np.concatenate([*map(decoder.feed, ways[0]), decoder.flush()])[: len(sound)]
    messages = [_messages(codec, ways[0], np.ones_like(sent), packet_s), _messages(codec, ways[1], sent, packet_s)]
    player = Player(codec, fill_gaps=True)
    player.feed(_start(codec, kbps, packet_frames))
    heard = [player.feed(message) for place in messages[1] for message in place]
    heard.append(player.feed(StreamEnd(next_seq=len(sent))))
    sizes = [
        [[sum(of(m) for m in place) for place in way] for way in messages]
        for of in (_payload_bytes, lambda m: len(m.serialize()), lambda m: wire_bytes(len(m.serialize())))
    ]
    return Sent(
        sound=sound,
        every=every,
        fewer=np.concatenate(heard)[: len(sound)],
        quiet=quiet,
        sent=sent,
        payload=np.array(sizes[0]),
        message=np.array(sizes[1]),
        wire=np.array(sizes[2]),
        size=packet_frames * codec.hop_length,
        rate=codec.sample_rate,
    )


def wire_bytes(message: int) -> int:
    """An estimate of what a message takes on its way to a listener where it is sent alone: IPv4 and TCP headers, and the WebSocket's."""
    return message + TCP_IP_BYTES + (2 if message < 126 else 4)


def _messages(codec: Codec, packets: Sequence[Codes], sent: npt.NDArray[np.bool_], packet_s: float) -> list[list[Packet | Gap]]:
    """What goes out at each packet's place: itself, or the gap behind the last that is left out."""
    bits, begun = codec.config.bits_per_code, 0
    places: list[list[Packet | Gap]] = []
    for i, codes in enumerate(packets):
        places.append([])
        if sent[i]:
            places[-1].append(Packet(i, 0, round(1e6 * i * packet_s) % 2**32, len(codes), pack_codes(codes, bits)))
            begun = i + 1
        elif i + 1 == len(packets) or sent[i + 1]:
            places[-1].append(Gap(first_seq=begun, count=i + 1 - begun, reason=SILENCE))
    return places


def _payload_bytes(message: Packet | Gap) -> int:
    return len(message.payload) if isinstance(message, Packet) else 0


def _start(codec: Codec, kbps: float, packet_frames: int) -> StreamStart:
    return StreamStart(
        epoch=0,
        n_q=codec.config.n_q_for(kbps),
        bandwidth=kbps,
        packet_frames=packet_frames,
        start=codec.engine.traits.default_live_start,
        first_seq=0,
        live_seq=0,
        format="codes",
        sample_rate=codec.sample_rate,
    )
