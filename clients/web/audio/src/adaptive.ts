// Adaptive playout: plays packets that arrive irregularly, with the smallest delay that their jitter allows.
//
//   packets -> jitter -> target delay      how much audio must be buffered when a packet arrives in time
//           -> margin minus target -> time stretching at the same pitch, quiet passages first    (more than a few ms off)
//                                  -> a resampling ratio changed by at most 0.05%                (the rest: clock drift)
//                                  -> a jump with a cross-fade                                   (above the ceiling)
//           -> resampler -> PlayoutWriter -> PlayoutReader -> device
//   quiet packets -> comfort noise         while the buffer is empty in a pause, and until it holds enough again
//
// The decisions are those of the Python player: the same arrivals give the same. This file reads no clock.

import { DecodingTime, TargetDelay } from "./delay.ts";
import { DriftController, DriftResampler } from "./drift.ts";
import { PlayoutMemory } from "./memory.ts";
import { roundHalfEven } from "./numbers.ts";
import { NOISE_S, PauseNoise } from "./pause.ts";
import type { Followed } from "./pause.ts";
import { TempoAdjuster } from "./tempo.ts";
import { PlayoutWriter } from "./writer.ts";

/** Settings in seconds and shares: see the Python `PlayoutPolicy`. */
export interface PlayoutPolicy {
  readonly floorS: number;
  readonly reserveS: number;
  readonly ceilingS: number;
  readonly headroomS: number;
  readonly share: number;
  readonly windowS: number;
  readonly fastest: number;
  readonly toleranceS: number;
  readonly maxSteering: number;
}

export const DEFAULT_POLICY: PlayoutPolicy = {
  floorS: 0.02,
  reserveS: 0.02,
  ceilingS: 0.25,
  headroomS: 0.5,
  share: 0.98,
  windowS: 10,
  fastest: 0.12,
  toleranceS: 0.012,
  maxSteering: 0.0005,
};

/** How playing goes; names with `S` are in seconds. `marginS` is how late a packet could arrive now and still be played in time. */
export interface PlayoutStats {
  readonly targetS: number;
  readonly marginS: number;
  readonly bufferedS: number;
  readonly underruns: number;
  readonly jumps: number;
  readonly droppedS: number;
  readonly shortenedS: number;
  readonly lengthenedS: number;
  readonly steering: number;
  readonly lateS: number;
  readonly comfortS: number;
}

/** What is known of a packet besides its samples, in seconds: when it came, when its last sample was captured, and how long decoding took. */
export interface PacketTimes {
  readonly arrivedS: number;
  readonly capturedS: number;
  readonly decodingS: number;
}

const LONGEST_BURST_S = 10; // the whole burst after a long stall arrives before the device takes its next block
const FADE_S = 0.005;

/** Takes packets of samples at `rateIn` (Hz) with their times; a `PlayoutReader` on the same memory pulls samples at `rateOut`. */
export class AdaptivePlayout {
  readonly memory: PlayoutMemory;
  readonly #policy: PlayoutPolicy;
  readonly #rateIn: number;
  readonly #rateOut: number;
  readonly #reserveS: number;
  readonly #delay: TargetDelay;
  readonly #decoding: DecodingTime;
  readonly #tempo: TempoAdjuster;
  readonly #resampler: DriftResampler;
  readonly #drift: DriftController;
  readonly #pause: PauseNoise;
  readonly #buffer: PlayoutWriter;
  #marginS: number | null = null;
  #stops = 0; // the buffer's counters when the last packet arrived
  #dropped = 0;

