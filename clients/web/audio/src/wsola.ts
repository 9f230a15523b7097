// Time stretching at the same pitch (WSOLA, Verhelst and Roelands, 1993): it removes or repeats one period of the sound where two
// neighbouring periods are similar.

import { fadeIn, joined, roundHalfEven } from "./numbers.ts";

const MIN_PERIOD_S = 0.0025; // 400 Hz
const OVERLAP_S = 0.005;

/** Remove at most `maxSamples` samples, with a cross-fade; x itself if no two sections reach `similarity` (1: equal). */
export function shorten(x: Float32Array, maxSamples: number, rate: number, similarity: number): Float32Array {
  const match = findPeriod(x, maxSamples, rate, similarity);
  if (match === null) return x;
  const { at, period, fade } = match;
  return joined(x.subarray(0, at), blend(x, at, at + period, fade), x.subarray(at + period + fade));
}

/** Repeat at most `maxSamples` samples, with a cross-fade; x itself if no two sections reach `similarity` (1: equal). */
export function lengthen(x: Float32Array, maxSamples: number, rate: number, similarity: number): Float32Array {
  const match = findPeriod(x, maxSamples, rate, similarity);
  if (match === null) return x;
  const { at, period, fade } = match;
  return joined(x.subarray(0, at + period), blend(x, at + period, at, fade), x.subarray(at + fade));
}

/** A cross-fade from the samples at `from` to those at `to`. */
function blend(x: Float32Array, from: number, to: number, fade: number): Float32Array {
  return fadeIn(fade).map((gain, i) => x[from + i] * (1 - gain) + x[to + i] * gain);
}

/** A section of x that repeats: its index, its period and the length of the cross-fade; null if none is similar. */
function findPeriod(
  x: Float32Array,
  maxSamples: number,
  rate: number,
  similarity: number,
): { at: number; period: number; fade: number } | null {
  const fade = roundHalfEven(OVERLAP_S * rate);
  const minPeriod = roundHalfEven(MIN_PERIOD_S * rate);
  const maxPeriod = Math.min(maxSamples, x.length - fade - 2);
  if (maxPeriod < minPeriod) return null;
  let best = { similarity: -Infinity, at: 0, period: 0 };
  // The first and the last sample do not change, because they join the neighbouring packets.
  const last = x.length - maxPeriod - fade - 1;
  for (const at of new Set([1, Math.max(1, Math.floor(last / 2)), last])) {
    const found = bestLag(x, at, minPeriod, maxPeriod, fade);
    if (found.similarity > best.similarity) best = { ...found, at };
  }
  return best.similarity >= similarity ? { at: best.at, period: best.period, fade } : null;
}

/** The period at which the section at `at` resembles what follows most. */
function bestLag(x: Float32Array, at: number, minPeriod: number, maxPeriod: number, fade: number): { similarity: number; period: number } {
  let energy = 0;
  for (let i = 0; i < fade; i++) energy += x[at + i] ** 2;
  // A running sum of squares gives the energies of all candidates at once.
  const squares = new Float64Array(maxPeriod - minPeriod + fade + 1);
  for (let i = 1; i < squares.length; i++) squares[i] = squares[i - 1] + x[at + minPeriod + i - 1] ** 2;
  let best = { similarity: -Infinity, period: minPeriod };
  for (let period = minPeriod; period <= maxPeriod; period++) {
    let product = 0;
    for (let i = 0; i < fade; i++) product += x[at + i] * x[at + period + i];
    const candidate = squares[period - minPeriod + fade] - squares[period - minPeriod];
    const similarity = (product + 1e-9) / (Math.sqrt(candidate * energy) + 1e-9);
    if (similarity > best.similarity) best = { similarity, period };
  }
  return best;
}
