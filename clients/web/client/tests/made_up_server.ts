// What a made-up server says, and a publisher at it.

import type { Welcome } from "@streamcodec/protocol";
import { Publisher } from "../src/index.ts";
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

export function welcome(role: "publish" | "listen", nextSeq: number | null): Welcome {
  const of = { bandwidth: 6, n_q: 8, packet_frames: 6, start: "primed" as const, epoch: 0, next_seq: nextSeq };
  const nothing = { bandwidth: null, n_q: null, packet_frames: null, start: null, epoch: null, next_seq: null };
  const told = { version: 1, stream: "live", model: MODEL, format: "codes" as const, resume_ms: 10_000, time: 5_000_000, server: "" };
  return { type: "welcome", role, session: role === "publish" ? "secret" : null, ...told, ...(nextSeq === null ? nothing : of) };
}

export function publishing() {
  const io = new FakeIo();
  const opened: Welcome[] = [];
  const failures: Error[] = [];
  const publisher = new Publisher(
    io,
    "ws://made.up/",
    { stream: "live", format: "codes", model: "f00d" },
    {
      onOpen: (told) => opened.push(told),
      onTrouble: () => undefined,
      onFailed: (why) => failures.push(why),
    },
  );
  const answer = async (nextSeq: number) => {
    io.newest.open();
    io.newest.say(welcome("publish", nextSeq));
    await settled();
  };
  const offer = (count = 1) => {
    for (let i = 0; i < count; i++) publisher.offer({ payload: new Uint8Array(60), captured: io.nowUs, durationS: 0.08, nQ: 8 });
  };
  const sent = () => io.newest.got.flatMap((message) => (message.type === "packet" ? [message.seq] : []));
  return { io, opened, failures, publisher, answer, offer, sent };
}
