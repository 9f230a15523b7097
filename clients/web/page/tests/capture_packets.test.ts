// A microphone's blocks until they are packets, for a worker that does not get to them: the oldest are dropped, counted and told.

import { expect, test } from "vitest";
import { CaptureBuffer, MOST_WAITING_S } from "../src/capture_buffer.ts";
import type { CaptureBlock } from "../src/capture_buffer.ts";
import { CapturePackets } from "../src/capture_packets.ts";
import type { Captured, CapturedPacket, LostPackets } from "../src/capture_packets.ts";

const RATE = 8000;
const BLOCK_S = 0.01;
const PACKET_S = 0.08;

const isPacket = (captured: Captured): captured is CapturedPacket => captured.kind === "packet";
const isLost = (captured: Captured): captured is LostPackets => captured.kind === "lost";

/** A microphone without latency, and a worker at it: time passes only as a test says. */
class Microphone {
  readonly capture = new CapturePackets(RATE, 0);
  readonly heard: Captured[] = [];
  nowS = 5;
  capturedS = 0; // since the stream began
  readonly #inbox: CaptureBlock[] = [];
  readonly #buffer = new CaptureBuffer(RATE, (block) => this.#inbox.push(block));

  begin(rate = RATE): void {
    this.capture.begin(rate, PACKET_S * rate);
    this.#buffer.answered({ type: "begin" });
    this.capturedS = 0;
  }

  /** So much time passes and is captured; the worker takes nothing. */
  stall(seconds: number): void {
    for (let i = 0; i < Math.round(seconds / BLOCK_S); i++) {
      this.nowS += BLOCK_S;
      this.capturedS += BLOCK_S;
      this.#buffer.add(new Float32Array(RATE * BLOCK_S).fill(0.5), 1000 * this.nowS);
    }
  }

  /** The worker takes a block, where there is one. */
  take(): boolean {
    const block = this.#inbox.shift();
    if (block === undefined) return false;
    const waitedS = this.nowS - block.atMs / 1000;
    this.heard.push(...this.capture.block(block, 1e6 * this.nowS, waitedS));
    this.#buffer.answered({ type: "done", samples: block.samples.length });
    return true;
  }

  takeAll(): void {
    while (this.take());
  }

  /** So much time in which the worker takes all as it is captured. */
  live(seconds: number): void {
    for (let i = 0; i < Math.round(seconds / BLOCK_S); i++) {
      this.stall(BLOCK_S);
      this.takeAll();
    }
  }

  get packetsS(): number {
    return this.heard.filter(isPacket).reduce((sum, { durationS }) => sum + durationS, 0);
  }

  get lost(): number {
    return this.heard.filter(isLost).reduce((sum, { count }) => sum + count, 0);
  }
}

test("a worker that takes two seconds to come loses nothing", () => {
  const microphone = new Microphone();
  microphone.live(0.5);
  microphone.begin();
  microphone.live(1);
  microphone.stall(MOST_WAITING_S);
  microphone.takeAll();
  microphone.heard.push(...microphone.capture.rest(1));
  expect([microphone.lost, microphone.capture.droppedS]).toEqual([0, 0]);
  expect(microphone.packetsS).toBeCloseTo(microphone.capturedS, 3);
});

test.each([8000, 12_000])("of ten seconds without the worker the oldest are dropped, counted and told in their place, at %i Hz", (rate) => {
  const microphone = new Microphone();
  const { capture, heard } = microphone;
  microphone.live(0.5);
  expect([heard.length, capture.droppedS]).toEqual([0, 0]);
  microphone.begin(rate);
  microphone.live(1.03);
  expect(capture.droppedS).toBe(0);
  microphone.stall(10);
  microphone.takeAll();
  microphone.live(1);
  heard.push(...capture.rest(1));
  expect(capture.droppedS).toBeGreaterThan(10 - MOST_WAITING_S);
  expect(capture.droppedS).toBeLessThan(10 - MOST_WAITING_S / 2 + PACKET_S + BLOCK_S);
  expect(capture.droppedS + microphone.packetsS).toBeCloseTo(microphone.capturedS, 3);
  expect(heard.filter(isLost)).toMatchObject([{ count: Math.floor(capture.droppedS / PACKET_S) }]);
  // Before the hole are the packets of the live second, and what the worker had when it stalled.
  const place = heard.findIndex(isLost);
  expect(place).toBe(Math.floor((1.03 + 0.25 - BLOCK_S) / PACKET_S));
  const [before, after] = [heard[place - 1], heard[place + 1]];
  if (!isPacket(before) || !isPacket(after)) throw new Error("the gap lies between packets");
  expect((after.capturedUs - before.capturedUs) / 1e6 - PACKET_S).toBeCloseTo(capture.droppedS, 2);
});

