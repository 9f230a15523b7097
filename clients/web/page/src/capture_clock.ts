// When a microphone's samples were captured: blocks arrive late by fits and starts, but their samples follow each other evenly.

const FORGET = 0.0005; // of the time that passes: the clocks of a sound card and of the system differ by less
const STOOD_STILL_US = 1e6;

/** Tells the time (us) at which each block's first sample was captured; `latencyS` is how long samples take to get here at best. */
export class CaptureClock {
  readonly #rate: number;
  readonly #latencyUs: number;
  #beginUs = Infinity; // when the sample with number 0 was captured, by the quickest block so far

  constructor(rate: number, latencyS: number) {
    this.#rate = rate;
    this.#latencyUs = latencyS * 1e6;
  }

  /** Take a block that arrived now, behind `waitedUs` in which it waited for this thread; `from` is the number of its first sample. */
  block(from: number, samples: number, nowUs: number, waitedUs: number): number {
    const goneUs = (from / this.#rate) * 1e6;
    const lengthUs = (samples / this.#rate) * 1e6;
    const begin = nowUs - goneUs - lengthUs - this.#latencyUs;
    // Later than its wait explains: nothing was captured for a while, as where a computer slept.
    if (begin - waitedUs - this.#beginUs > STOOD_STILL_US) this.#beginUs = begin - waitedUs;
    else this.#beginUs = begin < this.#beginUs ? begin : this.#beginUs + Math.min(begin - this.#beginUs, FORGET * lengthUs);
    return this.#beginUs + goneUs;
  }
}
