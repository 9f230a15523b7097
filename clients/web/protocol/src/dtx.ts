// Silence costs next to nothing: of a run of quiet packets a few are sent, and a gap with reason `silence` names the others.

import { SILENCE } from "./messages.ts";

/** So often one of a run of quiet packets is sent, in seconds. */
export const QUIET_EVERY_S = 0.8;

/** Which packets of a stream are left out: of a run of quiet ones all but the first, and then one in `everyS` or a little less. */
export class DtxFilter {
  readonly #everyS: number;
  // The audio from the last quiet packet that was sent up to the next one.
  #sinceS = Infinity;

  constructor(everyS: number = QUIET_EVERY_S) {
    this.#everyS = everyS + 1e-6;
  }

  /** Whatever comes next begins a run: a gap or a new epoch comes in between. */
  restart(): void {
    this.#sinceS = Infinity;
  }

  /** Take the next packet; true where it is not to be sent. One that is not quiet is always sent. */
  leavesOut(quiet: boolean, durationS: number): boolean {
    const leftOut = quiet && this.#sinceS + durationS <= this.#everyS;
    this.#sinceS = leftOut ? this.#sinceS + durationS : quiet ? durationS : Infinity;
    return leftOut;
  }
}

const REMEMBERED = 10;

/**
 * What a decoder may be fed of a pause in place of the packets that were left out.
 *
 * A decoder remembers for seconds. Fed with the last quiet packets over and over, its state is nearly that of one that has seen all of them.
 */
export class PauseMemory<P> {
  #last: P[] = [];
  #turn = 0;
  #missing = 0;

  /** Packets are missing here. */
  gap(count: number, reason: string): void {
    this.#missing = reason === SILENCE ? this.#missing + count : 0;
  }

  /** Take the next packet; returns what to feed behind it for the decoder's state alone. Behind one that is not quiet it is nothing. */
  packet(packet: P, quiet: boolean): P[] {
    const missing = Math.min(this.#missing, REMEMBERED);
    this.#missing = 0;
    if (!quiet) return [];
    this.#last = [...this.#last, packet].slice(-REMEMBERED);
    this.#turn += missing;
    return Array.from({ length: missing }, (_, i) => this.#last[(this.#turn + i) % this.#last.length]);
  }
}
