// A microphone's blocks on their way from the audio thread to the worker that encodes them. What waits for the worker is bounded in samples,
// and the oldest is dropped: no clock decides about it. It runs on the audio thread, which goes on where the worker does not.

/** Beyond so much audio (s) that waits, the oldest is dropped, until half of it is left. */
export const MOST_WAITING_S = 2;
const KEPT_S = MOST_WAITING_S / 2;
const AHEAD_S = 0.25; // handed over before the worker is done with it: what lies in its inbox cannot be dropped any more

/** A block of samples: the number of its first one since the microphone began, when its last one came (ms, `Date.now`), and in which stream. */
export interface CaptureBlock {
  readonly samples: Float32Array<ArrayBuffer>;
  readonly from: number;
  readonly atMs: number;
  /** How many streams had begun, as far as the audio thread knew. */
  readonly stream: number;
}

/** From the worker: it is done with so many more samples; or a stream begins, to which what still waits does not belong. */
export type CaptureAnswer = { readonly type: "done"; readonly samples: number } | { readonly type: "begin" };

export class CaptureBuffer {
  readonly #rate: number;
  readonly #handOver: (block: CaptureBlock) => void;
  #next = 0;
  #stream = 0;
  #ahead = 0; // samples that the worker has and is not done with
  #held: CaptureBlock[] = [];
  #heldSamples = 0;

  constructor(rate: number, handOver: (block: CaptureBlock) => void) {
    this.#rate = rate;
    this.#handOver = handOver;
  }

  add(samples: Float32Array<ArrayBuffer>, atMs: number): void {
    this.#held.push({ samples, from: this.#next, atMs, stream: this.#stream });
    this.#next += samples.length;
    this.#heldSamples += samples.length;
    if (this.#ahead + this.#heldSamples > MOST_WAITING_S * this.#rate) {
      while (this.#ahead + this.#heldSamples > KEPT_S * this.#rate) this.#shift();
    }
    this.#fill();
  }

  answered(answer: CaptureAnswer): void {
    if (answer.type === "done") this.#ahead -= answer.samples;
    else {
      this.#stream++;
      this.#held = [];
      this.#heldSamples = 0;
    }
    this.#fill();
  }

  #fill(): void {
    while (this.#held.length > 0 && this.#ahead < AHEAD_S * this.#rate) {
      const block = this.#shift();
      this.#ahead += block.samples.length;
      this.#handOver(block);
    }
  }

  #shift(): CaptureBlock {
    const block = this.#held.shift()!;
    this.#heldSamples -= block.samples.length;
    return block;
  }
}
