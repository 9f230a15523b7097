// Arithmetic on two clocks and the 32 bits between them; the caller reads its own clock. All times are microseconds.

const WINDOW = 16;
const MODULUS = 2 ** 32;

/** The time that is `timestamp` modulo 2^32 and closest to `near`. */
export function unwrapTimestamp(timestamp: number, near: number): number {
  const half = MODULUS / 2;
  const distance = (timestamp - near + half) % MODULUS;
  return near - half + (distance < 0 ? distance + MODULUS : distance);
}

/** A time as a packet carries it. */
export function wrapTimestamp(time: number): number {
  return ((time % MODULUS) + MODULUS) % MODULUS;
}

/** How far the server's clock is ahead of ours, from the quickest of the last 16 ping exchanges. */
export class ClockEstimate {
  #exchanges: readonly { readonly trip: number; readonly offset: number }[] = [];

  /** One more exchange: our clock when the ping left, the server's in its pong, ours when the pong came. */
  update(sent: number, serverTime: number, received: number): void {
    // A clock that was set back meanwhile says nothing.
    if (received < sent) return;
    const exchange = { trip: received - sent, offset: serverTime - Math.floor((sent + received) / 2) };
    this.#exchanges = [...this.#exchanges, exchange].slice(-WINDOW);
  }

  get #quickest(): { trip: number; offset: number } | null {
    return this.#exchanges.reduce<{ trip: number; offset: number } | null>(
      (best, one) => (best !== null && best.trip <= one.trip ? best : one),
      null,
    );
  }

  /** The quickest round trip; null before the first exchange. */
  get roundTrip(): number | null {
    return this.#quickest?.trip ?? null;
  }

  /** The server's clock minus ours; 0 before the first exchange. */
  get offset(): number {
    return this.#quickest?.offset ?? 0;
  }

  toServer(local: number): number {
    return local + this.offset;
  }

  toLocal(server: number): number {
    return server - this.offset;
  }
}
