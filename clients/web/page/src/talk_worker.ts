// The thread that publishes a microphone: resampling, the encoder, and the connection. Where the device cannot keep up, the server encodes.

import { DtxFilter, packCodes } from "@streamcodec/protocol";
import type { Welcome } from "@streamcodec/protocol";
import { DriftResampler, joined } from "../../audio/src/index.ts";
import { Publisher, browserIo } from "../../client/src/index.ts";
import type { OnnxCodec } from "../../codec/src/index.ts";
import type { StreamEncoder } from "../../codec/src/codec.ts";
import { CaptureClock } from "./capture_clock.ts";
import { Bitrate, StageTimes } from "./figures.ts";
import { openCodec } from "./runtime.ts";
import type { FromEitherWorker, OfTalkWorker, TalkCommand, ToTalkWorker } from "./thread_messages.ts";
import { KeepsUp, Queue, troubleOf } from "./worker_tools.ts";

const FIGURES_EVERY_MS = 250;
const PCM_RATE = 24_000;
const PCM_BLOCK_S = 0.04;
const INAUDIBLE = 1e-5; // of full scale: a microphone that is muted
const QUIET_AFTER = 4; // packets
const LONGEST_BACKLOG = 25; // packets that wait for the encoder; what comes beyond is dropped

const tell = (message: FromEitherWorker | OfTalkWorker) => {
  postMessage(message);
};

/** Tests put an array here, and find in it what was encoded. */
const tap = globalThis as { streamcodecTap?: Float32Array[] };

