// What waits for a worker is bounded, whatever its pace: a made-up worker takes each block when it is done with the one before.

import { expect, test } from "vitest";
import { CaptureBuffer, MOST_WAITING_S } from "../src/capture_buffer.ts";
import type { CaptureBlock } from "../src/capture_buffer.ts";

const RATE = 100; // one sample is a block of 10 ms
const BLOCK_S = 1 / RATE;

/** Two minutes of a microphone at a worker that takes `slow` times as long for a block as there is; what it took, and how old each was. */
function twoMinutes(slow: number) {
  const inbox: CaptureBlock[] = [];
  const took: { from: number; ageS: number }[] = [];
  const buffer = new CaptureBuffer(RATE, (block) => inbox.push(block));
  let freeAtS = 0;
  for (let i = 1; i <= 120 * RATE; i++) {
    const nowS = i * BLOCK_S;
    buffer.add(new Float32Array(1), 1000 * nowS);
    for (; freeAtS <= nowS && inbox.length > 0; freeAtS += slow * BLOCK_S) {
      const { from, atMs } = inbox.shift()!;
      took.push({ from, ageS: nowS - atMs / 1000 });
      buffer.answered({ type: "done", samples: 1 });
    }
    if (inbox.length === 0) freeAtS = Math.max(freeAtS, nowS);
  }
  return { took, inbox };
}

test("a worker that is in time gets all, at once", () => {
  const { took } = twoMinutes(0.9);
  expect(took).toHaveLength(120 * RATE);
  expect(Math.max(...took.map(({ ageS }) => ageS))).toBeLessThan(2 * BLOCK_S);
});

test.each([1.05, 1.5, 3, 20])(
  "a worker that takes %f times as long is never further behind than the bound, and misses few and long pieces",
  (slow) => {
    const { took, inbox } = twoMinutes(slow);
    const holes = took.flatMap(({ from }, i) => (i > 0 && from > took[i - 1].from + 1 ? [from - took[i - 1].from - 1] : []));
    expect(took.length).toBeGreaterThan((120 * RATE) / slow - 2);
    // What the worker has got already becomes older at its own pace.
    expect(Math.max(...took.map(({ ageS }) => ageS))).toBeLessThanOrEqual(MOST_WAITING_S + 0.26 * slow);
    expect(inbox.length).toBeLessThanOrEqual(0.25 * RATE);
    expect(holes.length).toBeGreaterThan(0);
    expect(Math.min(...holes) * BLOCK_S).toBeGreaterThanOrEqual(MOST_WAITING_S / 2 - 0.25);
  },
);

test("after a worker has stalled it goes on with what is new, in order", () => {
  const inbox: CaptureBlock[] = [];
  const buffer = new CaptureBuffer(RATE, (block) => inbox.push(block));
  for (let i = 0; i < 10 * RATE; i++) buffer.add(new Float32Array(1), 0);
  expect(inbox.map(({ from }) => from)).toEqual(Array.from({ length: 25 }, (_, i) => i));
  for (let i = 0; i < inbox.length; i++) buffer.answered({ type: "done", samples: 1 });
  const { from } = inbox[25];
  expect(10 * RATE - from).toBeGreaterThan((MOST_WAITING_S / 2 - 0.25) * RATE);
  expect(inbox.slice(25).map((block) => block.from)).toEqual(Array.from({ length: 10 * RATE - from }, (_, i) => from + i));
});

test("what waits when a stream begins is not of that stream", () => {
  const inbox: CaptureBlock[] = [];
  const buffer = new CaptureBuffer(RATE, (block) => inbox.push(block));
  for (let i = 0; i < RATE; i++) buffer.add(new Float32Array(1), 0);
  buffer.answered({ type: "begin" });
  buffer.add(new Float32Array(1), 0);
  buffer.answered({ type: "done", samples: 25 });
  expect(inbox.slice(0, 25).every(({ stream }) => stream === 0)).toBe(true);
  expect(inbox.slice(25)).toMatchObject([{ from: RATE, stream: 1 }]);
});
