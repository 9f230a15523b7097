// A worker that times the page's codec: each packet of a stream of speech, and of one that has fallen silent, at the pace of a microphone.
//
// `benchmarks.browser` bundles it as the page's own workers are bundled, and reads its times.

import type { Codes } from "@streamcodec/protocol";
import type { StreamDecoder, StreamEncoder } from "../../codec/src/index.ts";
import { openCodec } from "../src/runtime.ts";
import type { Places } from "../src/runtime.ts";

export interface StepCommand {
  readonly places: Places;
  readonly speech: Float32Array;
  readonly seconds: number;
  /** What the second stream says before it falls silent. */
  readonly spokenS: number;
  readonly lowKbps: number;
  readonly highKbps: number;
}

/** What is timed of each packet. */
const STEPS = ["encode", "decode", "decode high"] as const;
const SIGNALS = ["speech", "silence"] as const;

interface Stream {
  readonly encoder: StreamEncoder;
  readonly decoder: StreamDecoder;
  readonly high: StreamDecoder;
}

async function measure(command: StepCommand): Promise<void> {
  const begun = performance.now();
  const codec = await openCodec(command.places);
  if (codec === null) throw new Error("the server has no model for the page");
  const { manifest } = codec;
  const codebooks = (kbps: number) => manifest.bandwidths.find((one) => one.kbps === kbps)!.n_q;
  const [low, high] = [codebooks(command.lowKbps), codebooks(command.highKbps)];
  const loadedMs: Record<string, number> = {};
  let at = begun;
  const loaded = (what: string) => {
    loadedMs[what] = performance.now() - at;
    at = performance.now();
  };
  await codec.encoder(low, "primed");
  loaded("encode");
  await codec.decoder(low, "primed");
  loaded("decode");
  await codec.decoder(high, "primed");
  loaded("decode high");

  const size = manifest.packet_frames.default * manifest.hop_length;
  const packets = Math.floor(command.speech.length / size);
  const speech = (packet: number) => command.speech.slice((packet % packets) * size, ((packet % packets) + 1) * size);
  const spoken = Math.round((command.spokenS * manifest.sampling_rate) / size);
  const said = { speech, silence: (packet: number) => (packet < spoken ? speech(packet) : new Float32Array(size)) };
  const streams: Record<string, Stream> = {};
  const highCodes: Record<string, Codes[]> = {};
  for (const signal of SIGNALS) {
    const encoder = await codec.encoder(high, "primed");
    highCodes[signal] = [];
    for (let packet = 0; packet < packets; packet++) highCodes[signal].push(await encoder.feed(said[signal](packet)));
    streams[signal] = {
      encoder: await codec.encoder(low, "primed"),
      decoder: await codec.decoder(low, "primed"),
      high: await codec.decoder(high, "primed"),
    };
  }

  const packetMs = (1000 * size) / manifest.sampling_rate;
  const most = Math.ceil((1000 * command.seconds) / packetMs);
  // Of fixed sizes, so that what is kept does not grow.
  const times = new Float32Array(most * STEPS.length);
  const when = new Float32Array(most);
  let late = 0;
  let count = 0;
  const zero = performance.now();
  postMessage({ type: "begun" });
  for (let slot = 0; slot < most;) {
    const due = zero + slot * packetMs;
    const wait = due - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    const signal = SIGNALS[count % 2];
    const packet = Math.floor(count / 2);
    const stream = streams[signal];
    const samples = said[signal](packet);
    when[count] = performance.now() - zero;
    const marks = [performance.now()];
    const codes = await stream.encoder.feed(samples);
    marks.push(performance.now());
    await stream.decoder.feed(codes);
    marks.push(performance.now());
    await stream.high.feed(highCodes[signal][signal === "silence" ? Math.min(packet, packets - 1) : packet % packets]);
    marks.push(performance.now());
    STEPS.forEach((_, step) => (times[count * STEPS.length + step] = marks[step + 1] - marks[step]));
    count++;
    // A slot that was missed is left out: a live packet would have been late.
    const next = Math.max(slot + 1, Math.floor((performance.now() - zero) / packetMs));
    late += next - slot - 1;
    slot = next;
  }
  postMessage({ type: "measured", loaded_ms: loadedMs, packet_ms: packetMs, late, steps: STEPS, signals: SIGNALS, count, times, when });
}

onmessage = ({ data }: MessageEvent<StepCommand>) => {
  measure(data).catch((error: unknown) => {
    postMessage({ type: "failed", reason: error instanceof Error ? error.message : String(error) });
  });
};
postMessage({ type: "ready" });
