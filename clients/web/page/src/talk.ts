// The page's part that talks: the microphone, what its controls do, and what they show.

import { element, milliseconds, rate, say, seconds, show, size } from "./elements.ts";
import { Meter } from "./meter.ts";
import { parts, places, serverUrl, startWorker } from "./places.ts";
import type { FromTalkWorker, TalkFigures, ToTalkWorker } from "./thread_messages.ts";
import { wordsFor, wordsForMicrophone } from "./words.ts";

interface Running {
  readonly context: AudioContext;
  readonly microphone: MediaStream;
  readonly worker: Worker;
  readonly post: (message: ToTalkWorker, transfer?: Transferable[]) => void;
  readonly meter: Meter;
}

export class TalkPart {
  readonly #button = element("talk", HTMLButtonElement);
  readonly #mute = element("mute", HTMLButtonElement);
  readonly #stream = element("talk-stream", HTMLInputElement);
  readonly #token = element("token", HTMLInputElement);
  readonly #microphones = element("microphone", HTMLSelectElement);
  readonly #echo = element("echo", HTMLInputElement);
  readonly #bandwidth = element("talk-bandwidth", HTMLSelectElement);
  readonly #status = element("talk-status", HTMLElement);
  readonly #notice = element("talk-notice", HTMLElement);
  #running: Running | null = null;
  #usual = "Connecting…";
  #muted = false;

  constructor() {
    this.#button.onclick = () => {
      void (this.#running === null ? this.#begin() : this.#end("Stopped."));
    };
    this.#mute.onclick = () => {
      this.#setMuted(!this.#muted);
    };
    void this.#listMicrophones();
    navigator.mediaDevices.ondevicechange = () => {
      void this.#listMicrophones();
    };
  }

  async #listMicrophones(): Promise<void> {
    const devices = (await navigator.mediaDevices.enumerateDevices()).filter((device) => device.kind === "audioinput");
    const chosen = this.#microphones.value;
    // Before the microphone is allowed, devices have neither names nor ids.
    const named = devices.filter((device) => device.deviceId !== "" && device.deviceId !== "default");
    const options = [
      new Option("The default microphone", ""),
      ...named.map((device, i) => new Option(device.label || `Microphone ${i + 1}`, device.deviceId)),
    ];
    this.#microphones.replaceChildren(...options);
    this.#microphones.value = named.some((device) => device.deviceId === chosen) ? chosen : "";
  }

  async #begin(): Promise<void> {
    if (!this.#stream.reportValidity()) return;
    this.#button.disabled = true;
    show(this.#notice, null);
    say(this.#status, "Asking for the microphone…");
    let microphone: MediaStream;
    try {
      const device = this.#microphones.value;
      microphone = await navigator.mediaDevices.getUserMedia({
        audio: {
          ...(device === "" ? {} : { deviceId: { exact: device } }),
          echoCancellation: this.#echo.checked,
          noiseSuppression: this.#echo.checked,
          autoGainControl: this.#echo.checked,
        },
      });
    } catch (error) {
      say(this.#status, wordsForMicrophone(error));
      this.#button.disabled = false;
      return;
    }
    const context = new AudioContext({ latencyHint: "interactive" });
    try {
      await context.audioWorklet.addModule(parts.capture);
      const source = new MediaStreamAudioSourceNode(context, { mediaStream: microphone });
      const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
      const meter = new Meter(context, element("talk-level", HTMLMeterElement), null);
      source.connect(node);
      source.connect(meter.analyser);
      const { port1, port2 } = new MessageChannel();
      node.port.postMessage(port1, [port1]);
      const worker = await startWorker(parts.talk_worker, (message) => {
        this.#hear(message as FromTalkWorker);
      });
      const post = (message: ToTalkWorker, transfer: Transferable[] = []) => {
        worker.postMessage(message, transfer);
      };
      const [track] = microphone.getAudioTracks();
      track.onended = () => {
        void this.#end("The microphone is gone.");
      };
      this.#running = { context, microphone, worker, post, meter };
      post(
        {
          type: "talk",
          url: serverUrl(),
          stream: this.#stream.value,
          token: this.#token.value || null,
          kbps: this.#bandwidth.value === "" ? null : Number(this.#bandwidth.value),
          rateIn: context.sampleRate,
          latencyS: context.baseLatency,
          places,
          port: port2,
        },
        [port2],
      );
      this.#button.textContent = "Stop talking";
      this.#mute.disabled = false;
      this.#setMuted(false);
      this.#lock(true);
      void this.#listMicrophones();
    } catch (error) {
      this.#release(microphone);
      await context.close();
      this.#running = null;
      say(this.#status, `Talking does not work here: ${error instanceof Error ? error.message : String(error)}`);
    }
    this.#button.disabled = false;
  }

  async #end(why: string): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    this.#running = null;
    running.meter.stop();
    this.#release(running.microphone);
    await running.context.close();
    running.post({ type: "stop" });
    this.#button.textContent = "Talk";
    this.#mute.disabled = true;
    this.#lock(false);
    element("talk-part", HTMLElement).dataset["state"] = "stopped";
    say(this.#status, why);
    // The worker says that it has sent all; one that cannot is not waited for.
    setTimeout(() => {
      running.worker.terminate();
    }, 3000);
  }

  #release(microphone: MediaStream): void {
    for (const track of microphone.getTracks()) track.stop();
  }

  #lock(on: boolean): void {
    for (const control of [this.#stream, this.#microphones, this.#echo, this.#bandwidth]) control.disabled = on;
  }

  #setMuted(muted: boolean): void {
    this.#muted = muted;
    for (const track of this.#running?.microphone.getAudioTracks() ?? []) track.enabled = !muted;
    this.#mute.setAttribute("aria-pressed", String(muted));
    this.#mute.textContent = muted ? "Muted" : "Mute";
  }

  /** Say how it goes, also again behind a trouble that is over. */
  #tell(text: string): void {
    this.#usual = text;
    say(this.#status, text);
  }

  #hear(message: FromTalkWorker): void {
    switch (message.type) {
      case "ready":
      case "stopped":
        return;
      case "loading":
        this.#tell(`Loading the encoder: ${Math.round((100 * message.done) / message.total)}% of ${size(message.total)}`);
        return;
      case "live":
        element("talk-part", HTMLElement).dataset["state"] = "live";
        this.#tell(`You are heard as “${this.#stream.value}”, at ${rate(message.kbps)}.`);
        return;
      case "fallback":
        show(this.#notice, `The server encodes for this page: ${message.reason}.`);
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

  #show(figures: TalkFigures): void {
    const sent = figures.sentS > 0 ? `${seconds(figures.sentS)}, ${rate(figures.kbps)}, ${size(figures.bytes)} so far` : "nothing yet";
    say(element("sent", HTMLElement), sent);
    const encoder = figures.encode === null ? "–" : `${milliseconds(figures.encode.p50)}, at most ${milliseconds(figures.encode.p99)}`;
    say(element("encoded", HTMLElement), figures.format === "codes" ? `here, in ${encoder} a packet` : "by the server");
    say(element("dropped", HTMLElement), seconds(figures.droppedS));
  }
}
