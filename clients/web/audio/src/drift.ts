// Resampling to a device whose clock drifts: a short windowed sinc, evaluated at the position of each output sample. It withholds 2 ms, passes
// 90% of the lower rate's band and attenuates by 80 dB above the end of that band.

import { joined } from "./numbers.ts";

const HALF = 48; // taps on either side, at the lower of the rates
const PHASES = 256;
const CUTOFF = 0.945; // of the lower rate's band
const BETA = 8;
const MAX_STEERING = 0.002;
const RAMP_S = 0.02;
const ROUNDING = 1e-9; // samples: far above the rounding errors of sums of positions, far below anything audible

/** Resamples one mono stream block by block from `rateIn` to `rateOut` (Hz), with a ratio that `steer` can change slightly. */
export class DriftResampler {
  /** The input that has not been output yet, in seconds. */
  readonly withheldS: number;
  readonly #table: Float32Array; // [phases + 1][taps]
  readonly #half: number;
  readonly #nominal: number;
  readonly #slope: number;
  #history: Float32Array;
  #next: number;
  #step: number;
  #targetStep: number;

  constructor(rateIn: number, rateOut: number) {
    const ratio = rateOut / rateIn;
    const band = Math.min(1, ratio);
    this.#half = Math.ceil(HALF / band);
    this.#table = tapsOf(band, this.#half);
    this.withheldS = this.#half / rateIn;
    this.#nominal = 1 / ratio;
    this.#slope = (MAX_STEERING * this.#nominal) / (RAMP_S * rateOut);
    // Positions are in input samples, counted from the start of the history.
    this.#history = new Float32Array(this.#half - 1);
    this.#next = this.#half - 1;
    this.#step = this.#targetStep = this.#nominal;
  }

  /** Play the following samples faster by the share `faster` (negative: slower), at most 0.2%. */
  steer(faster: number): void {
    if (Math.abs(faster) > MAX_STEERING) throw new RangeError(`steering by ${faster}, expected at most ${MAX_STEERING}`);
    this.#targetStep = this.#nominal * (1 + faster);
  }

  /** Take a block of any length and return the output that is ready. */
  feed(samples: Float32Array): Float32Array {
    const x = joined(this.#history, samples);
    const positions = this.#positions(x.length - this.#half - ROUNDING);
    // #positions has moved on to the first position that has no output yet.
    const first = Math.floor(this.#next) - (this.#half - 1);
    this.#history = x.slice(first);
    this.#next -= first;
    return Float32Array.from(positions, (position) => this.#at(x, position));
  }

  /** Return the rest of the output, as if silence followed. */
  flush(): Float32Array {
    return this.feed(new Float32Array(this.#half));
  }

  #at(x: Float32Array, position: number): number {
    // A position within the rounding error of a whole sample counts as that sample: else its phase would depend on the block sizes.
    const whole = Math.floor(position + ROUNDING);
    const phase = Math.max(position - whole, 0) * PHASES;
    const row = Math.floor(phase);
    const weight = phase - row;
    const taps = 2 * this.#half;
    const begin = whole - (this.#half - 1);
    let near = 0;
    let far = 0;
    for (let i = 0, tap = row * taps; i < taps; i++, tap++) {
      const sample = x[begin + i];
      near += this.#table[tap] * sample;
      far += this.#table[tap + taps] * sample;
    }
    return near * (1 - weight) + far * weight;
  }

  /** The input positions of the next output samples, as far as they are before `end`. A changed ratio is reached by a linear ramp. */
  #positions(end: number): number[] {
    const change = this.#targetStep - this.#step;
    const begin = this.#next;
    const firstStep = this.#step;
    const positions: number[] = [];
    let gone = 0;
    let position = begin;
    while (position < end) {
      positions.push(position);
      const step = firstStep + Math.min(positions.length * this.#slope, Math.abs(change)) * Math.sign(change);
      gone += step;
      position = begin + gone;
      this.#step = step;
    }
    this.#next = position;
    return positions;
  }
}

/** A low-pass filter at each fraction of a sample, [phases + 1][taps]; `band` is its share of the input's band. */
function tapsOf(band: number, half: number): Float32Array {
  const taps = 2 * half;
  const cutoff = CUTOFF * band;
  const table = new Float32Array((PHASES + 1) * taps);
  for (let phase = 0; phase <= PHASES; phase++) {
    const row = Array.from({ length: taps }, (_, i) => {
      const at = i + 1 - half - phase / PHASES;
      const angle = Math.PI * cutoff * at;
      const sinc = angle === 0 ? 1 : Math.sin(angle) / angle;
      return cutoff * sinc * (bessel(BETA * Math.sqrt(Math.max(0, 1 - (at / half) ** 2))) / bessel(BETA));
    });
    // Each row is normalised, so that all phases have the same gain.
    const sum = row.reduce((total, tap) => total + tap, 0);
    table.set(
      row.map((tap) => tap / sum),
      phase * taps,
    );
  }
  return table;
}

/** The modified Bessel function of the first kind and order 0, by its series. */
function bessel(x: number): number {
  let sum = 1;
  let term = 1;
  for (let k = 1; term > 1e-17 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

const GAIN = 0.05; // per second: an excess of 10 ms gives a steering of 0.05%, which removes it in about 20 s

/** A slow PI controller of the resampling ratio, which keeps the margin at its target although the clocks drift. */
export class DriftController {
  /** The share by which to play faster now, at most `maxSteering`. */
  steering = 0;
  readonly #max: number;
  #drift = 0;

  constructor(maxSteering: number) {
    this.#max = maxSteering;
  }

  /** Begin with a new margin; the estimated drift of the clocks stays. */
  restart(): void {
    this.steering = this.#drift;
  }

  /** The share by which to play faster during the next `seconds`. */
  step(excessS: number, seconds: number): number {
    const bounded = (value: number) => Math.max(-this.#max, Math.min(this.#max, value));
    const steering = GAIN * excessS + this.#drift;
    if (Math.abs(steering) < this.#max) this.#drift = bounded(this.#drift + (GAIN ** 2 / 4) * excessS * seconds);
    this.steering = bounded(steering);
    return this.steering;
  }
}
