// On the audio thread: plays what is due, from memory that a worker fills; where threads may share none, from packets that it sends.

import { AdaptivePlayout, PlayoutMemory, PlayoutReader } from "../../audio/src/index.ts";
import type { PlayoutInput, PlayoutStarted } from "../src/playout_port.ts";

class Playout extends AudioWorkletProcessor {
  #reader: PlayoutReader | null = null;
  #playout: AdaptivePlayout | null = null;

  constructor() {
    super();
    this.port.onmessage = ({ data }: MessageEvent<PlayoutStarted | PlayoutInput>) => {
      if ("port" in data) {
        data.port.onmessage = ({ data: input }: MessageEvent<PlayoutInput>) => {
          this.#take(input, data.port);
        };
      } else this.#take(data, this.port);
    };
  }

  process(_: Float32Array[][], [output]: Float32Array[][]): boolean {
    const [first, ...others] = output;
    this.#reader?.pull(first);
    for (const channel of others) channel.set(first);
    return true;
  }

  #take(input: PlayoutInput, from: MessagePort): void {
    switch (input.type) {
      case "memory":
        this.#reader = new PlayoutReader(new PlayoutMemory(input.shared));
        return;
      case "open":
        this.#playout = new AdaptivePlayout(input.rateIn, sampleRate, { blockS: input.blockS });
        this.#reader = new PlayoutReader(this.#playout.memory);
        return;
      case "push": {
        const aheadS = this.#playout?.push(input.samples, input.times, input.quiet) ?? 0;
        from.postMessage({ aheadS, stats: this.#playout?.stats });
        return;
      }
      case "silence":
        this.#reader = null;
    }
  }
}

registerProcessor("playout", Playout);