test("a remainder below a packet counts with the next ones", () => {
  const microphone = new Microphone();
  microphone.begin();
  for (let i = 0; i < 8; i++) {
    microphone.live(1);
    microphone.stall(3.03);
    microphone.takeAll();
  }
  expect(microphone.heard.filter(isLost)).toHaveLength(8);
  expect(microphone.lost).toBe(Math.floor(microphone.capture.droppedS / PACKET_S + 1e-6));
});

test("behind a hole the sound begins afresh: no sample from before it is joined to what follows", () => {
  const microphone = new Microphone();
  const { heard } = microphone;
  microphone.begin();
  microphone.live(1.03);
  microphone.stall(10);
  microphone.takeAll();
  const [first, after] = [heard[0], heard[heard.findIndex(isLost) + 1]];
  if (!isPacket(first) || !isPacket(after)) throw new Error("a packet comes first, and behind the gap");
  expect(after.samples).toEqual(first.samples);
});

test("what comes between two streams is dropped, and told in neither", () => {
  const microphone = new Microphone();
  const { capture } = microphone;
  microphone.begin();
  microphone.live(1.03);
  capture.pause();
  microphone.live(0.5);
  expect(capture.droppedS + microphone.packetsS).toBeCloseTo(1.53, 3);
  const betweenS = microphone.capturedS;
  microphone.begin();
  microphone.live(1);
  microphone.heard.push(...capture.rest(1));
  expect(capture.droppedS + microphone.packetsS).toBeCloseTo(betweenS + 1, 3);
  expect(microphone.lost).toBe(0);
});

test("a stream begins live, whatever waited before", () => {
  const microphone = new Microphone();
  microphone.stall(5);
  microphone.begin();
  microphone.takeAll();
  microphone.live(1);
  microphone.heard.push(...microphone.capture.rest(1));
  expect([microphone.lost, microphone.capture.droppedS]).toEqual([0, 0]);
  expect(microphone.packetsS).toBeCloseTo(1, 3);
});

test("a stall before a stream's first packet has no numbers in it", () => {
  const microphone = new Microphone();
  microphone.live(0.5);
  microphone.begin();
  microphone.live(1);
  microphone.capture.pause();
  microphone.begin();
  microphone.stall(5);
  microphone.heard.splice(0);
  microphone.takeAll();
  expect(microphone.capture.droppedS).toBeGreaterThan(3);
  expect(isPacket(microphone.heard[0])).toBe(true);
});

test.each([0, 0.5])(
  "a microphone that stood still for a minute is heard at once, with its time, by a worker %f s behind; nothing was lost",
  (behind) => {
    const microphone = new Microphone();
    microphone.live(0.5);
    microphone.begin();
    microphone.live(1);
    microphone.nowS += 60;
    microphone.heard.splice(0);
    microphone.stall(behind + PACKET_S);
    microphone.takeAll();
    const [first] = microphone.heard;
    if (!isPacket(first)) throw new Error("a packet comes first");
    expect(microphone.nowS - behind - PACKET_S - first.capturedUs / 1e6).toBeLessThan(PACKET_S + BLOCK_S);
    microphone.live(3);
    expect([microphone.lost, microphone.capture.droppedS]).toEqual([0, 0]);
  },
);

test("a clock that runs wild drops nothing", () => {
  const microphone = new Microphone();
  microphone.begin();
  for (let i = 0; i < 500; i++) {
    microphone.nowS += 0.2;
    microphone.live(BLOCK_S);
  }
  microphone.heard.push(...microphone.capture.rest(1));
  expect([microphone.lost, microphone.capture.droppedS]).toEqual([0, 0]);
  expect(microphone.packetsS).toBeCloseTo(500 * BLOCK_S, 3);
});
