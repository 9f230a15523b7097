"""Playing packets that come irregularly: as late as their jitter asks for, and no later.

    packets -> jitter -> target delay      how much audio must be buffered when a packet comes in time
            -> margin minus target -> shorter or longer at the same pitch, quiet passages first  (more than a few ms off)
                                   -> a resampling ratio off by at most 0.05%                    (the rest: clocks that drift)
                                   -> a jump with a cross-fade                                   (above the ceiling)
            -> resampler -> PlayoutBuffer -> device
    quiet packets -> comfort noise         while the buffer is empty in a pause, and until enough is in it again

TCP loses nothing, so every packet comes, some in bursts; what a burst has put into the buffer is given back. Most of a pause is not sent:
that is no underrun, and the packet after it counts as no later. This file reads no clock: whoever pushes says when a packet came.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamcodec.audio.playout.buffer import PlayoutBuffer
from streamcodec.audio.playout.delay import TargetDelay
from streamcodec.audio.playout.drift import DriftController, DriftResampler
from streamcodec.audio.playout.pause import PauseNoise
from streamcodec.audio.playout.tempo import TempoAdjuster
from streamcodec.errors import InputError
from streamcodec.types import Samples

__all__ = ["AdaptivePlayout", "PlayoutPolicy", "PlayoutStats"]


@dataclass(frozen=True)
class PlayoutPolicy:
    """Bounds of an `AdaptivePlayout`, in seconds and shares.

    The target is `floor_s` plus the lateness that `share` of the packets of the last `window_s` keep within, and at most `ceiling_s`. What
    is buffered above the target by more than `headroom_s` is dropped; less is given back by playing up to `fastest` faster.
    """

    floor_s: float = 0.02
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
    """How playing goes.

    `margin_s` is how late a packet could come now and still be played in time, `target_s` how late it may come, `late_s` how late most
    packets have come. `shortened_s`, `lengthened_s` and `dropped_s` are what was taken out or put in so far, `steering` how far the
    resampling ratio is off. `comfort_s` is the noise that was played in pauses, which are no underruns.
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
    """Samples at `rate_in` in, with the times of their packets; samples at `rate_out` out, pulled by a device.

    One thread pushes, one pulls, as with `PlayoutBuffer`. `block_s` is what the device pulls at once.
    """

    def __init__(self, rate_in: float, rate_out: float, policy: PlayoutPolicy = PlayoutPolicy(), *, block_s: float = 0.005) -> None:
        self.policy = policy
        self._rate_in, self._rate_out = float(rate_in), float(rate_out)
        # What the device takes at once must be there too: the margin is what is left when it has just done so.
        floor_s = policy.floor_s + block_s
        self._delay = TargetDelay(floor_s, policy.ceiling_s, policy.share, policy.window_s)
        self._tempo = TempoAdjuster(self._rate_in, policy.fastest, policy.tolerance_s)
        self._resampler = DriftResampler(rate_in, rate_out)
        self._drift = DriftController(policy.max_steering)
        self._pause = PauseNoise(self._rate_out)
        self._buffer = PlayoutBuffer(
            self._samples(floor_s),
            self._samples(policy.ceiling_s + policy.headroom_s + block_s),
            round(0.005 * self._rate_out),
            # All of a burst behind a long stall comes in before the device takes its next block.
            self._samples(10.0),
        )
        self._margin_s: float | None = None
        self._stops, self._dropped = 0, 0  # of the buffer, when the last packet came

    @property
    def stats(self) -> PlayoutStats:
        """How playing goes."""
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

    def push(self, samples: Samples, arrived: float | None = None, captured: float | None = None, *, quiet: bool = False) -> float:
        """Take a packet's samples [T], when it came, and when its last sample was captured: seconds, each on a clock of its own.

        Packets behind a `quiet` one may have been left out: where nothing comes in time, comfort noise is played. Samples without times,
        such as a decoder's last ones, are played behind the others and teach nothing. Returns the seconds until the first of them is
        pulled, if pulling goes on evenly.
        """
        if not samples.size:
            return self._ahead_s(samples)
        duration_s = samples.size / self._rate_in
        late_s = missing_s = 0.0
        if arrived is not None and captured is not None:
            late_s, missing_s = self._delay.add(arrived, captured, duration_s)
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
        self._margin_s = margin_s + (adjusted.size - samples.size) / self._rate_in
        self._resampler.steer(self._drift.step(excess_s, duration_s))
        self._play(adjusted, quiet)
        return self._ahead_s(adjusted)

    def pull(self, n: int, out: Samples | None = None) -> Samples:
        """Fill `out` [n] with what is due, as `PlayoutBuffer.pull`."""
        return self._buffer.pull(n, out)

    def finish(self) -> None:
        """Say that no more comes: the rest is played to its end."""
        self._buffer.push(self._resampler.flush())
        self._buffer.finish()

    def _next_margin_s(self, late_s: float, missing_s: float, duration_s: float) -> float:
        """How late a packet may come behind this one; where playing begins or a pause was too short, that much is padded."""
        buffer, target_s = self._buffer, self._delay.target_s
        stops = buffer.underruns + buffer.pauses
        stopped, self._stops = stops != self._stops, stops
        if self._margin_s is None or stopped:
            # Playing begins, or begins again, as much later as the target asks for: a late packet has waited for some of that already.
            wait_s = max(0.0, target_s - late_s)
            if self._margin_s is None:
                # The resampler holds a little back, once.
                wait_s += self._resampler.withheld_s
            self._pad(wait_s)
            buffer.target = max(1, self._samples(wait_s))
            self._drift.restart()
            return max(target_s, late_s)
        margin_s = self._margin_s - (buffer.dropped_samples - self._dropped) / self._rate_out
        now_s = buffer.buffered / self._rate_out + late_s
        if missing_s > duration_s / 2:
            # Packets that were left out before this one take their time all the same, as far as it is needed.
            wait_s = max(0.0, min(missing_s, target_s - now_s)) if self._pause.quiet else 0.0
            self._pad(wait_s)
            return now_s + wait_s
        # Blocks of the device and of the network make each look at the margin uneven; clocks move it slowly.
        return margin_s + (now_s - margin_s) * min(1.0, duration_s / 0.5)

    def _play(self, samples: Samples, quiet: bool) -> None:
        """Hand samples at `rate_in` over, with what is played where nothing comes behind them."""
        withheld = self._samples(self._resampler.withheld_s)
        self._buffer.push(*self._pause.follow(self._resampler.feed(samples), quiet=quiet, withheld=withheld))

    def _pad(self, seconds: float) -> None:
        self._buffer.push(*self._pause.pad(self._samples(seconds)))

    def _ahead_s(self, pushed: Samples) -> float:
        """What is pulled before the newest samples `pushed`; where nobody pulls, the buffer may have dropped some of those."""
        ahead_s: float = self._buffer.buffered / self._rate_out + self._resampler.withheld_s - pushed.size / self._rate_in
        return max(0.0, ahead_s)

    def _samples(self, seconds: float) -> int:
        return round(seconds * self._rate_out)
