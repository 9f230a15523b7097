// Publishing: packets in, messages out, with a bound in seconds on what waits for a slow uplink. A connection that breaks is resumed;
// a server that closes is left in order, and a new stream begins.

import { publishHello } from "@streamcodec/protocol";
import type { Ended, PublishHello, Welcome } from "@streamcodec/protocol";
import type { Connection, Io } from "./connection.ts";
import { KeptConnection } from "./kept_connection.ts";
import type { ConnectionTrouble } from "./kept_connection.ts";
import { SendQueue } from "./send_queue.ts";
import type { Audio } from "./send_queue.ts";

/** What a publisher tells its owner. */
export interface PublisherEvents extends ConnectionTrouble {
  /** The stream is there, and its encoder starts afresh; also after a stream that could not be resumed. */
  onOpen(welcome: Welcome): void;
}

const ACK_EVERY_S = 0.5; // how often the server is asked how far it has read
const AGAIN_S = 3; // how much is kept of what was acknowledged where another server may go on from an older state
const MEASURED_S = 2; // how much more is kept than a resumption needs: the seconds in flight are counted there too
const QUEUE_S = 1;

export class Publisher {
  /** Audio (s) that was offered and never sent, and packets that the server says that it dropped. */
  droppedS = 0;
  serverDropped = 0;
  sent = 0;
  bytes = 0;
  readonly #io: Io;
  readonly #asked: Parameters<typeof publishHello>[0];
  readonly #kept: KeptConnection;
  #queue = new SendQueue();
  #unaskedS = 0;
  #catchingUp = false;
  #ending: ((ended: Ended | null) => void) | null = null;
  #endSent = false;
  #serverCloses = false; // the server closes: this stream ends, and another one begins

  constructor(io: Io, url: string, asked: Parameters<typeof publishHello>[0], events: PublisherEvents) {
    this.#io = io;
    this.#asked = asked;
    this.#kept = new KeptConnection(io, url, {
      hello: (broken) => this.#hello(broken),
      mayResume: ({ welcome }) => {
        this.#catchingUp = welcome.session !== null;
        return this.#catchingUp;
      },
      onOpen: (connection) => {
        if (this.#ending !== null) {
          this.#ending(null);
          return;
        }
        // What was offered before belongs to no stream any longer.
        this.#dropQueue();
        this.#serverCloses = false;
        this.#keep(connection.welcome);
        events.onOpen(connection.welcome);
        this.#attach(connection);
      },
      onResumed: (connection) => {
        // The welcome tells this as a pong would: otherwise all that waits would be in flight before the first pong comes.
        connection.acknowledged = connection.session.nextSeq;
        this.#queue.sendAgain(connection.session.nextSeq);
        this.#keep(connection.welcome);
        this.#attach(connection);
      },
      onGivenUp: () => this.#ending?.(null),
      onMessage: (message) => {
        if (message.type === "gap") this.serverDropped += message.count;
        else if (message.type === "ended") {
          if (this.#ending !== null) this.#ending(message);
          else if (this.#serverCloses) void this.#kept.leaveServer();
        }
      },
      onPong: ({ acknowledged, closingMs }) => {
        if (acknowledged !== null) this.#queue.acknowledge(acknowledged);
        if (closingMs !== null && !this.#isLeaving) {
          this.#serverCloses = true;
          this.#queue.nameSilence();
        }
        this.#send();
      },
      onTrouble: events.onTrouble.bind(events),
      onFailed: (why) => {
        if (this.#ending !== null) this.#ending(null);
        else events.onFailed(why);
      },
    });
    void this.#kept.open();
  }

  get resumed(): number {
    return this.#kept.resumed;
  }

  get roundTripMs(): number | null {
    return this.#kept.roundTripMs;
  }

  /** Whether the stream takes nothing more. */
  get #isLeaving(): boolean {
    return this.#serverCloses || this.#ending !== null;
  }

  /** Seconds of audio that wait for the uplink. */
  get queuedS(): number {
    return this.#queue.waitingS;
  }

  /** Queue a packet; `captured` is when its first sample was (us). Beyond a second of waiting audio the oldest is dropped, and the server told. */
  offer(packet: Omit<Audio, "kind">): void {
    if (this.#isLeaving) {
      this.droppedS += packet.durationS;
      return;
    }
    this.#queue.add({ kind: "audio", ...packet });
    // If the connection may be lost, its queue may be longer: what is dropped now would be missing after it is resumed.
    this.droppedS += this.#queue.dropBeyond(QUEUE_S + (this.#catchingUp ? this.#queue.keepS : 0));
    this.#send();
  }

  /** Say that so many packets, behind those that were offered, were lost on this device because it did not keep up. */
  lose(count: number): void {
    if (this.#isLeaving || count === 0) return;
    this.#queue.add({ kind: "lost", count, reason: "overload" });
    this.#send();
  }

  /** Leave out the next packet, because it is silence. */
  leaveOut(): void {
    if (!this.#isLeaving) this.#queue.leaveOut();
  }

  /** Send what waits, say that this is all, and return the server's count of it; null where the connection is gone. */
  end(timeoutMs = 2000): Promise<Ended | null> {
    return new Promise((resolve) => {
      const stopWaiting = this.#io.later(() => this.#ending?.(null), timeoutMs);
      this.#ending = (ended) => {
        stopWaiting();
        this.#kept.close();
        if (ended === null) this.#dropQueue();
        resolve(ended);
      };
      this.#queue.nameSilence();
      // A connection that broke may be resumed in time.
      if (this.#kept.clock === null) this.#ending(null);
      else this.#send();
    });
  }

  #dropQueue(): void {
    this.droppedS += this.#queue.waitingS;
    this.#queue = new SendQueue();
  }

  #hello(broken: Connection | null): PublishHello {
    const secret = broken?.welcome.session ?? null;
    const resume =
      broken === null || secret === null
        ? null
        : { session: secret, epoch: broken.session.epoch, next_seq: broken.session.nextSeq + this.#queue.numbers };
    return publishHello({ ...this.#asked, resume, can_move: true, client: "streamcodec web" });
  }

  #keep(welcome: Welcome): void {
    this.#queue.keepS = welcome.resume_ms / 1000 + MEASURED_S;
    this.#queue.againS = welcome.alternates.length > 0 ? AGAIN_S : 0;
  }

  #attach(connection: Connection): void {
    this.#unaskedS = 0;
    this.#endSent = false;
    connection.aheadS = () => this.#queue.aheadS;
    this.#send();
  }

  #send(): void {
    const connection = this.#kept.current;
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
    if (this.#isLeaving) {
      this.#endSent = true;
      session.end();
      connection.flush();
    }
  }

  /** Whether so much is in flight that more would only wait in buffers; unknown before the server's first pong. */
  #isFull(connection: Connection): boolean {
    return connection.acknowledged !== null && this.#queue.sentS > connection.window.maxS;
  }
}
