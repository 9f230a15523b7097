// A publisher and a listener whose servers are made up: a test says what they answer.

import type { Format, Message, Packet, StreamStart, Welcome } from "@streamcodec/protocol";
import { Listener, Publisher } from "../src/index.ts";
import type { StreamEvent } from "../src/index.ts";
import { FakeIo, settled } from "./fake_io.ts";

const MODEL = {
  name: "small",
  fingerprint: "f00d",
  sampling_rate: 24_000,
  hop_length: 320,
  codebook_size: 1024,
  num_quantizers: 32,
  bandwidths: [1.5, 6],
  channels: 1,
  chunk_length: null,
  chunk_stride: null,
  normalize: false,
};

/** A welcome as a server says it; `alternates` are servers that know the same streams. */
function welcome(role: "publish" | "listen", format: Format, nextSeq: number | null, alternates: readonly string[]): Welcome {
  const of = { bandwidth: 6, n_q: 8, packet_frames: 6, start: "primed" as const, epoch: 0, next_seq: nextSeq };
  const nothing = { bandwidth: null, n_q: null, packet_frames: null, start: null, epoch: null, next_seq: null };
  const told = {
    version: 1,
    stream: "live",
    model: MODEL,
    format,
    resume_ms: 10_000,
    alternates,
    time: 5_000_000,
    server: "",
  };
  return { type: "welcome", role, session: role === "publish" ? "secret" : null, ...told, ...(nextSeq === null ? nothing : of) };
}

export function start(
  kind: StreamStart["start"],
  firstSeq: number,
  liveSeq = firstSeq,
  session = "stream",
  format: Format = "codes",
): StreamStart {
  const told = { n_q: 8, bandwidth: 6, packet_frames: 6, format, sample_rate: 24_000, channels: 1, packet_samples: 1920 };
  return { type: "start", epoch: 0, start: kind, first_seq: firstSeq, live_seq: liveSeq, session, reason: "", ...told };
}

export const packet = (seq: number, format: Format = "codes"): Packet => ({
  type: "packet",
  seq,
  epoch: 0,
  timestamp: 0,
  n_q: format === "codes" ? 8 : 0,
  payload: new Uint8Array(60),
});

interface Asked {
  readonly url?: string;
  readonly format?: Format;
  readonly alternates?: readonly string[];
}

/** A listener at a made-up server; `answer` accepts it on the newest connection, with what comes behind the welcome. */
export function listening({ url = "ws://made.up/", format = "codes", alternates = [] }: Asked = {}) {
  const io = new FakeIo();
  const heard: StreamEvent[] = [];
  const failures: Error[] = [];
  const listener = new Listener(
    io,
    url,
    { stream: "live", format, model: format === "codes" ? "f00d" : null, token: null, minBandwidth: null },
    {
      onWelcome: () => undefined,
      onEvent: (event) => heard.push(event),
      onTrouble: () => undefined,
      onFailed: (why) => failures.push(why),
    },
  );
  const answer = async (...messages: Message[]) => {
    io.newest.open();
    io.newest.say(welcome("listen", format, null, alternates));
    await settled();
    for (const message of messages) io.newest.say(message);
  };
  return { io, heard, failures, listener, answer };
}

/** The same for a publisher; `answer` says which number is to come next. */
export function publishing({ url = "ws://made.up/", format = "codes", alternates = [] }: Asked = {}) {
  const io = new FakeIo();
  const opened: Welcome[] = [];
  const failures: Error[] = [];
  const publisher = new Publisher(
    io,
    url,
    format === "codes" ? { stream: "live", format, model: "f00d" } : { stream: "live", format, sample_rate: 24_000, channels: 1 },
    {
      onOpen: (told) => opened.push(told),
      onTrouble: () => undefined,
      onFailed: (why) => failures.push(why),
    },
  );
  const answer = async (nextSeq: number) => {
    io.newest.open();
    io.newest.say(welcome("publish", format, nextSeq, alternates));
    await settled();
  };
  const offer = (count = 1) => {
    for (let i = 0; i < count; i++)
      publisher.offer({ payload: new Uint8Array(60), captured: io.nowUs, durationS: 0.08, nQ: format === "codes" ? 8 : 0 });
  };
  const sent = () => io.newest.got.flatMap((message) => (message.type === "packet" ? [message.seq] : []));
  return { io, opened, failures, publisher, answer, offer, sent };
}
