// Where a listener's samples go: a playout in this worker, whose memory the audio thread reads; or one on the audio thread, by messages.

import { AdaptivePlayout } from "../../audio/src/index.ts";
import type { PacketTimes, PlayoutStats } from "../../audio/src/index.ts";
import type { PlayoutAnswer, PlayoutInput } from "./playout_port.ts";

export interface Output {
  /** Play samples; returns the seconds until the first of them is heard, as far as this thread knows. */
  push(samples: Float32Array, times: PacketTimes | null, quiet: boolean): number;
  readonly stats: PlayoutStats | null;
}

/** An output for samples at `rateIn`; the audio thread at `port` plays them at `rateOut`. */
export function openOutput(port: MessagePort, rateIn: number, rateOut: number, blockS: number): Output {
  return crossOriginIsolated ? new SharedOutput(port, rateIn, rateOut, blockS) : new PortOutput(port, rateIn, blockS);
}

class SharedOutput implements Output {
  readonly #playout: AdaptivePlayout;

  constructor(port: MessagePort, rateIn: number, rateOut: number, blockS: number) {
    this.#playout = new AdaptivePlayout(rateIn, rateOut, { blockS, shared: true });
    const input: PlayoutInput = { type: "memory", shared: this.#playout.memory.shared };
    port.postMessage(input);
  }

  push(samples: Float32Array, times: PacketTimes | null, quiet: boolean): number {
    return this.#playout.push(samples, times, quiet);
  }

  get stats(): PlayoutStats {
    return this.#playout.stats;
  }
}

class PortOutput implements Output {
  stats: PlayoutStats | null = null;
  readonly #port: MessagePort;
  #aheadS = 0;

  constructor(port: MessagePort, rateIn: number, blockS: number) {
    this.#port = port;
    port.onmessage = ({ data }: MessageEvent<PlayoutAnswer>) => {
      this.#aheadS = data.aheadS;
      this.stats = data.stats ?? null;
    };
    const input: PlayoutInput = { type: "open", rateIn, blockS };
    port.postMessage(input);
  }

  push(samples: Float32Array, times: PacketTimes | null, quiet: boolean): number {
    // The caller may still need its samples.
    const input: PlayoutInput = { type: "push", samples: samples.slice(), times, quiet };
    this.#port.postMessage(input, [input.samples.buffer]);
    return this.#aheadS;
  }
}
