// How old a microphone's samples may become before they are encoded: what is older is dropped, until half of that age is left.

/** Seconds. Beyond this age blocks are dropped. */
export const MOST_AGE_S = 2;
const PACE_OVER_S = 1; // of dropped blocks: over so much it is judged whether they wait

/** What to do with a block: `again` and `misjudged` take it, too, the first ones after blocks that were dropped. */
export type Verdict = "take" | "drop" | "again" | "misjudged";

/**
 * Decides by its age whether a block is taken.
 *
 * Dropping costs next to nothing, so blocks that waited for this thread come much faster than they were captured, and their age falls
 * (`again`). Old blocks that come as fast as they are captured wait nowhere: the microphone stood still, as where a computer slept, and the
 * clock that told their age is wrong (`misjudged`).
 */
export class Backlog {
  #dropping = false;
  #paceFromUs = 0;
  #paceS = 0;

  get isDropping(): boolean {
    return this.#dropping;
  }

  /** Enter a block: its length, how long ago its last sample was captured, and how much audio waits for the encoder (s). */
  block(lengthS: number, capturedAgoS: number, queuedS: number, nowUs: number): Verdict {
    const was = this.#dropping;
    this.#dropping = capturedAgoS + queuedS > (was ? MOST_AGE_S / 2 : MOST_AGE_S);
    if (!this.#dropping) return was ? "again" : "take";
    if (!was) {
      this.#paceFromUs = nowUs;
      this.#paceS = 0;
      return "drop";
    }
    this.#paceS += lengthS;
    if (this.#paceS < PACE_OVER_S) return "drop";
    const pace = (nowUs - this.#paceFromUs) / 1e6 / this.#paceS;
    this.#paceFromUs = nowUs;
    this.#paceS = 0;
    // A pause of this thread makes the time longer than the blocks are.
    if (capturedAgoS <= MOST_AGE_S / 2 || pace < 0.5 || pace > 1.5) return "drop";
    this.#dropping = false;
    return "misjudged";
  }
}
