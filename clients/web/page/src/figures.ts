// Figures of the last packets: percentiles of each stage, and how much came.

const WINDOW = 256; // packets: 20 s of the usual ones

export interface Percentiles {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

export type Stage = "way" | "decode" | "buffer" | "total";

/** Keeps the last values of each stage, in milliseconds. */
export class StageTimes {
  readonly #values: Record<Stage, number[]> = { way: [], decode: [], buffer: [], total: [] };
  #added = 0;

  add(times: Readonly<Record<Stage, number>>): void {
    this.#added = Math.min(WINDOW, this.#added + 1);
    for (const [stage, values] of Object.entries(this.#values)) {
      values.push(times[stage as Stage]);
      if (values.length > WINDOW) values.shift();
    }
  }

  /** The mean of each stage over the packets that were added since the last call; null where there were none. */
  takeRecent(): Record<Stage, number> | null {
    const count = this.#added;
    this.#added = 0;
    if (count === 0) return null;
    const of = (values: number[]) => values.slice(-count).reduce((sum, value) => sum + value, 0) / count;
    const { way, decode, buffer, total } = this.#values;
    return { way: of(way), decode: of(decode), buffer: of(buffer), total: of(total) };
  }

  /** The percentiles of each stage; null before the first packet. */
  percentiles(): Record<Stage, Percentiles> | null {
    if (this.#values.total.length === 0) return null;
    const of = (values: number[]): Percentiles => {
      const ordered = values.toSorted((a, b) => a - b);
      const at = (share: number) => ordered[Math.min(ordered.length - 1, Math.ceil(share * ordered.length) - 1)];
      return { p50: at(0.5), p95: at(0.95), p99: at(0.99) };
    };
    const { way, decode, buffer, total } = this.#values;
    return { way: of(way), decode: of(decode), buffer: of(buffer), total: of(total) };
  }
}

/** What came in the last seconds, in kbps. */
export class Bitrate {
  #bytes: { at: number; bytes: number }[] = [];
  total = 0;

  add(atUs: number, bytes: number): void {
    this.total += bytes;
    this.#bytes.push({ at: atUs, bytes });
  }

  /** The rate of the last two seconds. */
  kbps(nowUs: number): number {
    this.#bytes = this.#bytes.filter(({ at }) => at > nowUs - 2e6);
    return (this.#bytes.reduce((sum, { bytes }) => sum + bytes, 0) * 8) / 2000;
  }
}
