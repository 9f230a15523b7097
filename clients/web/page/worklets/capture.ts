// On the audio thread: hands over what the microphone gives, mixed to one channel, in blocks of a few milliseconds.

import { CaptureBuffer } from "../src/capture_buffer.ts";
import type { CaptureAnswer } from "../src/capture_buffer.ts";

const BLOCK = 512; // samples: four of the audio thread's own blocks

class Capture extends AudioWorkletProcessor {
  #buffer: CaptureBuffer | null = null;
  #block = new Float32Array(BLOCK);
  #filled = 0;

  constructor() {
    super();
    // The blocks go straight to the worker that encodes them.
    this.port.onmessage = ({ data: worker }: MessageEvent<MessagePort>) => {
      const buffer = new CaptureBuffer(sampleRate, (block) => {
        worker.postMessage(block, [block.samples.buffer]);
      });
      worker.onmessage = ({ data }: MessageEvent<CaptureAnswer>) => {
        buffer.answered(data);
      };
      this.#buffer = buffer;
    };
  }

  process([input]: Float32Array[][]): boolean {
    const length = input[0]?.length ?? 0;
    for (let i = 0; i < length; i++) {
      let sum = 0;
      for (const channel of input) sum += channel[i];
      this.#block[this.#filled++] = sum / input.length;
      if (this.#filled < BLOCK) continue;
      this.#buffer?.add(this.#block, Date.now());
      this.#block = new Float32Array(BLOCK);
      this.#filled = 0;
    }
    return true;
  }
}

registerProcessor("capture", Capture);
