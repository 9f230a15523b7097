// What is heard: a listener's events in, samples out. It keeps the decoder's state and knows no clock.

import { PauseMemory, bitsPerCode, isQuiet, unpackCodes } from "@streamcodec/protocol";
import type { Codes, ModelInfo, Packet, StreamStart } from "@streamcodec/protocol";
import type { OnnxCodec } from "../../codec/src/index.ts";
import type { StreamEvent } from "../../client/src/index.ts";
import type { StreamDecoder } from "../../codec/src/codec.ts";

const SILENCE_DB = -50; // RMS: quieter PCM is silence

/** A packet's samples, mixed to one channel; whether others may be left out behind it; and whether it is only history. */
export interface Heard {
  readonly samples: Float32Array;
  readonly quiet: boolean;
  readonly history: boolean;
}

/** Decodes a stream's packets, codes with `codec`, PCM without one. */
export class Player {
  start: StreamStart | null = null;
  readonly #codec: OnnxCodec | null;
  readonly #model: ModelInfo;
  #decoder: StreamDecoder | null = null;
  #pause = new PauseMemory<Codes>();
  #owed: Codes[] = [];

  constructor(model: ModelInfo, codec: OnnxCodec | null) {
    this.#model = model;
    this.#codec = codec;
  }

  /** Take one event; the samples of a packet, null for all others. */
  async feed(event: StreamEvent): Promise<Heard | null> {
    switch (event.type) {
      case "start":
        await this.#open(event);
        return null;
      case "gap":
        this.#pause.gap(event.count, event.reason);
        return null;
      case "packet":
        return this.start === null ? null : this.#packet(event, this.start);
      case "stream_end":
        this.#decoder = null;
        return null;
      case "waiting":
        return null;
    }
  }

  /** Feed the decoder a quiet packet in the place of one that was left out of a pause; false where none is owed. */
  async catchUp(): Promise<boolean> {
    const codes = this.#owed.shift();
    if (codes === undefined || this.#decoder === null) return false;
    await this.#decoder.feed(codes);
    return true;
  }

  async #open(start: StreamStart): Promise<void> {
    const goesOn = start.start === "continued" && this.start !== null && (this.#decoder !== null || start.format !== "codes");
    this.start = start;
    if (goesOn) return;
    this.#pause = new PauseMemory();
    this.#owed = [];
    this.#decoder = null;
    if (start.format === "codes" && this.#codec !== null) {
      this.#decoder = await this.#codec.decoder(start.n_q, start.start === "exact" ? "exact" : "primed");
    }
  }

  async #packet(packet: Packet, start: StreamStart): Promise<Heard> {
    const history = packet.seq < start.live_seq;
    if (this.#decoder === null) {
      const samples = mixed(packet.payload, start);
      return { samples, quiet: levelDb(samples) < SILENCE_DB, history };
    }
    const bits = bitsPerCode(this.#model);
    const codes = unpackCodes(packet.payload, packet.n_q, bits);
    const samples = await this.#decoder.feed(codes);
    const quiet = isQuiet(packet.n_q, start.n_q, bits);
    this.#owed = this.#pause.packet(codes, quiet);
    return { samples, quiet, history };
  }
}

/** Interleaved PCM as samples, its channels mixed. */
function mixed(payload: Uint8Array, start: StreamStart): Float32Array {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const wide = start.format === "pcm_f32le";
  const width = wide ? 4 : 2;
  return Float32Array.from({ length: payload.length / width / start.channels }, (_, i) => {
    let sum = 0;
    for (let channel = 0; channel < start.channels; channel++) {
      const at = (i * start.channels + channel) * width;
      sum += wide ? view.getFloat32(at, true) : view.getInt16(at, true) / 32768;
    }
    return sum / start.channels;
  });
}

/** The RMS level in dB of full scale. */
export function levelDb(samples: Float32Array): number {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  return 10 * Math.log10(Math.max(1e-12, sum / Math.max(1, samples.length)));
}
