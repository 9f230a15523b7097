"""Adaptive playout: plays packets that arrive irregularly, with the smallest delay that their jitter allows.

    packets -> jitter -> target delay      how much audio must be buffered when a packet arrives in time
            -> margin minus target -> time stretching at the same pitch, quiet passages first    (more than a few ms off)
                                   -> a resampling ratio changed by at most 0.05%                (the rest: clock drift)
                                   -> a jump with a cross-fade                                   (above the ceiling)
            -> resampler -> PlayoutBuffer -> device
    quiet packets -> comfort noise         while the buffer is empty in a pause, and until it holds enough again

TCP loses nothing, so every packet arrives, some of them in bursts. The extra delay after a burst is reduced again. Most packets of a pause
are not sent. This is not an underrun, and the packet after the pause does not count as late. This file reads no clock: the caller passes
the time at which each packet arrived.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamcodec.audio.playout.buffer import PlayoutBuffer
from streamcodec.audio.playout.decoding_time import DecodingTime
from streamcodec.audio.playout.delay import TargetDelay
from streamcodec.audio.playout.drift import DriftController, DriftResampler
from streamcodec.audio.playout.pause import PauseNoise
from streamcodec.audio.playout.tempo import TempoAdjuster
from streamcodec.errors import InputError
from streamcodec.types import Samples

__all__ = ["AdaptivePlayout", "PlayoutPolicy", "PlayoutStats"]


@dataclass(frozen=True)
class PlayoutPolicy:
    """Settings of an `AdaptivePlayout`, in seconds and shares.

    The target delay is `floor_s`, or, where that is more, the lateness that `share` of the packets of the last `window_s` do not exceed
    with `reserve_s` for the packets that are later still; a reserve above the floor counts as the floor. The target is at most
    `ceiling_s`. If the buffer holds more than the target plus `headroom_s`, the oldest samples are dropped. A smaller excess, if it is
    above `tolerance_s`, is removed by playing faster by at most the share `fastest`. `max_steering` bounds the change of the resampling
    ratio, as a share. Raises `InputError` for contradictory values.
    """

    floor_s: float = 0.02
    reserve_s: float = 0.02
    ceiling_s: float = 0.25
    headroom_s: float = 0.5
    share: float = 0.98
    window_s: float = 10.0
    fastest: float = 0.12
    tolerance_s: float = 0.012
    max_steering: float = 0.0005

    def __post_init__(self) -> None:
        if not (0.0 < self.floor_s <= self.ceiling_s and self.headroom_s > 0.0 and 0.0 < self.share < 1.0):
            raise InputError(
                f"floor_s is {self.floor_s}, ceiling_s {self.ceiling_s}, headroom_s {self.headroom_s} and share {self.share}, "
                "expected 0 < floor_s <= ceiling_s, headroom_s > 0 and a share between 0 and 1"
            )


@dataclass(frozen=True, slots=True)
class PlayoutStats:
    """Statistics of the playout; all names with `_s` are in seconds.

    `margin_s` is how late a packet could arrive now and still be played in time. `target_s` is the margin that the playout aims at.
    `late_s` is the lateness that most packets did not exceed. `shortened_s`, `lengthened_s` and `dropped_s` are the audio that was
    removed, inserted and dropped so far. `steering` is the share by which the resampling ratio is changed. `comfort_s` is the noise that
    was played in pauses, which are not underruns.
    """

    target_s: float
    margin_s: float
    buffered_s: float
    underruns: int
    jumps: int
    dropped_s: float
    shortened_s: float
    lengthened_s: float
    steering: float
    late_s: float
    comfort_s: float = 0.0


class AdaptivePlayout:
    """Takes packets of samples at `rate_in` (Hz) with their times; a device pulls samples at `rate_out` (Hz), both of `channels`.

    One thread pushes and one thread pulls, as with `PlayoutBuffer`. `block_s` is the length of the blocks that the device pulls.
    """

    def __init__(
        self, rate_in: float, rate_out: float, policy: PlayoutPolicy = PlayoutPolicy(), *, block_s: float = 0.005, channels: int = 1
    ) -> None:
        self.policy = policy
        self._rate_in, self._rate_out = float(rate_in), float(rate_out)
        # The device takes a whole block at once, and the margin is what remains in the buffer afterwards. So the target includes a block.
        self._reserve_s = min(policy.reserve_s, policy.floor_s)
        self._delay = TargetDelay(policy.floor_s, policy.ceiling_s, self._reserve_s, block_s, policy.share, policy.window_s)
        self._decoding = DecodingTime(policy.window_s)
        self._tempo = TempoAdjuster(self._rate_in, policy.fastest, policy.tolerance_s)
        self._resampler = DriftResampler(rate_in, rate_out, channels)
        self._drift = DriftController(policy.max_steering)
        self._pause = PauseNoise(self._rate_out, channels)
        self._buffer = PlayoutBuffer(
            self._samples(policy.floor_s + block_s),
            self._samples(policy.ceiling_s + policy.headroom_s + block_s),
            round(0.005 * self._rate_out),
            # The whole burst after a long stall arrives before the device takes its next block.
            self._samples(10.0),
            channels,
        )
        self._margin_s: float | None = None
        self._stops, self._dropped = 0, 0  # the buffer's counters when the last packet arrived

    @property
    def stats(self) -> PlayoutStats:
        """The statistics of the playout up to now."""
        buffer = self._buffer
        return PlayoutStats(
            target_s=self._delay.target_s,
            margin_s=self._margin_s or 0.0,
            buffered_s=buffer.buffered / self._rate_out,
            underruns=buffer.underruns,
            jumps=buffer.jumps,
            dropped_s=buffer.dropped_samples / self._rate_out,
            shortened_s=self._tempo.shortened / self._rate_in,
            lengthened_s=self._tempo.lengthened / self._rate_in,
            steering=self._drift.steering,
            late_s=self._delay.jitter_s,
            comfort_s=(buffer.comforted + self._pause.padded) / self._rate_out,
        )

    @property
    def drained(self) -> bool:
        """Whether `finish` was called and everything has been played."""
        return self._buffer.drained

    def push(
        self,
        samples: Samples,
        arrived: float | None = None,
        captured: float | None = None,
        *,
        decoding_s: float = 0.0,
        quiet: bool = False,
    ) -> float:
        """Take a packet's samples, with its arrival time and the capture time of its last sample (seconds; the clocks may differ).

        `decoding_s` is how long after its arrival the samples were there. What decoding usually takes is planned for and is no lateness.
        After a `quiet` packet, packets may have been omitted: if none arrives in time, comfort noise is played. Samples without times, such
        as a decoder's last ones, are played after the others and do not change the jitter estimate. Returns the seconds until the first of
        these samples is pulled, if the device pulls evenly.
        """
        if not samples.size:
            return self._ahead_s(samples)
        duration_s = samples.shape[-1] / self._rate_in
        late_s = missing_s = 0.0
        if arrived is not None and captured is not None:
            waited_s, took_s = self._decoding.add(arrived, decoding_s)
            # The reserve is also for a machine that is busy now and then. Only what it cannot cover counts as lateness.
            stalled_s = max(0.0, took_s - self._reserve_s)
            late_s, missing_s = self._delay.add(arrived + stalled_s, captured, duration_s)
            late_s += waited_s - stalled_s
        elif self._margin_s is not None:
            self._play(samples, quiet)
            return self._ahead_s(samples)
        else:
            self._delay.update()
        margin_s = self._next_margin_s(late_s, missing_s, duration_s)
        self._dropped = self._buffer.dropped_samples
        target_s = self._delay.target_s
        self._buffer.ceiling = self._samples(target_s + self.policy.headroom_s + duration_s)
        self._buffer.landing = max(1, self._samples(target_s + duration_s))
        excess_s = margin_s - target_s
        adjusted = self._tempo.adjust(samples, excess_s)
        self._margin_s = margin_s + (adjusted.shape[-1] - samples.shape[-1]) / self._rate_in
        self._resampler.steer(self._drift.step(excess_s, duration_s))
        self._play(adjusted, quiet)
        return self._ahead_s(adjusted)

    def pull(self, n: int, out: Samples | None = None) -> Samples:
        """Fill `out` with the `n` samples that are due, as `PlayoutBuffer.pull` does."""
        return self._buffer.pull(n, out)

    def interrupt(self) -> None:
        """The device has stopped without asking: what is pulled next fades in. Call it on the thread that pulls."""
        self._buffer.interrupt()

    def finish(self) -> None:
        """Mark the end of the samples: the rest is played to its end."""
        self._buffer.push(self._resampler.flush())
        self._buffer.finish()

    def _next_margin_s(self, late_s: float, missing_s: float, duration_s: float) -> float:
        """The margin after this packet: how late the next one may arrive. Pads the buffer when playing starts or a pause was too short."""
        buffer, target_s = self._buffer, self._delay.target_s
        stops = buffer.underruns + buffer.pauses
        stopped, self._stops = stops != self._stops, stops
        if self._margin_s is None or stopped:
            # Playing starts, or starts again, after the target delay. A late packet has used up a part of that delay already.
            wait_s = max(0.0, target_s - late_s)
            if self._margin_s is None:
                # The resampler withholds its first samples once.
                wait_s += self._resampler.withheld_s
            self._pad(wait_s)
            buffer.target = max(1, self._samples(wait_s))
            self._drift.restart()
            return max(target_s, late_s)
        margin_s = self._margin_s - (buffer.dropped_samples - self._dropped) / self._rate_out
        now_s = buffer.buffered / self._rate_out + late_s
        if missing_s > duration_s / 2:
            # Packets before this one were omitted. Their duration is padded as far as the target needs it.
            wait_s = max(0.0, min(missing_s, target_s - now_s)) if self._pause.quiet else 0.0
            self._pad(wait_s)
            return now_s + wait_s
        # The blocks of the device and the network make single measurements of the margin uneven, while clock drift changes it slowly.
        return margin_s + (now_s - margin_s) * min(1.0, duration_s / 0.5)

    def _play(self, samples: Samples, quiet: bool) -> None:
        """Resample and push samples at `rate_in`, with the noise that is played if nothing arrives after them."""
        withheld = self._samples(self._resampler.withheld_s)
        self._buffer.push(*self._pause.follow(self._resampler.feed(samples), quiet=quiet, withheld=withheld))

    def _pad(self, seconds: float) -> None:
        self._buffer.push(*self._pause.pad(self._samples(seconds)))

    def _ahead_s(self, pushed: Samples) -> float:
        """The audio (s) that is pulled before the samples `pushed`; at least 0, because a buffer that nothing pulls drops some of them."""
        ahead_s: float = self._buffer.buffered / self._rate_out + self._resampler.withheld_s - pushed.shape[-1] / self._rate_in
        return max(0.0, ahead_s)

    def _samples(self, seconds: float) -> int:
        return round(seconds * self._rate_out)
