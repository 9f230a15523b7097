// A made-up time, and sockets whose other end a test holds.

import { parse, serialize } from "@streamcodec/protocol";
import type { Message } from "@streamcodec/protocol";
import type { Io } from "../src/index.ts";

/** A socket as a browser has it, from the server's side: what it got, and what a test lets it hear. */
export class FakeSocket {
  readyState = 0;
  binaryType = "";
  onopen: (() => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onmessage: ((event: { data: ArrayBufferLike }) => void) | null = null;
  readonly url: string;
  readonly got: Message[] = [];
  closedWith: number | null = null;

  constructor(url: string) {
    this.url = url;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  send(data: Uint8Array): void {
    this.got.push(parse(data));
  }

  say(message: Message): void {
    this.onmessage?.({ data: serialize(message).buffer });
  }

  /** End as a network does that is gone (1006), or as the server says. */
  lose(code = 1006): void {
    this.readyState = 3;
    this.onclose?.({ code, reason: "" });
  }

  close(code = 1000): void {
    this.closedWith ??= code;
    this.readyState = 3;
  }
}

export class FakeIo implements Io {
  nowUs = 1_000_000;
  readonly sockets: FakeSocket[] = [];
  #timers: { at: number; run: () => void }[] = [];

  readonly now = () => this.nowUs;

  readonly socket = (url: string) => {
    const socket = new FakeSocket(url);
    this.sockets.push(socket);
    return socket as unknown as WebSocket;
  };

  readonly later = (run: () => void, ms: number) => {
    const timer = { at: this.nowUs + ms * 1000, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((one) => one !== timer);
    };
  };

  get newest(): FakeSocket {
    return this.sockets[this.sockets.length - 1];
  }

  /** Let so much time pass, with all that is due meanwhile. */
  async pass(ms: number): Promise<void> {
    const until = this.nowUs + ms * 1000;
    for (;;) {
      await settled();
      const due = this.#timers.filter((one) => one.at <= until).sort((a, b) => a.at - b.at)[0] as
        { at: number; run: () => void } | undefined;
      if (due === undefined) break;
      this.#timers = this.#timers.filter((one) => one !== due);
      this.nowUs = Math.max(this.nowUs, due.at);
      due.run();
    }
    this.nowUs = until;
    await settled();
  }
}

/** Let all promises that can go on do so. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}
