// When a second connection to the same stream may take over from the first: nothing is heard twice, and nothing is left out.

import type { StreamEvent } from "../../client/src/index.ts";

/** Where a connection is in its stream: it has all from `from` to before `next`, of which nothing is played before `from`. */
interface Place {
  readonly session: string | null;
  readonly from: number;
  readonly next: number;
}

/** With so many packets held for a first connection that does not come as far, the second takes over with a gap. */
const MOST_HELD = 125;

/** Follows the events of both, and holds what the second one has decoded and nobody has heard. */
export class ChangeOver<Held> {
  #first: Place | null = null;
  #second: Place | "nothing" | null = null; // null: not known yet
  #held: { readonly seq: number; readonly held: Held }[] = [];

  /** `first` has played so far up to before `next`, of the stream `session`; null where it plays none. */
  constructor(first: { readonly session: string | null; readonly next: number } | null) {
    this.#first = first === null ? null : { ...first, from: first.next };
  }

  /** The first connection's next event, which was heard. */
  heard(event: StreamEvent): void {
    this.#first = after(this.#first, event);
    const next = this.#first?.next ?? 0;
    if (this.#isSame) this.#held = this.#held.filter(({ seq }) => seq >= next);
  }

  /** The second connection's next event, and what it gave to play. */
  came(event: StreamEvent, held: Held | null): void {
    const before = this.#second === "nothing" ? null : this.#second;
    this.#second = after(before, event) ?? "nothing";
    if (event.type === "start" && event.start !== "continued") this.#held = [];
    if (event.type === "packet" && held !== null && event.seq >= Math.max(this.#begin, before?.from ?? 0))
      this.#held.push({ seq: event.seq, held });
  }

  /** What to play of the second connection, where it takes over now; null where it cannot yet. */
  get takenOver(): Held[] | null {
    const [first, second] = [this.#first, this.#second];
    if (second === null) return null;
    const all = this.#held.map(({ held }) => held);
    if (this.#held.length > MOST_HELD || first === null) return all;
    if (second === "nothing" || !this.#isSame) return null;
    return first.next >= second.from && first.next <= second.next ? all : null;
  }

  /** How many packets nobody hears if the second one takes over now. */
  get leftOut(): number {
    const [first, second] = [this.#first, this.#second];
    return this.#isSame && first !== null && second !== null && second !== "nothing" ? Math.max(0, second.from - first.next) : 0;
  }

  get #isSame(): boolean {
    return this.#first !== null && this.#second !== null && this.#second !== "nothing" && this.#first.session === this.#second.session;
  }

  /** What the first one has played of the second one's stream. */
  get #begin(): number {
    return this.#isSame ? (this.#first?.next ?? 0) : 0;
  }
}

function after(place: Place | null, event: StreamEvent): Place | null {
  switch (event.type) {
    case "start":
      return { session: event.session, from: event.live_seq, next: event.first_seq };
    case "packet":
      return place === null ? null : { ...place, next: event.seq + 1 };
    case "gap":
      return place === null ? null : { ...place, next: event.first_seq + event.count };
    case "waiting":
    case "stream_end":
      return null;
  }
}
