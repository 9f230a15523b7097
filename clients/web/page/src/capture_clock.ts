// When a microphone's samples were captured: blocks arrive late by fits and starts, but their samples follow each other evenly.

const FORGET = 0.0005; // of the time that passes: the clocks of a sound card and of the system differ by less

/** Tells the time (us) at which each block's first sample was captured; `latencyS` is how long samples take to get here at best. */
export class CaptureClock {
  readonly #rate: number;
  readonly #latencyUs: number;
  #samples = 0;
  #beginUs = Infinity; // when the first sample of all was captured, by the quickest block so far

  constructor(rate: number, latencyS: number) {
    this.#rate = rate;
    this.#latencyUs = latencyS * 1e6;
  }

  /** Take a block that arrived now. */
  block(samples: number, nowUs: number): number {
    const goneUs = (this.#samples / this.#rate) * 1e6;
    const lengthUs = (samples / this.#rate) * 1e6;
    const begin = nowUs - goneUs - lengthUs - this.#latencyUs;
    this.#beginUs = begin < this.#beginUs ? begin : this.#beginUs + Math.min(begin - this.#beginUs, FORGET * lengthUs);
    this.#samples += samples;
    return this.#beginUs + goneUs;
  }
}
