// The page's part that listens: what its controls do, and what they show.

import { element, milliseconds, rate, say, seconds, size } from "./elements.ts";
import { DelayHistory } from "./delay_history.ts";
import { Meter } from "./meter.ts";
import { Part, traffic } from "./part.ts";
import type { Run } from "./part.ts";
import { parts, places, serverUrl } from "./places.ts";
import type { ListenFigures, OfListenWorker, ToListenWorker } from "./thread_messages.ts";

const RAW_KBPS = 384; // 16-bit PCM at 24 kHz
const OPUS_KBPS = 24;
const STAGES = ["way", "decode", "buffer", "total"] as const;

export class ListenPart extends Part<ToListenWorker, OfListenWorker> {
  readonly #stream = element("listen-stream", HTMLInputElement);
  readonly #token = element("token", HTMLInputElement);
  readonly #volume = element("volume", HTMLInputElement);
  readonly #bandwidth = element("bandwidth", HTMLInputElement);
  readonly #bandwidthText = element("bandwidth-text", HTMLOutputElement);
  readonly #bandwidths: number[] = [1.5, 3, 6, 12, 24];
  readonly #history = new DelayHistory(element("delays", HTMLCanvasElement));
  readonly #wave = element("wave", HTMLCanvasElement);
  #context: AudioContext | null = null;
  #gain: GainNode | null = null;

  constructor() {
    super("listen", {
      begin: "Listen",
      stop: "Stop listening",
      doing: "Listening",
      serverDoes: "The server decodes",
      coder: "decoder",
    });
    this.#volume.oninput = () => {
      const text = `${this.#volume.value}%`;
      say(element("volume-text", HTMLOutputElement), text);
      this.#volume.setAttribute("aria-valuetext", text);
      if (this.#gain !== null) this.#gain.gain.value = Number(this.#volume.value) / 100;
    };
    this.#bandwidth.oninput = () => {
      this.#showBandwidth();
      this.run?.post({ type: "bandwidth", kbps: this.#kbps });
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

  protected override isFilledIn(): boolean {
    return this.#stream.reportValidity();
  }

  protected override async open(run: Run<ToListenWorker>): Promise<void> {
    this.changed(true);
    this.#history.clear();
    // Made in the click, or the browser keeps it silent.
    const context = run.openAudio();
    this.#context = context;
    await context.audioWorklet.addModule(parts.playout);
    const node = new AudioWorkletNode(context, "playout", { numberOfInputs: 0, outputChannelCount: [2] });
    const gain = new GainNode(context, { gain: Number(this.#volume.value) / 100 });
    const meter = run.hold(new Meter(context, element("listen-level", HTMLMeterElement), this.#wave), (held) => {
      held.stop();
    });
    node.connect(gain).connect(context.destination);
    gain.connect(meter.analyser);
    this.#gain = gain;
    const { port1, port2 } = new MessageChannel();
    node.port.postMessage({ port: port1 }, [port1]);
    await this.startWorker(run, parts.listen_worker, { type: "stop" });
    run.post(
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
  }

  protected override changed(on: boolean): void {
    this.#stream.disabled = on;
    this.#wave.hidden = !on;
  }

  protected override hear(message: OfListenWorker, run: Run<ToListenWorker>): void {
    switch (message.type) {
      case "model":
        this.#offer(message.bandwidths);
        return;
      case "state":
        this.state = message.state;
        if (message.state === "waiting") this.tell(`Nobody publishes “${this.#stream.value}” yet. It begins by itself when somebody does.`);
        else if (message.state === "playing") this.tell(`Playing “${this.#stream.value}”, published at ${rate(message.kbps ?? 0)}.`);
        else {
          const why = message.reason === "" ? "" : ` (${message.reason})`;
          this.tell(`The stream has ended${why}. It begins by itself when somebody publishes again.`);
        }
        return;
      case "figures":
        this.#show(message, run);
    }
  }

  #show(figures: ListenFigures, run: Run<ToListenWorker>): void {
    const context = this.#context;
    if (context !== null) run.post({ type: "device", latencyS: context.outputLatency || context.baseLatency });
    for (const stage of STAGES) {
      const found = figures.stages?.[stage];
      for (const share of ["p50", "p95", "p99"] as const) {
        say(element(`${stage}-${share}`, HTMLElement), found === undefined ? "–" : milliseconds(found[share]));
      }
    }
    if (figures.stages !== null) element("delay-part", HTMLElement).hidden = false;
    this.#history.add(figures);
    const { playout } = figures;
    say(element("heard", HTMLElement), seconds(figures.heardS));
    say(element("lost", HTMLElement), `${figures.lost} packets, ${playout?.underruns ?? 0} breaks`);
    say(element("buffered", HTMLElement), milliseconds(1000 * (playout?.bufferedS ?? 0)));
    say(element("format", HTMLElement), figures.format === "codes" ? "codes, decoded here" : "PCM, decoded by the server");
    const asPcm = figures.pcmBytes > 0 && figures.pcmBytes < figures.bytes ? `, ${size(figures.pcmBytes)} of it PCM` : "";
    say(element("bytes", HTMLElement), traffic(figures.kbps, figures.bytes) + asPcm);
    const raw = size((figures.heardS * RAW_KBPS * 1000) / 8);
    say(
      element("compared", HTMLElement),
      `raw PCM would be ${raw}, Opus at ${OPUS_KBPS} kbps ${size((figures.heardS * OPUS_KBPS * 1000) / 8)}`,
    );
  }
}
