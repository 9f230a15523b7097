// What becomes of a microphone's blocks that a busy thread gets to late: too old ones are dropped, counted and told.

import { expect, test } from "vitest";
import { Backlog } from "../src/backlog.ts";
import { CapturePackets } from "../src/capture_packets.ts";
import type { Captured } from "../src/capture_packets.ts";

const RATE = 48_000;
const BLOCK_S = 0.01;
const PACKET_S = 0.08;

test("a backlog drops from its bound on until half of it is left", () => {
  const backlog = new Backlog();
  const ages = [0, 1.99, 2.01, 1.5, 1.01, 0.99, 1.5];
  expect(ages.map((age) => backlog.block(BLOCK_S, age, 0, 0))).toEqual(["take", "take", "drop", "drop", "drop", "again", "take"]);
});

test("audio that waits for the encoder is as late as audio that waits before", () => {
  const backlog = new Backlog();
  expect(backlog.block(BLOCK_S, 1.5, 0.4, 0)).toBe("take");
  expect(backlog.block(BLOCK_S, 1.5, 0.6, 0)).toBe("drop");
});

test("old blocks that come as fast as they are captured wait nowhere, and those of a burst do", () => {
  const even = new Backlog();
  const verdicts = Array.from({ length: 102 }, (_, i) => even.block(BLOCK_S, 60, 0, i * BLOCK_S * 1e6));
  expect(verdicts.indexOf("misjudged")).toBe(100);
  expect(verdicts.slice(0, 100).every((verdict) => verdict === "drop")).toBe(true);
  const burst = new Backlog();
  expect(Array.from({ length: 500 }, () => burst.block(BLOCK_S, 60, 0, 0)).every((verdict) => verdict === "drop")).toBe(true);
});

/** A microphone without latency. */
class Microphone {
  readonly capture = new CapturePackets(RATE, 0);
  readonly heard: Captured[] = [];
  nowUs = 5_000_000;
  capturedS = 0;

  /** Capture a block, and deliver it now. */
  deliver(queuedS = 0): void {
    this.heard.push(...this.capture.block(new Float32Array(RATE * BLOCK_S).fill(0.5), this.nowUs, queuedS));
    this.capturedS += BLOCK_S;
  }

  /** So much time in which all is delivered as it is captured. */
  live(seconds: number): void {
    for (let i = 0; i < Math.round(seconds / BLOCK_S); i++) {
      this.nowUs += BLOCK_S * 1e6;
      this.deliver();
    }
  }

  /** So much time without a look at the microphone, and then all its blocks at once. */
  burst(seconds: number): void {
    this.nowUs += seconds * 1e6;
    for (let i = 0; i < Math.round(seconds / BLOCK_S); i++) this.deliver();
  }

  get packetsS(): number {
    return this.heard.reduce((sum, captured) => sum + (captured.kind === "packet" ? captured.durationS : 0), 0);
  }

  get lost() {
    return this.heard.filter((captured) => captured.kind === "lost");
  }
}

test.each([24_000, 48_000])("of ten seconds in one burst what is dropped is counted and told, at %i Hz", (rate) => {
  const microphone = new Microphone();
  const { capture } = microphone;
  microphone.live(0.5);
  expect([microphone.heard.length, capture.droppedS]).toEqual([0, 0]);
  capture.begin(rate, PACKET_S * rate);
  microphone.capturedS = 0;
  microphone.live(1.03);
  expect(capture.droppedS).toBe(0);
  microphone.burst(10);
  microphone.live(1);
  microphone.heard.push(...capture.rest(1));
  // Nine seconds, and less than a packet that was begun before.
  expect(capture.droppedS).toBeGreaterThan(8.9);
  expect(capture.droppedS).toBeLessThan(9.1 + PACKET_S);
  expect(capture.droppedS + microphone.packetsS).toBeCloseTo(microphone.capturedS, 3);
  expect(microphone.lost).toEqual([{ kind: "lost", count: Math.floor(capture.droppedS / PACKET_S), overload: true }]);
  // The gap is told in its place: before it whole packets of the live second, behind it what was not too old.
  const place = microphone.heard.findIndex((captured) => captured.kind === "lost");
  expect(place).toBe(12);
  const [before, after] = [microphone.heard[place - 1], microphone.heard[place + 1]];
  if (before.kind !== "packet" || after.kind !== "packet") throw new Error("the gap lies between packets");
  expect((after.capturedUs - before.capturedUs) / 1e6 - PACKET_S).toBeCloseTo(capture.droppedS, 1);
});

