// A connection that is kept: opened until it works, resumed where it broke, at another server that knows the session or where that has moved,
// and opened afresh where it cannot be resumed.

import { ConnectionFailed, Refused, sleep, worthRetrying } from "./connection.ts";
import type { Connection, Io } from "./connection.ts";
import { backoff, keepOpening, reopen } from "./reconnect.ts";
import { Route } from "./route.ts";
import type { ClockEstimate, Hello, Message } from "@streamcodec/protocol";

/** What publishers and listeners tell their owners about their connection. */
export interface ConnectionTrouble {
  /** An attempt failed, and another one follows after `waitMs`; null once the connection is there again. */
  onTrouble(why: Error | null, waitMs: number): void;
  /** It is over. */
  onFailed(why: Error): void;
}

/** What a kept connection asks of the one who uses it, and tells it. */
export interface ConnectionUser extends ConnectionTrouble {
  /** What to say first: on a new connection, or on one that goes on where `broken` ended. */
  hello(broken: Connection | null): Hello;
  /** Whether there is anything to resume; called once a connection broke. */
  mayResume(broken: Connection): boolean;
  /** A connection is there; nothing of it has been heard yet. */
  onOpen(connection: Connection): void;
  onResumed(connection: Connection): void;
  /** What comes next is on a new connection: the last one could not be resumed. */
  onGivenUp(why: Error): void;
  onMessage(message: Message, receivedUs: number): void;
  onPong(connection: Connection): void;
}

// A connection that lasted longer than this does not count as one of several servers in a row.
const LASTED_US = 10_000_000;

export class KeptConnection {
  /** How often a connection that broke was resumed. */
  resumed = 0;
  /** The connection; null while there is none. */
  current: Connection | null = null;
  /** The clock of the newest connection; null before the first. */
  clock: ClockEstimate | null = null;
  readonly #io: Io;
  readonly #route: Route;
  #openedUs = 0;
  readonly #user: ConnectionUser;
  #stopped = false;

  constructor(io: Io, url: string, user: ConnectionUser) {
    this.#io = io;
    this.#route = new Route(url);
    this.#user = user;
  }

  get isStopped(): boolean {
    return this.#stopped;
  }

  get roundTripMs(): number | null {
    const trip = this.clock?.roundTrip ?? null;
    return trip === null ? null : trip / 1000;
  }

  /** Connect for the first time, or anew: first `at` this address. */
  async open(at: string | null = null): Promise<void> {
    const { hello, note, stopped } = this.#attempts(null);
    try {
      this.#attach(await keepOpening(this.#io, this.#route, at ?? this.#route.given, hello, note, stopped), false);
    } catch (error) {
      if (!this.#stopped) this.#user.onFailed(asError(error));
    }
  }

  /** Leave a server that closes, in order, and open another connection: where it sends this client, or at the address that was given. */
  async leaveServer(): Promise<void> {
    const why = new ConnectionFailed("the server is shutting down", false, this.current?.goTo ?? null);
    this.current?.close();
    this.#ended();
    this.#user.onTrouble(why, 0);
    // A moment that is drawn by chance: not all of a server's clients come at once.
    await sleep(this.#io, backoff().next().value);
    if (!this.#stopped) await this.#openAnew(why);
  }

  /** Leave in order; nothing more is told. */
  close(): void {
    this.#stopped = true;
    this.current?.close();
    this.current = null;
  }

  #attempts(broken: Connection | null) {
    return {
      hello: () => this.#user.hello(broken),
      note: (why: Error, waitMs: number) => {
        this.#user.onTrouble(why, waitMs);
      },
      stopped: () => this.#stopped,
    };
  }

  #attach(connection: Connection, resumed: boolean): void {
    if (this.#stopped) {
      connection.close();
      return;
    }
    this.current = connection;
    this.#openedUs = this.#io.now();
    this.#route.reached(connection.url, connection.welcome.alternates);
    this.clock = connection.clock;
    if (resumed) this.resumed++;
    this.#user.onTrouble(null, 0);
    if (resumed) this.#user.onResumed(connection);
    else this.#user.onOpen(connection);
    connection.listen({
      onMessage: (message, receivedUs) => {
        this.#user.onMessage(message, receivedUs);
      },
      onPong: () => {
        this.#user.onPong(connection);
      },
      onLost: (why) => {
        if (this.#stopped) return;
        this.#ended();
        void this.#resume(connection, why);
      },
    });
  }

  /** The connection is over, and its owner still wants one. */
  #ended(): void {
    this.current = null;
    if (this.#io.now() - this.#openedUs > LASTED_US) this.#route.lasted();
  }

  async #resume(broken: Connection, why: Error): Promise<void> {
    const { resume_ms } = broken.welcome;
    try {
      if (!(why instanceof ConnectionFailed) || !why.resumable || resume_ms === 0 || !this.#user.mayResume(broken)) throw why;
      this.#user.onTrouble(why, 0);
      const { hello, stopped } = this.#attempts(broken);
      this.#attach(await reopen(this.#io, this.#route, hello, why, resume_ms, stopped), true);
    } catch (error) {
      if (this.#stopped) return;
      const last = asError(error);
      if (!worthRetrying(last)) {
        this.#user.onFailed(last);
        return;
      }
      this.#user.onTrouble(last, 0);
      this.#user.onGivenUp(last);
      if (!this.isStopped) await this.#openAnew(last);
    }
  }

  /** Begin anew, where a server has sent this client or has said that its session is over; not all clients come there at once. */
  async #openAnew(last: Error): Promise<void> {
    const goTo = last instanceof ConnectionFailed ? last.goTo : null;
    const followed = goTo !== null && this.#route.follow(goTo);
    if (followed && last instanceof Refused) {
      await sleep(this.#io, backoff().next().value);
      if (this.isStopped) return;
    }
    await this.open(followed ? goTo : null);
  }
}

const asError = (thrown: unknown) => (thrown instanceof Error ? thrown : new Error(String(thrown)));
