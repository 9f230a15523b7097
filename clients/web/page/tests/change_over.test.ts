// A second connection takes over from the first: every packet is heard once, in order, whichever of the two is ahead.

import { expect, test } from "vitest";
import type { StreamEvent } from "../../client/src/index.ts";
import { ChangeOver } from "../src/change_over.ts";

function start(firstSeq: number, liveSeq = firstSeq, session = "stream"): StreamEvent {
  const told = { n_q: 8, bandwidth: 6, packet_frames: 6, format: "codes" as const, sample_rate: 24_000, channels: 1, packet_samples: 1920 };
  return { type: "start", epoch: 0, start: "primed", first_seq: firstSeq, live_seq: liveSeq, session, reason: "", ...told };
}

const packet = (seq: number): StreamEvent => ({ type: "packet", seq, epoch: 0, timestamp: 0, n_q: 8, payload: new Uint8Array(60) });
const silence = (from: number, count: number): StreamEvent => ({ type: "gap", first_seq: from, count, reason: "silence" });
const waiting: StreamEvent = { type: "waiting", stream: "live" };
const end = (next: number): StreamEvent => ({ type: "stream_end", next_seq: next, reason: "over" });

/** Give the second connection events; each packet is held under its number. */
function come(change: ChangeOver<number>, ...events: StreamEvent[]): void {
  for (const event of events) change.came(event, event.type === "packet" ? event.seq : null);
}

test("the second one goes through its history first, then goes on where the first one is", () => {
  const change = new ChangeOver<number>({ session: "stream", next: 10 });
  come(change, start(5, 9), packet(5), packet(6), packet(7), packet(8));
  expect(change.takenOver).toBeNull();
  change.heard(packet(10));
  come(change, packet(9), packet(10));
  expect(change.takenOver).toEqual([]);
  come(change, packet(11));
  expect(change.takenOver).toEqual([11]);
});

test("a second one that is ahead waits until the first one has come as far", () => {
  const change = new ChangeOver<number>({ session: "stream", next: 10 });
  come(change, start(12), packet(12), packet(13));
  expect(change.takenOver).toBeNull();
  change.heard(packet(10));
  expect(change.takenOver).toBeNull();
  change.heard(packet(11));
  expect(change.takenOver).toEqual([12, 13]);
  expect(change.leftOut).toBe(0);
});

test("what was left out as silence is passed by on either side", () => {
  const change = new ChangeOver<number>({ session: "stream", next: 10 });
  come(change, start(10), packet(10), silence(11, 9));
  change.heard(packet(10));
  change.heard(silence(11, 9));
  expect(change.takenOver).toEqual([]);
  come(change, packet(20));
  expect(change.takenOver).toEqual([20]);
});

test("where nothing is published there is nothing to wait for", () => {
  const change = new ChangeOver<number>(null);
  expect(change.takenOver).toBeNull();
  come(change, waiting);
  expect(change.takenOver).toEqual([]);
});

test("a stream that the first one has not come to yet is the second one's, from its live packet on", () => {
  const change = new ChangeOver<number>(null);
  come(change, start(3, 5), packet(3), packet(4), packet(5));
  expect(change.takenOver).toEqual([5]);
});

test("a stream's end is heard before the next stream begins", () => {
  const change = new ChangeOver<number>({ session: "old", next: 10 });
  come(change, start(0, 0, "new"), packet(0));
  expect(change.takenOver).toBeNull();
  change.heard(packet(10));
  change.heard(end(11));
  expect(change.takenOver).toEqual([0]);
});

test("a stream that begins anew meanwhile is followed on both sides", () => {
  const change = new ChangeOver<number>({ session: "old", next: 10 });
  come(change, start(8, 8, "old"), packet(8), packet(9), end(10), start(0, 0, "new"), packet(0), packet(1));
  change.heard(end(10));
  change.heard(start(0, 0, "new"));
  change.heard(packet(0));
  expect(change.takenOver).toEqual([1]);
});

test("a first one that comes no further is not waited for without end", () => {
  const change = new ChangeOver<number>({ session: "stream", next: 1 });
  come(change, start(10), ...Array.from({ length: 125 }, (_, i) => packet(10 + i)));
  expect(change.takenOver).toBeNull();
  come(change, packet(135));
  expect(change.takenOver).toEqual(Array.from({ length: 126 }, (_, i) => 10 + i));
  expect(change.leftOut).toBe(9);
});