test("a remainder below a packet counts with the next ones", () => {
  const microphone = new Microphone();
  const { capture } = microphone;
  microphone.live(0.5);
  capture.begin(24_000, PACKET_S * 24_000);
  for (let i = 0; i < 8; i++) {
    microphone.live(1);
    microphone.burst(3.03);
  }
  const told = microphone.lost.reduce((sum, { count }) => sum + count, 0);
  expect(microphone.lost).toHaveLength(8);
  expect(told).toBe(Math.floor(capture.droppedS / PACKET_S));
});

test("behind a hole the sound begins afresh: no sample from before it is joined to what follows", () => {
  const microphone = new Microphone();
  microphone.live(0.5);
  microphone.capture.begin(24_000, PACKET_S * 24_000);
  microphone.live(1.03);
  const before = microphone.heard.length;
  microphone.burst(10);
  const after = microphone.heard[before + 1];
  if (after.kind !== "packet") throw new Error("a packet follows the gap");
  const first = microphone.heard[0];
  if (first.kind !== "packet") throw new Error("the stream begins with a packet");
  expect(after.samples).toEqual(first.samples);
});

test("what comes between two streams is dropped, and told in neither", () => {
  const microphone = new Microphone();
  const { capture } = microphone;
  capture.begin(24_000, PACKET_S * 24_000);
  microphone.live(1.03);
  capture.pause();
  microphone.live(0.5);
  expect(capture.droppedS + microphone.packetsS).toBeCloseTo(1.53, 3);
  capture.begin(24_000, PACKET_S * 24_000);
  microphone.live(1);
  expect(capture.droppedS + microphone.packetsS).toBeCloseTo(2.5, 1);
  expect(microphone.lost).toEqual([]);
});

test("a burst before a stream's first packet is no fault of the encoder", () => {
  const microphone = new Microphone();
  microphone.live(0.5);
  microphone.capture.begin(24_000, PACKET_S * 24_000);
  microphone.burst(5);
  expect(microphone.capture.droppedS).toBeGreaterThan(3);
  expect(microphone.lost).toEqual([]);
  expect(microphone.packetsS).toBeGreaterThan(0.8);
});

test("a microphone that stood still for a minute is heard again after a second, and that is no overload", () => {
  const microphone = new Microphone();
  microphone.live(0.5);
  microphone.capture.begin(24_000, PACKET_S * 24_000);
  microphone.live(1);
  microphone.nowUs += 60e6;
  microphone.live(3);
  expect(microphone.lost).toMatchObject([{ overload: false }]);
  expect(microphone.capture.droppedS).toBeLessThan(1.2);
  const last = microphone.heard.at(-1);
  if (last?.kind !== "packet") throw new Error("packets go on");
  expect((microphone.nowUs - last.capturedUs) / 1e6).toBeLessThan(0.2);
});

test("who stops while blocks are dropped tells of them as well", () => {
  const microphone = new Microphone();
  microphone.live(0.5);
  microphone.capture.begin(24_000, PACKET_S * 24_000);
  microphone.live(1);
  microphone.nowUs += 10e6;
  for (let i = 0; i < 100; i++) microphone.deliver();
  const rest = microphone.capture.rest(1);
  expect(rest).toEqual([{ kind: "lost", count: Math.floor(microphone.capture.droppedS / PACKET_S), overload: true }]);
});
