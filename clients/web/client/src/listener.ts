// Listening: messages in, events out; the server is told how far they have come, and a connection that breaks is resumed.

import { SILENCE, listenHello, packetSamples, unwrapTimestamp } from "@streamcodec/protocol";
import type { Format, Gap, ListenHello, Message, Packet, Report, StreamEnd, StreamStart, Waiting, Welcome } from "@streamcodec/protocol";
import type { Io } from "./connection.ts";
import { KeptConnection } from "./kept_connection.ts";
import type { ConnectionTrouble } from "./kept_connection.ts";

export type StreamEvent = Waiting | StreamStart | Packet | Gap | StreamEnd;

export interface ListenOptions {
  readonly stream: string;
  readonly format: Format;
  readonly model: string | null;
  readonly token: string | null;
  readonly minBandwidth: number | null;
}

/** What a listener tells its owner. */
export interface ListenerEvents extends ConnectionTrouble {
  onWelcome(welcome: Welcome): void;
  onEvent(event: StreamEvent, receivedUs: number): void;
}

// How much audio comes between two reports; and the longest time between them while packets come.
const REPORT_AUDIO_S = 0.24;
const REPORT_EVERY_US = 500_000;
const HIGHEST_KBPS = 1000; // that the protocol can ask for: no bound

export class Listener {
  /** Packets that have come, that will never come, and that were left out as silence. */
  packets = 0;
  lost = 0;
  silent = 0;
  readonly #io: Io;
  readonly #options: ListenOptions;
  readonly #events: ListenerEvents;
  readonly #kept: KeptConnection;
  #left: { start: StreamStart | null; nextSeq: number } | null = null; // the stream when the connection broke, and the number expected
  #playing: Partial<Report> = {};
  #bandwidth: number | null = null;
  #unreportedS = 0;
  #reportedUs = -Infinity;

  constructor(io: Io, url: string, options: ListenOptions, events: ListenerEvents) {
    this.#io = io;
    this.#options = options;
    this.#events = events;
    this.#kept = new KeptConnection(io, url, {
      hello: () => this.#hello(),
      mayResume: ({ session }) => {
        this.#left ??= { start: session.streamed ? session.start : null, nextSeq: session.nextSeq };
        return true;
      },
      onOpen: ({ welcome }) => {
        this.#begin(welcome);
      },
      onResumed: ({ welcome }) => {
        this.#begin(welcome);
      },
      onGivenUp: (why) => {
        // What was missed is lost; whoever listens wants to hear what comes next.
        const left = this.#left;
        this.#left = null;
        if (left?.start) events.onEvent({ type: "stream_end", next_seq: left.nextSeq, reason: why.message }, io.now());
      },
      onMessage: (message, receivedUs) => {
        this.#take(message, receivedUs);
      },
      onPong: () => undefined,
      onTrouble: events.onTrouble.bind(events),
      onFailed: events.onFailed.bind(events),
    });
    void this.#kept.open();
  }

  get resumed(): number {
    return this.#kept.resumed;
  }

  get roundTripMs(): number | null {
    return this.#kept.roundTripMs;
  }

  /** When the packet's first sample was captured, on this program's clock (us). */
  capturedUs(packet: Packet): number {
    const { clock } = this.#kept;
    if (clock === null) return this.#io.now();
    return clock.toLocal(unwrapTimestamp(packet.timestamp, clock.toServer(this.#io.now())));
  }

  /** Say what was played last, and what the playout buffer says (ms). */
  playing(seq: number, marginMs: number, lateMs: number): void {
    this.#playing = { played: seq, margin_ms: marginMs, late_ms: lateMs };
  }

  /** Ask for at most so many kbps from now on; null lifts the bound. */
  askBandwidth(kbps: number | null): void {
    this.#bandwidth = kbps ?? HIGHEST_KBPS;
    if (this.#kept.current?.session.start) this.#report();
  }

  close(): void {
    this.#kept.close();
  }

  #hello(): ListenHello {
    const { stream, format, model, token, minBandwidth } = this.#options;
    const start = this.#left?.start;
    const resume = start?.session ? { session: start.session, epoch: start.epoch, next_seq: this.#left!.nextSeq } : null;
    return listenHello({ stream, format, model, token, min_bandwidth: minBandwidth, resume, can_move: true, client: "streamcodec web" });
  }

  #begin(welcome: Welcome): void {
    this.#reportedUs = -Infinity;
    this.#events.onWelcome(welcome);
  }

  #take(message: Message, receivedUs: number): void {
    if (
      message.type === "packet" ||
      message.type === "gap" ||
      message.type === "start" ||
      message.type === "waiting" ||
      message.type === "stream_end"
    ) {
      for (const event of this.#eventsOf(message)) {
        if (event.type === "packet") this.packets++;
        else if (event.type === "gap" && event.reason === SILENCE) this.silent += event.count;
        else if (event.type === "gap") this.lost += event.count;
        this.#events.onEvent(event, receivedUs);
      }
      if (message.type === "start" && this.#bandwidth !== null && message.format === "codes") this.#report();
      if (message.type === "packet" && this.#reportIsDue(receivedUs)) this.#report();
    }
  }

  /** What a message means; the first one after a resume tells whether the stream goes on. */
  #eventsOf(message: StreamEvent): StreamEvent[] {
    const left = this.#left;
    this.#left = null;
    if (left === null) return [message];
    if (left.start === null) return message.type === "start" ? [message] : [];
    if (message.type === "start" && message.session === left.start.session) {
      if (message.start === "continued") return [];
      const missing = message.live_seq - left.nextSeq;
      const gap: Gap = { type: "gap", first_seq: left.nextSeq, count: missing, reason: "resumed_late" };
      return missing > 0 ? [gap, message] : [message];
    }
    return [{ type: "stream_end", next_seq: left.nextSeq, reason: "the stream ended while the connection was lost" }, message];
  }

  #reportIsDue(nowUs: number): boolean {
    const session = this.#kept.current?.session;
    if (!session?.start || !session.welcome) return false;
    const { model } = session.welcome;
    this.#unreportedS += packetSamples(model, session.start.packet_frames) / model.sampling_rate;
    return this.#unreportedS >= REPORT_AUDIO_S - 1e-6 || nowUs - this.#reportedUs >= REPORT_EVERY_US;
  }

  #report(): void {
    const connection = this.#kept.current;
    if (connection === null || connection.session.closeCode !== null) return;
    this.#unreportedS = 0;
    this.#reportedUs = this.#io.now();
    const coded = this.#options.format === "codes";
    connection.session.report({ ...this.#playing, bandwidth: coded ? this.#bandwidth : null });
    connection.flush();
  }
}
