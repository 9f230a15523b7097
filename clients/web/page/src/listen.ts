// The page's part that listens: what its controls do, and what they show.

import { element, milliseconds, rate, say, seconds, show, size } from "./elements.ts";
import { Meter } from "./meter.ts";
import { parts, places, serverUrl, startWorker } from "./places.ts";
import type { FromListenWorker, ListenFigures, ToListenWorker } from "./thread_messages.ts";
import { wordsFor } from "./words.ts";

const RAW_KBPS = 384; // 16-bit PCM at 24 kHz
const OPUS_KBPS = 24;
const STAGES = ["way", "decode", "buffer", "total"] as const;

interface Running {
  readonly context: AudioContext;
  readonly worker: Worker;
  readonly post: (message: ToListenWorker, transfer?: Transferable[]) => void;
  readonly gain: GainNode;
  readonly meter: Meter;
}

export class ListenPart {
  readonly #button = element("listen", HTMLButtonElement);
  readonly #stream = element("listen-stream", HTMLInputElement);
  readonly #token = element("token", HTMLInputElement);
  readonly #volume = element("volume", HTMLInputElement);
  readonly #bandwidth = element("bandwidth", HTMLInputElement);
  readonly #bandwidthText = element("bandwidth-text", HTMLOutputElement);
  readonly #status = element("listen-status", HTMLElement);
  readonly #notice = element("listen-notice", HTMLElement);
  readonly #bandwidths: number[] = [1.5, 3, 6, 12, 24];
  #running: Running | null = null;
  #usual = "Connecting…";