class Talking {
  readonly #command: TalkCommand;
  readonly #clock: CaptureClock;
  readonly #bitrate = new Bitrate();
  readonly #times = new StageTimes();
  readonly #keepsUp = new KeepsUp();
  readonly #queue = new Queue((why) => {
    this.#fail(why);
  });
  #codec: OnnxCodec | null = null;
  #encoder: StreamEncoder | null = null;
  #publisher: Publisher | null = null;
  #resampler: DriftResampler;
  #rate = PCM_RATE;
  #packet = Math.round(PCM_BLOCK_S * PCM_RATE);
  #nQ = 0;
  #bits = 10;
  #collected: Float32Array = new Float32Array(0);
  #collectedFromUs = 0;
  #quietRun = 0;
  #dtx = new DtxFilter();
  #live = false;
  #epoch = 0; // counts up where samples that wait are no longer of what is published
  #sentS = 0;
  #droppedS = 0;
  readonly #timer: ReturnType<typeof setInterval>;
  #over = false;

  constructor(command: TalkCommand) {
    this.#command = command;
    this.#clock = new CaptureClock(command.rateIn, command.latencyS);
    this.#resampler = new DriftResampler(command.rateIn, PCM_RATE);
    command.port.onmessage = ({ data }: MessageEvent<Float32Array>) => {
      this.#block(data);
    };
    this.#timer = setInterval(() => {
      this.#tellFigures();
    }, FIGURES_EVERY_MS);
  }

  async open(): Promise<void> {
    try {
      this.#codec = await openCodec(this.#command.places);
      if (this.#codec === null) tell({ type: "fallback", reason: "the server has no model for the page" });
      else {
        const { manifest } = this.#codec;
        this.#bits = manifest.bits_per_code;
        this.#nQ = (
          manifest.bandwidths.find((one) => one.kbps === (this.#command.kbps ?? manifest.default_bandwidth)) ?? manifest.bandwidths[0]
        ).n_q;
        await this.#startEncoder((done, total) => {
          tell({ type: "loading", done, total });
        });
        tell({ type: "coding" });
      }
    } catch (error) {
      this.#codec = null;
      tell({ type: "fallback", reason: error instanceof Error ? error.message : String(error) });
    }
    this.#publish();
  }

  /** Send what has been collected, and end the stream. */
  close(): void {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#timer);
    this.#command.port.onmessage = null;
    if (this.#live) this.#sendRest();
    this.#queue.run(async () => {
      await this.#publisher?.end();
      tell({ type: "stopped" });
    });
  }

  async #startEncoder(progress?: (done: number, total: number) => void): Promise<void> {
    if (this.#codec === null) return;
    this.#encoder = await this.#codec.encoder(this.#nQ, "primed", progress);
    this.#rate = this.#codec.manifest.sampling_rate;
    this.#packet = this.#codec.manifest.packet_frames.default * this.#codec.manifest.hop_length;
  }

  #publish(): void {
    if (this.#over) return;
    const { url, stream, token, kbps } = this.#command;
    const coded = this.#codec !== null;
    const asked = coded
      ? {
          stream,
          token,
          bandwidth: kbps,
          format: "codes" as const,
          model: this.#codec?.manifest.fingerprint ?? null,
          start: "primed" as const,
        }
      : { stream, token, bandwidth: kbps, format: "pcm_s16le" as const, sample_rate: PCM_RATE, channels: 1 };
    this.#publisher = new Publisher(browserIo, url, asked, {
      onOpen: (welcome) => {
        // What waits for the encoder goes on from a stream that is over.
        this.#live = false;
        this.#epoch++;
        this.#queue.run(() => this.#begin(welcome));
      },
      onTrouble: (why, waitMs) => {
        tell({ type: "trouble", trouble: why === null ? null : troubleOf(why), waitMs });
      },
      onFailed: (why) => {
        if (coded && troubleOf(why).code === "model_mismatch") this.#fallBack("its model has changed: load the page again to encode here");
        else this.#fail(why);
      },
    });
  }

  /** A stream begins, with an encoder that starts afresh. */
  async #begin(welcome: Welcome): Promise<void> {
    await this.#startEncoder();
    if (this.#over) return;
    this.#resampler = new DriftResampler(this.#command.rateIn, this.#rate);
    this.#collected = new Float32Array(0);
    this.#quietRun = 0;
    this.#dtx.restart();
    this.#live = true;
    tell({ type: "live", kbps: welcome.bandwidth ?? 0 });
  }

  #block(block: Float32Array): void {
    const capturedUs = this.#clock.block(block.length, browserIo.now());
    if (!this.#live || this.#over) return;
    if (this.#queue.waiting > LONGEST_BACKLOG) {
      this.#droppedS += block.length / this.#command.rateIn;
      return;
    }
    const samples = this.#resampler.feed(block);
    // What has come out ends before the block's end, by what the resampler withholds.
    const endUs = capturedUs + (block.length / this.#command.rateIn - this.#resampler.withheldS) * 1e6;
    this.#collected = joined(this.#collected, samples);
    this.#collectedFromUs = endUs - (this.#collected.length / this.#rate) * 1e6;
    while (this.#collected.length >= this.#packet) {
      const packet = this.#collected.slice(0, this.#packet);
      const from = this.#collectedFromUs;
      this.#collected = this.#collected.slice(this.#packet);
      this.#collectedFromUs += (this.#packet / this.#rate) * 1e6;
      this.#enqueue(packet, from);
    }
  }

  /** What is less than a packet, behind it zeros up to a whole frame. */
  #sendRest(): void {
    const samples = joined(this.#collected, this.#resampler.flush()).subarray(0, this.#packet);
    if (samples.length === 0) return;
    const hop = this.#codec?.manifest.hop_length ?? 1;
    this.#enqueue(joined(samples, new Float32Array((hop - (samples.length % hop)) % hop)), this.#collectedFromUs);
  }

  #enqueue(samples: Float32Array, captured: number): void {
    const epoch = this.#epoch;
    this.#queue.run(() => this.#send(samples, captured, epoch));
  }

  async #send(samples: Float32Array, captured: number, epoch: number): Promise<void> {
    const publisher = this.#publisher;
    if (publisher === null || epoch !== this.#epoch) return;
    const durationS = samples.length / this.#rate;
    if (this.#encoder === null) {
      this.#offer(publisher, pcmOf(samples), captured, durationS, 0);
      return;
    }
    tap.streamcodecTap?.push(samples.slice());
    const begun = browserIo.now();
    const codes = await this.#encoder.feed(samples);
    const tookMs = (browserIo.now() - begun) / 1000;
    this.#times.add({ way: 0, decode: tookMs, buffer: 0, total: tookMs });
    this.#quietRun = samples.every((sample) => Math.abs(sample) < INAUDIBLE) ? this.#quietRun + 1 : 0;
    // A packet of the first codebook stands for silence, and most of a run of them are left out.
    const quiet = this.#quietRun > QUIET_AFTER && this.#nQ > 1;
    if (this.#dtx.leavesOut(quiet, durationS)) publisher.leaveOut();
    else this.#offer(publisher, packCodes(quiet ? codes.slice(0, 1) : codes, this.#bits), captured, durationS, quiet ? 1 : codes.length);
    this.#sentS += durationS;
    if (!this.#over && !this.#keepsUp.step(tookMs, 1000 * durationS)) this.#fallBack("this device is too slow to encode");
  }

  #offer(publisher: Publisher, payload: Uint8Array, captured: number, durationS: number, nQ: number): void {
    publisher.offer({ payload, captured: Math.round(captured), durationS, nQ });
    this.#bitrate.add(browserIo.now(), payload.length);
    if (nQ === 0) this.#sentS += durationS;
  }

  /** From here on the server encodes, as a stream that begins anew. */
  #fallBack(reason: string): void {
    const codec = this.#codec;
    const publisher = this.#publisher;
    this.#live = false;
    this.#epoch++;
    this.#codec = null;
    this.#encoder = null;
    this.#rate = PCM_RATE;
    this.#packet = Math.round(PCM_BLOCK_S * PCM_RATE);
    tell({ type: "fallback", reason });
    this.#queue.run(async () => {
      await publisher?.end();
      await codec?.close();
      this.#publish();
    });
  }

  #fail(why: unknown): void {
    if (this.#over) return;
    this.close();
    tell({ type: "failed", trouble: troubleOf(why) });
  }

  #tellFigures(): void {
    tell({
      type: "figures",
      format: this.#encoder === null ? "pcm" : "codes",
      sentS: this.#sentS,
      kbps: this.#bitrate.kbps(browserIo.now()),
      bytes: this.#bitrate.total,
      droppedS: this.#droppedS + (this.#publisher?.droppedS ?? 0),
      encode: this.#times.percentiles()?.decode ?? null,
      roundTripMs: this.#publisher?.roundTripMs ?? null,
    });
  }
}

function pcmOf(samples: Float32Array): Uint8Array {
  const payload = new Uint8Array(2 * samples.length);
  const view = new DataView(payload.buffer);
  samples.forEach((sample, i) => {
    view.setInt16(2 * i, Math.max(-32768, Math.min(32767, Math.round(sample * 32768))), true);
  });
  return payload;
}

let talking: Talking | null = null;

onmessage = ({ data }: MessageEvent<ToTalkWorker>) => {
  if (data.type === "stop") {
    if (talking === null) tell({ type: "stopped" });
    else talking.close();
    talking = null;
    return;
  }
  talking?.close();
  talking = new Talking(data);
  void talking.open();
};
tell({ type: "ready" });
