// What a node of the audio graph carries: its level, and its waveform as it goes by.

import { cleared, colour } from "./canvas.ts";

const FLOOR_DB = -60;
const COLUMN = 3; // pixels

/** Draws the level into a meter and the waveform onto a canvas, for as long as it runs. */
export class Meter {
  readonly analyser: AnalyserNode;
  readonly #level: HTMLMeterElement;
  readonly #canvas: HTMLCanvasElement | null;
  readonly #samples: Float32Array<ArrayBuffer>;
  #peaks: number[] = [];
  #frame = 0;

  constructor(context: AudioContext, level: HTMLMeterElement, canvas: HTMLCanvasElement | null) {
    this.analyser = new AnalyserNode(context, { fftSize: 2048 });
    this.#samples = new Float32Array(this.analyser.fftSize);
    this.#level = level;
    this.#canvas = canvas;
    this.#draw();
  }

  stop(): void {
    cancelAnimationFrame(this.#frame);
    this.#level.value = FLOOR_DB;
    if (this.#canvas !== null) cleared(this.#canvas);
  }

  #draw(): void {
    this.#frame = requestAnimationFrame(() => {
      this.#draw();
    });
    this.analyser.getFloatTimeDomainData(this.#samples);
    const peak = this.#samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    this.#level.value = Math.max(FLOOR_DB, 20 * Math.log10(peak || 1e-9));
    if (this.#canvas !== null) this.#drawWave(this.#canvas, peak);
  }

  #drawWave(canvas: HTMLCanvasElement, peak: number): void {
    const room = cleared(canvas);
    if (room === null) return;
    const { context, width, height } = room;
    this.#peaks = [...this.#peaks, peak].slice(-Math.ceil(width / COLUMN));
    context.fillStyle = colour(canvas, "color");
    this.#peaks.forEach((one, i) => {
      const tall = Math.max(1, Math.sqrt(one) * height);
      context.fillRect(width - COLUMN * (this.#peaks.length - i), (height - tall) / 2, COLUMN - 1, tall);
    });
  }
}
