// One connection: a socket joined to a session, with the server's clock. Sockets, time and waiting come from `Io`, so that tests bring their own.

import { ClientSession, ClockEstimate, NORMAL_CLOSURE, SUBPROTOCOL, SendWindow, WIRE_CODES, isWireCode } from "@streamcodec/protocol";
import type { Departure, Hello, Message, Pong, Welcome } from "@streamcodec/protocol";
import { mayFollow } from "./route.ts";

/** What this room needs of its surroundings: the time (us, only forward), sockets, and timers (ms). */
export interface Io {
  readonly now: () => number;
  readonly socket: (url: string, protocol: string) => WebSocket;
  readonly later: (run: () => void, ms: number) => () => void;
}

/** The io of a page or a worker; `now` is the same in all threads of a page. */
export const browserIo: Io = {
  now: () => Math.round((performance.timeOrigin + performance.now()) * 1000),
  socket: (url, protocol) => new WebSocket(url, protocol),
  later: (run, ms) => {
    const timer = setTimeout(run, ms);
    return () => {
      clearTimeout(timer);
    };
  },
};

export const sleep = (io: Io, ms: number): Promise<void> =>
  new Promise((resolve) => {
    io.later(resolve, ms);
  });

/**
 * No connection could be made, or it was lost. `resumable`: it broke without a goodbye, or the session goes on elsewhere. `goTo` is the address
 * of the server at which to go on or to begin anew, null for the same one.
 */
export class ConnectionFailed extends Error {
  override readonly name: string = "ConnectionFailed";
  readonly resumable: boolean;
  goTo: string | null;

  constructor(reason: string, resumable = false, goTo: string | null = null) {
    super(reason);
    this.resumable = resumable;
    this.goTo = goTo;
  }
}

/** The server said no, with a code; `retry` says whether the same request may succeed later. */
export class Refused extends ConnectionFailed {
  override readonly name = "Refused";
  readonly code: string;
  readonly retry: boolean;
  readonly retryAfterMs: number | null;

  constructor(code: string, reason: string, retry: boolean, retryAfterMs: number | null = null, goTo: string | null = null) {
    super(reason, code === "moved", goTo);
    this.code = code;
    this.retry = retry;
    this.retryAfterMs = retryAfterMs;
  }
}

/** What a connection tells its owner. After `onLost` nothing more comes. */
export interface ConnectionEvents {
  onMessage(message: Message, receivedUs: number): void;
  onLost(why: Error): void;
  onPong?(): void;
}

const PINGS_AT_START = 4;
const PING_SOON_MS = 50;
const PING_EVERY_MS = 5000;
const LOOK_EVERY_MS = 500;
// Looks without a message: then the server is asked for a sign of life, and given up. A program that was too busy to look was too busy to listen.
const ASK_AFTER = 2;
const GIVE_UP_AFTER = 8;
const WINDOW_S = 1;
const TRIPS = 8;

interface SentPing {
  readonly time: number;
  readonly nextSeq: number;
  readonly clock: boolean;
  readonly departure: Departure;
}

/** Connect, say hello and wait for the welcome. Rejects with `Refused`, `ConnectionFailed`, or a `TypeError` for an address that is none. */
export function openConnection(io: Io, url: string, hello: Hello, timeoutMs = 10_000): Promise<Connection> {
  return new Promise((resolve, reject) => {
    let socket: WebSocket;
    try {
      socket = io.socket(url, SUBPROTOCOL);
    } catch (error) {
      reject(new TypeError(`${url} is no WebSocket address: ${String(error)}`));
      return;
    }
    const connection = new Connection(io, url, socket, hello);
    const stopWaiting = io.later(() => {
      connection.drop();
      reject(new ConnectionFailed(`${url} does not answer within ${timeoutMs / 1000} s`));
    }, timeoutMs);
    connection.greet(
      () => {
        stopWaiting();
        resolve(connection);
      },
      (why) => {
        stopWaiting();
        reject(why);
      },
    );
  });
}

export class Connection {
  readonly url: string;
  readonly session: ClientSession;
  readonly clock = new ClockEstimate();
  readonly window = new SendWindow(WINDOW_S, { trips: TRIPS, guessS: 0 });
  /** The number up to which the server has taken a publisher's packets, as far as its pongs tell; null before the first. */
  acknowledged: number | null = null;
  /** In how long (ms) the server closes, as its last pong says; null: it does not. */
  closingMs: number | null = null;
  /** Where the server sends this client when it closes, as its last pong says; null for the same address. */
  goTo: string | null = null;
  /** How much audio (s) is under way, as its publisher counts it. */
  aheadS: () => number = () => 0;
  readonly #io: Io;
  readonly #socket: WebSocket;
  readonly #sentHelloUs: number;
  #events: ConnectionEvents | null = null;
  #waiting: [Message, number][] = [];
  #pings: SentPing[] = [];
  #quietLooks = 0;
  #over: Error | null = null;
  #timers = new Set<() => void>();

  constructor(io: Io, url: string, socket: WebSocket, hello: Hello) {
    this.#io = io;
    this.url = url;
    this.#socket = socket;
    this.#sentHelloUs = io.now();
    this.session = new ClientSession(hello);
    socket.binaryType = "arraybuffer";
  }

  get welcome(): Welcome {
    if (this.session.welcome === null) throw new Error("this connection has no welcome yet");
    return this.session.welcome;
  }

