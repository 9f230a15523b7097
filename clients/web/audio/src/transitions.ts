// What the device hears where playing starts, stops or jumps: fades, and comfort noise between a stop and the next start. Nothing here allocates
// samples, but for a block that is shorter than a fade.

import { fadeIn } from "./numbers.ts";

/** Fades of `fade` samples; `comforted` is told how many samples of comfort noise were played. */
export class Transitions {
  readonly #up: Float32Array;
  readonly #down: Float32Array;
  readonly #old: Float32Array;
  readonly #young: Float32Array;
  readonly #comforted: (samples: number) => void;
  #fadedIn = 0;
  #last = 0;
  #noise: Float32Array | null = null;
  #noiseAt = 0;

  constructor(fade: number, comforted: (samples: number) => void) {
    this.#up = fadeIn(fade);
    this.#down = this.#up.slice().reverse();
    this.#old = new Float32Array(fade);
    this.#young = new Float32Array(fade);
    this.#comforted = comforted;
  }

  /** Playing starts: what comes next fades in. */
  start(): void {
    this.#fadedIn = 0;
  }

  /** Remember the value that a fade-out begins with if nothing is left. */
  keepLast(out: Float32Array): void {
    this.#last = out[out.length - 1]!;
  }

  /** Fade in the first `count` samples of `out` behind a start, and fade out the comfort noise before it. */
  fadeIn(out: Float32Array, count: number): void {
    const fading = Math.min(count, this.#up.length - this.#fadedIn);
    if (fading > 0) {
      const from = this.#fadedIn;
      for (let i = 0; i < fading; i++) out[i] = out[i] * this.#up[from + i];
      if (this.#noise !== null) {
        const old = this.#old;
        this.#nextNoise(this.#noise, old, 0, fading, this.#noiseAt);
        for (let i = 0; i < fading; i++) out[i] = out[i] + old[i] * this.#down[from + i];
      }
      this.#fadedIn += fading;
    }
    if (this.#fadedIn === this.#up.length) this.#noise = null;
  }

  /** Fade out the last of the `take` samples that are left, and fade in `noise` where they were quiet. */
  fadeOut(out: Float32Array, take: number, noise: Float32Array | null): void {
    const fade = Math.min(this.#down.length, out.length);
    const start = Math.max(0, take - fade);
    // If they are fewer than a fade, the last value is held until the fade ends.
    out.fill(take > 0 ? out[take - 1] : this.#last, take, start + fade);
    for (let i = 0; i < fade; i++) {
      const gain = fade === this.#down.length ? this.#down[i] : 1 - (i + 1) / (fade + 1);
      out[start + i] = out[start + i] * gain;
    }
    this.#noise = noise;
    this.#noiseAt = 0;
    this.addNoise(out, start);
  }

  /** Add the comfort noise, if there is any, to `out` from `start` on. It fades in over `out`, then replaces it; silence follows its end. */
  addNoise(out: Float32Array, start: number): void {
    const noise = this.#noise;
    if (noise === null) return;
    const at = this.#noiseAt;
    const fading = Math.min(out.length - start, Math.max(0, this.#up.length - at));
    if (fading > 0) {
      const young = this.#young;
      this.#nextNoise(noise, young, 0, fading, at);
      for (let i = 0; i < fading; i++) out[start + i] = out[start + i] + young[i] * this.#up[at + i];
    }
    this.#nextNoise(noise, out, start + fading, out.length, this.#noiseAt);
  }

  /** Room for the samples on both sides of a jump, at most `count` each. */
  blocks(count: number): { old: Float32Array; young: Float32Array } {
    const fade = Math.min(this.#up.length, count);
    return { old: this.#old.subarray(0, fade), young: this.#young.subarray(0, fade) };
  }

  /** Turn `young` into a cross-fade from `old` to `young`. */
  crossFade(old: Float32Array, young: Float32Array): void {
    const from = this.#down.length - old.length;
    for (let i = 0; i < old.length; i++) young[i] = young[i] + (old[i] - young[i]) * this.#down[from + i];
  }

  #nextNoise(noise: Float32Array, out: Float32Array, start: number, end: number, at: number): void {
    const count = Math.max(0, Math.min(end - start, noise.length - at));
    for (let i = 0; i < count; i++) out[start + i] = noise[at + i]!;
    out.fill(0, start + count, end);
    this.#noiseAt = at + (end - start);
    this.#comforted(count);
  }
}
