"""Simulates a network, a playout and a device in simulated time: a trace says when packets arrive, and the device's clock may drift."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streamcodec.audio.playout.adaptive import AdaptivePlayout, PlayoutPolicy, PlayoutStats

RATE = 24_000
DEVICE_RATE = 48_000
PACKET = 1_920
PACKET_S = PACKET / RATE
BLOCK_S = 0.005
# Resampling takes most of a simulation's time: where only clocks matter, both rates are a quarter. Packets hold whole samples at these too.
LOW_RATES = (6_000, 12_000)


@dataclass
class Course:
    """What was heard, and for each packet when it was captured, how long its last sample then took to the device, and the stats.

    `held` is what was left in the buffer behind each of the device's blocks (s).
    """

    heard: NDArray[np.float32]
    captured: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    stats: list[PlayoutStats] = field(default_factory=list)
    held: list[float] = field(default_factory=list)

    def delay_between(self, begin: float, end: float) -> float:
        """The median delay of the packets captured in a stretch of time."""
        return float(np.median([d for t, d in zip(self.captured, self.delays, strict=True) if begin <= t < end]))


def in_order(sent: Sequence[float], late: Sequence[float]) -> list[float]:
    """When packets arrive that were each held up by `late`, on a link that keeps their order."""
    return list(np.maximum.accumulate(np.asarray(sent) + np.asarray(late)))


def stalled(sent: Sequence[float], begin: float, seconds: float, base: float = 0.0123) -> list[float]:
    """Arrivals over a link that stalls for a while and then delivers all waiting packets at once."""
    return [base + (begin + seconds if begin <= t < begin + seconds else t) for t in sent]


def decoded(came: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """When packets are decoded that came at the times `came`, where one at a time is decoded in so many seconds."""
    ready, free = [], 0.0
    for at, takes in zip(came, seconds, strict=True):
        free = max(free, at) + takes
        ready.append(free)
    return ready


def play(
    sound: NDArray[np.float32],
    arrivals: Callable[[list[float]], list[float]],
    *,
    policy: PlayoutPolicy | None = None,
    rates: tuple[int, int] = (RATE, DEVICE_RATE),
    device_ppm: float = 0.0,
    packet_s: float = PACKET_S,
    captured: Sequence[float] | None = None,
    decoding: Sequence[float] | None = None,
    quiet: Callable[[int], bool] = lambda _: False,
    left_out: Callable[[int], bool] = lambda _: False,
) -> Course:
    """Play `sound`, [T] or [C, T], in packets that arrive as `arrivals` makes of their sending times, on a device whose clock is fast by
    `device_ppm`.

    `rates` are the sound's and the device's. Packets are sent when they are whole, or at the times `captured`, and decoded one after the
    other, each in as many seconds as `decoding` says. `quiet` and `left_out` tell of a packet's number whether it is silence to its sender,
    and whether it never comes.
    """
    rate, device_rate = rates
    packet = round(packet_s * rate)
    packets = [sound[..., at : at + packet] for at in range(0, sound.shape[-1] - packet + 1, packet)]
    sent = [(i + 1) * packet / rate for i in range(len(packets))] if captured is None else list(captured)
    came = arrivals(sent)
    channels = 1 if sound.ndim == 1 else len(sound)
    playout = AdaptivePlayout(rate, device_rate, policy or PlayoutPolicy(), block_s=BLOCK_S, channels=channels)
    step = BLOCK_S / (1.0 + device_ppm * 1e-6)
    course, heard = Course(np.empty(0, np.float32)), []
    ready = decoded(came, decoding or [0.0] * len(came))
    events: list[tuple[float, int, int]] = [(t, 1, i) for i, t in enumerate(ready) if not left_out(i)]
    heapq.heapify(events)
    heapq.heappush(events, (0.0, 0, 0))
    last = max(ready) + 1.0
    while events:
        now, kind, index = heapq.heappop(events)
        if kind == 0:
            heard.append(playout.pull(round(BLOCK_S * device_rate)))
            course.held.append(playout.stats.buffered_s)
            if now < last:
                heapq.heappush(events, (now + step, 0, 0))
        else:
            playout.push(packets[index], came[index], sent[index], decoding_s=now - came[index], quiet=quiet(index))
            course.captured.append(sent[index])
            course.delays.append(now - sent[index] + playout.stats.buffered_s)
            course.stats.append(playout.stats)
    course.heard = np.concatenate(heard, axis=-1)
    return course
