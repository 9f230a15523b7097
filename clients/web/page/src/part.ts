// What both parts of the page do: begin and end by one button, run a worker, say how it goes, and give everything back in the end.

import { element, rate, say, seconds, show, size } from "./elements.ts";
import { here } from "./places.ts";
import type { FromEitherWorker } from "./thread_messages.ts";
import { wordsFor } from "./words.ts";

/** How this part calls what it does. */
export interface PartWords {
  readonly begin: string;
  readonly stop: string;
  /** What does not work where it cannot begin. */
  readonly doing: string;
  /** What the server does where this page cannot, and what is loaded to do it here. */
  readonly serverDoes: string;
  readonly coder: string;
}

/** An error whose message is meant for people as it is. */
export class InPlainWords extends Error {}

const LAST_WORDS_MS = 3000; // a worker that has more to send may take so long

/** One time from the button's first press to its second: what must be given back, and the worker. */
export class Run<To> {
  #undo: (() => unknown)[] = [];
  #worker: Worker | null = null;

  /** Keep what must be given back, in this order. */
  hold<T>(held: T, undo: (held: T) => unknown): T {
    this.#undo.push(() => undo(held));
    return held;
  }

  /** Open an audio context. Where the system stops it, as for a call or on a page that is not seen, it goes on once the page is seen again. */
  openAudio(): AudioContext {
    const context = this.hold(new AudioContext({ latencyHint: "interactive" }), (held) => held.close());
    const goOn = () => {
      // A context that is closed or may not go on says so by rejecting.
      if (document.visibilityState === "visible") context.resume().catch(() => undefined);
    };
    document.addEventListener("visibilitychange", goOn);
    return this.hold(context, () => {
      document.removeEventListener("visibilitychange", goOn);
    });
  }

  post(message: To, transfer: Transferable[] = []): void {
    this.#worker?.postMessage(message, transfer);
  }

  /**
   * Start the worker; resolves once it takes messages. With `stop`, it is given a while to say that it has stopped before it is ended.
   *
   * `broke` is told what goes wrong in it later.
   */
  start(part: string, stop: To, hear: (message: FromEitherWorker) => void, broke: (why: Error) => void): Promise<void> {
    const worker = new Worker(here(part), { type: "module" });
    let hasStopped: () => void = () => undefined;
    const stopped = new Promise<void>((resolve) => {
      hasStopped = resolve;
    });
    return new Promise((resolve, reject) => {
      worker.onerror = (event) => {
        const why = new Error(event.message || "a part of the page could not be loaded: load it again");
        hasStopped();
        reject(why);
        broke(why);
      };
      worker.onmessage = ({ data }: MessageEvent<FromEitherWorker>) => {
        if (data.type === "ready") resolve();
        else if (data.type === "stopped") hasStopped();
        else hear(data);
      };
      this.#worker = this.hold(worker, async () => {
        this.#worker = null;
        worker.postMessage(stop);
        const timer = setTimeout(hasStopped, LAST_WORDS_MS);
        await stopped;
        clearTimeout(timer);
        worker.terminate();
      });
    });
  }

  /** Give everything back. */
  async end(): Promise<void> {
    for (const undo of this.#undo.splice(0)) {
      try {
        await undo();
      } catch {
        // Then it is gone.
      }
    }
  }
}

export abstract class Part<To, From extends { readonly type: string }> {
  readonly #section: HTMLElement;
  readonly #button: HTMLButtonElement;
  readonly #status: HTMLElement;
  readonly #notice: HTMLElement;
  readonly #words: PartWords;
  #run: Run<To> | null = null;
  #usual = "";

  constructor(name: "talk" | "listen", words: PartWords) {
    this.#section = element(`${name}-part`, HTMLElement);
    this.#button = element(name, HTMLButtonElement);
    this.#status = element(`${name}-status`, HTMLElement);
    this.#notice = element(`${name}-notice`, HTMLElement);
    this.#words = words;
    this.#button.onclick = () => {
      if (this.#run === null) void this.#begin();
      else this.end("Stopped.");
    };
  }

