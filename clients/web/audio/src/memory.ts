// The memory between the thread that pushes samples and the audio thread that pulls them: a ring of samples, comfort noise, and counters.
// Each side writes only its own counters, after the samples are in place, so the ring needs no lock.

/** What another thread needs to see the same memory; `postMessage` can send it. */
export interface SharedPlayout {
  readonly control: ArrayBufferLike;
  readonly samples: ArrayBufferLike;
  readonly noise: ArrayBufferLike;
  /** So many samples may wait; the ring itself has a power of two. */
  readonly capacity: number;
  readonly fade: number;
}

// Counters of samples count modulo 2^32: what matters is their difference, and a ring of a power of two samples.
const Slot = {
  version: 0, // of the tail: odd while it is being written
  written: 1,
  noiseLength: 2, // of the noise behind the last sample; -1 where nothing quiet came last
  noiseSlot: 3,
  finished: 4,
  overflowed: 5,
  target: 6,
  ceiling: 7,
  landing: 8,
  read: 9,
  skipped: 10,
  jumps: 11,
  underruns: 12,
  pauses: 13,
  comforted: 14,
  count: 15,
} as const;

export type Counter =
  "finished" | "overflowed" | "target" | "ceiling" | "landing" | "read" | "skipped" | "jumps" | "underruns" | "pauses" | "comforted";

/** How many samples were written, and the noise that is played behind the last one; null where its end would be an underrun. */
export interface Tail {
  readonly written: number;
  readonly noise: Float32Array | null;
}

const NOISE_SLOTS = 2;

export class PlayoutMemory {
  readonly shared: SharedPlayout;
  readonly capacity: number;
  readonly #control: Int32Array;
  readonly #samples: Float32Array;
  readonly #noise: Float32Array[];
  #lastNoise: Float32Array | null = null;

  constructor(shared: SharedPlayout) {
    this.shared = shared;
    this.#control = new Int32Array(shared.control);
    this.#samples = new Float32Array(shared.samples);
    this.capacity = shared.capacity;
    const whole = new Float32Array(shared.noise);
    const each = whole.length / NOISE_SLOTS;
    this.#noise = Array.from({ length: NOISE_SLOTS }, (_, slot) => whole.subarray(slot * each, (slot + 1) * each));
  }

  /** Memory for at least `capacity` samples and noise of `noise` samples; `shared` lets other threads see it. */
  static create(capacity: number, noise: number, fade: number, shared: boolean): PlayoutMemory {
    const make = (bytes: number) => (shared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes));
    const ring = 2 ** Math.ceil(Math.log2(capacity));
    const memory = new PlayoutMemory({
      control: make(4 * Slot.count),
      samples: make(4 * ring),
      noise: make(4 * NOISE_SLOTS * Math.max(1, noise)),
      capacity,
      fade,
    });
    memory.#control[Slot.noiseLength] = -1;
    return memory;
  }

  get(counter: Counter): number {
    return Atomics.load(this.#control, Slot[counter]);
  }

  set(counter: Counter, value: number): void {
    Atomics.store(this.#control, Slot[counter], value);
  }

  add(counter: Counter, count: number): void {
    Atomics.add(this.#control, Slot[counter], count);
  }

  /** Write samples at a position, or read them from there. */
  store(position: number, samples: Float32Array): void {
    const start = position & (this.#samples.length - 1);
    const first = Math.min(samples.length, this.#samples.length - start);
    this.#samples.set(samples.subarray(0, first), start);
    this.#samples.set(samples.subarray(first), 0);
  }

  load(position: number, out: Float32Array): void {
    const start = position & (this.#samples.length - 1);
    const first = Math.min(out.length, this.#samples.length - start);
    out.set(this.#samples.subarray(start, start + first));
    out.set(this.#samples.subarray(0, out.length - first), first);
  }

  /** The number of samples written so far, modulo 2^32. */
  get written(): number {
    return Atomics.load(this.#control, Slot.written);
  }

  /** Set the tail: only the pushing thread does. The samples must be in place. */
  setTail(written: number, noise: Float32Array | null): void {
    const control = this.#control;
    if (noise !== null && noise !== this.#lastNoise) {
      // Noise that still plays from the other slot, or even from this one, may change under it: noise stays noise.
      const slot = (Atomics.load(control, Slot.noiseSlot) + 1) % NOISE_SLOTS;
      const room = this.#noise[slot];
      room.set(noise.length > room.length ? noise.subarray(0, room.length) : noise);
      Atomics.store(control, Slot.noiseSlot, slot);
      this.#lastNoise = noise;
    }
    const length = noise === null ? -1 : Math.min(noise.length, this.#noise[0].length);
    Atomics.add(control, Slot.version, 1);
    Atomics.store(control, Slot.written, written);
    Atomics.store(control, Slot.noiseLength, length);
    Atomics.add(control, Slot.version, 1);
  }

  /** A matching pair of written samples and noise; `before` where the pushing thread is just changing it. */
  tail(before: Tail): Tail {
    for (let tries = 0; tries < 100; tries++) {
      const version = Atomics.load(this.#control, Slot.version);
      const written = Atomics.load(this.#control, Slot.written);
      const length = Atomics.load(this.#control, Slot.noiseLength);
      const slot = Atomics.load(this.#control, Slot.noiseSlot);
      if (version % 2 === 0 && version === Atomics.load(this.#control, Slot.version)) {
        return { written, noise: length < 0 ? null : this.#noise[slot].subarray(0, length) };
      }
    }
    return before;
  }
}
