// Listening: messages in, events out; the server is told how far they have come, and a connection that breaks is resumed.

import { SILENCE, listenHello, packetSamples, unwrapTimestamp } from "@streamcodec/protocol";
import type { Format, Gap, Message, Packet, Report, StreamEnd, StreamStart, Waiting, Welcome } from "@streamcodec/protocol";
import { ConnectionFailed, worthRetrying } from "./connection.ts";
import type { Connection, Io } from "./connection.ts";
import { keepOpening, reopen } from "./reconnect.ts";

export type StreamEvent = Waiting | StreamStart | Packet | Gap | StreamEnd;

export interface ListenOptions {
  readonly stream: string;
  readonly format: Format;
  readonly model: string | null;
  readonly token: string | null;
  readonly minBandwidth: number | null;
}

/** What a listener tells its owner. */
export interface ListenerEvents {
  onWelcome(welcome: Welcome): void;
  onEvent(event: StreamEvent, receivedUs: number): void;
  /** An attempt failed, and another one follows after `waitMs`; null once the connection is there again. */
  onTrouble(why: Error | null, waitMs: number): void;
  /** It is over. */
  onFailed(why: Error): void;
}

// How much audio comes between two reports; and the longest time between them while packets come.
const REPORT_AUDIO_S = 0.24;
const REPORT_EVERY_US = 500_000;

export class Listener {
  /** Packets that have come, that will never come, and that were left out as silence. */
  packets = 0;
  lost = 0;
  silent = 0;
  resumed = 0;
  readonly #io: Io;
  readonly #url: string;
  readonly #options: ListenOptions;
  readonly #events: ListenerEvents;
  #connection: Connection | null = null;
  #left: { start: StreamStart | null; nextSeq: number } | null = null; // the stream when the connection broke, and the number expected
  #playing: Partial<Report> = {};
  #bandwidth: number | null = null;
  #unreportedS = 0;
  #reportedUs = -Infinity;
  #stopped = false;

  constructor(io: Io, url: string, options: ListenOptions, events: ListenerEvents) {
    this.#io = io;
    this.#url = url;
    this.#options = options;
    this.#events = events;
    void this.#open();
  }

  get roundTripMs(): number | null {
    const trip = this.#connection?.clock.roundTrip ?? null;
    return trip === null ? null : trip / 1000;
  }

  /** When the packet's first sample was captured, on this program's clock (us). */
  capturedUs(packet: Packet): number {
    const clock = this.#connection?.clock;
    if (clock === undefined) return this.#io.now();
    return clock.toLocal(unwrapTimestamp(packet.timestamp, clock.toServer(this.#io.now())));
  }

  /** Say what was played last, and what the playout buffer says (ms). */
  playing(seq: number, marginMs: number, lateMs: number): void {
    this.#playing = { played: seq, margin_ms: marginMs, late_ms: lateMs };
  }

  /** Ask for at most so many kbps from now on; null lifts the bound. */
  askBandwidth(kbps: number | null): void {
    this.#bandwidth = kbps ?? 1000;
    if (this.#connection?.session.start) this.#report();
  }

  close(): void {
    this.#stopped = true;
    this.#connection?.close();
  }

  async #open(): Promise<void> {
    const { stream, format, model, token, minBandwidth } = this.#options;
    const hello = () => listenHello({ stream, format, model, token, min_bandwidth: minBandwidth, client: "streamcodec web" });
    try {
      const connection = await keepOpening(this.#io, this.#url, hello, this.#events.onTrouble.bind(this.#events), () => this.#stopped);
      this.#attach(connection);
    } catch (error) {
      if (!this.#stopped) this.#events.onFailed(error as Error);
    }
  }

  #attach(connection: Connection): void {
    if (this.#stopped) {
      connection.close();
      return;
    }
    this.#connection = connection;
    this.#reportedUs = -Infinity;
    this.#events.onTrouble(null, 0);
    this.#events.onWelcome(connection.welcome);
    connection.listen({
      onMessage: (message, receivedUs) => {
        this.#take(message, receivedUs);
      },
      onLost: (why) => {
        if (!this.#stopped) void this.#resume(connection, why);
      },
    });
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
    const session = this.#connection?.session;
    if (!session?.start || !session.welcome) return false;
    const { model } = session.welcome;
    this.#unreportedS += packetSamples(model, session.start.packet_frames) / model.sampling_rate;
    return this.#unreportedS >= REPORT_AUDIO_S - 1e-6 || nowUs - this.#reportedUs >= REPORT_EVERY_US;
  }

  #report(): void {
    const connection = this.#connection;
    if (connection === null || connection.session.closeCode !== null) return;
    this.#unreportedS = 0;
    this.#reportedUs = this.#io.now();
    const coded = this.#options.format === "codes";
    connection.session.report({ ...this.#playing, bandwidth: coded ? this.#bandwidth : null });
    connection.flush();
  }

  async #resume(broken: Connection, why: Error): Promise<void> {
    const { session, welcome } = broken;
    try {
      if (!(why instanceof ConnectionFailed) || !why.resumable || welcome.resume_ms === 0) throw why;
      this.#left ??= { start: session.state === "streaming" ? session.start : null, nextSeq: session.nextSeq };
      const { start, nextSeq } = this.#left;
      const { stream, format, model, token, minBandwidth } = this.#options;
      const resume = start?.session ? { session: start.session, epoch: start.epoch, next_seq: nextSeq } : null;
      const hello = () => listenHello({ stream, format, model, token, min_bandwidth: minBandwidth, resume, client: "streamcodec web" });
      this.#events.onTrouble(why, 0);
      const connection = await reopen(this.#io, this.#url, hello, why, welcome.resume_ms);
      this.resumed++;
      this.#attach(connection);
    } catch (error) {
      if (this.#stopped) return;
      if (!(error instanceof ConnectionFailed) || !worthRetrying(error)) {
        this.#events.onFailed(error as Error);
        return;
      }
      // What was missed is lost; whoever listens wants to hear what comes next.
      if (this.#left?.start)
        this.#events.onEvent({ type: "stream_end", next_seq: this.#left.nextSeq, reason: error.message }, this.#io.now());
      this.#left = null;
      this.#events.onTrouble(error, 0);
      void this.#open();
    }
  }
}