  /** Begin: `opened` or `failed` is called once. */
  greet(opened: () => void, failed: (why: Error) => void): void {
    let greeted = false;
    let sentUs = this.#sentHelloUs;
    const lose = (why: Error) => {
      if (this.#over !== null) return;
      this.#finish(why);
      if (greeted) this.#events?.onLost(why);
      else failed(why);
    };
    this.#socket.onopen = () => {
      sentUs = this.#io.now();
      this.flush();
    };
    this.#socket.onclose = (event) => {
      lose(this.#reasonOf(event, greeted));
    };
    this.#socket.onmessage = (event: MessageEvent<ArrayBuffer | string>) => {
      const receivedUs = this.#io.now();
      this.#quietLooks = 0;
      if (this.#over !== null) return;
      let message: Message | null;
      try {
        message = this.session.feed(typeof event.data === "string" ? event.data : new Uint8Array(event.data));
      } catch (error) {
        this.flush();
        this.#socket.close(this.session.closeCode ?? NORMAL_CLOSURE);
        lose(error instanceof Error ? error : new Error(String(error)));
        return;
      }
      if (message === null) return;
      if (message.type === "refuse") {
        lose(new Refused(message.code, message.reason, message.retry, message.retry_after_ms, this.#goTo(message.go_to)));
      } else if (message.type === "error") {
        const retry = isWireCode(message.code) && WIRE_CODES[message.code].retry;
        lose(new Refused(message.code, message.reason, retry, null, this.#goTo(message.go_to)));
      } else if (message.type === "pong") this.#takePong(message, receivedUs);
      else if (message.type === "welcome") {
        greeted = true;
        this.clock.update(sentUs, message.time, receivedUs);
        this.#keepPinging(0);
        this.#watch(lose);
        opened();
      } else if (this.#events === null) this.#waiting.push([message, receivedUs]);
      else this.#events.onMessage(message, receivedUs);
    };
  }

  /** Hear what comes from now on, and what has come since the welcome. */
  listen(events: ConnectionEvents): void {
    this.#events = events;
    for (const [message, receivedUs] of this.#waiting.splice(0)) events.onMessage(message, receivedUs);
    if (this.#over !== null) events.onLost(this.#over);
  }

  /** Send what the session has queued. */
  flush(): void {
    for (const data of this.session.dataToSend()) {
      if (this.#socket.readyState === 1) this.#socket.send(data);
    }
  }

  /** Ask the server how far it has read; with `clock`, use its time as well: among packets a ping is often too late for that. */
  ping(clock = false): void {
    const time = this.#io.now();
    this.#pings.push({ time, nextSeq: this.session.nextSeq, clock, departure: this.window.depart(time / 1e6, this.aheadS()) });
    this.session.ping(time);
    this.flush();
  }

  /** Leave in order. */
  close(): void {
    this.flush();
    this.drop();
  }

  /** Leave at once; nothing more is heard. */
  drop(): void {
    this.#finish(new ConnectionFailed("the connection was closed"));
    this.#socket.close(NORMAL_CLOSURE);
  }

  #finish(why: Error): void {
    this.#over ??= why;
    for (const stop of this.#timers) stop();
    this.#timers.clear();
  }

  #later(run: () => void, ms: number): void {
    const stop = this.#io.later(() => {
      this.#timers.delete(stop);
      run();
    }, ms);
    this.#timers.add(stop);
  }

  #takePong(pong: Pong, receivedUs: number): void {
    this.closingMs = pong.closing_ms;
    this.goTo = this.#goTo(pong.go_to);
    for (let sent = this.#pings.shift(); sent !== undefined; sent = this.#pings.shift()) {
      if (sent.time !== pong.time) continue;
      this.acknowledged = sent.nextSeq;
      this.window.answered(sent.departure, receivedUs / 1e6);
      if (sent.clock) this.clock.update(sent.time, pong.server_time, receivedUs);
      break;
    }
    this.#events?.onPong?.();
  }

  #keepPinging(count: number): void {
    this.#later(
      () => {
        if (this.session.closeCode !== null) return;
        this.ping(true);
        this.#keepPinging(count + 1);
      },
      count < PINGS_AT_START ? PING_SOON_MS : PING_EVERY_MS,
    );
  }

  /** A browser sends no WebSocket pings: the protocol's own ask for a sign of life. */
  #watch(lose: (why: Error) => void): void {
    this.#later(() => {
      this.#quietLooks++;
      if (this.#quietLooks === ASK_AFTER && this.session.closeCode === null) this.ping();
      if (this.#quietLooks >= GIVE_UP_AFTER) {
        lose(new ConnectionFailed("the connection was lost: nothing came any more", true));
        this.#socket.close();
      } else this.#watch(lose);
    }, LOOK_EVERY_MS);
  }

  /** Where the server sends this client, if it may go there. */
  #goTo(told: string | null): string | null {
    return told !== null && mayFollow(this.url, told) ? told : null;
  }

  #reasonOf(event: CloseEvent, greeted: boolean): Error {
    const known = Object.entries(WIRE_CODES).find(([, { close }]) => close === event.code);
    if (known !== undefined) return new Refused(known[0], event.reason || "the server closed the connection", known[1].retry);
    if (!greeted) return new ConnectionFailed("no server answers, or it does not speak streamcodec.v1");
    if (event.code === NORMAL_CLOSURE) return new ConnectionFailed("the server closed the connection");
    return new ConnectionFailed(`the connection was lost (${event.code})`, true);
  }
}

/** Whether waiting may help: not against a refusal for good, a rule that the server broke, or an address that is none. */
export function worthRetrying(why: Error): boolean {
  return why instanceof Refused ? why.retry : why instanceof ConnectionFailed;
}
