// Comfort noise for pauses, of which most packets are not sent: it resembles the quiet packets that were.

import { ComfortNoise } from "./comfort_noise.ts";
import { fadeIn, roundHalfEven } from "./numbers.ts";

/** The longest noise behind a packet. A packet of a pause comes about every second; if no more come, the noise fades out. */
export const NOISE_S = 2;
const FADE_S = 0.5;
// The noise is made again after this much more of the pause was received.
const RENEW_EVERY_S = 0.4;

/** Samples to play, and the noise to play after them if nothing comes; null where that would be an underrun. */
export interface Followed {
  readonly samples: Float32Array;
  readonly noise: Float32Array | null;
}

/** Learns from quiet packets at `rate` Hz, and makes the noise that a buffer plays if nothing arrives after them. */
export class PauseNoise {
  /** Whether the newest packet was quiet. */
  quiet = false;
  /** Samples of noise from `pad` so far. */
  padded = 0;
  readonly #rate: number;
  readonly #comfort: ComfortNoise;
  #noise: Float32Array = new Float32Array(0);
  #learnedSince = 0; // samples learned after the noise was made
  #wasPadded = false; // after the noise was made

  constructor(rate: number) {
    this.#rate = rate;
    this.#comfort = new ComfortNoise(rate);
  }

  /** Take the samples of the next packet; the first `withheld` of them belong to the packet before. */
  follow(samples: Float32Array, quiet: boolean, withheld: number): Followed {
    const out = this.#comfort.fadeInto(samples);
    if (quiet) {
      this.#comfort.learn(this.quiet ? out : out.subarray(withheld));
      this.#learnedSince += out.length;
      if (!this.quiet || this.#learnedSince >= roundHalfEven(RENEW_EVERY_S * this.#rate) || this.#wasPadded) this.#renew();
    }
    this.quiet = quiet;
    return { samples: out, noise: quiet ? this.#noise : null };
  }

  /** Make samples to play until the buffer holds enough; outside a pause, zeros. */
  pad(samples: number): Followed {
    this.#wasPadded = true;
    if (!this.quiet) return { samples: new Float32Array(samples), noise: null };
    this.padded += samples;
    return { samples: this.#comfort.goOn(samples), noise: this.#noise };
  }

  #renew(): void {
    this.#noise = this.#comfort.make(roundHalfEven(NOISE_S * this.#rate));
    this.#learnedSince = 0;
    this.#wasPadded = false;
    const down = fadeIn(roundHalfEven(FADE_S * this.#rate)).reverse();
    const from = this.#noise.length - down.length;
    down.forEach((gain, i) => (this.#noise[from + i] = this.#noise[from + i] * gain));
  }
}
