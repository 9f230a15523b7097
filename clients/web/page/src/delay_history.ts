// The delay of the last two minutes as a picture: one column for each quarter of a second, its stages on top of each other.

import { cleared, colour } from "./canvas.ts";
import { milliseconds } from "./elements.ts";
import type { ListenFigures } from "./thread_messages.ts";

const COLUMNS = 480;
const STAGES = ["way", "decode", "buffer"] as const;
const STEPS_MS = [100, 200, 500, 1000, 2000, 5000, 10_000, 30_000, 60_000];

/** What one column shows. */
interface Column {
  readonly stages: ListenFigures["recent"];
  /** Whether a packet was lost, or playing broke off. */
  readonly broken: boolean;
}

/** The smallest of a few round heights (ms) that holds all but the rarest columns. */
export function heightFor(totals: readonly number[]): number {
  const ordered = totals.toSorted((a, b) => a - b);
  const most = ordered[Math.ceil(0.99 * ordered.length) - 1] ?? 0;
  return STEPS_MS.find((step) => step >= most) ?? most;
}

export class DelayHistory {
  readonly #canvas: HTMLCanvasElement;
  #columns: Column[] = [];
  #breaks = 0;

  constructor(canvas: HTMLCanvasElement) {
    this.#canvas = canvas;
  }

  clear(): void {
    this.#columns = [];
    this.#breaks = 0;
    this.#draw();
  }

  add({ recent, lost, playout }: ListenFigures): void {
    const breaks = lost + (playout?.underruns ?? 0);
    this.#columns = [...this.#columns, { stages: recent, broken: breaks > this.#breaks }].slice(-COLUMNS);
    this.#breaks = breaks;
    this.#draw();
  }

  #draw(): void {
    const room = cleared(this.#canvas);
    if (room === null) return;
    const { context, width, height } = room;
    const most = heightFor(this.#columns.flatMap(({ stages }) => (stages === null ? [] : [stages.total])));
    const each = width / COLUMNS;
    const colours = STAGES.map((stage) => colour(this.#canvas, `--${stage}`));
    this.#columns.forEach(({ stages, broken }, i) => {
      const x = width - each * (this.#columns.length - i);
      let bottom = height;
      if (stages !== null) {
        STAGES.forEach((stage, at) => {
          const tall = (Math.max(0, stages[stage]) / most) * height;
          context.fillStyle = colours[at];
          context.fillRect(x, bottom - tall, each + 0.5, tall);
          bottom -= tall;
        });
      }
      if (!broken) return;
      context.fillStyle = colour(this.#canvas, "--warning");
      context.fillRect(x, 0, 2, 8);
    });
    context.fillStyle = colour(this.#canvas, "--faint");
    context.font = `12px ${getComputedStyle(this.#canvas).fontFamily}`;
    if (this.#columns.some(({ stages }) => stages !== null)) context.fillText(milliseconds(most), 4, 14);
  }
}
