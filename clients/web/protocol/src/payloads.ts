// What a packet's payload must look like on one connection: bytes are counted here, never decoded.

import { scaleOf } from "./chunks.ts";
import { RemoteProtocolError } from "./errors.ts";
import { MAX_PACKET_FRAMES, packetSamples, sampleWidth } from "./messages.ts";
import type { Format, ModelInfo, Packet, PublishHello, StreamStart, Welcome } from "./messages.ts";
import { payloadFrames } from "./packing.ts";

/** Bits that one code of the model takes: 10 for 1,024 entries. */
export function bitsPerCode(model: Pick<ModelInfo, "codebook_size">): number {
  return Math.log2(model.codebook_size);
}

/** The frames of a packet of codes of the model. Throws `RemoteProtocolError` bad_payload. */
export function packetFrames(packet: Pick<Packet, "payload" | "n_q">, model: ModelInfo): number {
  if (model.normalize) scaleOf(packet.payload);
  return payloadFrames(model.normalize ? packet.payload.subarray(4) : packet.payload, packet.n_q, bitsPerCode(model));
}

/** One direction's format. A packet of at most `endingFrames` frames is the last of its epoch. */
export class PayloadRule {
  readonly #format: Format;
  readonly #nQ: number;
  readonly #model: ModelInfo;
  readonly #endingFrames: number;
  readonly #maxFrames: number;
  readonly #maxSamples: number;
  readonly #channels: number;

  private constructor(
    format: Format,
    nQ: number,
    model: ModelInfo,
    frames: number,
    maxFrames: number,
    maxSamples: number,
    channels: number,
  ) {
    this.#format = format;
    this.#nQ = format === "codes" ? nQ : 0;
    this.#model = model;
    // So few frames has only the last packet of an epoch: it is not full, or its chunk does not reach where another one would begin.
    this.#endingFrames = model.chunk_stride === null ? frames - 1 : Math.floor(model.chunk_stride / model.hop_length);
    this.#maxFrames = maxFrames;
    this.#maxSamples = maxSamples;
    this.#channels = channels;
  }

  /** What the publisher of `hello` may send. */
  static ofPublisher(hello: PublishHello, welcome: Welcome): PayloadRule {
    const frames = welcome.packet_frames ?? 0;
    return new PayloadRule(hello.format, welcome.n_q ?? 0, welcome.model, frames, frames, hello.sample_rate ?? 0, hello.channels ?? 0);
  }

  /** What comes behind `start`. */
  static ofListener(welcome: Welcome, start: StreamStart): PayloadRule {
    const most = welcome.model.chunk_length === null ? MAX_PACKET_FRAMES : start.packet_frames;
    const samples = Math.max(start.sample_rate, packetSamples(welcome.model, start.packet_frames));
    return new PayloadRule(start.format, start.n_q, welcome.model, start.packet_frames, most, samples, start.channels);
  }

  /** Whether the packet is so short that it ends its epoch. Throws `RemoteProtocolError` bad_payload unless it is whole. */
  check(packet: Packet): boolean {
    const least = Math.min(1, this.#nQ);
    if (packet.n_q < least || packet.n_q > this.#nQ) {
      throw bad(packet, `n_q is ${packet.n_q}, expected ${least} to ${this.#nQ} with format ${this.#format}`);
    }
    if (this.#format === "codes") {
      const frames = packetFrames(packet, this.#model);
      if (frames > this.#maxFrames) throw bad(packet, `the payload holds ${frames} frames, expected at most ${this.#maxFrames}`);
      return frames <= this.#endingFrames;
    }
    const step = this.#channels * sampleWidth(this.#format);
    const size = packet.payload.length;
    if (size === 0 || size > this.#maxSamples * step || size % step !== 0) {
      throw bad(packet, `payload has ${size} bytes, expected a multiple of ${step} up to ${this.#maxSamples * step}`);
    }
    return false;
  }
}

function bad(packet: Packet, reason: string): RemoteProtocolError {
  return new RemoteProtocolError("bad_payload", `packet ${packet.seq}: ${reason}`);
}