  constructor() {
    this.#button.onclick = () => {
      void (this.#running === null ? this.#begin() : this.#end("Stopped."));
    };
    this.#volume.oninput = () => {
      if (this.#running !== null) this.#running.gain.gain.value = Number(this.#volume.value) / 100;
    };
    this.#bandwidth.oninput = () => {
      this.#showBandwidth();
      this.#running?.post({ type: "bandwidth", kbps: this.#kbps });
    };
    this.#offer(this.#bandwidths);
    this.#bandwidth.value = this.#bandwidth.max;
    this.#showBandwidth();
  }

  /** The bound that the slider stands for; null at its end, where all that is sent is wanted. */
  get #kbps(): number | null {
    const at = Number(this.#bandwidth.value);
    return at >= this.#bandwidths.length - 1 ? null : this.#bandwidths[at];
  }

  #showBandwidth(): void {
    const at = Math.min(Number(this.#bandwidth.value), this.#bandwidths.length - 1);
    const text = this.#kbps === null ? "all that is sent" : `at most ${this.#bandwidths[at]} kbps`;
    say(this.#bandwidthText, text);
    this.#bandwidth.setAttribute("aria-valuetext", text);
  }

  #offer(bandwidths: readonly number[]): void {
    if (bandwidths.length === 0) return;
    const open = this.#kbps === null;
    this.#bandwidths.splice(0, this.#bandwidths.length, ...bandwidths);
    this.#bandwidth.max = String(bandwidths.length - 1);
    if (open) this.#bandwidth.value = this.#bandwidth.max;
    this.#showBandwidth();
  }

  async #begin(): Promise<void> {
    if (!this.#stream.reportValidity()) return;
    this.#button.disabled = true;
    show(this.#notice, null);
    say(this.#status, "Connecting…");
    // Made in the click, or the browser keeps it silent.
    const context = new AudioContext({ latencyHint: "interactive" });
    try {
      await context.audioWorklet.addModule(parts.playout);
      const node = new AudioWorkletNode(context, "playout", { numberOfInputs: 0, outputChannelCount: [2] });
      const gain = new GainNode(context, { gain: Number(this.#volume.value) / 100 });
      const meter = new Meter(context, element("listen-level", HTMLMeterElement), element("wave", HTMLCanvasElement));
      node.connect(gain).connect(context.destination);
      gain.connect(meter.analyser);
      const { port1, port2 } = new MessageChannel();
      node.port.postMessage({ port: port1 }, [port1]);
      const worker = await startWorker(parts.listen_worker, (message) => {
        this.#hear(message as FromListenWorker);
      });
      const post = (message: ToListenWorker, transfer: Transferable[] = []) => {
        worker.postMessage(message, transfer);
      };
      this.#running = { context, worker, post, gain, meter };
      post(
        {
          type: "listen",
          url: serverUrl(),
          stream: this.#stream.value,
          token: this.#token.value || null,
          kbps: this.#kbps,
          rateOut: context.sampleRate,
          // A device takes several of the audio thread's blocks at once.
          blockS: Math.max(0.005, context.baseLatency),
          places,
          port: port2,
        },
        [port2],
      );
      this.#button.textContent = "Stop listening";
    } catch (error) {
      await context.close();
      this.#running = null;
      say(this.#status, `Listening does not work here: ${error instanceof Error ? error.message : String(error)}`);
    }
    this.#button.disabled = false;
  }

  async #end(why: string): Promise<void> {
    const running = this.#running;
    this.#running = null;
    running?.post({ type: "stop" });
    running?.meter.stop();
    await running?.context.close();
    running?.worker.terminate();
    this.#button.textContent = "Listen";
    element("listen-part", HTMLElement).dataset["state"] = "stopped";
    say(this.#status, why);
  }

  /** Say how it goes, also again behind a trouble that is over. */
  #tell(text: string): void {
    this.#usual = text;
    say(this.#status, text);
  }

  #hear(message: FromListenWorker): void {
    switch (message.type) {
      case "ready":
        return;
      case "loading":
        this.#tell(`Loading the decoder: ${Math.round((100 * message.done) / message.total)}% of ${size(message.total)}`);
        return;
      case "model":
        this.#offer(message.bandwidths);
        return;
      case "state":
        element("listen-part", HTMLElement).dataset["state"] = message.state;
        if (message.state === "waiting")
          this.#tell(`Nobody publishes “${this.#stream.value}” yet. It begins by itself when somebody does.`);
        else if (message.state === "playing") this.#tell(`Playing “${this.#stream.value}”, published at ${rate(message.kbps ?? 0)}.`);
        else this.#tell(`The stream has ended (${message.reason}). It begins by itself when somebody publishes again.`);
        return;
      case "fallback":
        show(this.#notice, `The server decodes for this page: ${message.reason}.`);
        return;
      case "trouble":
        if (message.trouble === null) say(this.#status, this.#usual);
        else
          say(
            this.#status,
            `${wordsFor(message.trouble)} Trying again${message.waitMs > 0 ? ` in ${seconds(message.waitMs / 1000)}` : ""}…`,
          );
        return;
      case "failed":
        void this.#end(wordsFor(message.trouble));
        return;
      case "figures":
        this.#show(message);
    }
  }

  #show(figures: ListenFigures): void {
    const running = this.#running;
    if (running === null) return;
    running.post({ type: "device", latencyS: running.context.outputLatency || running.context.baseLatency });
    for (const stage of STAGES) {
      const found = figures.stages?.[stage];
      for (const share of ["p50", "p95", "p99"] as const) {
        say(element(`${stage}-${share}`, HTMLElement), found === undefined ? "–" : milliseconds(found[share]));
      }
    }
    const { playout } = figures;
    say(element("heard", HTMLElement), seconds(figures.heardS));
    say(element("lost", HTMLElement), `${figures.lost} packets, ${playout?.underruns ?? 0} breaks`);
    say(element("buffered", HTMLElement), milliseconds(1000 * (playout?.bufferedS ?? 0)));
    say(element("format", HTMLElement), figures.format === "codes" ? "codes, decoded here" : "PCM, decoded by the server");
    say(element("bytes", HTMLElement), `${rate(figures.kbps)}, ${size(figures.bytes)} so far`);
    const raw = size((figures.heardS * RAW_KBPS * 1000) / 8);
    say(
      element("compared", HTMLElement),
      `raw PCM would be ${raw}, Opus at ${OPUS_KBPS} kbps ${size((figures.heardS * OPUS_KBPS * 1000) / 8)}`,
    );
  }
}
