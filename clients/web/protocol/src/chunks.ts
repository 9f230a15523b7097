// Models that code a stream in chunks: a scale in front of the codes, how many frames each chunk has, and how overlapping chunks are joined.

import { LocalProtocolError, RemoteProtocolError } from "./errors.ts";
import { packCodes, unpackCodes } from "./packing.ts";
import type { Codes } from "./packing.ts";

const SCALE_BYTES = 4;

/** The codes of a payload without the scale in front of them, and the scale. Throws `RemoteProtocolError` bad_payload. */
export function unpackScaled(payload: Uint8Array, nQ: number, bits: number): { scale: number; codes: Int32Array[] } {
  return { scale: scaleOf(payload), codes: unpackCodes(payload.subarray(SCALE_BYTES), nQ, bits) };
}

/** The payload of codes with a scale in front of them. Throws `LocalProtocolError`. */
export function packScaled(scale: number, codes: Codes, bits: number): Uint8Array {
  if (!(scale >= 0 && scale < Infinity)) throw new LocalProtocolError(`the scale is ${scale}, expected a finite number from 0`);
  const packed = packCodes(codes, bits);
  const payload = new Uint8Array(SCALE_BYTES + packed.length);
  new DataView(payload.buffer).setFloat32(0, scale, true);
  payload.set(packed, SCALE_BYTES);
  return payload;
}

/** The scale in front of a payload's codes. Throws `RemoteProtocolError` bad_payload. */
export function scaleOf(payload: Uint8Array): number {
  if (payload.length <= SCALE_BYTES)
    throw new RemoteProtocolError("bad_payload", `payload has ${payload.length} bytes, expected a scale and codes`);
  const scale = new DataView(payload.buffer, payload.byteOffset, SCALE_BYTES).getFloat32(0, true);
  if (scale >= 0 && scale < Infinity) return scale;
  throw new RemoteProtocolError("bad_payload", `the scale is ${scale}, expected a finite number from 0`);
}

/** The frames of each chunk of an epoch of so many samples. */
export function chunkFrames(length: number, stride: number, hop: number, samples: number): number[] {
  const frames: number[] = [];
  for (let at = 0; at < samples; at += stride) frames.push(Math.ceil(Math.min(length, samples - at) / hop));
  return frames;
}

/** The stream that chunks of samples make, each `stride` samples after the one before: the sum of the weighted, by the sum of the weights. */
export function overlapAdd(stride: number, parts: readonly ArrayLike<number>[]): Float64Array {
  const first = parts[0]?.length ?? 0;
  const length = parts.reduce((most, part, i) => Math.max(most, i * stride + part.length), 0);
  const sums = new Float64Array(length);
  const weights = new Float64Array(length);
  parts.forEach((part, i) => {
    for (let j = 0; j < part.length; j++) {
      const weight = 1 / 2 - Math.abs((j + 1) / (first + 1) - 1 / 2);
      const at = i * stride + j;
      sums[at] = (sums[at] ?? 0) + weight * (part[j] ?? 0);
      weights[at] = (weights[at] ?? 0) + weight;
    }
  });
  return sums.map((sum, at) => sum / (weights[at] ?? 1));
}
