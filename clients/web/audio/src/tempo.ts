// Plays a little faster or slower at the same pitch, in quiet passages first.

import { roundHalfEven } from "./numbers.ts";
import { lengthen, shorten } from "./wsola.ts";

/** Shortens or lengthens packets by at most the share `fastest`, if the delay is off by more than `toleranceS`. */
export class TempoAdjuster {
  /** Samples that were removed and inserted so far. */
  shortened = 0;
  lengthened = 0;
  readonly #rate: number;
  readonly #fastest: number;
  readonly #toleranceS: number;
  #allowance = 0;
  #loudness = 0;

  constructor(rate: number, fastest: number, toleranceS: number) {
    this.#rate = rate;
    this.#fastest = fastest;
    this.#toleranceS = toleranceS;
  }

  /** Shorten a packet by up to `excessS`, or lengthen it if that is negative, as far as it is allowed. */
  adjust(samples: Float32Array, excessS: number): Float32Array {
    const loudness = rms(samples);
    this.#loudness += (loudness - this.#loudness) * (loudness > this.#loudness ? 0.5 : 0.02);
    const quiet = loudness < 1e-3 || loudness < 0.1 * this.#loudness;
    const earned = this.#fastest * samples.length;
    // Later packets may use the allowance that earlier ones did not use, up to 15 ms.
    this.#allowance = Math.min(this.#allowance + earned, Math.max(0.015 * this.#rate, earned));
    const neededS = Math.abs(excessS);
    if (neededS < (quiet ? this.#toleranceS / 2 : this.#toleranceS)) return samples;
    // Up to half of a quiet packet may be removed, because a cut there is inaudible.
    const most = Math.min(roundHalfEven(neededS * this.#rate), quiet ? Math.floor(samples.length / 2) : Math.trunc(this.#allowance));
    // The larger the excess, the less similar the two ends of a cut need to be.
    const similarity = quiet ? 0 : neededS < 0.1 ? 0.7 : 0.3;
    const adjusted = (excessS > 0 ? shorten : lengthen)(samples, most, this.#rate, similarity);
    const change = adjusted.length - samples.length;
    if (!quiet) this.#allowance -= Math.abs(change);
    this.shortened -= Math.min(0, change);
    this.lengthened += Math.max(0, change);
    return adjusted;
  }
}

function rms(samples: Float32Array): number {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return Math.sqrt(sum / samples.length);
}
