// A microphone's blocks as packets of a stream: resampled, with the time of each packet, and with what is missing between them counted.

import { DriftResampler, joined } from "../../audio/src/index.ts";
import { Backlog } from "./backlog.ts";
import { CaptureClock } from "./capture_clock.ts";

/** One packet's samples, its length, and when its first sample was captured (us). */
export interface CapturedPacket {
  readonly kind: "packet";
  readonly samples: Float32Array;
  readonly capturedUs: number;
  readonly durationS: number;
}

/** So many packets will never come. `overload`: because this thread did not get to its blocks in time. */
export interface LostPackets {
  readonly kind: "lost";
  readonly count: number;
  readonly overload: boolean;
}

export type Captured = CapturedPacket | LostPackets;

export class CapturePackets {
  /** Audio (s) that came since the first stream began and is in no packet. */
  droppedS = 0;
  readonly #rateIn: number;
  readonly #latencyS: number;
  #clock: CaptureClock;
  #backlog = new Backlog();
  #resampler: DriftResampler | null = null; // null while nothing is published
  #rate = 0;
  #packet = 0;
  #collected: Float32Array = new Float32Array(0);
  #collectedFromUs = 0;
  #untoldS = 0; // dropped within this stream, and not told as lost packets
  #hasBegun = false;
  #isFresh = false; // nothing of this stream was taken yet
  #holds = false; // samples, here or in the resampler

  constructor(rateIn: number, latencyS: number) {
    this.#rateIn = rateIn;
    this.#latencyS = latencyS;
    this.#clock = new CaptureClock(rateIn, latencyS);
  }

  /** A stream begins, with packets of so many samples. */
  begin(rate: number, packet: number): void {
    this.pause();
    this.#rate = rate;
    this.#packet = packet;
    this.#resampler = new DriftResampler(this.#rateIn, rate);
    this.#backlog = new Backlog();
    this.#hasBegun = this.#isFresh = true;
  }

  /** The stream is over: what is left of it, and what comes before the next one begins, is dropped. */
  pause(): void {
    this.#dropCollected();
    this.#resampler = null;
    this.#untoldS = 0;
  }

  /** Take a block that arrived now, while `queuedS` of audio wait for the encoder. */
  block(block: Float32Array, nowUs: number, queuedS = 0): Captured[] {
    const lengthS = block.length / this.#rateIn;
    let capturedUs = this.#clock.block(block.length, nowUs);
    if (this.#resampler === null) {
      if (this.#hasBegun) this.droppedS += lengthS;
      return [];
    }
    const verdict = this.#backlog.block(lengthS, (nowUs - capturedUs) / 1e6 - lengthS, queuedS, nowUs);
    if (verdict === "drop") {
      this.#dropCollected();
      this.#drop(lengthS);
      return [];
    }
    if (verdict === "misjudged") {
      this.#clock = new CaptureClock(this.#rateIn, this.#latencyS);
      capturedUs = this.#clock.block(block.length, nowUs);
    }
    const lost = verdict === "take" ? [] : this.#lost(verdict === "again");
    this.#isFresh = false;
    this.#holds = true;
    return [...lost, ...this.#packets(this.#resampler, block, capturedUs + lengthS * 1e6)];
  }

  /** The end of the stream: what is less than a packet, behind it zeros up to a multiple of `hop`. */
  rest(hop: number): Captured[] {
    if (this.#resampler === null) return [];
    if (this.#backlog.isDropping) return this.#lost(true);
    const samples = joined(this.#collected, this.#resampler.flush()).subarray(0, this.#packet);
    this.#collected = new Float32Array(0);
    this.#resampler = null;
    this.#holds = false;
    if (samples.length === 0) return [];
    return [this.#packetOf(joined(samples, new Float32Array((hop - (samples.length % hop)) % hop)), this.#collectedFromUs)];
  }

  #packets(resampler: DriftResampler, block: Float32Array, endsUs: number): Captured[] {
    const packets: Captured[] = [];
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

  /** The whole packets among what was dropped; the remainder counts with the next ones. */
  #lost(overload: boolean): LostPackets[] {
    const packetS = this.#packet / this.#rate;
    const count = Math.floor(this.#untoldS / packetS + 1e-6);
    this.#untoldS = Math.max(0, this.#untoldS - count * packetS);
    return count > 0 ? [{ kind: "lost", count, overload }] : [];
  }
}