  constructor(rateIn: number, rateOut: number, options: { policy?: PlayoutPolicy; blockS?: number; shared?: boolean } = {}) {
    const policy = options.policy ?? DEFAULT_POLICY;
    const blockS = options.blockS ?? 0.005;
    if (!(policy.floorS > 0 && policy.floorS <= policy.ceilingS && policy.headroomS > 0 && policy.share > 0 && policy.share < 1)) {
      throw new RangeError(
        `the policy is ${JSON.stringify(policy)}, expected 0 < floorS <= ceilingS, headroomS > 0 and a share between 0 and 1`,
      );
    }
    this.#policy = policy;
    this.#rateIn = rateIn;
    this.#rateOut = rateOut;
    // The device takes a whole block at once, and the margin is what remains in the buffer afterwards. So the target includes a block.
    this.#reserveS = Math.min(policy.reserveS, policy.floorS);
    this.#delay = new TargetDelay({ ...policy, reserveS: this.#reserveS, blockS });
    this.#decoding = new DecodingTime(policy.windowS);
    this.#tempo = new TempoAdjuster(rateIn, policy.fastest, policy.toleranceS);
    this.#resampler = new DriftResampler(rateIn, rateOut);
    this.#drift = new DriftController(policy.maxSteering);
    this.#pause = new PauseNoise(rateOut);
    const ceiling = this.#samples(policy.ceilingS + policy.headroomS + blockS);
    const capacity = Math.max(2 * ceiling, this.#samples(LONGEST_BURST_S));
    this.memory = PlayoutMemory.create(capacity, this.#samples(NOISE_S), roundHalfEven(FADE_S * rateOut), options.shared ?? false);
    this.#buffer = new PlayoutWriter(this.memory, this.#samples(policy.floorS + blockS), ceiling);
  }

  get stats(): PlayoutStats {
    const buffer = this.#buffer;
    return {
      targetS: this.#delay.targetS,
      marginS: this.#marginS ?? 0,
      bufferedS: buffer.buffered / this.#rateOut,
      underruns: buffer.underruns,
      jumps: buffer.jumps,
      droppedS: buffer.droppedSamples / this.#rateOut,
      shortenedS: this.#tempo.shortened / this.#rateIn,
      lengthenedS: this.#tempo.lengthened / this.#rateIn,
      steering: this.#drift.steering,
      lateS: this.#delay.jitterS,
      comfortS: (buffer.comforted + this.#pause.padded) / this.#rateOut,
    };
  }

  /** Whether `finish` was called and everything has been played. */
  get drained(): boolean {
    return this.#buffer.drained;
  }

  /**
   * Take a packet's samples. Without times, such as a decoder's last ones, they are played after the others and change no estimate. After a
   * `quiet` packet others may be left out: if none arrives in time, comfort noise is played. Returns the seconds until the first of these
   * samples is pulled, if the device pulls evenly.
   */
  push(samples: Float32Array, times: PacketTimes | null, quiet = false): number {
    if (samples.length === 0) return this.#aheadS(samples);
    const durationS = samples.length / this.#rateIn;
    let lateS = 0;
    let missingS = 0;
    if (times !== null) {
      const taken = this.#decoding.add(times.arrivedS, times.decodingS);
      // The reserve is also for a machine that is busy now and then. Only what it cannot cover counts as lateness.
      const stalledS = Math.max(0, taken.ownS - this.#reserveS);
      ({ lateS, missingS } = this.#delay.add(times.arrivedS + stalledS, times.capturedS, durationS));
      lateS += taken.waitedS - stalledS;
    } else if (this.#marginS !== null) {
      this.#play(samples, quiet);
      return this.#aheadS(samples);
    } else this.#delay.update();
    const marginS = this.#nextMarginS(lateS, missingS, durationS);
    this.#dropped = this.#buffer.droppedSamples;
    const { targetS } = this.#delay;
    this.#buffer.set("ceiling", this.#samples(targetS + this.#policy.headroomS + durationS));
    this.#buffer.set("landing", Math.max(1, this.#samples(targetS + durationS)));
    const excessS = marginS - targetS;
    const adjusted = this.#tempo.adjust(samples, excessS);
    this.#marginS = marginS + (adjusted.length - samples.length) / this.#rateIn;
    this.#resampler.steer(this.#drift.step(excessS, durationS));
    this.#play(adjusted, quiet);
    return this.#aheadS(adjusted);
  }

  /** Mark the end of the samples: the rest is played to its end. */
  finish(): void {
    this.#buffer.push(this.#resampler.flush(), null);
    this.#buffer.finish();
  }

  /** The margin after this packet: how late the next one may arrive. Pads the buffer when playing starts or a pause was too short. */
  #nextMarginS(lateS: number, missingS: number, durationS: number): number {
    const buffer = this.#buffer;
    const { targetS } = this.#delay;
    const stops = buffer.underruns + buffer.pauses;
    const stopped = stops !== this.#stops;
    this.#stops = stops;
    if (this.#marginS === null || stopped) {
      // Playing starts, or starts again, after the target delay. A late packet has used up a part of that delay already. The resampler
      // withholds its first samples once.
      const waitS = Math.max(0, targetS - lateS) + (this.#marginS === null ? this.#resampler.withheldS : 0);
      this.#pad(waitS);
      buffer.set("target", Math.max(1, this.#samples(waitS)));
      this.#drift.restart();
      return Math.max(targetS, lateS);
    }
    const marginS = this.#marginS - (buffer.droppedSamples - this.#dropped) / this.#rateOut;
    const nowS = buffer.buffered / this.#rateOut + lateS;
    if (missingS > durationS / 2) {
      // Packets before this one were left out. Their duration is padded as far as the target needs it.
      const waitS = this.#pause.quiet ? Math.max(0, Math.min(missingS, targetS - nowS)) : 0;
      this.#pad(waitS);
      return nowS + waitS;
    }
    // The blocks of the device and the network make single measurements of the margin uneven, while clock drift changes it slowly.
    return marginS + (nowS - marginS) * Math.min(1, durationS / 0.5);
  }

  #play(samples: Float32Array, quiet: boolean): void {
    const withheld = this.#samples(this.#resampler.withheldS);
    this.#give(this.#pause.follow(this.#resampler.feed(samples), quiet, withheld));
  }

  #pad(seconds: number): void {
    this.#give(this.#pause.pad(this.#samples(seconds)));
  }

  #give({ samples, noise }: Followed): void {
    this.#buffer.push(samples, noise);
  }

  #aheadS(pushed: Float32Array): number {
    return Math.max(0, this.#buffer.buffered / this.#rateOut + this.#resampler.withheldS - pushed.length / this.#rateIn);
  }

  #samples(seconds: number): number {
    return roundHalfEven(seconds * this.#rateOut);
  }
}
