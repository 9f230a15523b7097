// Where a client goes next: where its server sends it, to the servers that know the same streams, or back. No clock and no sockets.

/** So many servers in a row may send a client on to the next one. */
export const MAX_HOPS = 5;

/**
 * Whether a client of the server `at` may go on to the address `goTo`, which that server has named: not from wss:// to ws://, where others
 * could read the token, and not to what is no address of a server.
 */
export function mayFollow(at: string, goTo: string): boolean {
  if (at.startsWith("wss:") && !goTo.startsWith("wss:")) return false;
  try {
    const { protocol, hostname, port, username, password, hash } = new URL(goTo);
    return /^wss?:$/.test(protocol) && hostname !== "" && port !== "0" && username === "" && password === "" && hash === "";
  } catch {
    return false;
  }
}

/** The addresses at which a session may go on, from `given`, where it began, on; `url` is where it is, or was. */
export class Route {
  readonly given: string;
  url: string;
  #alternates: readonly string[] = [];
  #sentTo: string | null = null;
  readonly #leftOut = new Set<string>();
  #hops = 0;

  constructor(given: string) {
    this.given = this.url = given;
  }

  /** The session goes on at `url`, whose server names `alternates`. */
  reached(url: string, alternates: readonly string[]): void {
    this.url = url;
    this.#alternates = alternates;
    this.#sentTo = null;
    this.#leftOut.clear();
  }

  /** The connection had been there for a while: the count of hops begins anew. */
  lasted(): void {
    this.#hops = 0;
  }

  /** Whether to go on at `goTo`, where a server sends this client; false where servers have sent it on too often in a row. */
  follow(goTo: string): boolean {
    if (this.#hops >= MAX_HOPS) return false;
    this.#hops++;
    this.#sentTo = goTo;
    return true;
  }

  /** Do not try `url` again before the session has gone on elsewhere: its server says no to this client. */
  leaveOut(url: string): void {
    this.#leftOut.add(url);
  }

  /** The addresses to try in turn: where the session was, the alternates, where it was sent last, and the one that was given. */
  round(): string[] {
    const others = [...this.#alternates, ...(this.#sentTo === null ? [] : [this.#sentTo]), this.given];
    return [...new Set([this.url, ...others.filter((url) => !this.#leftOut.has(url) && mayFollow(this.url, url))])];
  }
}
