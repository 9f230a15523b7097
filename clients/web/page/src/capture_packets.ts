// A microphone's blocks as packets of a stream: resampled, with the time of each packet, and with what is missing between them counted.

import { DriftResampler, joined } from "../../audio/src/index.ts";
import type { CaptureBlock } from "./capture_buffer.ts";
import { CaptureClock } from "./capture_clock.ts";

/** One packet's samples, its length, and when its first sample was captured (us). */
export interface CapturedPacket {
  readonly kind: "packet";
  readonly samples: Float32Array;
  readonly capturedUs: number;
  readonly durationS: number;
}

/** So many packets will never come, because the worker did not keep up; `atS`: how much the microphone has given so far. */
export interface LostPackets {
  readonly kind: "lost";
  readonly count: number;
  readonly atS: number;
}

export type Captured = CapturedPacket | LostPackets;

export class CapturePackets {
  /** Audio (s) that was captured since the first stream began and is in no packet. */
  droppedS = 0;
  readonly #rateIn: number;
  readonly #clock: CaptureClock;
  #next: number | null = null; // the number of the sample that follows on the last block; null before the first stream's first
  #stream = 0;
  #resampler: DriftResampler | null = null; // null while nothing is published
  #rate = 0;
  #packet = 0;
  #collected: Float32Array = new Float32Array(0);
  #collectedFromUs = 0;
  #untoldS = 0; // dropped within this stream, and not told as lost packets
  #isFresh = false; // nothing of this stream was taken yet
  #holds = false; // samples, here or in the resampler

  constructor(rateIn: number, latencyS: number) {
    this.#rateIn = rateIn;
    this.#clock = new CaptureClock(rateIn, latencyS);
  }

  /** Whether a stream takes what comes. */
  get isOpen(): boolean {
    return this.#resampler !== null;
  }

  /** A stream begins, with packets of so many samples. */
  begin(rate: number, packet: number): void {
    this.pause();
    this.#rate = rate;
    this.#packet = packet;
    this.#resampler = new DriftResampler(this.#rateIn, rate);
    this.#stream++;
    this.#isFresh = true;
  }

  /** The stream is over: what is left of it, and what comes before the next one begins, is dropped. */
  pause(): void {
    this.#dropCollected();
    this.#resampler = null;
    this.#untoldS = 0;
  }

  /** Take a block that arrived now, behind `waitedS` in which it waited. Blocks that were dropped before it show in its number. */
  block({ samples, from, stream }: Omit<CaptureBlock, "atMs">, nowUs: number, waitedS: number): Captured[] {
    const missingS = (from - (this.#next ?? from)) / this.#rateIn;
    const lengthS = samples.length / this.#rateIn;
    if (stream > 0) this.#next = from + samples.length;
    const capturedUs = this.#clock.block(from, samples.length, nowUs, 1e6 * waitedS);
    if (this.#resampler === null || stream !== this.#stream) {
      if (stream > 0) this.droppedS += missingS + lengthS;
      return [];
    }
    const lost: Captured[] = missingS > 0 ? this.#lose(missingS) : [];
    this.#isFresh = false;
    this.#holds = true;
    return [...lost, ...this.#packets(this.#resampler, samples, capturedUs + lengthS * 1e6)];
  }

  /** The end of the stream: what is less than a packet, behind it zeros up to a multiple of `hop`. */
  rest(hop: number): CapturedPacket[] {
    if (this.#resampler === null) return [];
    const samples = joined(this.#collected, this.#resampler.flush()).subarray(0, this.#packet);
    this.#collected = new Float32Array(0);
    this.#resampler = null;
    this.#holds = false;
    if (samples.length === 0) return [];
    return [this.#packetOf(joined(samples, new Float32Array((hop - (samples.length % hop)) % hop)), this.#collectedFromUs)];
  }

  #packets(resampler: DriftResampler, block: Float32Array, endsUs: number): CapturedPacket[] {
    const packets: CapturedPacket[] = [];
    this.#collected = joined(this.#collected, resampler.feed(block));
    // What has come out ends before the block's end, by what the resampler withholds.
    this.#collectedFromUs = endsUs - resampler.withheldS * 1e6 - (this.#collected.length / this.#rate) * 1e6;
    while (this.#collected.length >= this.#packet) {
      packets.push(this.#packetOf(this.#collected.slice(0, this.#packet), this.#collectedFromUs));
      this.#collected = this.#collected.slice(this.#packet);
      this.#collectedFromUs += (this.#packet / this.#rate) * 1e6;
    }
    return packets;
  }

  #packetOf(samples: Float32Array, capturedUs: number): CapturedPacket {
    return { kind: "packet", samples, capturedUs, durationS: samples.length / this.#rate };
  }

  /** The whole packets among what is missing; the remainder counts with the next ones. */
  #lose(missingS: number): LostPackets[] {
    this.#dropCollected();
    this.#drop(missingS);
    const packetS = this.#packet / this.#rate;
    const count = Math.floor(this.#untoldS / packetS + 1e-6);
    this.#untoldS = Math.max(0, this.#untoldS - count * packetS);
    return count > 0 ? [{ kind: "lost", count, atS: (this.#next ?? 0) / this.#rateIn }] : [];
  }

  /** Samples from before a hole are not joined to those behind it. */
  #dropCollected(): void {
    if (this.#resampler === null || !this.#holds) return;
    this.#drop(this.#collected.length / this.#rate + this.#resampler.withheldS);
    this.#collected = new Float32Array(0);
    this.#resampler = new DriftResampler(this.#rateIn, this.#rate);
    this.#holds = false;
  }

  #drop(seconds: number): void {
    this.droppedS += seconds;
    // What was missed before a stream's first packet has no numbers in it.
    if (!this.#isFresh) this.#untoldS += seconds;
  }
}
