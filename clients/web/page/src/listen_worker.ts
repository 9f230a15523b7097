// The thread that hears a stream: connection, decoder and playout decisions. The audio thread only plays what this one has put in place.

import { Listener, browserIo } from "../../client/src/index.ts";
import type { StreamEvent } from "../../client/src/index.ts";
import type { Packet, Welcome } from "@streamcodec/protocol";
import type { OnnxCodec } from "../../codec/src/index.ts";
import { Bitrate, StageTimes } from "./figures.ts";
import { Player } from "./listen_player.ts";
import { openOutput } from "./output.ts";
import type { Output } from "./output.ts";
import { openCodec } from "./runtime.ts";
import type { FromListenWorker, ListenCommand, ToListenWorker } from "./thread_messages.ts";
import { KeepsUp, Queue, troubleOf } from "./worker_tools.ts";

const FIGURES_EVERY_MS = 250;

const tell = (message: FromListenWorker) => {
  postMessage(message);
};

/** Tests put an array here, and find in it what was decoded. */
const tap = globalThis as { streamcodecTap?: { seq: number; samples: Float32Array }[] };

class Listening {
  readonly #command: ListenCommand;
  readonly #queue = new Queue((why) => {
    this.#fail(why);
  });
  readonly #stages = new StageTimes();
  readonly #bitrate = new Bitrate();
  readonly #keepsUp = new KeepsUp();
  #codec: OnnxCodec | null = null;
  #listener: Listener | null = null;
  #player: Player | null = null;
  #output: Output | null = null;
  #outputRate = 0;
  #kbps: number | null;
  #deviceS = 0;
  #heardS = 0;
  #timer = 0;
  #over = false;

  constructor(command: ListenCommand) {
    this.#command = command;
    this.#kbps = command.kbps;
  }

  async open(): Promise<void> {
    try {
      this.#codec = await openCodec(this.#command.places);
      if (this.#codec !== null) {
        const { bandwidths } = this.#codec.manifest;
        const most = bandwidths.find((one) => this.#kbps !== null && one.kbps >= this.#kbps) ?? bandwidths[bandwidths.length - 1];
        // Streams are rarely of more than the model's default, whose decoder is a half of the largest.
        const usual = bandwidths.find((one) => one.kbps === this.#codec?.manifest.default_bandwidth) ?? most;
        await this.#codec.prepareDecoder(Math.min(usual.n_q, most.n_q), (done, total) => {
          tell({ type: "loading", done, total });
        });
      } else tell({ type: "fallback", reason: "the server has no model for the page" });
    } catch (error) {
      this.#codec = null;
      tell({ type: "fallback", reason: error instanceof Error ? error.message : String(error) });
    }
    this.#connect();
    this.#timer = setInterval(() => {
      this.#tellFigures();
    }, FIGURES_EVERY_MS) as unknown as number;
  }

  askBandwidth(kbps: number | null): void {
    this.#kbps = kbps;
    this.#listener?.askBandwidth(kbps);
  }

  set deviceS(seconds: number) {
    this.#deviceS = seconds;
  }

  close(): void {
    this.#over = true;
    clearInterval(this.#timer);
    this.#listener?.close();
    this.#command.port.postMessage({ type: "silence" });
  }

  #connect(): void {
    if (this.#over) return;
    const { url, stream, token } = this.#command;
    const coded = this.#codec !== null;
    const options = {
      stream,
      token,
      format: coded ? ("codes" as const) : ("pcm_s16le" as const),
      model: this.#codec?.manifest.fingerprint ?? null,
      minBandwidth: coded ? (this.#codec?.manifest.bandwidths[0].kbps ?? null) : null,
    };
    const listener = new Listener(browserIo, url, options, {
      onWelcome: (welcome) => {
        this.#welcome(welcome);
      },
      onEvent: (event, receivedUs) => {
        this.#queue.run(() => this.#take(event, receivedUs, listener));
      },
      onTrouble: (why, waitMs) => {
        tell({ type: "trouble", trouble: why === null ? null : troubleOf(why), waitMs });
      },
      onFailed: (why) => {
        this.#fail(why);
      },
    });
    this.#listener = listener;
    if (coded && this.#kbps !== null) listener.askBandwidth(this.#kbps);
  }

  #welcome(welcome: Welcome): void {
    this.#player ??= new Player(welcome.model, this.#codec);
    tell({ type: "model", bandwidths: welcome.model.bandwidths });
  }

  async #take(event: StreamEvent, receivedUs: number, listener: Listener): Promise<void> {
    if (listener !== this.#listener || this.#player === null) return;
    const heard = await this.#player.feed(event);
    const now = browserIo.now();
    switch (event.type) {
      case "start":
        if (this.#output === null || this.#outputRate !== event.sample_rate) {
          const { port, rateOut, blockS } = this.#command;
          this.#outputRate = event.sample_rate;
          this.#output = openOutput(port, event.sample_rate, rateOut, blockS);
        }
        tell({ type: "state", state: "playing", kbps: event.bandwidth, reason: event.reason });
        return;
      case "waiting":
        tell({ type: "state", state: "waiting", kbps: null, reason: "" });
        return;
      case "stream_end":
        tell({ type: "state", state: "ended", kbps: null, reason: event.reason });
        return;
      case "gap":
        return;
      case "packet":
        if (heard !== null) this.#play(event, heard.samples, heard.quiet, heard.history, receivedUs, now, listener);
        // In a pause the decoder catches up with what was left out, until something comes.
        while (this.#queue.waiting <= 1 && (await this.#player.catchUp()));
    }
  }

  #play(
    packet: Packet,
    samples: Float32Array,
    quiet: boolean,
    history: boolean,
    receivedUs: number,
    now: number,
    listener: Listener,
  ): void {
    tap.streamcodecTap?.push({ seq: packet.seq, samples: samples.slice() });
    this.#bitrate.add(receivedUs, packet.payload.length);
    if (history || this.#output === null) return;
    const seconds = samples.length / this.#outputRate;
    const captured = listener.capturedUs(packet) + seconds * 1e6;
    const decodingS = (now - receivedUs) / 1e6;
    const aheadS = this.#output.push(samples, { arrivedS: receivedUs / 1e6, capturedS: captured / 1e6, decodingS }, quiet);
    this.#heardS += seconds;
    const { stats } = this.#output;
    if (stats !== null) listener.playing(packet.seq, Math.round(1000 * stats.marginS), Math.round(1000 * stats.lateS));
    const way = (receivedUs - captured) / 1000;
    const buffer = 1000 * (aheadS + this.#deviceS);
    this.#stages.add({ way, decode: 1000 * decodingS, buffer, total: way + 1000 * decodingS + buffer });
    // Behind a burst packets wait for one another; where that never ends, the device is too slow.
    if (this.#codec !== null && !this.#keepsUp.step(1000 * decodingS, 1000 * seconds)) this.#fallBack();
  }

  #fallBack(): void {
    this.#listener?.close();
    this.#codec = null;
    this.#player = null;
    tell({ type: "fallback", reason: "this device is too slow to decode" });
    this.#connect();
  }

  #fail(why: unknown): void {
    if (this.#over) return;
    this.close();
    tell({ type: "failed", trouble: troubleOf(why) });
  }

  #tellFigures(): void {
    const listener = this.#listener;
    if (listener === null) return;
    tell({
      type: "figures",
      format: this.#codec === null ? "pcm" : "codes",
      stages: this.#stages.percentiles(),
      playout: this.#output?.stats ?? null,
      packets: listener.packets,
      lost: listener.lost,
      silent: listener.silent,
      resumed: listener.resumed,
      kbps: this.#bitrate.kbps(browserIo.now()),
      bytes: this.#bitrate.total,
      heardS: this.#heardS,
      roundTripMs: listener.roundTripMs,
    });
  }
}

let listening: Listening | null = null;

onmessage = ({ data }: MessageEvent<ToListenWorker>) => {
  switch (data.type) {
    case "listen":
      listening?.close();
      listening = new Listening(data);
      void listening.open();
      return;
    case "bandwidth":
      listening?.askBandwidth(data.kbps);
      return;
    case "device":
      if (listening !== null) listening.deviceS = data.latencyS;
      return;
    case "stop":
      listening?.close();
      listening = null;
  }
};
tell({ type: "ready" });
