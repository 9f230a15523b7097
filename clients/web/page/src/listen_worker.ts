// The thread that hears a stream: connection, decoder and playout decisions. The audio thread only plays what this one has put in place.
// Sound begins as PCM, which the server decodes, and changes over to codes once the decoder is there.

import { Listener, browserIo } from "../../client/src/index.ts";
import type { StreamEvent } from "../../client/src/index.ts";
import type { Packet, StreamEnd, StreamStart, Waiting, Welcome } from "@streamcodec/protocol";
import type { OnnxCodec } from "../../codec/src/index.ts";
import { ChangeOver } from "./change_over.ts";
import { Bitrate, StageTimes } from "./figures.ts";
import { Player } from "./listen_player.ts";
import type { Heard } from "./listen_player.ts";
import { openOutput } from "./output.ts";
import type { Output } from "./output.ts";
import { openCodec } from "./runtime.ts";
import type { FromEitherWorker, ListenCommand, OfListenWorker, ToListenWorker } from "./thread_messages.ts";
import { KeepsUp, Queue, troubleOf } from "./worker_tools.ts";

const FIGURES_EVERY_MS = 250;

const tell = (message: FromEitherWorker | OfListenWorker) => {
  postMessage(message);
};

/** Tests put an array here, and find in it what was played. */
const tap = globalThis as { streamcodecTap?: { seq: number; samples: Float32Array }[] };

/** One connection with what decodes its packets: codes with `codec`, PCM without one. */
interface Source {
  readonly codec: OnnxCodec | null;
  readonly listener: Listener;
  player: Player | null; // from the welcome on
  said: StreamStart | Waiting | StreamEnd | null; // how its stream is
  nextSeq: number;
}

/** A packet's samples, when it came, when they were there, and how long decoding took them. */
interface Ready extends Heard {
  readonly packet: Packet;
  readonly receivedUs: number;
  readonly readyUs: number;
  readonly ownS: number;
}

