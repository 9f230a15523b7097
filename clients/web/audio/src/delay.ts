// The target delay of a playout: what the jitter of the packets asks for, and at least a floor; and what decoding takes.

import { quantile } from "./numbers.ts";

interface Transit {
  readonly arrived: number;
  readonly transit: number;
}

/**
 * The lateness of the packets of the last `windowS` seconds: a packet's transit time minus the shortest one of the window.
 *
 * `quantile` leaves out packets that are later than `maxS`, which no buffer could bridge, and those that catch up behind a stall, in a burst or
 * gradually: one stall delayed all of them, and the first of them already counts for it.
 */
export class JitterEstimator {
  readonly #windowS: number;
  readonly #maxS: number;
  #last: { arrived: number; captured: number } | null = null;
  #transits: Transit[] = [];
  #minima: Transit[] = []; // of packets with no faster one after them, ascending

  constructor(windowS: number, maxS: number) {
    this.#windowS = windowS;
    this.#maxS = maxS;
  }

  /** Add a packet's times (s, on any two clocks); returns how late it is: 0 for the fastest of the window. */
  add(arrived: number, captured: number): number {
    const transit = arrived - captured;
    while ((this.#minima.at(-1)?.transit ?? -Infinity) >= transit) this.#minima.pop();
    // If a packet arrives sooner after the previous one than it was captured after it, a backlog is being delivered.
    const inBurst = this.#last !== null && arrived - this.#last.arrived < 0.75 * (captured - this.#last.captured);
    this.#last = { arrived, captured };
    if (!inBurst || this.#transits.length === 0) this.#transits.push({ arrived, transit });
    this.#minima.push({ arrived, transit });
    const since = arrived - this.#windowS;
    this.#transits = this.#transits.filter((one) => one.arrived >= since);
    this.#minima = this.#minima.filter((one) => one.arrived >= since);
    return transit - this.#minima[0].transit;
  }

  /** The lateness that `share` of the packets do not exceed; 0 before the first packet. */
  quantile(share: number): number {
    const fastest = this.#minima[0]?.transit ?? 0;
    return quantile(
      this.#transits.map((one) => one.transit - fastest).filter((late) => late <= this.#maxS),
      share,
    );
  }
}

/** How a target delay follows the jitter; all in seconds but `share`. */
export interface DelayBounds {
  readonly floorS: number;
  readonly ceilingS: number;
  readonly reserveS: number;
  readonly blockS: number;
  readonly share: number;
  readonly windowS: number;
}

/** The lateness that `share` of the packets do not exceed, plus a reserve; at least the floor, plus a device's block, at most the ceiling. */
export class TargetDelay {
  targetS: number;
  jitterS = 0;
  readonly #bounds: DelayBounds;
  readonly #jitter: JitterEstimator;
  #captured: number | null = null;

  constructor(bounds: DelayBounds) {
    this.#bounds = bounds;
    this.targetS = bounds.floorS + bounds.blockS;
    this.#jitter = new JitterEstimator(bounds.windowS, bounds.ceilingS);
  }

  /** Take a packet's times (s); returns how late it is and how much audio is missing before it (s). */
  add(arrived: number, captured: number, durationS: number): { lateS: number; missingS: number } {
    const lateS = this.#jitter.add(arrived, captured);
    const missingS = this.#captured === null ? 0 : captured - this.#captured - durationS;
    this.#captured = captured;
    this.update();
    return { lateS, missingS };
  }

  /** Update the target from the current jitter estimate. */
  update(): void {
    const { floorS, ceilingS, reserveS, blockS, share } = this.#bounds;
    this.jitterS = this.#jitter.quantile(share);
    this.targetS = Math.min(ceilingS, Math.max(floorS, this.jitterS + reserveS) + blockS);
  }
}

const PLANNED_SHARE = 0.9;

/** Plans as much time for decoding a packet as nine in ten packets of the last `windowS` seconds took. */
export class DecodingTime {
  readonly #windowS: number;
  #taken: { arrived: number; ownS: number }[] = [];
  #ready: number | null = null;

  constructor(windowS: number) {
    this.#windowS = windowS;
  }

  /** Add a packet whose samples were there `waitedS` after it arrived; returns how much longer than planned it waited, and its own decoding took. */
  add(arrived: number, waitedS: number): { waitedS: number; ownS: number } {
    const ready = arrived + waitedS;
    // Packets are decoded one after the other: one that waits for the one before it takes no longer for that.
    const ownS = this.#ready === null ? waitedS : Math.min(waitedS, ready - this.#ready);
    this.#ready = ready;
    this.#taken.push({ arrived, ownS });
    while (this.#taken[0].arrived < arrived - this.#windowS) this.#taken.shift();
    const planned = quantile(
      this.#taken.map((one) => one.ownS),
      PLANNED_SHARE,
    );
    return { waitedS: waitedS - planned, ownS: ownS - planned };
  }
}
