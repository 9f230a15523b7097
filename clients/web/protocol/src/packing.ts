// Codes to payload bytes and back. Codebooks go in pairs, each code most significant bit first; zeros fill each pair's last byte, so that the
// first pairs alone are the same packet at a lower bandwidth. The number of frames is not sent: the number of bytes determines it.

import { LocalProtocolError, RemoteProtocolError } from "./errors.ts";

/** Codes of a packet: [n_q][frames]. */
export type Codes = readonly ArrayLike<number>[];

const wholeBytes = (bits: number) => Math.ceil(bits / 8);

/** Bytes of `frames` frames of `nQ` codebooks: 60 for 8 codebooks of 10 bits and 6 frames. */
export function payloadSize(nQ: number, frames: number, bits: number): number {
  return Math.floor(nQ / 2) * wholeBytes(2 * frames * bits) + (nQ % 2) * wholeBytes(frames * bits);
}

/**
 * The frames in a payload of `nQ` codebooks.
 *
 * Throws `RemoteProtocolError` bad_payload where the bytes are no whole packet, or padding bits are set.
 */
export function payloadFrames(payload: Uint8Array, nQ: number, bits: number): number {
  const frames = Math.floor((8 * payload.length) / (nQ * bits));
  if (nQ < 1 || frames < 1 || payloadSize(nQ, frames, bits) !== payload.length) {
    throw new RemoteProtocolError(
      "bad_payload",
      `payload has ${payload.length} bytes, expected whole frames of ${nQ} codebooks of ${bits} bits`,
    );
  }
  let end = 0;
  for (let book = 0; book < nQ; book += 2) {
    const used = Math.min(2, nQ - book) * frames * bits;
    end += wholeBytes(used);
    const zeros = (1 << (8 * wholeBytes(used) - used)) - 1;
    if (((payload[end - 1] ?? 0) & zeros) !== 0) throw new RemoteProtocolError("bad_payload", `padding in byte ${end - 1} is not zero`);
  }
  return frames;
}

/** The codes in a payload, [n_q][frames]. Throws as `payloadFrames` does. */
export function unpackCodes(payload: Uint8Array, nQ: number, bits: number): Int32Array[] {
  const frames = payloadFrames(payload, nQ, bits);
  const codes: Int32Array[] = [];
  let group = 0;
  for (let book = 0; book < nQ; book += 2) {
    const books = Math.min(2, nQ - book);
    let position = 8 * group;
    for (let i = 0; i < books; i++) {
      const row = new Int32Array(frames);
      for (let frame = 0; frame < frames; frame++) {
        let code = 0;
        for (let bit = 0; bit < bits; bit++, position++) code = (code << 1) | (((payload[position >> 3] ?? 0) >> (7 - (position & 7))) & 1);
        row[frame] = code;
      }
      codes.push(row);
    }
    group += wholeBytes(books * frames * bits);
  }
  return codes;
}

/** A packet's codes, [n_q][frames], as a payload. Throws `LocalProtocolError` for another shape, or a code out of range. */
export function packCodes(codes: Codes, bits: number): Uint8Array {
  const frames = codes[0]?.length ?? 0;
  if (frames < 1 || codes.some((row) => row.length !== frames)) {
    throw new LocalProtocolError(
      `codes have rows of ${codes.map((row) => row.length).join(", ")} frames, expected as many in each, at least 1`,
    );
  }
  const payload = new Uint8Array(payloadSize(codes.length, frames, bits));
  let position = 0;
  codes.forEach((row, book) => {
    // Each pair of codebooks begins with a whole byte.
    if (book % 2 === 0) position = 8 * wholeBytes(position);
    for (let frame = 0; frame < frames; frame++) {
      const code = row[frame] ?? -1;
      if (!Number.isInteger(code) || code < 0 || code >= 2 ** bits) {
        throw new LocalProtocolError(`the code of codebook ${book}, frame ${frame} is ${code}, expected 0 to ${2 ** bits - 1}`);
      }
      for (let bit = bits - 1; bit >= 0; bit--, position++) {
        payload[position >> 3] = (payload[position >> 3] ?? 0) | (((code >> bit) & 1) << (7 - (position & 7)));
      }
    }
  });
  return payload;
}

/** The packet at `toNQ` codebooks, a prefix of its bytes: an even number of them, or all. Throws `LocalProtocolError`. */
export function truncatePayload(payload: Uint8Array, fromNQ: number, toNQ: number, bits: number): Uint8Array {
  const frames = payloadFrames(payload, fromNQ, bits);
  if (toNQ !== fromNQ && (toNQ % 2 !== 0 || toNQ < 2 || toNQ > fromNQ)) {
    throw new LocalProtocolError(`cannot cut a packet of ${fromNQ} codebooks to ${toNQ}, expected an even number from 2, or ${fromNQ}`);
  }
  return payload.subarray(0, payloadSize(toNQ, frames, bits));
}

/** The bandwidth of `nQ` codebooks in kbps. */
export function kbpsOf(nQ: number, bits: number, samplingRate: number, hopLength: number): number {
  return (nQ * bits * samplingRate) / hopLength / 1000;
}

/** Whether a packet of so many codebooks stands for silence in a stream of `streamNQ`. */
export function isQuiet(nQ: number, streamNQ: number, bits: number): boolean {
  return nQ > 0 && nQ < streamNQ && nQ <= (bits >= 8 ? 1 : 2);
}
