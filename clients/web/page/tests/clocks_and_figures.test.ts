// What the page reckons by itself: when samples were captured, and percentiles of the last packets.

import { expect, test } from "vitest";
import { CaptureClock } from "../src/capture_clock.ts";
import { heightFor } from "../src/delay_history.ts";
import { Bitrate, StageTimes } from "../src/figures.ts";
import { KeepsUp } from "../src/worker_tools.ts";

test("blocks that come by fits and starts were captured evenly, as the quickest of them says", () => {
  const clock = new CaptureClock(48_000, 0.01);
  const late = [9000, 3000, 0, 7000, 20_000, 2000, 0, 11_000];
  const captured = late.map((us, i) => clock.block(480 * i, 480, (i + 1) * 10_000 + us, 0));
  // From the third block on the quickest has been seen; forgetting moves each by at most five microseconds.
  captured.slice(2).forEach((us, i) => {
    expect(Math.abs(us - ((i + 2) * 10_000 - 10_000))).toBeLessThanOrEqual(25);
  });
});

test("a sound card whose clock is slow is followed", () => {
  const clock = new CaptureClock(48_000, 0);
  let captured = 0;
  for (let i = 0; i < 6000; i++) captured = clock.block(480 * i, 480, (i + 1) * 10_000 * 1.0002, 0);
  expect(Math.abs(captured - 5999 * 10_000 * 1.0002)).toBeLessThan(1000);
});

test("blocks that are later than they waited tell that nothing was captured for a while, and those that waited do not", () => {
  const clock = new CaptureClock(48_000, 0);
  expect(clock.block(0, 480, 10_000, 0)).toBe(0);
  expect(clock.block(480, 480, 5_020_000, 4_990_000)).toBeCloseTo(10_000, -2);
  expect(clock.block(960, 480, 65_030_000, 60_000)).toBeCloseTo(64_960_000, -2);
  expect(clock.block(1440, 480, 65_030_000, 50_000)).toBeCloseTo(64_970_000, -2);
});

test("percentiles are of the last packets", () => {
  const times = new StageTimes();
  expect(times.percentiles()).toBeNull();
  for (let i = 1; i <= 1000; i++) times.add({ way: i, decode: 1, buffer: 2, total: i + 3 });
  expect(times.percentiles()).toMatchObject({ way: { p50: 872, p95: 988, p99: 998 }, decode: { p50: 1, p99: 1 } });
});

test("the bitrate is that of the last two seconds, the total that of all", () => {
  const bitrate = new Bitrate();
  for (let i = 0; i < 100; i++) bitrate.add(i * 80_000, 60);
  expect(bitrate.kbps(99 * 80_000)).toBeCloseTo(6, 1);
  expect(bitrate.kbps(20e6)).toBe(0);
  expect(bitrate.total).toBe(6000);
});

test("a device is too slow once its steps have taken a second too long, and not for one long step", () => {
  const single = new KeepsUp();
  expect(Array.from({ length: 200 }, (_, i) => single.step(i % 20 ? 60 : 5000, 80)).every(Boolean)).toBe(true);
  const slow = new KeepsUp();
  expect(Array.from({ length: 120 }, () => slow.step(90, 80)).indexOf(false)).toBe(100);
});

test("a device that loses audio once in a while is not too slow, one that loses some twice within a minute is", () => {
  const keepsUp = new KeepsUp();
  expect([10, 75, 140, 190, 300].map((atS) => keepsUp.lost(atS))).toEqual([true, true, true, false, true]);
});

test("the means are of what came since they were last asked for", () => {
  const times = new StageTimes();
  expect(times.takeRecent()).toBeNull();
  for (const way of [1, 2, 6]) times.add({ way, decode: 1, buffer: 2, total: way + 3 });
  expect(times.takeRecent()).toEqual({ way: 3, decode: 1, buffer: 2, total: 6 });
  times.add({ way: 10, decode: 1, buffer: 2, total: 13 });
  expect(times.takeRecent()).toEqual({ way: 10, decode: 1, buffer: 2, total: 13 });
  expect(times.takeRecent()).toBeNull();
});

test("a picture of delays is as high as a round number that holds all but the rarest", () => {
  expect(heightFor([])).toBe(100);
  expect(heightFor([150, 180, 210])).toBe(500);
  expect(heightFor([...Array<number>(150).fill(190), 9000])).toBe(200);
  expect(heightFor([90_000])).toBe(90_000);
});
