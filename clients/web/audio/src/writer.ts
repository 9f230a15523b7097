// The pushing thread's side of a playout buffer.

import { fadeIn, joined } from "./numbers.ts";
import { PlayoutMemory } from "./memory.ts";
import type { Counter } from "./memory.ts";

type Counted = Extract<Counter, "overflowed" | "skipped" | "jumps" | "underruns" | "pauses" | "comforted">;

/** Counts on where a counter modulo 2^32 begins again. */
class Total {
  value = 0;
  #seen = 0;

  follow(counter: number): number {
    this.value += (counter - this.#seen) | 0;
    this.#seen = counter;
    return this.value;
  }
}

/**
 * Pushes samples for a `PlayoutReader`: playing starts when `target` samples are buffered, also after each underrun. If more than `ceiling`
 * samples are buffered, the oldest are dropped until `landing` remain. All three may change at any time.
 */
export class PlayoutWriter {
  readonly memory: PlayoutMemory;
  readonly #up: Float32Array;
  readonly #down: Float32Array;
  readonly #totals: Record<Counted, Total> = {
    overflowed: new Total(),
    skipped: new Total(),
    jumps: new Total(),
    underruns: new Total(),
    pauses: new Total(),
    comforted: new Total(),
  };
  #cut = false;

  constructor(memory: PlayoutMemory, target: number, ceiling: number) {
    this.memory = memory;
    this.#up = fadeIn(memory.shared.fade);
    this.#down = this.#up.slice().reverse();
    this.set("target", target);
    this.set("ceiling", ceiling);
    this.set("landing", target);
  }

  set(bound: Extract<Counter, "target" | "ceiling" | "landing">, samples: number): void {
    this.memory.set(bound, samples);
  }

  /** Samples waiting to be played. */
  get buffered(): number {
    return (this.memory.written - this.memory.get("read")) | 0;
  }

  get underruns(): number {
    return this.#total("underruns");
  }

  /** How often comfort noise followed quiet samples because the buffer was empty. */
  get pauses(): number {
    return this.#total("pauses");
  }

  get jumps(): number {
    return this.#total("jumps");
  }

  /** Samples of comfort noise handed to the device. */
  get comforted(): number {
    return this.#total("comforted");
  }

  /** Samples that were never played, because the buffer held too many. */
  get droppedSamples(): number {
    return this.#total("skipped") + this.#total("overflowed");
  }

  get drained(): boolean {
    return this.memory.get("finished") !== 0 && this.buffered === 0;
  }

  /** Append samples; where they do not fit, because the device does not pull, all of them are dropped between fades. */
  push(samples: Float32Array, noise: Float32Array | null): void {
    const fitting = samples.length <= this.memory.capacity - this.buffered;
    const stored = fitting && !this.#cut ? samples : this.#aroundCut(samples, fitting);
    const { written } = this.memory;
    this.memory.store(written, stored);
    this.memory.setTail((written + stored.length) | 0, noise);
  }

  /** Mark the end of the samples: the rest is played to its end, whatever the target, and its end is no underrun. */
  finish(): void {
    this.memory.set("finished", 1);
  }

  #total(counter: Counted): number {
    return this.#totals[counter].follow(this.memory.get(counter));
  }

  #aroundCut(samples: Float32Array, fitting: boolean): Float32Array {
    const fade = Math.min(this.#down.length, fitting ? samples.length : this.buffered);
    if (fitting) {
      this.#cut = false;
      return joined(
        samples.subarray(0, fade).map((sample, i) => sample * this.#up[i]),
        samples.subarray(fade),
      );
    }
    this.memory.add("overflowed", samples.length);
    if (!this.#cut) {
      this.#cut = true;
      const tail = new Float32Array(fade);
      const from = (this.memory.written - fade) | 0;
      this.memory.load(from, tail);
      this.memory.store(
        from,
        tail.map((sample, i) => sample * this.#down[this.#down.length - fade + i]),
      );
    }
    return samples.subarray(0, 0);
  }
}
