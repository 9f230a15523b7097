"""Who publishes what and who listens to what: a plan is numbers only, so that both the load and its check make the same audio of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from streamcodec.audio import StreamResampler, bundled_clip, pcm_to_float, resample
from streamcodec.audio.samples import quantize16
from streamcodec.config import Start
from streamcodec.types import Samples

__all__ = ["ListenerPlan", "Plan", "PublisherPlan", "heard_by_the_encoder", "make_plan", "spoken"]

Format = Literal["codes", "pcm_s16le", "pcm_f32le"]

_BANDWIDTHS = (1.5, 3.0, 6.0, 12.0, 24.0)
# By turns; the fifth and tenth encode for themselves. Most people leave the default, 6 kbps.
_PUBLISHED = (6.0, 12.0, 6.0, 24.0, 24.0, 3.0, 6.0, 1.5, 6.0, 24.0)


@dataclass(frozen=True)
class PublisherPlan:
    """One publisher: what it sends, and by how much of a packet its clock is behind the first one's."""

    name: str
    seed: int
    format: Format
    rate: int
    bandwidth: float
    start: Start
    phase_s: float

    @property
    def kind(self) -> str:
        """The publisher's sort, for tables."""
        return "codes" if self.format == "codes" else f"PCM {self.rate // 1000} kHz"


@dataclass(frozen=True)
class ListenerPlan:
    """One listener: the stream, and what it asks for."""

    stream: int
    format: Format
    bandwidth: float | None


@dataclass(frozen=True)
class Plan:
    """The whole load, for `seconds` of audio in packets of `packet_s`; `fast` sends it as quickly as the server takes it."""

    publishers: list[PublisherPlan]
    listeners: list[ListenerPlan]
    seconds: float
    packet_s: float
    block_s: float
    fast: bool = False


def make_plan(
    publishers: int, listeners: int, seconds: float, packet_s: float, block_s: float, pcm_every: int = 2, *, fast: bool = False
) -> Plan:
    """Spread kinds of publishers and listeners evenly; `seconds` is rounded down to whole packets.

    Every fifth publisher sends codes and two of five PCM at 48 kHz, which the server resamples. Each stream's first listener takes all of
    its codes. The others take PCM, in both formats by turns, of every `pcm_every`-th stream, and codes at a lower bandwidth of the others.
    """
    rng = np.random.default_rng(0)
    made = [
        PublisherPlan(
            name=f"voice-{i:03}",
            seed=i,
            format="codes" if i % 5 == 4 else "pcm_s16le",
            rate=48_000 if i % 5 in (1, 3) else 24_000,
            bandwidth=_PUBLISHED[i % len(_PUBLISHED)],
            start="primed" if i % 7 == 3 else "exact",
            # Nobody's packets fall due at one moment: people do not speak in step.
            phase_s=float(rng.uniform(0, packet_s)),
        )
        for i in range(publishers)
    ]
    heard: list[ListenerPlan] = []
    for j in range(listeners):
        stream, turn = j % publishers, j // publishers
        lower = [b for b in _BANDWIDTHS if b <= made[stream].bandwidth]
        if turn == 0:
            heard.append(ListenerPlan(stream, "codes", None))
        elif stream % pcm_every == 0:
            heard.append(ListenerPlan(stream, "pcm_f32le" if turn % 2 else "pcm_s16le", None))
        else:
            heard.append(ListenerPlan(stream, "codes", lower[(stream // 2 + turn) % len(lower)]))
    return Plan(made, heard, int(seconds / packet_s + 1e-9) * packet_s, packet_s, block_s, fast)


def spoken(plan: Plan, publisher: PublisherPlan) -> npt.NDArray[np.int16]:
    """What a publisher says [T] at its own rate: the bundled clip from another place on, louder or softer, with noise of its own."""
    clip, rate = bundled_clip()
    rng = np.random.default_rng(1_000 + publisher.seed)
    at = int(rng.integers(len(clip)))
    samples = np.resize(np.roll(clip, -at), round(plan.seconds * rate)) * rng.uniform(0.25, 1.2)
    samples = samples + 10 ** rng.uniform(-3.2, -2.0) * rng.standard_normal(len(samples))
    return quantize16(resample(samples.astype(np.float32), rate, publisher.rate))


def heard_by_the_encoder(plan: Plan, publisher: PublisherPlan) -> Samples:
    """The same as float samples [T] at 24 kHz, resampled in one go by what the server resamples a stream with."""
    resampler = StreamResampler(publisher.rate, 24_000)
    samples = pcm_to_float(spoken(plan, publisher).tobytes(), "pcm_s16le")
    return np.concatenate([resampler.feed(samples), resampler.flush()])
