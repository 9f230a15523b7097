// The page's part that talks: the microphone, what its controls do, and what they show.

import { element, milliseconds, say, seconds, rate } from "./elements.ts";
import { Meter } from "./meter.ts";
import { InPlainWords, Part, traffic } from "./part.ts";
import type { Run } from "./part.ts";
import { parts, places, serverUrl } from "./places.ts";
import type { OfTalkWorker, TalkFigures, ToTalkWorker } from "./thread_messages.ts";
import { wordsForMicrophone } from "./words.ts";

export class TalkPart extends Part<ToTalkWorker, OfTalkWorker> {
  readonly #mute = element("mute", HTMLButtonElement);
  readonly #stream = element("talk-stream", HTMLInputElement);
  readonly #token = element("token", HTMLInputElement);
  readonly #microphones = element("microphone", HTMLSelectElement);
  readonly #echo = element("echo", HTMLInputElement);
  readonly #bandwidth = element("talk-bandwidth", HTMLSelectElement);
  #tracks: readonly MediaStreamTrack[] = [];
  #muted = false;

  constructor() {
    super("talk", {
      begin: "Talk",
      stop: "Stop talking",
      doing: "Talking",
      serverDoes: "The server encodes",
      coder: "encoder",
    });
    this.#mute.onclick = () => {
      this.#setMuted(!this.#muted);
    };
    void this.#listMicrophones();
    navigator.mediaDevices.ondevicechange = () => {
      void this.#listMicrophones();
    };
  }

  async #listMicrophones(): Promise<void> {
    // A browser that tells of no devices still has a default one.
    const all = await navigator.mediaDevices.enumerateDevices().catch(() => []);
    const chosen = this.#microphones.value;
    // Before the microphone is allowed, devices have neither names nor ids.
    const named = all.filter(({ kind, deviceId }) => kind === "audioinput" && deviceId !== "" && deviceId !== "default");
    const options = [
      new Option("The default microphone", ""),
      ...named.map((device, i) => new Option(device.label || `Microphone ${i + 1}`, device.deviceId)),
    ];
    this.#microphones.replaceChildren(...options);
    this.#microphones.value = named.some((device) => device.deviceId === chosen) ? chosen : "";
  }

  protected override isFilledIn(): boolean {
    return this.#stream.reportValidity();
  }

  protected override async open(run: Run<ToTalkWorker>): Promise<void> {
    this.#lock(true);
    this.tell("Asking for the microphone…");
    const microphone = run.hold(await this.#microphone(), (held) => {
      for (const track of held.getTracks()) track.stop();
    });
    this.tell("Connecting…");
    this.#tracks = microphone.getAudioTracks();
    for (const track of this.#tracks) {
      track.onended = () => {
        if (this.run === run) this.end("The microphone is gone.");
      };
    }
    this.#setMuted(false);
    const context = run.openAudio();
    await context.audioWorklet.addModule(parts.capture);
    const source = new MediaStreamAudioSourceNode(context, { mediaStream: microphone });
    const node = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    const meter = run.hold(new Meter(context, element("talk-level", HTMLMeterElement), null), (held) => {
      held.stop();
    });
    source.connect(node);
    source.connect(meter.analyser);
    const { port1, port2 } = new MessageChannel();
    node.port.postMessage(port1, [port1]);
    await this.startWorker(run, parts.talk_worker, { type: "stop" });
    run.post(
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
    void this.#listMicrophones();
  }

  async #microphone(): Promise<MediaStream> {
    const device = this.#microphones.value;
    try {
      return await navigator.mediaDevices.getUserMedia({
        audio: {
          ...(device === "" ? {} : { deviceId: { exact: device } }),
          echoCancellation: this.#echo.checked,
          noiseSuppression: this.#echo.checked,
          autoGainControl: this.#echo.checked,
        },
      });
    } catch (error) {
      throw new InPlainWords(wordsForMicrophone(error));
    }
  }

  protected override changed(on: boolean): void {
    this.#lock(on);
    this.#mute.disabled = !on;
    if (!on) this.#setMuted(false);
  }

  #lock(on: boolean): void {
    for (const control of [this.#stream, this.#microphones, this.#echo, this.#bandwidth]) control.disabled = on;
  }

  #setMuted(muted: boolean): void {
    this.#muted = muted;
    for (const track of this.#tracks) track.enabled = !muted;
    this.#mute.setAttribute("aria-pressed", String(muted));
    this.#mute.textContent = muted ? "Muted" : "Mute";
  }

  protected override hear(message: OfTalkWorker): void {
    switch (message.type) {
      case "live":
        this.state = "live";
        this.tell(`You are heard as “${this.#stream.value}”, at ${rate(message.kbps)}.`);
        return;
      case "figures":
        this.#show(message);
    }
  }

  #show(figures: TalkFigures): void {
    say(
      element("sent", HTMLElement),
      figures.sentS > 0 ? `${seconds(figures.sentS)}, ${traffic(figures.kbps, figures.bytes)}` : "nothing yet",
    );
    say(element("encoded", HTMLElement), figures.sentS > 0 ? encodedBy(figures) : "–");
    const byServer = figures.serverDropped > 0 ? `, and ${figures.serverDropped} packets by the server` : "";
    say(element("dropped", HTMLElement), seconds(figures.droppedS) + byServer);
  }
}

function encodedBy({ format, encode }: TalkFigures): string {
  if (format !== "codes") return "by the server";
  return encode === null ? "here" : `here, a packet in ${milliseconds(encode.p50)} (99%: ${milliseconds(encode.p99)})`;
}
