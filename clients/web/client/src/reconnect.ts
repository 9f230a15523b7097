// Connecting again: a connection that broke is resumed where it was, and an attempt that failed is repeated at growing intervals.

import { ConnectionFailed, Refused, openConnection, sleep, worthRetrying } from "./connection.ts";
import type { Connection, Io } from "./connection.ts";
import type { Hello } from "@streamcodec/protocol";

/** Waiting times in ms, without end: each is drawn from half to all of a bound that doubles, so that clients do not come all at once. */
export function* backoff(firstMs = 250, maxMs = 8000, random: () => number = Math.random): Generator<number, never> {
  for (let bound = firstMs; ; bound = Math.min(maxMs, 2 * bound)) yield (bound * (1 + random())) / 2;
}

/**
 * Connect again until it works, for at most `withinMs`; each attempt sends what `hello` returns.
 *
 * Rejects with `lost`, the reason why the connection broke, where no attempt succeeds or nobody wants one any longer.
 */
export async function reopen(
  io: Io,
  url: string,
  hello: () => Hello,
  lost: Error,
  withinMs: number,
  stopped: () => boolean,
): Promise<Connection> {
  const giveUp = io.now() + withinMs * 1000;
  const leftMs = () => (giveUp - io.now()) / 1000;
  for (const waitMs of backoff(100, 2000)) {
    if (leftMs() <= 0) break;
    await sleep(io, Math.min(waitMs, leftMs()));
    if (stopped()) break;
    try {
      // If a network is about to be lost, an attempt may never be answered. There must be time for another on the next network.
      return await openConnection(io, url, hello(), Math.max(100, Math.min(10_000, leftMs() / 3)));
    } catch (error) {
      if (error instanceof Refused && !error.retry) break;
      if (!(error instanceof ConnectionFailed)) throw error;
    }
  }
  throw lost;
}

/** Connect until it works, or is refused for good; `note` is told of each failure and the wait behind it. */
export async function keepOpening(
  io: Io,
  url: string,
  hello: () => Hello,
  note: (why: Error, waitMs: number) => void,
  stopped: () => boolean,
): Promise<Connection> {
  for (const waitMs of backoff()) {
    try {
      return await openConnection(io, url, hello());
    } catch (error) {
      const why = error instanceof Error ? error : new Error(String(error));
      if (!worthRetrying(why) || stopped()) throw why;
      const longer = waitMs + (why instanceof Refused ? (why.retryAfterMs ?? 0) : 0);
      note(why, longer);
      await sleep(io, longer);
      if (stopped()) throw why;
    }
  }
  throw new Error("unreachable");
}
