"""Playing what comes irregularly: as late as the packets' lateness asks for, and no later.

    packets -> lateness -> target          how much must be in hand when a packet comes in time
            -> margin vs target -> shorter or longer at the same pitch, quiet passages first     (more than a few ms off)
                                -> a resampling ratio off by at most 0.05%                       (the rest: clocks that drift)
                                -> a jump with a cross-fade                                      (above the ceiling)
            -> resampler -> PlayoutBuffer -> device
    quiet packets -> comfort noise -> what is not sent of a pause, as long as the buffer is empty, and until there is enough in it again

TCP loses nothing, so every packet comes, some in bursts; what a burst has put into the buffer is given back. Of a pause most is left out:
that is no underrun, and what comes behind it is no later for it. No clock is read here: who pushes says when a packet came.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streamcodec.audio.dsp.comfort_noise import ComfortNoise, ramp
from streamcodec.audio.dsp.wsola import lengthen, shorten
from streamcodec.audio.playout.buffer import PlayoutBuffer
from streamcodec.audio.playout.drift import DriftResampler
from streamcodec.audio.playout.jitter_estimator import JitterEstimator
from streamcodec.errors import InputError
from streamcodec.types import Samples

__all__ = ["AdaptivePlayout", "PlayoutPolicy", "PlayoutStats"]


@dataclass(frozen=True)
class PlayoutPolicy:
    """Bounds of an `AdaptivePlayout`, in seconds and shares.

    The target is `floor_s` plus the lateness that `share` of the packets of the last `window_s` keep within, and at most `ceiling_s`. What
    is in hand above the target by more than `headroom_s` is dropped; less is given back by playing up to `fastest` faster.
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
    """How playing goes: `margin_s` is how late a packet could come now and still be played in time, `target_s` how late it may, `late_s`
    how late most of them have come.

    `shortened_s`, `lengthened_s` and `dropped_s` are what was taken out or put in so far, `steering` the resampling ratio's deviation.
    `comfort_s` is the noise that was played in pauses; that it was needed is no underrun.
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


# The longest stretch of comfort noise: something of a pause comes every second, or nobody is there any more, and then it fades.
_COMFORT_S = 2.0
_COMFORT_FADE_S = 0.5
# It is made anew when so much more of the pause is known.
_COMFORT_EVERY_S = 0.4


class AdaptivePlayout:
    """Samples at `rate_in` in, with the times of their packets; samples at `rate_out` out, pulled by a device.

    One thread pushes, one pulls, as with `PlayoutBuffer`. `block_s` is what the device pulls at once.
    """

    def __init__(self, rate_in: float, rate_out: float, policy: PlayoutPolicy = PlayoutPolicy(), *, block_s: float = 0.005) -> None:
        self.policy = policy
        self._rate_in, self._rate_out = float(rate_in), float(rate_out)
        # What the device takes at once must be there too: the margin is what is left when it has just done so.
        self._floor_s = policy.floor_s + block_s
        self._lateness = JitterEstimator(window_s=policy.window_s, max_s=policy.ceiling_s)
        self._resampler = DriftResampler(rate_in, rate_out)
        self._target_s = self._floor_s
        self._late_s = 0.0
        self._buffer = PlayoutBuffer(
            self._samples(self._floor_s),
            self._samples(policy.ceiling_s + policy.headroom_s + block_s),
            round(0.005 * self._rate_out),
            # All of a burst behind a long stall comes in before the device takes its next block.
            self._samples(10.0),
        )
        self._steering = _Steering(policy.max_steering)
        self._margin_s: float | None = None
        self._allowance = 0.0
        self._loudness = 0.0
        self._stops = self._dropped = 0
        self._captured: float | None = None
        self._comfort = ComfortNoise(self._rate_out)
        self._noise = np.empty(0, np.float32)
        self._noise_known = 0
        self._noise_used = False
        self._padded = 0
        self._quiet = False
        self._shortened = self._lengthened = 0

    @property
    def stats(self) -> PlayoutStats:
        """How playing goes."""
        buffer = self._buffer
        return PlayoutStats(
            target_s=self._target_s,
            margin_s=self._margin_s or 0.0,
            buffered_s=buffer.buffered / self._rate_out,
            underruns=buffer.underruns,
            jumps=buffer.jumps,
            dropped_s=buffer.dropped_samples / self._rate_out,
            shortened_s=self._shortened / self._rate_in,
            lengthened_s=self._lengthened / self._rate_in,
            steering=self._steering.value,
            late_s=self._late_s,
            comfort_s=(buffer.comforted + self._padded) / self._rate_out,
        )

    @property
    def drained(self) -> bool:
        """Whether `finish` was called and everything has been played."""
        return self._buffer.drained

    def push(self, samples: Samples, arrived: float | None = None, captured: float | None = None, *, quiet: bool = False) -> float:
        """Take a packet's samples [T], when it came, and when its last sample was captured: seconds, each on a clock of its own.

        Behind a `quiet` one others may have been left out: where nothing comes in time comfort noise is played. Samples without times, such
        as a decoder's last ones, are played behind the others and teach nothing. Returns the seconds until the first of them is pulled, if
        pulling goes on evenly.
        """
        if not samples.size:
            return self._ahead_s(samples)
        policy, duration_s = self.policy, samples.size / self._rate_in
        late_s = missing_s = 0.0
        if arrived is not None and captured is not None:
            late_s = self._lateness.add(arrived, captured)
            missing_s = 0.0 if self._captured is None else captured - self._captured - duration_s
            self._captured = captured
        elif self._margin_s is not None:
            self._play(samples, quiet)
            return self._ahead_s(samples)
        self._late_s = self._lateness.quantile(policy.share)
        self._target_s = min(policy.ceiling_s, self._floor_s + self._late_s)
        stops = self._buffer.underruns + self._buffer.pauses
        if self._margin_s is None or stops != self._stops:
            # Playing begins, or begins again, as much later as the target asks for: what came late has been waited for already.
            wait_s = max(0.0, self._target_s - late_s)
            if self._margin_s is None:
                # The resampler holds a little back, once.
                wait_s += self._resampler.withheld_s
            self._pad(self._samples(wait_s))
            self._buffer.target = max(1, self._samples(wait_s))
            self._margin_s = max(self._target_s, late_s)
            self._steering.forget()
        else:
            self._margin_s -= (self._buffer.dropped_samples - self._dropped) / self._rate_out
            now_s = self._buffer.buffered / self._rate_out + late_s
            if missing_s > duration_s / 2:
                # What was left out before this one takes its time all the same, as far as it is needed.
                wait_s = max(0.0, min(missing_s, self._target_s - now_s)) if self._quiet else 0.0
                self._pad(self._samples(wait_s))
                self._margin_s = now_s + wait_s
            else:
                # Blocks of the device and of the network make each look at the margin uneven; clocks move it slowly.
                self._margin_s += (now_s - self._margin_s) * min(1.0, duration_s / 0.5)
        self._stops, self._dropped = stops, self._buffer.dropped_samples
        self._buffer.ceiling = self._samples(self._target_s + policy.headroom_s + duration_s)
        self._buffer.landing = max(1, self._samples(self._target_s + duration_s))
        excess_s = self._margin_s - self._target_s
        samples = self._adjust(samples, excess_s)
        self._resampler.steer(self._steering.step(excess_s, duration_s))
        self._play(samples, quiet)
        return self._ahead_s(samples)

    def pull(self, n: int, out: Samples | None = None) -> Samples:
        """Fill `out` [n] with what is due, as `PlayoutBuffer.pull`."""
        return self._buffer.pull(n, out)

    def finish(self) -> None:
        """Say that no more comes: the rest is played to its end."""
        self._buffer.push(self._resampler.flush())
        self._buffer.finish()

    def _play(self, samples: Samples, quiet: bool) -> None:
        """Hand samples at `rate_in` over, with what is to be played where nothing comes behind them."""
        out = self._comfort.fade_into(self._resampler.feed(samples))
        if quiet:
            # The resampler had held back the last of what went before.
            self._comfort.learn(out if self._quiet else out[self._samples(self._resampler.withheld_s) :])
            self._noise_known += out.size
            if not self._quiet or self._noise_known >= self._samples(_COMFORT_EVERY_S) or self._noise_used:
                self._make_noise()
        self._quiet = quiet
        self._buffer.push(out, self._noise if quiet else None)

    def _make_noise(self) -> None:
        self._noise, self._noise_known, self._noise_used = self._comfort.make(self._samples(_COMFORT_S)), 0, False
        end = self._samples(_COMFORT_FADE_S)
        self._noise[-end:] *= ramp(end)[::-1]

    def _pad(self, samples: int) -> None:
        """Hand over what is heard until there is enough to go on with: comfort noise in a pause, otherwise nothing."""
        self._noise_used = True
        if self._quiet:
            self._padded += samples
            self._buffer.push(self._comfort.go_on(samples), self._noise)
        else:
            self._buffer.push(np.zeros(samples, np.float32))

    def _ahead_s(self, pushed: Samples) -> float:
        """What is to be pulled before the newest samples `pushed`; where nobody pulls, the buffer may have dropped some of those."""
        ahead_s: float = self._buffer.buffered / self._rate_out + self._resampler.withheld_s - pushed.size / self._rate_in
        return max(0.0, ahead_s)

    def _samples(self, seconds: float) -> int:
        return round(seconds * self._rate_out)

    def _adjust(self, samples: Samples, excess_s: float) -> Samples:
        """Shorten or lengthen a packet as far as is needed and may be; what one packet does not use the next ones may, up to 15 ms."""
        policy = self.policy
        loudness = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
        self._loudness += (loudness - self._loudness) * (0.5 if loudness > self._loudness else 0.02)
        quiet = loudness < 1e-3 or loudness < 0.1 * self._loudness
        self._allowance = min(self._allowance + policy.fastest * samples.size, max(0.015 * self._rate_in, policy.fastest * samples.size))
        needed = abs(excess_s)
        if needed < (policy.tolerance_s / 2 if quiet else policy.tolerance_s):
            return samples
        # In a quiet passage half of it may go: there is nothing in it that could be cut.
        most = min(round(needed * self._rate_in), samples.size // 2 if quiet else int(self._allowance))
        # The further off, the less alike the two ends of a cut need to be.
        likeness = 0.0 if quiet else 0.7 if needed < 0.1 else 0.3
        before, samples = samples.size, (shorten if excess_s > 0 else lengthen)(samples, most, self._rate_in, likeness=likeness)
        change = samples.size - before
        if not quiet:
            self._allowance -= abs(change)
        self._shortened -= min(0, change)
        self._lengthened += max(0, change)
        self._margin_s = (self._margin_s or 0.0) + change / self._rate_in
        return samples


class _Steering:
    """Holds the margin at its target against clocks that drift: a slow PI controller of the resampling ratio."""

    _PULL = 0.05  # per second: 10 ms off are made up for at 0.05%, in some 20 s

    def __init__(self, most: float) -> None:
        self.value = 0.0
        self._most = most
        self._drift = 0.0

    def forget(self) -> None:
        """The margin was set anew; the clocks drift as before."""
        self.value = self._drift

    def step(self, excess_s: float, seconds: float) -> float:
        """The share by which to play faster during the next `seconds`."""
        wanted = self._PULL * excess_s + self._drift
        if abs(wanted) < self._most:
            self._drift += self._PULL**2 / 4 * excess_s * seconds
            self._drift = max(-self._most, min(self._most, self._drift))
        self.value = max(-self._most, min(self._most, wanted))
        return self.value
