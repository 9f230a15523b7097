// Publishing: packets in, messages out, with a bound in seconds on what waits for a slow uplink. A connection that breaks is resumed.

import { publishHello } from "@streamcodec/protocol";
import type { Ended, PublishHello, Resume, Welcome } from "@streamcodec/protocol";
import { ConnectionFailed, worthRetrying } from "./connection.ts";
import type { Connection, Io } from "./connection.ts";
import { keepOpening, reopen } from "./reconnect.ts";
import { SendQueue } from "./send_queue.ts";
import type { Audio } from "./send_queue.ts";

/** What a publisher tells its owner. */
export interface PublisherEvents {
  /** The stream is there, and its encoder starts afresh; also after a stream that could not be resumed. */
  onOpen(welcome: Welcome): void;
  onTrouble(why: Error | null, waitMs: number): void;
  onFailed(why: Error): void;
}

const ACK_EVERY_S = 0.5; // how often the server is asked how far it has read
const MEASURED_S = 2; // how much more is kept than a resumption needs: the seconds in flight are counted there too
const QUEUE_S = 1;

export class Publisher {
  /** Audio (s) that was dropped because the uplink was too slow, and packets that the server says that it dropped. */
  droppedS = 0;
  serverDropped = 0;
  sent = 0;
  resumed = 0;
  bytes = 0;
  readonly #io: Io;
  readonly #url: string;
  readonly #asked: Parameters<typeof publishHello>[0];
  readonly #events: PublisherEvents;
  #queue = new SendQueue();
  #connection: Connection | null = null;
  #unaskedS = 0;
  #catchingUp = false;
  #ending: ((ended: Ended | null) => void) | null = null;
  #endSent = false;
  #stopped = false;

  constructor(io: Io, url: string, asked: Parameters<typeof publishHello>[0], events: PublisherEvents) {
    this.#io = io;
    this.#url = url;
    this.#asked = asked;
    this.#events = events;
    void this.#open();
  }

  get roundTripMs(): number | null {
    const trip = this.#connection?.clock.roundTrip ?? null;
    return trip === null ? null : trip / 1000;
  }

  /** Seconds of audio that wait for the uplink. */
  get queuedS(): number {
    return this.#queue.waitingS;
  }

  /** Queue a packet; `captured` is when its first sample was (us). Beyond a second of waiting audio the oldest is dropped, and the server told. */
  offer(packet: Omit<Audio, "kind">): void {
    if (this.#ending !== null || this.#stopped) return;
    this.#queue.add({ kind: "audio", ...packet });
    // If the connection may be lost, its queue may be longer: what is dropped now would be missing after it is resumed.
    this.droppedS += this.#queue.dropBeyond(QUEUE_S + (this.#catchingUp ? this.#queue.keepS : 0));
    this.#send();
  }

  /** Leave out the next packet, because it is silence. */
  leaveOut(): void {
    this.#queue.leaveOut();
  }

  /** Send what waits, say that this is all, and return the server's count of it; null where the connection is gone. */
  end(timeoutMs = 2000): Promise<Ended | null> {
    return new Promise((resolve) => {
      const stopWaiting = this.#io.later(() => this.#ending?.(null), timeoutMs);
      this.#ending = (ended) => {
        stopWaiting();
        this.#stopped = true;
        this.#connection?.close();
        resolve(ended);
      };
      this.#queue.nameSilence();
      if (this.#connection === null) this.#ending(null);
      else this.#send();
    });
  }

  #hello(resume: Resume | null = null): PublishHello {
    return publishHello({ ...this.#asked, resume, client: "streamcodec web" });
  }

  async #open(): Promise<void> {
    try {
      const connection = await keepOpening(
        this.#io,
        this.#url,
        () => this.#hello(),
        this.#events.onTrouble.bind(this.#events),
        () => this.#stopped,
      );
      this.#queue = new SendQueue();
      this.#queue.keepS = connection.welcome.resume_ms / 1000 + MEASURED_S;
      this.#events.onOpen(connection.welcome);
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
    this.#unaskedS = 0;
    this.#endSent = false;
    this.#events.onTrouble(null, 0);
    connection.aheadS = () => this.#queue.aheadS;
    connection.listen({
      onMessage: (message) => {
        if (message.type === "gap") this.serverDropped += message.count;
        else if (message.type === "ended") this.#ending?.(message);
      },
      onPong: () => {
        if (connection.acknowledged !== null) this.#queue.acknowledge(connection.acknowledged);
        this.#send();
      },
      onLost: (why) => {
        if (this.#stopped) return;
        this.#connection = null;
        void this.#resume(connection, why);
      },
    });
    this.#send();
  }

  #send(): void {
    const connection = this.#connection;
    if (connection === null || connection.session.closeCode !== null || this.#endSent) return;
    const { session } = connection;
    while (!this.#queue.isEmpty && !this.#isFull(connection)) {
      const entry = this.#queue.next()!;
      this.#queue.sent(session.nextSeq, entry);
      if (entry.kind === "lost") session.sendGap(entry.count, entry.reason);
      else {
        session.sendPacket(entry.payload, connection.clock.toServer(entry.captured), { nQ: entry.nQ });
        this.#unaskedS += entry.durationS;
        this.sent++;
        this.bytes += entry.payload.length;
      }
      if (this.#unaskedS >= ACK_EVERY_S || connection.window.inDoubt) {
        this.#unaskedS = 0;
        connection.ping();
      } else connection.flush();
    }
    if (!this.#queue.isEmpty) return;
    this.#catchingUp = false;
    if (this.#ending !== null) {
      this.#endSent = true;
      session.end();
      connection.flush();
    }
  }

  /** Whether so much is in flight that more would only wait in buffers; unknown before the server's first pong. */
  #isFull(connection: Connection): boolean {
    return connection.acknowledged !== null && this.#queue.sentS > connection.window.maxS;
  }

  async #resume(broken: Connection, why: Error): Promise<void> {
    const { session, welcome } = broken;
    const secret = welcome.session;
    try {
      if (!(why instanceof ConnectionFailed) || !why.resumable || welcome.resume_ms === 0 || secret === null) throw why;
      this.#catchingUp = true;
      this.#events.onTrouble(why, 0);
      const hello = () => this.#hello({ session: secret, epoch: session.epoch, next_seq: session.nextSeq + this.#queue.numbers });
      const connection = await reopen(this.#io, this.#url, hello, why, welcome.resume_ms);
      // The welcome tells this as a pong would: otherwise all that waits would be in flight before the first pong comes.
      connection.acknowledged = connection.session.nextSeq;
      this.#queue.sendAgain(connection.session.nextSeq);
      this.resumed++;
      this.#attach(connection);
    } catch (error) {
      if (this.#stopped) return;
      if (this.#ending !== null) this.#ending(null);
      else if (error instanceof ConnectionFailed && worthRetrying(error)) {
        this.#events.onTrouble(error, 0);
        void this.#open();
      } else this.#events.onFailed(error as Error);
    }
  }
}
