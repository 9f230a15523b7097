// Comfort noise: it fills a pause whose packets were not sent, and resembles the last quiet samples that were. Their mean power spectrum and
// level, with random phases over the whole length, so that the noise has no audible repetition.

import { fadeIn, joined, roundHalfEven } from "./numbers.ts";
import { transform } from "./fft.ts";

const KEEP_S = 0.5;
const WINDOW_S = 0.04;
const FADE_S = 0.005;
const LONGEST = 2 ** 19; // samples, about ten seconds; longer noise repeats itself, without a seam

/** Noise with the spectrum and level of the quiet samples that were learned last, at `rate` Hz. */
export class ComfortNoise {
  readonly #maxLearned: number;
  readonly #window: number;
  readonly #fade: number;
  readonly #random: () => number;
  #learned = new Float32Array(0);
  #tail = new Float32Array(0);

  constructor(rate: number, seed = 1) {
    this.#maxLearned = roundHalfEven(KEEP_S * rate);
    this.#window = roundHalfEven(WINDOW_S * rate);
    this.#fade = roundHalfEven(FADE_S * rate);
    this.#random = normal(seed);
  }

  /** Take quiet samples; the noise resembles the last half second of them. */
  learn(samples: Float32Array): void {
    this.#learned = joined(this.#learned, samples).slice(-this.#maxLearned);
  }

  /** Noise of so many samples; zeros if nothing was learned. */
  make(samples: number): Float32Array {
    if (this.#learned.length === 0 || samples <= 0) return new Float32Array(Math.max(0, samples));
    const period = Math.min(LONGEST, 2 ** Math.ceil(Math.log2(Math.max(512, samples))));
    const { powers, mean, variance } = this.#spectrum();
    const re = new Float64Array(period);
    const im = new Float64Array(period);
    let total = 0;
    for (let bin = 1; bin < period / 2; bin++) {
      // The spectrum was measured in fewer bins.
      const at = (bin / period) * 2 * (powers.length - 1);
      const below = Math.min(Math.floor(at), powers.length - 2);
      const power = powers[below] + (powers[below + 1] - powers[below]) * (at - below);
      total += power;
      const amplitude = Math.sqrt(power);
      re[bin] = re[period - bin] = amplitude * this.#random();
      im[bin] = amplitude * this.#random();
      im[period - bin] = -im[bin];
    }
    transform(re, im);
    // Each bin adds the power of its real and its imaginary part, at its positive and its negative frequency.
    const gain = Math.sqrt(variance / Math.max(1e-30, 4 * total));
    return Float32Array.from({ length: samples }, (_, i) => re[i % period] * gain + mean);
  }

  /** Noise that continues the last samples that were learned, without a step. */
  goOn(samples: number): Float32Array {
    const noise = this.make(samples + this.#fade);
    const fade = Math.min(this.#fade, samples, this.#learned.length - 1);
    if (fade > 0) {
      // The learned samples, reflected at their last value, continue with the same slope. The noise fades in over them.
      const up = fadeIn(fade);
      const end = this.#learned.length - 1;
      for (let i = 0; i < fade; i++) {
        noise[i] = noise[i] * up[i] + (2 * this.#learned[end] - this.#learned[end - 1 - i]) * up[fade - 1 - i];
      }
    }
    this.#tail = noise.slice(samples);
    return noise.slice(0, samples);
  }

  /** The samples that follow the last noise of `goOn`, with the noise fading out under their beginning; it fades only once. */
  fadeInto(samples: Float32Array): Float32Array {
    const fade = Math.min(this.#tail.length, samples.length);
    if (fade === 0) return samples;
    const up = fadeIn(fade);
    const out = samples.slice();
    for (let i = 0; i < fade; i++) out[i] = out[i] + this.#tail[i] * up[fade - 1 - i];
    this.#tail = new Float32Array(0);
    return out;
  }

  /** The mean power at each frequency by Welch's method, and the mean and the variance of the learned samples. */
  #spectrum(): { powers: Float64Array; mean: number; variance: number } {
    const mean = this.#learned.reduce((sum, one) => sum + one, 0) / this.#learned.length;
    const variance = this.#learned.reduce((sum, one) => sum + (one - mean) ** 2, 0) / this.#learned.length;
    const size = Math.min(this.#window, this.#learned.length);
    const bins = 2 ** Math.ceil(Math.log2(Math.max(2, size)));
    const powers = new Float64Array(bins / 2 + 1);
    for (let at = 0; at + size <= this.#learned.length; at += Math.max(1, Math.floor(size / 4))) {
      const re = new Float64Array(bins);
      const im = new Float64Array(bins);
      for (let i = 0; i < size; i++) re[i] = (this.#learned[at + i] - mean) * (0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 1)) / (size + 1)));
      transform(re, im);
      for (let bin = 0; bin < powers.length; bin++) powers[bin] = powers[bin] + re[bin] ** 2 + im[bin] ** 2;
    }
    return { powers, mean, variance };
  }
}

/** Random numbers with a normal distribution (Box and Muller), the same for the same seed. */
function normal(seed: number): () => number {
  let state = seed >>> 0;
  const uniform = () => {
    // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}
