// The playout decides as the Python player does: the same arrivals, the same decisions.

import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { AdaptivePlayout, PlayoutReader } from "../src/index.ts";
import type { PlayoutStats } from "../src/index.ts";

interface Shared {
  rate_in: number;
  rate_out: number;
  packet_s: number;
  block_s: number;
  device_ppm: number;
  packets: { arrived: number; captured: number; decoding_s: number; quiet: boolean; left_out: boolean }[];
  stats: string[];
  decisions: number[][];
  heard_every: number;
  heard: number[] | null;
}

const FOLDER = new URL("../../../../tests/audio/traces/", import.meta.url);

/** Harmonics of a gliding voice that swells and falls silent, as in decision_files.py. */
function soundOf(samples: number, rate: number): Float32Array {
  return Float32Array.from({ length: samples }, (_, i) => {
    const t = i / rate;
    const phase = 2 * Math.PI * 120 * t - 60 * Math.cos(Math.PI * t);
    let voice = 0;
    for (let k = 1; k <= 8; k++) voice += Math.sin(k * phase) / k;
    return 0.2 * Math.max(0, Math.sin(2 * Math.PI * 0.35 * t)) * voice;
  });
}

function rowOf(stats: PlayoutStats): number[] {
  return [
    stats.targetS,
    stats.marginS,
    stats.bufferedS,
    stats.underruns,
    stats.jumps,
    stats.droppedS,
    stats.shortenedS,
    stats.lengthenedS,
    stats.steering,
    stats.lateS,
    stats.comfortS,
  ];
}

/** Play in simulated time, as playout_rig.py does. */
function run(shared: Shared): { decisions: number[][]; heard: number[] } {
  const packet = Math.round(shared.packet_s * shared.rate_in);
  const sound = soundOf(shared.packets.length * packet, shared.rate_in);
  const playout = new AdaptivePlayout(shared.rate_in, shared.rate_out, { blockS: shared.block_s });
  const reader = new PlayoutReader(playout.memory);
  const block = new Float32Array(Math.round(shared.block_s * shared.rate_out));
  const step = shared.block_s / (1 + shared.device_ppm * 1e-6);
  let free = 0;
  const events = shared.packets.map((one, index) => {
    free = Math.max(free, one.arrived) + one.decoding_s;
    return { ...one, index, ready: free };
  });
  const last = Math.max(...events.map((one) => one.ready)) + 1;
  const coming = events.filter((one) => !one.left_out);
  const decisions: number[][] = [];
  const heard: number[] = [];
  let next = 0;
  for (let now = 0; ; now += step) {
    for (; next < coming.length && coming[next].ready < now; next++) {
      const one = coming[next];
      const times = { arrivedS: one.arrived, capturedS: one.captured, decodingS: one.ready - one.arrived };
      playout.push(sound.slice(one.index * packet, (one.index + 1) * packet), times, one.quiet);
      decisions.push(rowOf(playout.stats));
    }
    reader.pull(block);
    heard.push(...block);
    if (now >= last) break;
  }
  return { decisions, heard: heard.filter((_, i) => i % shared.heard_every === 0) };
}

describe.each(["loaded", "stopped", "pauses"])("%s", (name) => {
  const shared = JSON.parse(readFileSync(new URL(`${name}.json`, FOLDER), "utf-8")) as Shared;
  const course = run(shared);

  test("the decisions are those of the Python player", () => {
    expect(shared.stats).toHaveLength(11);
    expect(course.decisions).toHaveLength(shared.decisions.length);
    course.decisions.forEach((row, i) => {
      row.forEach((value, j) => {
        expect(Math.abs(value - shared.decisions[i][j]), `packet ${i}, ${shared.stats[j]}: ${value}`).toBeLessThan(1e-8);
      });
    });
  });

  test.skipIf(shared.heard === null)("what is heard is what the Python player plays", () => {
    expect(course.heard).toHaveLength(shared.heard!.length);
    course.heard.forEach((sample, i) => {
      expect(Math.abs(sample - shared.heard![i])).toBeLessThan(2e-5);
    });
  });
});
