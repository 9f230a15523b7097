// On the audio thread: hands over what the microphone gives, mixed to one channel, in blocks of a few milliseconds.

const BLOCK = 512; // samples: four of the audio thread's own blocks

class Capture extends AudioWorkletProcessor {
  #to: MessagePort | null = null;
  #block = new Float32Array(BLOCK);
  #filled = 0;

  constructor() {
    super();
    // The blocks go straight to the worker that encodes them.
    this.port.onmessage = ({ data }: MessageEvent<MessagePort>) => {
      this.#to = data;
    };
  }

  process([input]: Float32Array[][]): boolean {
    const length = input[0]?.length ?? 0;
    for (let i = 0; i < length; i++) {
      let sum = 0;
      for (const channel of input) sum += channel[i];
      this.#block[this.#filled++] = sum / input.length;
      if (this.#filled < BLOCK) continue;
      this.#to?.postMessage(this.#block, [this.#block.buffer]);
      this.#block = new Float32Array(BLOCK);
      this.#filled = 0;
    }
    return true;
  }
}

registerProcessor("capture", Capture);
