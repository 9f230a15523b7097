// Connecting again: a session whose connection is over is resumed, and an attempt that failed is repeated at growing intervals.

import { ConnectionFailed, Refused, openConnection, sleep, worthRetrying } from "./connection.ts";
import type { Connection, Io } from "./connection.ts";
import type { Hello } from "@streamcodec/protocol";
import type { Route } from "./route.ts";

/** For the first answer where there are other servers; it doubles from round to round. */
const PATIENCE_MS = 2000;

/** Waiting times in ms, without end: each is drawn from half to all of a bound that doubles, so that clients do not come all at once. */
export function* backoff(firstMs = 250, maxMs = 8000, random: () => number = Math.random): Generator<number, never> {
  for (let bound = firstMs; ; bound = Math.min(maxMs, 2 * bound)) yield (bound * (1 + random())) / 2;
}

/**
 * Connect again until it works, for at most `withinMs`; each attempt sends what `hello` returns.
 *
 * Where `lost`, the reason why the connection is over, says that the session has moved, the first attempt is made there at once. All others are
 * made at the addresses of `route` in turn. Rejects with `lost` where no attempt succeeds or nobody wants one any longer; its `goTo` is then
 * the server that has said that the session is over.
 */
export async function reopen(
  io: Io,
  route: Route,
  hello: () => Hello,
  lost: ConnectionFailed,
  withinMs: number,
  stopped: () => boolean,
): Promise<Connection> {
  const giveUp = io.now() + withinMs * 1000;
  const leftMs = () => (giveUp - io.now()) / 1000;
  const ended = (at: string | null) => {
    lost.goTo = at;
    return lost;
  };
  const ahead: string[] = [];
  const follow = (told: ConnectionFailed) => {
    if (!(told instanceof Refused) || told.code !== "moved" || told.goTo === null) return;
    if (!route.follow(told.goTo)) throw ended(null);
    ahead.unshift(told.goTo);
  };
  follow(lost);
  let patienceMs = PATIENCE_MS;
  for (const waitMs of backoff(100, 2000)) {
    const others = route.round().length > 1;
    for (let url = ahead.shift(); url !== undefined && leftMs() > 0 && !stopped(); url = ahead.shift()) {
      // If a network is about to be lost, an attempt may never be answered. There must be time for another on the next network.
      const boundMs = Math.min(10_000, leftMs() / 3, others ? patienceMs : Infinity);
      try {
        return await openConnection(io, url, hello(), Math.max(100, boundMs));
      } catch (error) {
        const here = url === route.url;
        if (!(error instanceof ConnectionFailed)) {
          if (here) throw error;
          route.leaveOut(url);
        } else if (!(error instanceof Refused)) continue;
        else if (error.code === "moved") follow(error);
        else if (error.code === "unknown_session" || (here && !error.retry)) throw ended(url === route.given ? null : url);
        else if (!error.retry) route.leaveOut(url);
      }
    }
    if (leftMs() <= 0 || stopped()) break;
    await sleep(io, Math.min(waitMs, leftMs()));
    ahead.splice(0, ahead.length, ...route.round());
    if (others) patienceMs *= 2;
  }
  throw ended(null);
}

/**
 * Connect until it works, or is refused for good: first `at` this address, and in the end at the one that was given; `note` is told of each
 * failure and the wait behind it. Where a server sends its clients to another one, the next attempt is made there.
 */
export async function keepOpening(
  io: Io,
  route: Route,
  at: string,
  hello: () => Hello,
  note: (why: Error, waitMs: number) => void,
  stopped: () => boolean,
): Promise<Connection> {
  let url = at;
  for (const waitMs of backoff()) {
    try {
      return await openConnection(io, url, hello());
    } catch (error) {
      const why = error instanceof Error ? error : new Error(String(error));
      if (stopped()) throw why;
      const refused = why instanceof Refused ? why : null;
      let longer = waitMs;
      if (refused?.retry === true && refused.goTo !== null && route.follow(refused.goTo)) url = refused.goTo;
      else {
        if (url === route.given && !worthRetrying(why)) throw why;
        url = route.given;
        longer += refused?.retryAfterMs ?? 0;
      }
      note(why, longer);
      await sleep(io, longer);
      if (stopped()) throw why;
    }
  }
  throw new Error("unreachable");
}
