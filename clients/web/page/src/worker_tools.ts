// What both workers need: errors as words of the page, and work that is done one after the other.

import type { Trouble } from "./thread_messages.ts";

export function troubleOf(why: unknown): Trouble {
  const code = typeof why === "object" && why !== null && "code" in why ? String(why.code) : "connection";
  return { code, reason: why instanceof Error ? why.message : String(why) };
}

/** Runs jobs in the order in which they were given, one at a time. */
export class Queue {
  waiting = 0;
  readonly #failed: (why: unknown) => void;
  #last: Promise<void> = Promise.resolve();

  constructor(failed: (why: unknown) => void) {
    this.#failed = failed;
  }

  run(job: () => Promise<void>): void {
    this.waiting++;
    this.#last = this.#last
      .then(job)
      .catch(this.#failed)
      .finally(() => {
        this.waiting--;
      });
  }
}

const MOST_DEBT_MS = 1000;
const SOON_S = 60;

/**
 * Whether steps take longer than there is time for, on the whole.
 *
 * What a step takes too long is a debt, which later steps work off. One long step, as of a device that slept, counts as a few late ones.
 */
export class KeepsUp {
  #debtMs = 0;
  #lostAtS = -Infinity;

  /** Enter a step's own time and the time there was for it; false where the device cannot keep up. */
  step(tookMs: number, haveMs: number): boolean {
    this.#debtMs = Math.max(0, this.#debtMs + Math.min(tookMs, 3 * haveMs) - haveMs);
    return this.#debtMs <= MOST_DEBT_MS;
  }

  /** Enter that audio was lost because no step came in time, and where (s); false where that is the second time within a minute. */
  lost(atS: number): boolean {
    const isRare = atS - this.#lostAtS > SOON_S;
    this.#lostAtS = atS;
    return isRare;
  }
}