  /** Whether all that the user has filled in will do; the browser says what does not. */
  protected abstract isFilledIn(): boolean;

  /** Open devices and the worker, and hold them in `run`. Rejects where one cannot be had. */
  protected abstract open(run: Run<To>): Promise<void>;

  /** What a run's worker says beyond what both workers say. */
  protected abstract hear(message: From, run: Run<To>): void;

  /** It has begun, or is over. */
  protected abstract changed(on: boolean): void;

  protected get run(): Run<To> | null {
    return this.#run;
  }

  /** Say how it goes, also again behind a trouble that is over. */
  protected tell(text: string): void {
    this.#usual = text;
    say(this.#status, text);
  }

  protected note(text: string | null): void {
    show(this.#notice, text);
  }

  protected set state(state: string) {
    this.#section.dataset["state"] = state;
  }

  /** Stop, and say why. */
  protected end(why: string): void {
    const run = this.#run;
    this.#run = null;
    this.#button.textContent = this.#words.begin;
    this.#button.disabled = false;
    this.state = "stopped";
    this.tell(why);
    this.note(null);
    if (run === null) return;
    this.changed(false);
    void run.end();
  }

  /** Start a part's worker, which is listened to for as long as the run is this part's. */
  protected startWorker(run: Run<To>, part: string, stop: To): Promise<void> {
    const hear = (message: FromEitherWorker | From) => {
      if (run === this.#run) this.#hear(message, run);
    };
    return run.start(part, stop, hear, (why) => {
      if (run === this.#run) this.end(this.#failed(why));
    });
  }

  async #begin(): Promise<void> {
    if (!this.isFilledIn()) return;
    const run = new Run<To>();
    this.#run = run;
    this.#button.disabled = true;
    this.note(null);
    this.tell("Connecting…");
    try {
      await this.open(run);
    } catch (error) {
      if (run === this.#run) this.end(this.#failed(error));
      else await run.end();
      return;
    }
    if (run !== this.#run) {
      await run.end();
      return;
    }
    this.#button.textContent = this.#words.stop;
    this.#button.disabled = false;
    this.changed(true);
  }

  #failed(why: unknown): string {
    if (why instanceof InPlainWords) return why.message;
    return `${this.#words.doing} does not work here: ${why instanceof Error ? why.message : String(why)}`;
  }

  #hear(message: FromEitherWorker | From, run: Run<To>): void {
    if (!isOfBoth(message)) {
      this.hear(message, run);
      return;
    }
    switch (message.type) {
      case "ready":
      case "stopped":
        return;
      case "loading":
        this.note(`Loading the ${this.#words.coder}: ${Math.round((100 * message.done) / message.total)}% of ${size(message.total)}.`);
        return;
      case "coding":
        this.note(null);
        return;
      case "fallback":
        this.note(`${this.#words.serverDoes} for this page: ${message.reason}.`);
        return;
      case "trouble":
        if (message.trouble === null) say(this.#status, this.#usual);
        else say(this.#status, `${wordsFor(message.trouble)} ${again(message.waitMs)}`);
        return;
      case "failed":
        this.end(wordsFor(message.trouble));
    }
  }
}

const again = (waitMs: number) => `Trying again${waitMs > 0 ? ` in ${seconds(waitMs / 1000)}` : ""}…`;

const OF_BOTH: Readonly<Record<FromEitherWorker["type"], true>> = {
  ready: true,
  stopped: true,
  loading: true,
  coding: true,
  fallback: true,
  trouble: true,
  failed: true,
};

function isOfBoth(message: { readonly type: string }): message is FromEitherWorker {
  return Object.hasOwn(OF_BOTH, message.type);
}

/** A rate and a size, as both parts show them. */
export const traffic = (kbps: number, bytes: number) => `${rate(kbps)}, ${size(bytes)} so far`;
