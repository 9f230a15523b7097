// How much audio may be under way to the other end: so much, and what goes out during a round trip; and how long that is.

/** With less under way (s) nothing holds up what follows: it goes alone. */
export const LITTLE_S = 0.24 - 1e-6;

/** When something left that the other end will answer (s), and whether little was under way in front of it. */
export interface Departure {
  readonly at: number;
  readonly alone: boolean;
}

/** Lets `seconds` of audio and a round trip of it be under way; the caller gives the time (s). */
export class SendWindow {
  readonly #seconds: number;
  readonly #trips: number;
  readonly #guessS: number;
  #past: number[] = [];
  #aloneS = 0;
  #crowded = 0;

  constructor(seconds: number, options: { readonly trips?: number; readonly guessS?: number } = {}) {
    this.#seconds = seconds;
    this.#trips = options.trips ?? 16;
    this.#guessS = options.guessS ?? 0.5;
  }

  /** Something leaves that will be answered, behind `aheadS` of audio that is under way. */
  depart(nowS: number, aheadS: number): Departure {
    return { at: nowS, alone: aheadS < LITTLE_S };
  }

  /** The answer to what left so has come. */
  answered(departure: Departure, nowS: number): void {
    const tripS = nowS - departure.at;
    this.#past = [...this.#past, tripS].slice(-this.#trips);
    if (departure.alone) {
      this.#aloneS = tripS;
      this.#crowded = 0;
    } else this.#crowded++;
  }

  /** The quickest of the last trips, and not much longer than the last one that went alone. */
  get roundTripS(): number {
    return this.#past.length === 0 ? this.#guessS : Math.min(...this.#past, this.#aloneS + LITTLE_S);
  }

  /** Whether trips have got longer and stay so: what leaves next is to go alone. */
  get inDoubt(): boolean {
    return this.#crowded >= 2 * this.#trips && Math.min(...this.#past) > this.#aloneS + LITTLE_S;
  }

  /** With more than this under way (s) nothing is to be sent. */
  get maxS(): number {
    return this.inDoubt ? LITTLE_S : this.#seconds + this.roundTripS;
  }
}