class Listening {
  readonly #command: ListenCommand;
  readonly #queue = new Queue((why) => {
    this.#fail(why);
  });
  readonly #stages = new StageTimes();
  readonly #bitrate = new Bitrate();
  readonly #keepsUp = new KeepsUp();
  readonly #before = { packets: 0, lost: 0, silent: 0, resumed: 0 }; // of connections that others have taken over from
  #heard: Source; // the connection that is heard
  #coming: { readonly source: Source; readonly changeOver: ChangeOver<Ready> } | null = null; // the one that takes over from it
  #output: Output | null = null;
  #outputRate = 0;
  #kbps: number | null;
  #deviceS = 0;
  #heardS = 0;
  #pcmBytes = 0;
  readonly #timer: ReturnType<typeof setInterval>;
  #over = false;

  constructor(command: ListenCommand) {
    this.#command = command;
    this.#kbps = command.kbps;
    this.#heard = this.#connect(null);
    this.#timer = setInterval(() => {
      this.#tellFigures();
    }, FIGURES_EVERY_MS);
  }

  /** Load the decoder, and let codes take over from PCM. */
  async loadDecoder(): Promise<void> {
    try {
      const codec = await openCodec(this.#command.places);
      if (codec === null) tell({ type: "fallback", reason: "the server has no model for the page" });
      if (codec === null) return;
      const { bandwidths, default_bandwidth } = codec.manifest;
      const most = bandwidths.find((one) => this.#kbps !== null && one.kbps >= this.#kbps) ?? bandwidths[bandwidths.length - 1];
      // Streams are rarely of more than the model's default, whose decoder is a half of the largest.
      const usual = bandwidths.find((one) => one.kbps === default_bandwidth) ?? most;
      await codec.prepareDecoder(Math.min(usual.n_q, most.n_q), (done, total) => {
        tell({ type: "loading", done, total });
      });
      if (this.#over) return;
      const { said, nextSeq } = this.#heard;
      const place = said?.type === "start" ? { session: said.session, next: nextSeq } : null;
      this.#coming = { source: this.#connect(codec), changeOver: new ChangeOver(place) };
    } catch (error) {
      tell({ type: "fallback", reason: error instanceof Error ? error.message : String(error) });
    }
  }

  askBandwidth(kbps: number | null): void {
    this.#kbps = kbps;
    for (const source of [this.#heard, this.#coming?.source]) if (source?.codec) source.listener.askBandwidth(kbps);
  }

  set deviceS(seconds: number) {
    this.#deviceS = seconds;
  }

  close(): void {
    this.#over = true;
    clearInterval(this.#timer);
    this.#heard.listener.close();
    this.#coming?.source.listener.close();
    this.#command.port.postMessage({ type: "silence" });
  }

  #connect(codec: OnnxCodec | null): Source {
    const { url, stream, token } = this.#command;
    const options = {
      stream,
      token,
      format: codec === null ? ("pcm_s16le" as const) : ("codes" as const),
      model: codec?.manifest.fingerprint ?? null,
      minBandwidth: codec?.manifest.bandwidths[0].kbps ?? null,
    };
    const listener = new Listener(browserIo, url, options, {
      onWelcome: (welcome) => {
        this.#welcome(source, welcome);
      },
      onEvent: (event, receivedUs) => {
        this.#queue.run(() => this.#take(source, event, receivedUs));
      },
      onTrouble: (why, waitMs) => {
        if (source === this.#heard) tell({ type: "trouble", trouble: why === null ? null : troubleOf(why), waitMs });
        // The stream is heard all the same.
        else if (why !== null) tell({ type: "fallback", reason: `${why.message}; this page tries again to get codes` });
      },
      onFailed: (why) => {
        this.#connectionFailed(source, why);
      },
    });
    const source: Source = { codec, listener, player: null, said: null, nextSeq: 0 };
    if (codec !== null && this.#kbps !== null) listener.askBandwidth(this.#kbps);
    return source;
  }

  #welcome(source: Source, welcome: Welcome): void {
    source.player ??= new Player(welcome.model, source.codec);
    tell({ type: "model", bandwidths: welcome.model.bandwidths });
  }

  async #take(source: Source, event: StreamEvent, receivedUs: number): Promise<void> {
    const coming = this.#coming?.source === source ? this.#coming : null;
    if ((source !== this.#heard && coming === null) || source.player === null || this.#over) return;
    const begunUs = browserIo.now();
    const heard = await source.player.feed(event);
    const readyUs = browserIo.now();
    let ready: Ready | null = null;
    if (event.type === "start" || event.type === "waiting" || event.type === "stream_end") source.said = event;
    else {
      source.nextSeq = event.type === "packet" ? event.seq + 1 : event.first_seq + event.count;
      if (event.type === "packet" && heard !== null)
        ready = { ...heard, packet: event, receivedUs, readyUs, ownS: (readyUs - begunUs) / 1e6 };
    }
    if (coming !== null) coming.changeOver.came(event, ready);
    else {
      this.#coming?.changeOver.heard(event);
      this.#tellState(event);
      if (ready !== null) this.#play(source, ready);
    }
    this.#changeOver();
    // In a pause the decoder catches up with what was left out, until something comes.
    while (this.#queue.waiting <= 1 && (await source.player.catchUp()));
  }

  /** Let the second connection take over, where it can. */
  #changeOver(): void {
    const taken = this.#coming?.changeOver.takenOver;
    if (!this.#coming || !taken) return;
    const { source, changeOver } = this.#coming;
    this.#coming = null;
    this.#before.lost += changeOver.leftOut;
    this.#replace(source);
    tell({ type: "coding" });
    tell({ type: "trouble", trouble: null, waitMs: 0 });
    if (source.said !== null) this.#tellState(source.said);
    // What was held was not late.
    for (const ready of taken) this.#play(source, { ...ready, receivedUs: browserIo.now(), readyUs: browserIo.now() });
  }

  /** Hear another connection from now on. */
  #replace(source: Source): void {
    const { listener } = this.#heard;
    listener.close();
    for (const count of ["packets", "lost", "silent", "resumed"] as const) this.#before[count] += listener[count];
    this.#heard = source;
  }

  #tellState(event: StreamEvent): void {
    if (event.type === "start") {
      if (this.#output === null || this.#outputRate !== event.sample_rate) {
        const { port, rateOut, blockS } = this.#command;
        this.#outputRate = event.sample_rate;
        this.#output = openOutput(port, event.sample_rate, rateOut, blockS);
      }
      tell({ type: "state", state: "playing", kbps: event.bandwidth, reason: event.reason });
    } else if (event.type === "waiting") tell({ type: "state", state: "waiting", kbps: null, reason: "" });
    else if (event.type === "stream_end") tell({ type: "state", state: "ended", kbps: null, reason: event.reason });
  }

  #play({ codec, listener }: Source, { packet, samples, quiet, history, receivedUs, readyUs, ownS }: Ready): void {
    this.#bitrate.add(receivedUs, packet.payload.length);
    if (codec === null) this.#pcmBytes += packet.payload.length;
    if (history || this.#output === null) return;
    tap.streamcodecTap?.push({ seq: packet.seq, samples: samples.slice() });
    const seconds = samples.length / this.#outputRate;
    const captured = listener.capturedUs(packet) + seconds * 1e6;
    const decodingS = (readyUs - receivedUs) / 1e6;
    const aheadS = this.#output.push(samples, { arrivedS: receivedUs / 1e6, capturedS: captured / 1e6, decodingS }, quiet);
    this.#heardS += seconds;
    const { stats } = this.#output;
    if (stats !== null) listener.playing(packet.seq, Math.round(1000 * stats.marginS), Math.round(1000 * stats.lateS));
    const way = (receivedUs - captured) / 1000;
    const buffer = 1000 * (aheadS + this.#deviceS);
    this.#stages.add({ way, decode: 1000 * decodingS, buffer, total: way + 1000 * decodingS + buffer });
    if (codec !== null && !this.#keepsUp.step(1000 * ownS, 1000 * seconds)) this.#fallBack("this device is too slow to decode");
  }

  /** From now on the server decodes. */
  #fallBack(reason: string): void {
    const { codec } = this.#heard;
    this.#replace(this.#connect(null));
    tell({ type: "fallback", reason });
    // Steps run one after the other: none runs when this one's turn comes.
    this.#queue.run(async () => codec?.close());
  }

  #connectionFailed(source: Source, why: Error): void {
    const { code } = troubleOf(why);
    if (source.codec === null || code !== "model_mismatch") this.#fail(why);
    else {
      const reason = "its model has changed: load the page again to decode here";
      if (source === this.#heard) this.#fallBack(reason);
      else {
        this.#coming = null;
        tell({ type: "fallback", reason });
      }
    }
  }

  #fail(why: unknown): void {
    if (this.#over) return;
    this.close();
    tell({ type: "failed", trouble: troubleOf(why) });
  }

  #tellFigures(): void {
    const { codec, listener } = this.#heard;
    tell({
      type: "figures",
      format: codec === null ? "pcm" : "codes",
      stages: this.#stages.percentiles(),
      recent: this.#stages.takeRecent(),
      playout: this.#output?.stats ?? null,
      packets: this.#before.packets + listener.packets,
      lost: this.#before.lost + listener.lost,
      silent: this.#before.silent + listener.silent,
      resumed: this.#before.resumed + listener.resumed,
      kbps: this.#bitrate.kbps(browserIo.now()),
      bytes: this.#bitrate.total,
      pcmBytes: this.#pcmBytes,
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
      void listening.loadDecoder();
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
      tell({ type: "stopped" });
  }
};
tell({ type: "ready" });
