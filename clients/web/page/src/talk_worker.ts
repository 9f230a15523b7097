// The thread that publishes a microphone: resampling, the encoder, and the connection. Where the device cannot keep up, the server encodes.

import { DtxFilter, packCodes } from "@streamcodec/protocol";
import type { Welcome } from "@streamcodec/protocol";
import { Publisher, browserIo } from "../../client/src/index.ts";
import type { OnnxCodec } from "../../codec/src/index.ts";
import type { StreamEncoder } from "../../codec/src/codec.ts";
import type { CaptureAnswer, CaptureBlock } from "./capture_buffer.ts";
import { CapturePackets } from "./capture_packets.ts";
import type { Captured, CapturedPacket } from "./capture_packets.ts";
import { Bitrate, StageTimes } from "./figures.ts";
import { openCodec } from "./runtime.ts";
import type { FromEitherWorker, OfTalkWorker, TalkCommand, ToTalkWorker } from "./thread_messages.ts";
import { KeepsUp, Queue, troubleOf } from "./worker_tools.ts";

const FIGURES_EVERY_MS = 250;
const PCM_RATE = 24_000;
const PCM_BLOCK_S = 0.04;
const INAUDIBLE = 1e-5; // of full scale: a microphone that is muted
const QUIET_AFTER = 4; // packets
const TOO_SLOW = "this device is too slow to encode";

const tell = (message: FromEitherWorker | OfTalkWorker) => {
  postMessage(message);
};

/** Tests put an array here, and find in it what was encoded. */
const tap = globalThis as { streamcodecTap?: Float32Array[] };

class Talking {
  readonly #command: TalkCommand;
  readonly #capture: CapturePackets;
  readonly #bitrate = new Bitrate();
  readonly #times = new StageTimes();
  readonly #keepsUp = new KeepsUp();
  readonly #queue = new Queue((why) => {
    this.#fail(why);
  });
  #codec: OnnxCodec | null = null;
  #encoder: StreamEncoder | null = null;
  #publisher: Publisher | null = null;
  #isFallingBack = false; // the publisher is to be ended as soon as what waits is worked off
  #rate = PCM_RATE;
  #packet = Math.round(PCM_BLOCK_S * PCM_RATE);
  #nQ = 0;
  #bits = 10;
  #quietRun = 0;
  #dtx = new DtxFilter();
  #epoch = 0; // counts up where samples that wait are no longer of what is published
  #sentS = 0;
  // What was dropped here, and what publishers before this one have told.
  #droppedS = 0;
  #serverDropped = 0;
  readonly #timer: ReturnType<typeof setInterval>;
  #over = false;

  constructor(command: TalkCommand) {
    this.#command = command;
    this.#capture = new CapturePackets(command.rateIn, command.latencyS);
    command.port.onmessage = ({ data }: MessageEvent<CaptureBlock>) => {
      this.#hear(data);
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
    this.#take(this.#capture.rest(this.#codec?.manifest.hop_length ?? 1));
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
        if (this.#isFallingBack) return;
        // What waits for the encoder goes on from a stream that is over.
        this.#capture.pause();
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
    if (this.#over || this.#isFallingBack) return;
    this.#capture.begin(this.#rate, this.#packet);
    this.#answer({ type: "begin" });
    this.#quietRun = 0;
    this.#dtx.restart();
    tell({ type: "live", kbps: welcome.bandwidth ?? 0 });
  }

  #hear(block: CaptureBlock): void {
    this.#take(this.#capture.block(block, browserIo.now(), Math.max(0, Date.now() - block.atMs) / 1000));
    const done: CaptureAnswer = { type: "done", samples: block.samples.length };
    // Audio that waits here for the encoder counts as waiting, too.
    if (this.#capture.isOpen) {
      this.#queue.run(() => {
        this.#answer(done);
        return Promise.resolve();
      });
    } else this.#answer(done);
  }

  #answer(answer: CaptureAnswer): void {
    this.#command.port.postMessage(answer);
  }

  #take(all: Captured[]): void {
    const epoch = this.#epoch;
    for (const captured of all) {
      if (captured.kind === "packet") {
        this.#queue.run(() => this.#send(captured, epoch));
        continue;
      }
      this.#queue.run(() => {
        if (epoch === this.#epoch || this.#isFallingBack) this.#lose(captured.count);
        return Promise.resolve();
      });
      if (this.#encoder !== null && !this.#keepsUp.lost(captured.atS)) this.#fallBack(TOO_SLOW);
    }
  }

  #lose(count: number): void {
    this.#publisher?.lose(count);
    this.#dtx.restart();
  }

  async #send({ samples, capturedUs, durationS }: CapturedPacket, epoch: number): Promise<void> {
    const publisher = this.#publisher;
    if (publisher === null || epoch !== this.#epoch) {
      this.#droppedS += durationS;
      if (this.#isFallingBack) this.#lose(1);
      return;
    }
    if (this.#encoder === null) {
      this.#offer(publisher, pcmOf(samples), capturedUs, durationS, 0);
      return;
    }
    tap.streamcodecTap?.push(samples.slice());
    const begun = browserIo.now();
    const codes = await this.#encoder.feed(samples);
    const tookMs = (browserIo.now() - begun) / 1000;
    // The stream may have been replaced meanwhile; one that is to be ended still takes it.
    if (epoch !== this.#epoch && !this.#isFallingBack) {
      this.#droppedS += durationS;
      return;
    }
    this.#times.add({ way: 0, decode: tookMs, buffer: 0, total: tookMs });
    this.#quietRun = samples.every((sample) => Math.abs(sample) < INAUDIBLE) ? this.#quietRun + 1 : 0;
    // A packet of the first codebook stands for silence, and most of a run of them are left out.
    const quiet = this.#quietRun > QUIET_AFTER && this.#nQ > 1;
    if (this.#dtx.leavesOut(quiet, durationS)) publisher.leaveOut();
    else this.#offer(publisher, packCodes(quiet ? codes.slice(0, 1) : codes, this.#bits), capturedUs, durationS, quiet ? 1 : codes.length);
    this.#sentS += durationS;
    if (!this.#over && !this.#keepsUp.step(tookMs, 1000 * durationS)) this.#fallBack(TOO_SLOW);
  }

  #offer(publisher: Publisher, payload: Uint8Array, capturedUs: number, durationS: number, nQ: number): void {
    publisher.offer({ payload, captured: Math.round(capturedUs), durationS, nQ });
    this.#bitrate.add(browserIo.now(), payload.length);
    if (nQ === 0) this.#sentS += durationS;
  }

  /** From here on the server encodes, as a stream that begins anew. */
  #fallBack(reason: string): void {
    if (this.#isFallingBack) return;
    const codec = this.#codec;
    const publisher = this.#publisher;
    this.#isFallingBack = true;
    this.#capture.pause();
    this.#epoch++;
    this.#codec = null;
    this.#encoder = null;
    this.#rate = PCM_RATE;
    this.#packet = Math.round(PCM_BLOCK_S * PCM_RATE);
    tell({ type: "fallback", reason });
    this.#queue.run(async () => {
      await publisher?.end();
      await codec?.close();
      this.#droppedS += publisher?.droppedS ?? 0;
      this.#serverDropped += publisher?.serverDropped ?? 0;
      this.#publisher = null;
      this.#isFallingBack = false;
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
      droppedS: this.#droppedS + this.#capture.droppedS + (this.#publisher?.droppedS ?? 0),
      serverDropped: this.#serverDropped + (this.#publisher?.serverDropped ?? 0),
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
