// The audio thread's side of a playout buffer: it fills each block with what is due, never waits, and allocates no samples.

import { PlayoutMemory } from "./memory.ts";
import type { Tail } from "./memory.ts";
import { Transitions } from "./transitions.ts";

/** Pulls what a `PlayoutWriter` pushes. Every start fades in, every stop fades out, every jump cross-fades. */
export class PlayoutReader {
  readonly #memory: PlayoutMemory;
  readonly #transitions: Transitions;
  #playing = false;
  #tail: Tail = { written: 0, noise: null };

  constructor(memory: PlayoutMemory) {
    this.#memory = memory;
    this.#transitions = new Transitions(memory.shared.fade, (count) => {
      memory.add("comforted", count);
    });
  }

  /** Fill `out` with the samples that are due, or with comfort noise or silence. */
  pull(out: Float32Array): void {
    const memory = this.#memory;
    const n = out.length;
    // `finished` must be read before the tail: if it is set, the number of samples is final.
    const finished = memory.get("finished") !== 0;
    this.#tail = memory.tail(this.#tail);
    const { written, noise } = this.#tail;
    let buffered = (written - memory.get("read")) | 0;
    if (!this.#playing && (buffered >= memory.get("target") || (finished && buffered > 0))) {
      this.#playing = true;
      this.#transitions.start();
    }
    if (!this.#playing) {
      out.fill(0);
      if (finished) this.#transitions.fadeIn(out, n);
      else this.#transitions.addNoise(out, 0);
      return;
    }
    if (buffered > memory.get("ceiling") && !finished) {
      const landing = Math.min(memory.get("landing"), buffered);
      this.#skip(buffered - landing, landing);
      buffered = landing;
    }
    const take = Math.min(n, buffered);
    const read = memory.get("read");
    memory.load(read, out.subarray(0, take));
    memory.set("read", (read + take) | 0);
    out.fill(0, take);
    this.#transitions.fadeIn(out, take);
    if (take < n) this.#stop(out, take, noise, finished);
    else if (n > 0) this.#transitions.keepLast(out);
  }

  #stop(out: Float32Array, take: number, noise: Float32Array | null, finished: boolean): void {
    this.#playing = false;
    this.#transitions.start();
    if (finished) return;
    this.#transitions.fadeOut(out, take, noise);
    this.#memory.add(noise === null ? "underruns" : "pauses", 1);
  }

  /** Skip `count` samples, with a cross-fade in place from the skipped samples to the `left` ones after them. */
  #skip(count: number, left: number): void {
    const memory = this.#memory;
    const read = memory.get("read");
    const { old, young } = this.#transitions.blocks(left);
    memory.load(read, old);
    memory.load((read + count) | 0, young);
    this.#transitions.crossFade(old, young);
    memory.store((read + count) | 0, young);
    memory.add("skipped", count);
    memory.add("jumps", 1);
    memory.set("read", (read + count) | 0);
  }
}
